//! What keeper, leash and init say to each other over their socket pairs. All three are the same executable, so there
//! are no versions here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fault::{ExecFault, SetupStep};
use crate::engine::time::BootTime;
use crate::keeper::protocol::Exit;
use crate::resource::Credentials;

/// Bytes of the keeper's order to the leash: the deadline, little-endian nanoseconds. Nothing to allocate or to fail.
pub const DEADLINE_BYTES: usize = 8;

/// Encodes a deadline.
pub fn deadline_bytes(at: BootTime) -> [u8; DEADLINE_BYTES] {
    at.0.to_le_bytes()
}

/// Decodes a deadline; none for anything else.
pub fn deadline(bytes: &[u8]) -> Option<BootTime> {
    bytes.try_into().ok().map(|bytes| BootTime(u64::from_le_bytes(bytes)))
}

/// Leash to keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromLeash {
    /// Init exists and waits for its proof; its descriptor comes along. Nothing has run before this was sent.
    Init {
        /// The leash has SCHED_FIFO.
        fifo: bool,
    },
    /// It could not set up, and ends.
    Fault {
        /// While doing what.
        step: SetupStep,
        /// What the kernel said.
        errno: i32,
    },
}

/// Keeper to init.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Names the operation in every answer.
    pub op: u64,
    /// Executable and arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// As whom; as the keeper if none.
    pub credentials: Option<Credentials>,
    /// Working directory.
    pub directory: String,
}

/// Init to keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromInit {
    /// The namespace is complete.
    Ready {
        /// The first program's number was drawn at random.
        random_pids: bool,
        /// Init has SCHED_FIFO.
        fifo: bool,
    },
    /// The program runs; its descriptor comes along, and the message names its process.
    Started {
        /// Which operation.
        op: u64,
    },
    /// The program did not start.
    Refused {
        /// Which operation.
        op: u64,
        /// Why.
        fault: ExecFault,
    },
    /// The program ended.
    Exited {
        /// Which operation.
        op: u64,
        /// How.
        exit: Exit,
    },
    /// Init could not set the namespace up, and ends.
    Fault {
        /// While doing what.
        step: SetupStep,
        /// What the kernel said.
        errno: i32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_through_and_nothing_else_is_taken_for_one() {
        assert_eq!(deadline(&deadline_bytes(BootTime(u64::MAX - 7))), Some(BootTime(u64::MAX - 7)));
        assert_eq!(deadline(b""), None);
        assert_eq!(deadline(b"123456789"), None);
    }
}
