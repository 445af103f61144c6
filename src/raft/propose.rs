//! Commands into the log, and reads that have seen every command acknowledged before them.
//!
//! A refusal that is certain ("not taken") and an outcome that is not known are different errors: only after the first
//! may a command be sent again without thought.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::{Instant, Select2};
use openraft::errors::{ClientWriteError, Fatal, ForwardToLeader, LinearizableReadError, RaftError};
use openraft::metrics::WaitError;
use openraft::{AsyncRuntime, ReadPolicy};
use serde::{Deserialize, Serialize};

use super::bind::types::{Proposal, Types};
use super::bind::wire::ReadIndexed;
use super::consensus::Consensus;
use super::peers::{PeerCall, PeerError, Peers};
use super::record::Member;
use crate::engine::codec::{decode, encode};
use crate::engine::command::Entry;
use crate::engine::{LogIndex, NodeId, Reply};
use crate::package::Millis;

/// Largest entry taken into the log. Every member must be able to store any entry in one durable step, and the storage
/// engine bounds that (`store::sled::SEGMENT_BYTES`); the largest command, a package's definition, is far smaller.
pub const ENTRY_MAX_BYTES: usize = 256 << 10;

/// A command that is in the log for good, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// Its place.
    pub index: LogIndex,
    /// Its answer; `Reply::Rejected` changed nothing.
    pub reply: Reply,
}

/// Why there is no [`Committed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum ProposeError {
    /// This node does not lead. The command was not taken.
    #[error("this node does not lead; the command was not taken (leader: {})", leader_name(*.leader))]
    NotLeader {
        /// Who leads, if known.
        leader: Option<(NodeId, SocketAddr)>,
    },
    /// Nobody took it in time. The command was not taken.
    #[error(
        "no leader took the command within {0:?}; it was not taken. Without a majority of voters nothing can be \
         changed, and packages run on only while a majority of keepers is there. `pkgctl status` shows who is missing", .within.duration()
    )]
    NoLeader {
        /// How long it was tried.
        within: Millis,
    },
    /// The command was not taken.
    #[error("the command is {bytes} bytes long; at most {ENTRY_MAX_BYTES} are taken. Nothing was changed")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// It may be in the log now or later, or never.
    #[error("whether the command was taken is not known: {why}. Look with `pkgctl status` before you repeat it")]
    Unknown {
        /// What happened.
        why: String,
    },
    /// This node takes part no more; whether the command was taken is not known.
    #[error("{why}")]
    Fatal {
        /// What failed.
        why: String,
    },
}

fn fits(entry: &Entry) -> Result<(), ProposeError> {
    let bytes = encode(entry).len();
    if bytes <= ENTRY_MAX_BYTES { Ok(()) } else { Err(ProposeError::TooLarge { bytes }) }
}

fn leader_name(leader: Option<(NodeId, SocketAddr)>) -> String {
    leader.map_or("none known".to_owned(), |(id, address)| format!("node {id} at {address}"))
}

/// `PeerCall::Propose`.
#[derive(Serialize, Deserialize)]
pub(super) struct Forwarded {
    /// How long the sender waits.
    pub within: Millis,
    /// What to propose.
    pub entry: Entry,
}

/// Why a linearizable read cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader confirmed itself in time, or this node did not catch up with it.
    #[error("no up-to-date answer within {within:?}: {why}")]
    Late {
        /// How long it was tried.
        within: Duration,
        /// What was missing.
        why: String,
    },
    /// This node takes part no more.
    #[error("{why}")]
    Fatal {
        /// What failed.
        why: String,
    },
}

impl<Rt: AsyncRuntime, P: Peers> Consensus<Rt, P> {
    /// Puts a command into the log if this node leads.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`] when it was certainly not taken, else that the outcome is not known.
    pub async fn propose(&self, entry: Entry, within: Duration) -> Result<Committed, ProposeError> {
        fits(&entry)?;
        self.write(entry, within).await
    }

    /// The same for an entry that is known to fit.
    async fn write(&self, entry: Entry, within: Duration) -> Result<Committed, ProposeError> {
        let writing = self.inner.raft.client_write(Proposal(Arc::new(entry)));
        match Rt::timeout(within, writing).await {
            Ok(Ok(written)) => Ok(Committed { index: LogIndex(written.log_id.index), reply: written.data }),
            Ok(Err(RaftError::APIError(error))) => Err(self.not_written(error)),
            Ok(Err(RaftError::Fatal(fatal))) => Err(ProposeError::Fatal { why: self.fatal(&fatal) }),
            Err(_) => Err(ProposeError::Unknown { why: format!("no majority answered within {within:?}") }),
        }
    }

