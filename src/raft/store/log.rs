//! Raft's log above a table: read from memory, written in groups, purged in the background.
//!
//! The whole log after the purge mark is held in memory: it is what replication and apply read, and snapshots bound it
//! (`raft::compact`). So no read of a running node touches the disk.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fault::Health;
use super::load::Loaded;
use super::tail::Tail;
use super::writer::{Done, GROUP_BYTES, Op, Purged, TRUNCATED_AT_ONCE, TailStep, WriterQueue};
use super::{Write, key};
use crate::engine::codec::seal;
use crate::raft::record::{LogMark, LogRecord, Vote};

/// An entry in memory, and in how many parts it is on disk.
#[derive(Clone, Debug)]
pub struct Held {
    /// The entry.
    pub record: Arc<LogRecord>,
    /// Its parts.
    pub parts: u16,
    /// Memory of it and of all entries before it that this process has held, in bytes.
    pub upto_bytes: u64,
}

impl Held {
    /// An entry that takes that many bytes on disk, after others of so much memory.
    pub fn new(record: LogRecord, parts: u16, bytes: usize, before_bytes: u64) -> Self {
        Self { record: Arc::new(record), parts, upto_bytes: before_bytes + ENTRY_BYTES + bytes as u64 }
    }

    /// Bytes on disk of each of its parts, on average, after entries of so much memory.
    fn value_bytes(&self, before_bytes: u64) -> usize {
        let bytes = self.upto_bytes.saturating_sub(before_bytes + ENTRY_BYTES);
        usize::try_from(bytes / u64::from(self.parts.max(1))).unwrap_or(usize::MAX)
    }
}

/// Memory that an entry takes beside its bytes on disk, about.
const ENTRY_BYTES: u64 = 512;

/// How much log there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSize {
    /// Entries.
    pub entries: u64,
    /// Memory that they take, about.
    pub bytes: u64,
}

/// Raft's log, vote and marks.
#[derive(Clone)]
pub struct LogStore {
    memory: Arc<Mutex<Memory>>,
    queue: WriterQueue,
    health: Health,
    any_start: bool,
}

struct Memory {
    entries: VecDeque<Held>,
    vote: Option<Vote>,
    committed: Option<LogMark>,
    /// Whether that has moved since it was written.
    commit_moved: bool,
    purged: Option<LogMark>,
    /// What `upto_bytes` of the entry before the first was.
    dropped_bytes: u64,
}

impl Memory {
    /// The place of that entry, or where it would be.
    fn place(&self, index: u64) -> usize {
        let first = self.entries.front().map_or(index, |held| held.record.mark.index);
        usize::try_from(index.saturating_sub(first)).unwrap_or(usize::MAX).min(self.entries.len())
    }

    /// Memory of all entries before that place that this process has held.
    fn bytes_before(&self, place: usize) -> u64 {
        let before = place.checked_sub(1).and_then(|place| self.entries.get(place));
        before.map_or(self.dropped_bytes, |held| held.upto_bytes)
    }

    fn last(&self) -> Option<LogMark> {
        self.entries.back().map(|held| held.record.mark).or(self.purged)
    }

    /// What writes the commit mark, if it was not written yet.
    fn committed_writes(&mut self) -> Vec<Write> {
        if !std::mem::take(&mut self.commit_moved) {
            return Vec::new();
        }
        vec![match self.committed {
            Some(mark) => Write::Put(key::COMMITTED.to_vec(), seal(&mark)),
            None => Write::Delete(key::COMMITTED.to_vec()),
        }]
    }

    fn tail(&self) -> Tail {
        Tail { last: self.last(), vote: self.vote }
    }

    /// The values of the entries for which `drop` holds, which are at one end; they leave memory.
    fn remove(&mut self, drop: impl Fn(u64) -> bool) -> Vec<Purged> {
        let first = self.entries.iter().position(|held| drop(held.record.mark.index)).unwrap_or(self.entries.len());
        let mut upto_bytes = self.bytes_before(first);
        let mut values = Vec::new();
        for held in self.entries.range(first..).take_while(|held| drop(held.record.mark.index)) {
            let bytes = held.value_bytes(upto_bytes);
            upto_bytes = held.upto_bytes;
            let key = |part| key::entry(held.record.mark.index, part);
            values.extend((0..held.parts).map(|part| Purged { key: key(part), bytes }));
        }
        if first == 0 {
            self.dropped_bytes = upto_bytes;
        }
        self.entries.retain(|held| !drop(held.record.mark.index));
        values
    }
}

