//! What clients asked of the registers and were told, on one monotonic clock.
//!
//! A register is a package's description. Every value is written once at most in the whole history, and every write
//! names the revision that it replaces, so it also names the value it found: values form a chain.

use pkgctl::lab::Moment;
use serde::Serialize;

/// What a description holds.
pub type Value = u64;

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// Acknowledged.
    Done,
    /// Refused because the revision it names had been replaced.
    Refused,
    /// Refused for another reason: it was not taken and never will be.
    NotTaken,
    /// Not known: it may have been taken, be taken later, or never.
    Open,
}

#[derive(Clone, Debug, Serialize)]
pub enum What {
    Read(Value),
    Write { from: Value, to: Value, outcome: Outcome },
}

/// One request. Reads that came to nothing are not recorded: they say nothing.
#[derive(Clone, Debug, Serialize)]
pub struct Op {
    pub client: usize,
    /// Through whose socket.
    pub node: &'static str,
    pub register: &'static str,
    pub invoked: Moment,
    /// When its answer came; none for an open one.
    pub returned: Option<Moment>,
    pub what: What,
}

impl Op {
    /// A write and what came of it.
    pub fn write(&self) -> Option<(Value, Value, Outcome)> {
        match self.what {
            What::Read(_) => None,
            What::Write { from, to, outcome } => Some((from, to, outcome)),
        }
    }
}
