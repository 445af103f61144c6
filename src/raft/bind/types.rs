//! Openraft's type configuration, and conversions from and to our own records.
//!
//! Leader ids are the standard ones: at most one leader per term, so a log position is named by term and index alone.

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use openraft::entry::RaftEntry;
use openraft::impls::{BoxedErrorSource, InlineBatch, ProgressResponder, leader_id_std};
use openraft::vote::RaftLeaderId;
use openraft::{AsyncRuntime, EntryPayload, OptionalSend, RaftTypeConfig};
use serde::{Deserialize, Serialize};

use crate::engine::command::Entry;
use crate::engine::{NodeId, Reply};
use crate::raft::record::{LogMark, LogRecord, Member, Membership, Payload, Vote};
use crate::raft::store::snapshot::{SnapshotFile, SnapshotHead};

type LeaderId = leader_id_std::LeaderId<u64, u64>;
type Committed = <LeaderId as RaftLeaderId>::Committed;
/// Openraft's log position.
pub type LogId = openraft::LogId<Committed>;
/// Openraft's vote.
pub type RaftVote = openraft::Vote<LeaderId>;
/// Openraft's log entry.
pub type LogEntry = openraft::Entry<Committed, EntryPayload<Proposal, u64, Member>>;
/// Openraft's membership.
pub type Members = openraft::Membership<u64, Member>;
/// Openraft's membership with its place in the log.
pub type StoredMembers = openraft::StoredMembership<Committed, u64, Member>;
/// Openraft's description of a snapshot.
pub type SnapshotMeta = openraft::SnapshotMeta<Committed, u64, Member>;
/// Openraft's snapshot.
pub type RaftSnapshot = openraft::Snapshot<Committed, u64, Member, SnapshotFile>;

/// Openraft's types on a given runtime.
pub struct Types<Rt>(PhantomData<fn() -> Rt>);

/// A command on its way through openraft.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Proposal(pub Arc<Entry>);

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command by {}", self.0.by)
    }
}

impl<Rt: AsyncRuntime> RaftTypeConfig for Types<Rt> {
    type D = Proposal;
    type R = Reply;
    type NodeId = u64;
    type Node = Member;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = RaftVote;
    type Payload = EntryPayload<Proposal, u64, Member>;
    type Entry = LogEntry;
    type AsyncRuntime = Rt;
    type Responder<T>
        = ProgressResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

// Derives would ask the same of the runtime, which it need not have.
impl<Rt> fmt::Debug for Types<Rt> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Types")
    }
}
impl<Rt> Clone for Types<Rt> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<Rt> Copy for Types<Rt> {}
impl<Rt> Default for Types<Rt> {
    fn default() -> Self {
        Self(PhantomData)
    }
}
impl<Rt> PartialEq for Types<Rt> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl<Rt> Eq for Types<Rt> {}
impl<Rt> PartialOrd for Types<Rt> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<Rt> Ord for Types<Rt> {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}

/// Our mark of openraft's log id.
pub fn mark(id: LogId) -> LogMark {
    LogMark { term: id.leader_id.term, index: id.index }
}

/// Openraft's log id of our mark.
pub fn log_id(mark: LogMark) -> LogId {
    LogId { leader_id: mark.term.into(), index: mark.index }
}

/// Our vote of openraft's.
pub fn vote(vote: &RaftVote) -> Vote {
    Vote { term: vote.leader_id.term, node: NodeId(vote.leader_id.voted_for), committed: vote.committed }
}

/// Openraft's vote of ours.
pub fn vote_of(vote: Vote) -> RaftVote {
    let leader_id = LeaderId { term: vote.term, voted_for: vote.node.0 };
    RaftVote { leader_id, committed: vote.committed }
}

/// Our membership of openraft's.
pub fn membership(from: &Members) -> Membership {
    Membership {
        configs: from.get_joint_config().iter().map(|set| set.iter().map(|id| NodeId(*id)).collect()).collect(),
        members: from.nodes().map(|(id, member)| (NodeId(*id), *member)).collect(),
    }
}

/// Openraft's membership of ours.
///
/// # Errors
/// When voters are missing among the members, which no membership that openraft made has.
pub fn membership_of(from: &Membership) -> Result<Members, String> {
    if from.configs.is_empty() {
        return Ok(Members::default());
    }
    let configs = from.configs.iter().map(|set| set.iter().map(|id| id.0).collect()).collect();
    let members: std::collections::BTreeMap<u64, Member> = from.members.iter().map(|(id, at)| (id.0, *at)).collect();
    Members::new(configs, members).map_err(|e| format!("membership: {e}"))
}

/// Our record of openraft's entry.
pub fn record(entry: LogEntry) -> LogRecord {
    let payload = match entry.payload {
        EntryPayload::Blank => Payload::Blank,
        EntryPayload::Normal(Proposal(command)) => Payload::Command(command),
        EntryPayload::Membership(members) => Payload::Membership(membership(&members)),
    };
    LogRecord { mark: mark(entry.log_id), payload }
}

/// Openraft's entry of our record.
///
/// # Errors
/// When its membership is not one.
pub fn entry_of(record: &LogRecord) -> Result<LogEntry, String> {
    let payload = match &record.payload {
        Payload::Blank => EntryPayload::Blank,
        Payload::Command(command) => EntryPayload::Normal(Proposal(command.clone())),
        Payload::Membership(members) => EntryPayload::Membership(membership_of(members)?),
    };
    Ok(LogEntry::new(log_id(record.mark), payload))
}

/// Openraft's stored membership of a snapshot's head.
///
/// # Errors
/// When its membership is not one.
pub fn stored_membership(head: &SnapshotHead) -> Result<StoredMembers, String> {
    let at = head.membership_at.map(log_id);
    Ok(StoredMembers::new(at, membership_of(&head.membership)?))
}

/// Openraft's snapshot of ours.
///
/// # Errors
/// When its membership is not one.
pub fn described(snapshot: SnapshotFile) -> Result<RaftSnapshot, String> {
    let head = &snapshot.head;
    let meta = SnapshotMeta { last_log_id: head.last.map(log_id), last_membership: stored_membership(head)? };
    Ok(RaftSnapshot { meta, snapshot })
}
