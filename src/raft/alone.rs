//! The log of a node that goes on alone (docs/fallback.md): all of it as one state, and the store of the cluster of one that
//! begins with what became of that state.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use openraft::AsyncRuntime;

use super::consensus::Consensus;
use super::peers::Peers;
use super::record::{LogMark, Member, Membership, Vote};
use super::store::Chosen;
use super::store::disk::Disk;
use super::store::identity::{Identity, create_with};
use super::store::load::OpenError;
use super::store::snapshot::{Snapshot, SnapshotHead};
use crate::engine::State;

/// How far a node's log went. Another one later means that a leader has been there since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogEnd {
    last: Option<LogMark>,
    applied: Option<LogMark>,
    /// The newest term that this node has heard of.
    term: u64,
}

impl LogEnd {
    /// Whether nothing was written or applied between the two. Terms rise by this node's own attempts to be elected.
    pub fn is_where(&self, other: &LogEnd) -> bool {
        (self.last, self.applied) == (other.last, other.applied)
    }
}

impl<Rt: AsyncRuntime, P: Peers> Consensus<Rt, P> {
    /// How far the log here goes.
    ///
    /// # Errors
    /// When the store has failed.
    pub fn log_end(&self) -> io::Result<LogEnd> {
        let log = &self.inner.log;
        let (last, term) = (log.last(), log.vote()?.map_or(0, |vote| vote.term));
        Ok(LogEnd { last, applied: self.last_applied(), term: term.max(last.map_or(0, |last| last.term)) })
    }

    /// The state that the whole log here adds up to, with the entries at its end that nobody has told this node are
    /// committed: as if it had been elected.
    ///
    /// # Errors
    /// When the store has failed.
    pub fn whole_log(&self) -> io::Result<Arc<State>> {
        let mut all = self.inner.shared.applied.read().unwrap_or_else(PoisonError::into_inner).clone();
        let first = all.head.last.map_or(0, |last| last.index + 1);
        for record in self.inner.log.records(first..u64::MAX)? {
            all.apply(&self.inner.shared.rules, record.mark, &record.payload);
        }
        Ok(all.state)
    }
}

/// Makes the store of a cluster of one that begins with that state, in a term of its own.
///
/// # Errors
/// As for [`super::create_store`].
pub fn create_alone(
    dir: &Path,
    identity: Identity,
    state: Arc<State>,
    address: SocketAddr,
    end: LogEnd,
    disk: Arc<dyn Disk>,
) -> Result<(), OpenError> {
    let term = end.term + 1;
    let mark = LogMark { term, index: state.applied.0 };
    let membership =
        Membership { configs: vec![[identity.node].into()], members: [(identity.node, Member { address })].into() };
    let head = SnapshotHead { last: Some(mark), membership_at: Some(mark), membership };
    let vote = Vote { term, node: identity.node, committed: false };
    create_with::<Chosen>(dir, identity, disk, Some((Snapshot { head, state }, vote)))
}
