//! Consensus, as JSON.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::engine::{ClusterId, LogIndex, NodeId, Profile};
use crate::package::{Millis, NodeName};
use crate::raft::Role;

/// `GET /v1/raft`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RaftView {
    /// The cluster; none on a node that has not heard of it yet.
    pub cluster: Option<ClusterId>,
    /// Its profile, from which the election timeout and the heartbeat follow.
    pub profile: Option<Profile>,
    /// The node that answers.
    pub node: String,
    /// Its id.
    pub id: NodeId,
    /// What it is.
    pub role: Role,
    /// The term it is in.
    pub term: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<String>,
    /// Whether a change of voters is under way: majorities of both sets are needed until it ends.
    pub changing: bool,
    /// Last entry in its log.
    pub last_log: Option<LogIndex>,
    /// Last entry that it knows to be committed.
    pub committed: Option<LogIndex>,
    /// Last entry applied there.
    pub applied: Option<LogIndex>,
    /// Last entry in its newest snapshot.
    pub snapshot: Option<LogIndex>,
    /// Whether the members' progress is the leader's word; without a leader nobody knows it.
    pub by_the_leader: bool,
    /// Every member of Raft.
    pub members: Vec<RaftMember>,
}

/// One member of Raft.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RaftMember {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where it answers.
    pub address: SocketAddr,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it leads.
    pub leader: bool,
    /// The last entry known to be on its disk.
    pub matched: Option<LogIndex>,
    /// How long ago the leader last heard of it.
    pub heard: Option<Millis>,
}

/// `POST /v1/raft/step-down`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepDownRequest {
    /// Who is to lead; whoever is best placed when absent.
    #[serde(default)]
    pub to: Option<NodeName>,
}

/// What `step-down` and `start-election` answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Leading {
    /// Who leads now, if that is known yet.
    pub leader: Option<String>,
    /// In which term.
    pub term: u64,
}
