//! Openraft's log storage on our store.

use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::ops::{Bound, Range, RangeBounds};

use futures::channel::oneshot;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{AsyncRuntime, OptionalSend};

use super::types::{LogEntry, LogId, RaftVote, Types, entry_of, log_id, mark, record, vote, vote_of};
use crate::raft::store::log::LogStore;
use crate::raft::store::writer::Done;

/// Entries of one read for replication, at most; a follower that is far behind gets them in several requests.
const READ_MAX: u64 = 256;

/// The store as openraft sees it.
pub struct RaftLog<Rt> {
    store: LogStore,
    _runtime: PhantomData<fn() -> Rt>,
}

impl<Rt> RaftLog<Rt> {
    /// The same store.
    pub fn new(store: LogStore) -> Self {
        Self { store, _runtime: PhantomData }
    }
}

impl<Rt> Clone for RaftLog<Rt> {
    fn clone(&self) -> Self {
        Self::new(self.store.clone())
    }
}

impl<Rt: AsyncRuntime> RaftLogReader<Types<Rt>> for RaftLog<Rt> {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<LogEntry>> {
        let records = self.store.records(half_open(&range))?;
        records.iter().map(|record| entry_of(record).map_err(io::Error::other)).collect()
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        Ok(self.store.vote()?.map(vote_of))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<LogEntry>> {
        self.try_get_log_entries(start..end.min(start.saturating_add(READ_MAX))).await
    }
}

impl<Rt: AsyncRuntime> RaftLogStorage<Types<Rt>> for RaftLog<Rt> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types<Rt>>> {
        Ok(LogState { last_purged_log_id: self.store.purged().map(log_id), last_log_id: self.store.last().map(log_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, given: &RaftVote) -> io::Result<()> {
        let given = vote(given);
        durable(|done| self.store.save_vote(given, done)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.store.save_committed(committed.map(mark))
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.store.committed().map(log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types<Rt>>) -> io::Result<()>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records = entries.into_iter().map(record).collect();
        self.store.append(records, Box::new(move |outcome| callback.io_completed(outcome)))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let last = last.map(mark);
        durable(|done| self.store.truncate_after(last, done)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let upto = mark(upto);
        durable(|done| self.store.purge(upto, done)).await
    }
}

/// Starts an operation of the store and waits until it is durable.
///
/// # Errors
/// When the store has failed or is closed.
pub async fn durable(start: impl FnOnce(Done) -> io::Result<()>) -> io::Result<()> {
    let (sender, receiver) = oneshot::channel();
    // A caller that no longer waits needs no answer.
    start(Box::new(move |outcome| drop(sender.send(outcome))))?;
    receiver.await.unwrap_or_else(|_| Err(io::Error::other("the store is closed")))
}

fn half_open(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(index) => *index,
        Bound::Excluded(index) => index.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(index) => index.saturating_add(1),
        Bound::Excluded(index) => *index,
        Bound::Unbounded => u64::MAX,
    };
    start..end.max(start)
}
