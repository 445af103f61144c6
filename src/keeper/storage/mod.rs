//! LUNs and filesystems: each operation in a process of its own (`pkgctl storage`), because any of them can hang in the
//! kernel for as long as a device does not answer, and the keeper must not (design 6.3, rule 23).
//!
//! The process is told what to do, and when it dies unless told otherwise: a start must not go on after the lease. An
//! undoing has no deadline. It runs in the keeper's mount namespace, so that a mount is the host's; programs that are
//! started later see it, because their namespaces follow the host's.
//!
//! - [`role`]: the process. [`child`]: the keeper's end of it.
//! - [`lun`], [`filesystem`]: what it does. [`holders`]: who keeps a device or a mount from being given up.
//! - [`claims`]: whose a device or a mount point is, whatever it is called.
//! - [`record`]: what one keeper's life may leave, for the next to undo.

pub mod child;
pub mod claims;
pub mod filesystem;
pub mod holders;
pub mod lun;
pub mod record;
pub mod role;

use claims::Others;
use serde::{Deserialize, Serialize};

use crate::package::{FilesystemResource, LunResource};
use crate::resource::Storage;
use crate::resource::reservation::Key;

/// What is to be done, or undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Take a LUN under a key; give it up.
    Lun {
        /// Which.
        lun: LunResource,
        /// The ownership's key.
        key: Key,
    },
    /// Mount; unmount.
    Filesystem(FilesystemResource),
}

impl Task {
    /// As the agent knows it.
    pub fn storage(&self) -> Storage {
        match self {
            Task::Lun { lun, .. } => Storage::Lun(lun.clone()),
            Task::Filesystem(filesystem) => Storage::Filesystem(filesystem.clone()),
        }
    }

    /// The device that it is about, as it was named.
    pub fn device(&self) -> &str {
        match self {
            Task::Lun { lun, .. } => &lun.device,
            Task::Filesystem(filesystem) => &filesystem.device,
        }
    }

    /// Where it is mounted, if it is.
    pub fn mount(&self) -> Option<&str> {
        match self {
            Task::Lun { .. } => None,
            Task::Filesystem(filesystem) => Some(&filesystem.mount),
        }
    }

    /// What it is about, for people.
    pub fn name(&self) -> &str {
        match self {
            Task::Lun { lun, .. } => &lun.device,
            Task::Filesystem(filesystem) => &filesystem.mount,
        }
    }
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Take or mount.
    Do,
    /// Unmount or give up, whatever of it there is.
    Undo,
}

/// The first message to the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Which way.
    pub act: Act,
    /// What.
    pub task: Task,
    /// What is not its own.
    pub others: Others,
}

/// Its only message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Done, or why not.
    pub outcome: Result<(), String>,
    /// What an operator should read although it was done.
    pub note: Option<String>,
}

impl From<Result<(), String>> for Answer {
    fn from(outcome: Result<(), String>) -> Self {
        Self { outcome, note: None }
    }
}