    /// Puts a command into the log through whoever leads, waiting for a leader if there is none. It is sent again only
    /// when it is certain that it was not taken.
    ///
    /// # Errors
    /// [`ProposeError::NoLeader`] when it was certainly not taken, else that the outcome is not known.
    pub async fn submit(&self, entry: Entry, within: Duration) -> Result<Committed, ProposeError> {
        fits(&entry)?;
        let deadline = Rt::Instant::now() + within;
        let mut hint = None;
        loop {
            let left = deadline.saturating_duration_since(Rt::Instant::now());
            if left.is_zero() {
                return Err(ProposeError::NoLeader { within: millis(within) });
            }
            let status = self.status();
            if let Some(why) = status.fatal {
                return Err(ProposeError::Fatal { why });
            }
            let leader = hint.take().or(status.leader);
            let refused = match leader {
                Some((id, _)) if id == self.node() => self.write(entry.clone(), left).await,
                Some((id, address)) => self.forward(id, address, &entry, left).await,
                None => Err(ProposeError::NotLeader { leader: None }),
            };
            match refused {
                Err(ProposeError::NotLeader { leader }) => hint = leader.filter(|(id, _)| *id != self.node()),
                outcome @ (Ok(_)
                | Err(
                    ProposeError::NoLeader { .. }
                    | ProposeError::TooLarge { .. }
                    | ProposeError::Unknown { .. }
                    | ProposeError::Fatal { .. },
                )) => {
                    return outcome;
                }
            }
            self.pause(left).await;
        }
    }

    async fn forward(
        &self,
        to: NodeId,
        address: SocketAddr,
        entry: &Entry,
        within: Duration,
    ) -> Result<Committed, ProposeError> {
        let body = encode(&Forwarded { within: millis(within), entry: entry.clone() });
        let asking = self.inner.peers.call(to, address, PeerCall::Propose, body, within);
        let answer = match Rt::select2(asking, self.superseded(to)).await {
            Select2::First(answer) => answer,
            Select2::Second(()) => {
                return Err(ProposeError::Unknown { why: format!("node {to} was replaced as leader meanwhile") });
            }
        };
        let bytes = match answer {
            Ok(bytes) => bytes,
            // Never sent, so certainly not taken.
            Err(PeerError::Unreachable { .. }) => return Err(ProposeError::NotLeader { leader: None }),
            Err(e @ (PeerError::Timeout { .. } | PeerError::Broken { .. })) => {
                return Err(ProposeError::Unknown { why: e.to_string() });
            }
        };
        match decode::<Result<Committed, ProposeError>>(&bytes) {
            // The other node is out of it, not this one.
            Ok(Err(ProposeError::Fatal { why })) => Err(ProposeError::Unknown { why }),
            Ok(answer) => answer,
            Err(e) => Err(ProposeError::Unknown { why: format!("node {to}'s answer: {e}") }),
        }
    }

    /// Waits until this node knows another leader than that one. What was sent to a leader that is cut off would
    /// otherwise be waited for in vain.
    async fn superseded(&self, leader: NodeId) {
        let mut leadership = self.leadership();
        loop {
            if self.status().leader.is_some_and(|(id, _)| id != leader) {
                return;
            }
            if !leadership.changed().await {
                futures::future::pending::<()>().await;
            }
        }
    }

    /// Waits until this node has applied everything that was acknowledged anywhere before this call, and says how far
    /// that is. Any node may ask; nothing rests on a leader's lease (`ReadIndex`).
    ///
    /// # Errors
    /// When no leader can prove itself in time, or this node does not catch up.
    pub async fn linearize(&self, within: Duration) -> Result<LogIndex, ReadError> {
        self.read_at(PeerCall::ReadIndex, within).await
    }

    /// Waits until this node has applied what the leader had when it was asked. The leader's own word is enough as long as a
    /// majority has answered it within an election timeout: one that was replaced within that time, and has not heard of it,
    /// answers too. Nobody is asked on the leader itself.
    ///
    /// # Errors
    /// When no leader answers in time, or this node does not catch up.
    pub async fn catch_up(&self, within: Duration) -> Result<LogIndex, ReadError> {
        match self.led_index() {
            Ok(index) => Ok(index),
            Err(_) => self.read_at(PeerCall::LedIndex, within).await,
        }
    }

    /// Asks the leader by one of the two calls for an index, then waits for it.
    async fn read_at(&self, call: PeerCall, within: Duration) -> Result<LogIndex, ReadError> {
        let deadline = Rt::Instant::now() + within;
        let left = || deadline.saturating_duration_since(Rt::Instant::now());
        let mut why = "no leader is known".to_owned();
        let index = loop {
            if left().is_zero() {
                return Err(ReadError::Late { within, why });
            }
            if let Some(fault) = self.inner.health.fault() {
                return Err(ReadError::Fatal { why: fault.to_string() });
            }
            let asked = match self.status().leader {
                Some((id, _)) if id == self.node() && call == PeerCall::LedIndex => self.led_index(),
                Some((id, _)) if id == self.node() => self.read_index(left()).await,
                Some((id, address)) => self.ask_index(call, id, address, left()).await,
                None => Err(why),
            };
            match asked {
                Ok(index) => break index,
                Err(e) => why = e,
            }
            self.pause(left()).await;
        };
        self.applied(index, left()).await.map_err(|e| match e {
            ReadError::Late { why, .. } => ReadError::Late { within, why },
            fatal @ ReadError::Fatal { .. } => fatal,
        })
    }

