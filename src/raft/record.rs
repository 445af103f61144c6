//! Raft's own facts as they go on disk and wire: our types, never openraft's, so that either side can change alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::engine::Command;
use crate::engine::NodeId;
use crate::engine::command::Entry;

/// One position in the log together with the term that wrote it. Later terms override earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogMark {
    /// The leader's term.
    pub term: u64,
    /// The position.
    pub index: u64,
}

impl fmt::Display for LogMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (term {})", self.index, self.term)
    }
}

/// The last vote this node gave, or the leader it follows. A node that forgets it can elect two leaders of one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// For which term.
    pub term: u64,
    /// For whom.
    pub node: NodeId,
    /// Whether a quorum granted it, which makes that node the term's leader.
    pub committed: bool,
}

impl fmt::Display for Vote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.committed { "leader" } else { "candidate" };
        write!(f, "term {}, {what} {}", self.term, self.node)
    }
}

/// How a member is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Where its agent answers (tcp).
    pub address: SocketAddr,
}

impl Default for Member {
    fn default() -> Self {
        Self { address: SocketAddr::from(([0, 0, 0, 0], 0)) }
    }
}

/// Who takes part in Raft.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Voter sets; two while a change is under way, and then a majority of each is needed.
    pub configs: Vec<BTreeSet<NodeId>>,
    /// Voters and learners.
    pub members: BTreeMap<NodeId, Member>,
}

impl Membership {
    /// Every voter, of both sets while a change is under way.
    pub fn voters(&self) -> BTreeSet<NodeId> {
        self.configs.iter().flatten().copied().collect()
    }

    /// Members that do not vote.
    pub fn learners(&self) -> BTreeSet<NodeId> {
        let voters = self.voters();
        self.members.keys().filter(|id| !voters.contains(id)).copied().collect()
    }
}

/// What an entry of Raft's log carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// Nothing: a new leader's first entry.
    Blank,
    /// A command of ours.
    Command(Arc<Entry>),
    /// Who takes part from here on.
    Membership(Membership),
}

impl Payload {
    /// Whether it concerns only who reads the key/value tree: no keeper, no package, no member.
    pub fn is_about_keys(&self) -> bool {
        matches!(self, Payload::Command(entry) if matches!(entry.command, Command::Kv(_)))
    }
}

/// One entry of Raft's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// Where.
    pub mark: LogMark,
    /// What.
    pub payload: Payload,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::codec::{decode, encode};

    #[test]
    fn membership_comes_back_with_addresses_of_both_families() {
        let members = [(NodeId(1), "10.0.0.1:1"), (NodeId(2), "[fd00::1]:2")];
        let membership = Membership {
            configs: vec![[NodeId(1)].into(), [NodeId(1), NodeId(2)].into()],
            members: members.map(|(id, at)| (id, Member { address: at.parse().unwrap() })).into(),
        };
        let record =
            LogRecord { mark: LogMark { term: 3, index: 9 }, payload: Payload::Membership(membership.clone()) };
        assert_eq!(decode::<LogRecord>(&encode(&record)), Ok(record));
        assert_eq!(membership.voters(), [NodeId(1), NodeId(2)].into());
        assert_eq!(membership.learners(), BTreeSet::new());
    }

    #[test]
    fn a_later_term_overrides_a_longer_log() {
        assert!(LogMark { term: 2, index: 1 } > LogMark { term: 1, index: 9 });
    }
}