impl LogStore {
    /// What was loaded, with a queue to the writer.
    pub fn new(loaded: Loaded, queue: WriterQueue, health: Health) -> Self {
        let Loaded { entries, vote, committed, purged, leftovers: _ } = loaded;
        let memory = Memory { entries: entries.into(), vote, committed, commit_moved: false, purged, dropped_bytes: 0 };
        Self { memory: Arc::new(Mutex::new(memory)), queue, health, any_start: false }
    }

    /// Adds entries right after the last one; they can be read at once, and `done` is called when they are durable.
    /// Many of them become durable one group after another, so after a crash the first few may be there.
    ///
    /// # Errors
    /// When the store has failed, or the entries leave a gap; then `done` is not called.
    pub fn append(&self, records: Vec<LogRecord>, done: Done) -> io::Result<()> {
        let mut memory = self.memory();
        let mut groups = vec![Vec::new()];
        let mut held = Vec::with_capacity(records.len());
        let first = memory.last().map_or_else(|| self.first_ever(&records), |mark| mark.index + 1);
        let mut bytes = 0;
        let mut upto_bytes = memory.bytes_before(memory.entries.len());
        for (expected, record) in (first..).zip(records) {
            if record.mark.index != expected {
                return Err(io::Error::other(format!("entry {} came where {expected} was due", record.mark)));
            }
            let (parts, count) = key::put(&record);
            if bytes > GROUP_BYTES {
                groups.push(Vec::new());
                bytes = 0;
            }
            let size = parts.iter().map(Write::bytes).sum::<usize>();
            bytes += size;
            groups.last_mut().expect("there is one").extend(parts);
            let one = Held::new(record, count, size, upto_bytes);
            upto_bytes = one.upto_bytes;
            held.push(one);
        }
        memory.entries.extend(held);
        let doing = "writing entries to the log";
        let last = groups.pop().unwrap_or_default();
        for writes in groups {
            self.queue.push(Op { doing, writes, durable: true, tail: TailStep::Keep, done: None })?;
        }
        let tail = TailStep::Note(memory.tail());
        self.queue.push(Op { doing, writes: last, durable: true, tail, done: Some(done) })
    }

    /// Stores the vote; `done` is called when it is durable.
    ///
    /// # Errors
    /// When the store has failed; then `done` is not called.
    pub fn save_vote(&self, vote: Vote, done: Done) -> io::Result<()> {
        let mut memory = self.memory();
        memory.vote = Some(vote);
        let writes = vec![Write::Put(key::VOTE.to_vec(), seal(&vote))];
        let tail = TailStep::Witness(memory.tail());
        self.queue.push(Op { doing: "writing the vote", writes, durable: true, tail, done: Some(done) })
    }

    /// Says how far the log is committed. [`Self::write_committed`], a purge and closing store it; what is not stored of
    /// it is learned again from the leader.
    ///
    /// # Errors
    /// When the store has failed.
    pub fn save_committed(&self, committed: Option<LogMark>) -> io::Result<()> {
        self.health.check()?;
        let mut memory = self.memory();
        memory.committed = committed;
        memory.commit_moved = true;
        Ok(())
    }

    /// Stores how far the log is committed, if that has moved. Not durable by itself.
    ///
    /// # Errors
    /// When the store has failed or is closed.
    pub fn write_committed(&self) -> io::Result<()> {
        self.health.check()?;
        self.queue.check_open()?;
        // Queued under the lock, like everything else, so that no mark overtakes a newer one.
        let mut memory = self.memory();
        let (doing, writes) = ("writing the commit mark", memory.committed_writes());
        if writes.is_empty() {
            return Ok(());
        }
        self.queue.push(Op { doing, writes, durable: false, tail: TailStep::Keep, done: None })
    }

    /// Takes away every entry after `last` (all of them when none). Many go from the end on, a few at a time.
    ///
    /// # Errors
    /// When the store has failed; then `done` is not called.
    pub fn truncate_after(&self, last: Option<LogMark>, done: Done) -> io::Result<()> {
        let mut memory = self.memory();
        let removed = memory.remove(|index| last.is_none_or(|last| index > last.index));
        let doing = "truncating the log";
        let lowered = memory.tail();
        // The last entries first and each entry whole, so that a crash at any point leaves a log without a gap.
        let mut groups: Vec<Vec<Write>> = vec![Vec::new()];
        let writes: Vec<Write> = removed.into_iter().map(|value| Write::Delete(value.key)).collect();
        for entry in writes.chunk_by(key::same_entry).rev() {
            if groups.last().is_some_and(|group| group.len() >= TRUNCATED_AT_ONCE) {
                groups.push(Vec::new());
            }
            groups.last_mut().expect("there is one").extend_from_slice(entry);
        }
        let end = groups.pop().unwrap_or_default();
        for writes in groups {
            self.queue.push(Op { doing, writes, durable: true, tail: TailStep::Lower(lowered), done: None })?;
        }
        self.queue.push(Op { doing, writes: end, durable: true, tail: TailStep::Lower(lowered), done: Some(done) })
    }

