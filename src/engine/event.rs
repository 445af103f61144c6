//! What happened and why, as data: the ledger behind `status`, `logs` and `history`.

use serde::{Deserialize, Serialize};

use super::{LogIndex, WallMillis};
use crate::package::{Millis, NodeName, PackageName};

/// Events the ledger keeps. Beyond them the oldest of whichever subject (package, or none) has the most is dropped.
pub const LEDGER_MAX: usize = 1000;
/// Longest text kept in the state, in bytes; longer ones are cut.
pub const TEXT_MAX_BYTES: usize = 500;

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The entry that caused it.
    pub index: LogIndex,
    /// The proposer's wall clock.
    pub wall: WallMillis,
    /// Which package it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<PackageName>,
    /// Which node it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// What kind of thing, one word for machines. Cluster: `created`, `token`, `joined`, `voters`, `voter_up`,
    /// `session`, `expired`, `lease_set`, `watchdog`,
    /// `fence_set`, `fence_deleted`, `fence_ordered`, `fencing`, `fenced`, `fence_failed`, `fence_confirmed`,
    /// `standalone`, `whole`. Package: `defined`, `deleted`, `run`, `stopped`, `cleared`, `assigned`,
    /// `taken_over`, `unowned`, `moving`, `moved`, `released`, `failed`. Its owner's word: `starting`, `running`,
    /// `stopping`, `held`, and `report` when the phase is the same as before.
    pub what: String,
    /// The sentence the operator reads; it says why.
    pub why: String,
    /// Who asked.
    pub by: String,
    /// Where the milliseconds of a failover went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Timeline>,
    /// For an owner's word: time from its learning of the ownership to this phase, on the owner's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Millis>,
}

/// Phases of a failover up to its proposal, as durations on the collecting node's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// From the last renewal heard to the first question to the voters.
    pub noticed: Millis,
    /// From the first question to the last agreement needed.
    pub agreed: Millis,
}
