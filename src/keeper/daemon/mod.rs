//! The keeper process: one thread around the core, waiting for whatever comes first. Nothing it does waits for disk,
//! network or another process; slow things about addresses are the address worker's.
//!
//! - `start`: what happens before the first turn: lock, privileges, and an end of everything an earlier life left.
//! - `turn`: the loop. `attend`: what its descriptors bring.
//! - `links`: datagrams. `agent_end`: the agent's connection. `leashes`: programs. `addresses`: the address worker.
//! - `storages`: processes that mount and take.
//! - `watchdog`: the machine's watchdog.
//! - `waits`: what is said of a start that takes its time.
//! - `lock`, `inits`: what one life leaves for the next to find.
//! - [`command`]: `pkgctl keeper`. [`log`]: lines for people that never make the keeper wait.

mod addresses;
mod agent_end;
mod attend;
pub mod command;
mod inits;
mod leashes;
mod links;
mod lock;
pub mod log;
mod start;
mod storages;
mod turn;
mod waits;
mod watchdog;

use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;

use crate::config::{Places, Scheduling};
use crate::keeper::core::Enforcement;

pub use start::run;
pub use watchdog::WatchdogOptions;

/// Permissions of the run directory when the keeper makes it.
const RUN_MODE: u32 = 0o755;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where files lie.
    pub places: Places,
    /// Whether real-time scheduling is used.
    pub scheduling: Scheduling,
    /// Silence of the agent after which renewals stop.
    pub agent_grace: Duration,
    /// The machine's watchdog, if one is to be used.
    pub watchdog: Option<WatchdogOptions>,
    /// Whether a lease's end ends anything; anything but [`Enforcement::Kernel`] is for the lab.
    pub enforcement: Enforcement,
}

/// Why a keeper did not start or could not go on. Programs under it have ended, or do so with it.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// Rule 9: two keepers of one node never live at once.
    #[error("another keeper runs here (process {pid}, {}); nothing was changed. There must be only one", path.display())]
    Running {
        /// Its process, as the lock file says.
        pid: String,
        /// The lock file.
        path: PathBuf,
    },
    /// A file or directory cannot be used.
    #[error("could not {what} {}: {why}; nothing was started. Check the directory and its owner", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        why: std::io::Error,
    },
    /// `scheduling = "fifo"`, and it is refused.
    #[error("{refusal}; the configuration asks for nothing less. Grant CAP_SYS_NICE or write scheduling = \"auto\"")]
    Scheduling {
        /// What the kernel said.
        refusal: String,
    },
    /// The kernel refused something that the keeper cannot do without.
    #[error("could not {what}: {}; nothing was started", why.desc())]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        why: Errno,
    },
    /// Told to end while an earlier life's leavings were still there.
    #[error("told to end while waiting for what an earlier keeper left: {what}")]
    NotClean {
        /// What is left.
        what: String,
    },
}

fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> KeeperError {
    let path = path.into();
    move |why| KeeperError::File { what, path, why }
}

fn system(what: &'static str) -> impl FnOnce(Errno) -> KeeperError {
    move |why| KeeperError::System { what, why }
}
