//! Consensus, as JSON.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::engine::{ClusterId, LogIndex, NodeId, Profile};
use crate::package::{Millis, NodeName, Package, PackageName};
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
    /// How long ago a majority last answered the leader; none where no leader answers.
    pub majority_heard: Option<Millis>,
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

/// `GET /v1/raft/force-standalone`: what a node that goes on alone gives up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StandalonePlan {
    /// The cluster's name, which the operator types.
    pub cluster: String,
    /// Its id.
    pub id: ClusterId,
    /// The node that would go on.
    pub node: NodeName,
    /// Voters of the cluster, this node included.
    pub voters: usize,
    /// Last entry in this node's log; what was written after it is lost here.
    pub last_log: Option<LogIndex>,
    /// Every other member.
    pub others: Vec<OtherMember>,
    /// Why it is refused as things are; none when it is not.
    pub refused: Option<String>,
    /// What is given up, a sentence each.
    pub gives_up: Vec<String>,
}

/// A member beside the one that would go on alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OtherMember {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Where it answered.
    pub address: SocketAddr,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it answers now; only voters are asked.
    pub answers: bool,
    /// Whether a fence device can switch it off.
    pub fence_device: bool,
    /// What it owned, as far as is known here.
    pub owned: Vec<PackageName>,
}

/// `POST /v1/raft/force-standalone`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandaloneRequest {
    /// The cluster's name, as the operator typed it.
    pub cluster: String,
    /// Have former members with a fence device switched off.
    #[serde(default)]
    pub fence: bool,
}

/// What it answers; the agent then begins again as the cluster of one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StandaloneBegun {
    /// The new cluster.
    pub cluster: ClusterId,
    /// The one before.
    pub from: ClusterId,
    /// Where the old store and identity are kept.
    pub kept: String,
}

/// `GET /v1/cluster/leave`: whether this node may leave, and what it knows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeavePlan {
    /// The cluster's name, which the operator types.
    pub cluster: String,
    /// Its id.
    pub id: ClusterId,
    /// The node that would leave.
    pub node: NodeName,
    /// Why it is refused as things are; none when it is not.
    pub refused: Option<String>,
    /// The last entry of its log, of which it may not know whether it is committed.
    pub upto: LogIndex,
    /// Where its own log begins, if it went on alone: what was written later is not known to the old cluster.
    #[serde(default)]
    pub alone_after: Option<LogIndex>,
    /// Every definition that it knows.
    pub packages: Vec<Package>,
}

/// `POST /v1/cluster/leave`: this node leaves its cluster without being removed from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaveRequest {
    /// The cluster's name, as the operator typed it.
    pub cluster: String,
    /// The entry up to which keys and packages were written down elsewhere; none when nobody wants them.
    #[serde(default)]
    pub exported: Option<LogIndex>,
}

/// What it answers; the agent then begins again, in no cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Left {
    /// The cluster that was left.
    pub cluster: ClusterId,
    /// Which node this was in it.
    pub node: NodeId,
    /// Where its store and identity will be kept once it joins another.
    pub kept: String,
}