    /// Takes away every entry up to `upto`, which a snapshot covers. `done` is called when the purge mark is durable;
    /// the entries themselves go in the background, a few at a time.
    ///
    /// # Errors
    /// When the store has failed; then `done` is not called.
    pub fn purge(&self, upto: LogMark, done: Done) -> io::Result<()> {
        let mut memory = self.memory();
        let values = memory.remove(|index| index <= upto.index);
        let purged = memory.purged.map_or(upto, |before| before.max(upto));
        memory.purged = Some(purged);
        // Never behind the purge mark.
        let mut writes = memory.committed_writes();
        writes.push(Write::Put(key::PURGED.to_vec(), seal(&purged)));
        let tail = TailStep::Note(memory.tail());
        self.queue.push(Op { doing: "purging the log", writes, durable: true, tail, done: Some(done) })?;
        self.queue.purge(values)
    }

    /// The entries in that range that are there.
    ///
    /// # Errors
    /// When the store has failed.
    pub fn records(&self, range: Range<u64>) -> io::Result<Vec<Arc<LogRecord>>> {
        self.health.check()?;
        let memory = self.memory();
        let end = memory.place(range.end);
        let start = memory.place(range.start).min(end);
        Ok(memory.entries.range(start..end).map(|held| held.record.clone()).collect())
    }

    /// The last vote saved.
    ///
    /// # Errors
    /// When the store has failed.
    pub fn vote(&self) -> io::Result<Option<Vote>> {
        self.health.check()?;
        Ok(self.memory().vote)
    }

    /// The commit mark last saved.
    pub fn committed(&self) -> Option<LogMark> {
        self.memory().committed
    }

    /// The purge mark.
    pub fn purged(&self) -> Option<LogMark> {
        self.memory().purged
    }

    /// The last entry, or the purge mark when there is none.
    pub fn last(&self) -> Option<LogMark> {
        self.memory().last()
    }

    /// How much of the log comes after that entry; all of it when none.
    pub fn size_after(&self, index: Option<u64>) -> LogSize {
        let memory = self.memory();
        let (start, end) = (index.map_or(0, |index| memory.place(index + 1)), memory.entries.len());
        LogSize { entries: (end - start) as u64, bytes: memory.bytes_before(end) - memory.bytes_before(start) }
    }

    /// The entry up to which the log may go so that no more than so many entries, and so many bytes, are left of what
    /// ends with `covered`. None when all of it may stay.
    pub fn beyond(&self, covered: u64, entries: u64, bytes: u64) -> Option<u64> {
        let memory = self.memory();
        let end = memory.place(covered + 1);
        let least = end.saturating_sub(usize::try_from(entries).unwrap_or(usize::MAX));
        let total = memory.bytes_before(end);
        let start = (least..=end).find(|start| total - memory.bytes_before(*start) <= bytes).unwrap_or(end);
        start.checked_sub(1).and_then(|last| memory.entries.get(last)).map(|held| held.record.mark.index)
    }

    /// How many writes were queued, and how many of those are answered.
    pub fn progress(&self) -> (u64, u64) {
        self.queue.progress()
    }

    /// Whether nothing was ever written.
    pub fn is_unused(&self) -> bool {
        let memory = self.memory();
        memory.vote.is_none() && memory.last().is_none()
    }

    /// Closes the store after everything queued; `done` is called when its files and its lock are free.
    pub fn close(&self, done: Done) {
        // A store that has failed keeps the mark that it has.
        let _ = self.write_committed();
        self.queue.close(done);
    }

    /// The index of a log's first entry. Openraft's logs begin at 0, but its storage suite's do not all.
    fn first_ever(&self, records: &[LogRecord]) -> u64 {
        if self.any_start { records.first().map_or(0, |record| record.mark.index) } else { 0 }
    }

    /// Lets the log begin at any index, for openraft's suite. Such a store is refused when it is opened again.
    #[cfg(test)]
    pub fn with_any_start(mut self) -> Self {
        self.any_start = true;
        self
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // A panic while it was held is a bug in this file; what is on disk does not depend on it.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
