//! What Raft says of itself on this node, for the agent, `status` and the API.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use openraft::async_runtime::{Instant, WatchReceiver};
use openraft::errors::Fatal;
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{AsyncRuntime, RaftMetrics, ServerState};
use serde::{Deserialize, Serialize};

use super::bind::types::{Types, mark};
use super::record::LogMark;
use crate::engine::{LogIndex, NodeId};
use crate::package::Millis;

/// What this node is in Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It follows the log and has no vote.
    Learner,
    /// It follows a leader, or waits for one.
    Follower,
    /// It stands for election.
    Candidate,
    /// It leads, as far as it knows; only `linearize` and a committed entry prove it.
    Leader,
    /// It takes part no more.
    Down,
}

/// How far another member is, as the leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerProgress {
    /// The last entry known to be on its disk.
    pub matched: Option<LogIndex>,
    /// How long ago it was last heard of; none if not yet by this leader.
    pub heard: Option<Millis>,
}

/// Raft on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftStatus {
    /// This node.
    pub node: NodeId,
    /// What it is.
    pub role: Role,
    /// The term it is in.
    pub term: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<(NodeId, SocketAddr)>,
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Who follows without a vote.
    pub learners: BTreeSet<NodeId>,
    /// Where members answer.
    pub addresses: BTreeMap<NodeId, SocketAddr>,
    /// Whether a change of voters is under way: majorities of both sets are needed until it ends.
    pub changing: bool,
    /// Last entry in its log.
    pub last_log: Option<LogIndex>,
    /// Last entry that it knows to be committed in the cluster.
    pub committed: Option<LogIndex>,
    /// Last entry applied.
    pub applied: Option<LogIndex>,
    /// Last entry in its newest snapshot.
    pub snapshot: Option<LogIndex>,
    /// Other members' progress; empty unless it leads.
    pub peers: BTreeMap<NodeId, PeerProgress>,
    /// How long ago a majority last answered; none unless it leads, and where none has yet.
    #[serde(default)]
    pub majority_heard: Option<Millis>,
    /// Why it takes part no more.
    pub fatal: Option<String>,
}

impl RaftStatus {
    /// A node that has heard and stored nothing yet.
    pub fn empty(node: NodeId, role: Role) -> Self {
        Self {
            node,
            role,
            term: 0,
            leader: None,
            voters: BTreeSet::new(),
            learners: BTreeSet::new(),
            addresses: BTreeMap::new(),
            changing: false,
            last_log: None,
            committed: None,
            applied: None,
            snapshot: None,
            peers: BTreeMap::new(),
            majority_heard: None,
            fatal: None,
        }
    }

    /// Whether it leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }

    /// Whether it leads and a majority has answered within that time. After an election timeout without one the others may
    /// have elected somebody else.
    pub fn leads_within(&self, ago: Duration) -> bool {
        self.majority_heard.is_some_and(|heard| heard.duration() <= ago)
    }
}

/// Reads openraft's metrics.
pub(super) fn status_of<Rt: AsyncRuntime>(metrics: &RaftMetrics<Types<Rt>>, fatal: Option<String>) -> RaftStatus {
    let node = NodeId(metrics.id);
    let membership = metrics.membership_config.membership();
    let addresses: BTreeMap<_, _> = membership.nodes().map(|(id, member)| (NodeId(*id), member.address)).collect();
    // One that was told to stop has not failed.
    let failed =
        metrics.running_state.as_ref().err().filter(|why| !matches!(why, Fatal::Stopped)).map(Fatal::to_string);
    let fatal = fatal.or(failed);
    let role = match metrics.state {
        _ if fatal.is_some() => Role::Down,
        ServerState::Learner => Role::Learner,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Leader => Role::Leader,
        ServerState::Shutdown => Role::Down,
    };
    // A restarted leader still has its own vote from before; it leads nothing.
    let leader = metrics.current_leader.map(NodeId).filter(|leader| *leader != node || role == Role::Leader);
    RaftStatus {
        node,
        role,
        term: metrics.current_term,
        leader: leader.and_then(|id| Some((id, *addresses.get(&id)?))),
        voters: membership.voter_ids().map(NodeId).collect(),
        learners: membership.learner_ids().map(NodeId).collect(),
        changing: membership.get_joint_config().len() > 1,
        last_log: metrics.last_log_index.map(LogIndex),
        committed: metrics.cluster_committed.map(|id| LogIndex(id.index)),
        applied: metrics.last_applied.map(|id| LogIndex(id.index)),
        snapshot: metrics.snapshot.map(|id| LogIndex(id.index)),
        peers: progress(metrics, &addresses, node),
        majority_heard: majority_heard(metrics).filter(|_| role == Role::Leader),
        addresses,
        fatal,
    }
}

/// How long ago a majority last answered this leader. One that is the only voter is its own majority.
fn majority_heard<Rt: AsyncRuntime>(metrics: &RaftMetrics<Types<Rt>>) -> Option<Millis> {
    if metrics.membership_config.membership().voter_ids().all(|id| id == metrics.id) {
        return Some(Millis(0));
    }
    metrics.last_quorum_acked.map(|at| millis_since(at.elapsed()))
}

fn millis_since(ago: Duration) -> Millis {
    Millis(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX))
}

fn progress<Rt: AsyncRuntime>(
    metrics: &RaftMetrics<Types<Rt>>,
    addresses: &BTreeMap<NodeId, SocketAddr>,
    me: NodeId,
) -> BTreeMap<NodeId, PeerProgress> {
    let Some(replication) = &metrics.replication else { return BTreeMap::new() };
    let peer = |id: &NodeId| {
        let matched = replication.get(&id.0).copied().flatten().map(|mark| LogIndex(mark.index));
        let heard = metrics.heartbeat.as_ref().and_then(|heard| heard.get(&id.0).copied().flatten());
        let heard = heard.map(|at| millis_since(at.elapsed()));
        (*id, PeerProgress { matched, heard })
    };
    addresses.keys().filter(|id| **id != me).map(peer).collect()
}

/// What wakes a [`LeadershipWatch`]: term, state, leader, and the entry that made the membership.
type Leadership = (u64, ServerState, Option<u64>, Option<LogMark>);

/// Wakes whenever role, leader, term or membership of this node change.
pub struct LeadershipWatch<Rt: AsyncRuntime> {
    /// The same metrics that `status` reads: openraft publishes its smaller ones a moment earlier, and who woke by those
    /// could read an old status and sleep on.
    metrics: WatchReceiverOf<Types<Rt>, RaftMetrics<Types<Rt>>>,
    seen: Leadership,
}

impl<Rt: AsyncRuntime> LeadershipWatch<Rt> {
    /// Watches for changes from now on.
    pub(super) fn new(metrics: WatchReceiverOf<Types<Rt>, RaftMetrics<Types<Rt>>>) -> Self {
        let seen = leadership(&metrics.borrow_watched());
        Self { metrics, seen }
    }

    /// Waits for the next change; false when consensus has ended.
    pub async fn changed(&mut self) -> bool {
        loop {
            if self.metrics.changed().await.is_err() {
                return false;
            }
            let now = leadership(&self.metrics.borrow_watched());
            if now != self.seen {
                self.seen = now;
                return true;
            }
        }
    }
}

fn leadership<Rt: AsyncRuntime>(metrics: &RaftMetrics<Types<Rt>>) -> Leadership {
    let membership = metrics.membership_config.log_id().map(mark);
    (metrics.current_term, metrics.state, metrics.current_leader, membership)
}
