//! What the front of a lab and its bed say to each other: JSON, a line each, over one socket.

use std::collections::BTreeSet;
use std::io::{BufRead, Error, ErrorKind, Result, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::moment::Moment;
use super::spec::Wiring;

/// Which traffic a cut stops, as the node that is cut off sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// It neither hears nor is heard.
    Both,
    /// It hears nothing; what it sends arrives.
    In,
    /// It is not heard; what others send arrives.
    Out,
}

/// What is wrong with a node's cable. The default is a whole one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cable {
    /// Nothing passes this way.
    pub cut: Option<Direction>,
    /// Packets lost by chance, each way, in percent.
    pub loss_percent: u8,
    /// Nodes that it neither reaches nor hears, while all others do.
    pub apart_from: BTreeSet<String>,
}

/// The first line to the bed: what it is to look after.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BedSpec {
    pub nodes: Vec<BedNode>,
    /// Directories that the bed removes when it ends.
    pub scratch: Vec<PathBuf>,
    /// Directories that hold only so many bytes, until the bed ends.
    pub small: Vec<(PathBuf, u64)>,
}

/// One node, as far as the bed needs to know it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct BedNode {
    pub name: String,
    pub wiring: Wiring,
    pub console: PathBuf,
}

/// One order; each is answered once.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    PowerOn {
        node: String,
        command: Vec<String>,
    },
    PowerOff {
        node: String,
    },
    /// Puts the node's cable into this state.
    Cable {
        node: String,
        cable: Cable,
    },
}

/// What the bed says. `Waiting`, `Ready` and `NotPermitted` answer the [`BedSpec`], the others an [`Order`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// Another lab is on this machine; this one waits for it. `Ready` follows.
    Waiting {
        holder: String,
    },
    /// The bridge stands. `privileged`: without a user namespace. `realtime`: SCHED_FIFO is granted here.
    Ready {
        privileged: bool,
        realtime: bool,
    },
    /// No lab can be had here at all.
    NotPermitted {
        reason: String,
    },
    /// Done; `at` was read just before the first effect, `pid` is the node's init as this machine numbers it.
    Done {
        at: Moment,
        pid: Option<i32>,
    },
    Failed {
        reason: String,
    },
}

/// Writes one line.
pub(super) fn send<T: Serialize>(mut to: impl Write, message: &T) -> Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// Reads one line; `None` when the other side has gone.
pub(super) fn receive<T: DeserializeOwned>(mut from: impl BufRead) -> Result<Option<T>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    serde_json::from_str(&line).map(Some).map_err(|e| Error::new(ErrorKind::InvalidData, e))
}