    /// How far a linearizable read must have applied, if this node leads and proves it now.
    pub(super) async fn read_index(&self, within: Duration) -> ReadIndexed {
        let asking = self.inner.raft.get_read_log_id(ReadPolicy::ReadIndex);
        match Rt::timeout(within, asking).await {
            Ok(Ok((read, _))) => Ok(LogIndex(read.index())),
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_)))) => {
                Err(format!("node {} does not lead", self.node()))
            }
            Ok(Err(RaftError::APIError(e @ LinearizableReadError::QuorumNotEnough(_)))) => Err(e.to_string()),
            Ok(Err(RaftError::Fatal(fatal))) => Err(self.fatal(&fatal)),
            Err(_) => Err(self.unfollowed()),
        }
    }

    fn unfollowed(&self) -> String {
        format!("the leader, node {}, has no majority behind it", self.node())
    }

    /// What is applied here, if this node leads, a majority has answered it within an election timeout, and it has applied an
    /// entry of its own term: before that it may lack what was acknowledged under the leader before it.
    pub(super) fn led_index(&self) -> ReadIndexed {
        let status = self.status();
        let last = self.last_applied();
        match last.filter(|last| status.is_leader() && last.term == status.term) {
            Some(_) if !status.leads_within(self.profile().election().1) => Err(self.unfollowed()),
            Some(last) => Ok(LogIndex(last.index)),
            None if status.is_leader() => Err(format!("node {} has only begun to lead", self.node())),
            None => Err(format!("node {} does not lead", self.node())),
        }
    }

    async fn ask_index(&self, call: PeerCall, to: NodeId, address: SocketAddr, within: Duration) -> ReadIndexed {
        let body = encode(&millis(within));
        let answer = self.inner.peers.call(to, address, call, body, within).await;
        decode::<ReadIndexed>(&answer.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?
    }

    /// Waits until this node has applied that entry, and says how far it is.
    ///
    /// # Errors
    /// When it has not in time.
    pub async fn applied(&self, index: LogIndex, within: Duration) -> Result<LogIndex, ReadError> {
        // The state is ahead of openraft's metrics; on the leader it mostly is there already.
        let here = self.read(|state| state.applied);
        if here >= index {
            return Ok(here);
        }
        let waiting = self.inner.raft.wait(Some(within));
        match waiting.applied_index_at_least(Some(index.0), "applied").await {
            Ok(metrics) => Ok(LogIndex(metrics.last_applied.map_or(0, |id| id.index))),
            Err(WaitError::Timeout(..)) => {
                let applied = self.read(|state| state.applied);
                Err(ReadError::Late { within, why: format!("entry {applied} of {index} is applied here") })
            }
            Err(WaitError::ShuttingDown) => {
                let why = self.inner.health.fault().map_or("Raft has stopped".to_owned(), |fault| fault.to_string());
                Err(ReadError::Fatal { why })
            }
        }
    }

    pub(super) fn not_written(&self, error: ClientWriteError<Types<Rt>>) -> ProposeError {
        match error {
            ClientWriteError::ForwardToLeader(forward) => ProposeError::NotLeader { leader: self.hint(&forward) },
            ClientWriteError::LogEntryDiscarded(_) => {
                ProposeError::Unknown { why: "the leader changed before it was committed".to_owned() }
            }
            e @ (ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_)) => {
                ProposeError::Unknown { why: e.to_string() }
            }
        }
    }

    pub(super) fn hint(&self, forward: &ForwardToLeader<Types<Rt>>) -> Option<(NodeId, SocketAddr)> {
        let at = |member: &Member| member.address;
        let named = forward.leader_id.map(NodeId).zip(forward.leader_node.as_ref().map(at));
        named.filter(|(id, _)| *id != self.node())
    }

    pub(super) fn fatal(&self, fatal: &Fatal<Types<Rt>>) -> String {
        self.inner.health.fault().map_or_else(|| fatal.to_string(), |fault| fault.to_string())
    }

    /// Between two tries: a heartbeat, in which a new leader makes itself known.
    async fn pause(&self, left: Duration) {
        Rt::sleep(self.profile().heartbeat().min(left)).await;
    }
}

pub(super) fn millis(duration: Duration) -> Millis {
    Millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
