//! The one place that writes and syncs: takes what is queued as one group, commits it with one sync, answers everyone.
//!
//! The first error ends the store: it is kept as the fault, and everything queued or to come is answered with it. The
//! writer runs as a thread, or as a task of the simulated runtime, in which threads have no place in time.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_channel::{Receiver, Sender, TryRecvError};
use openraft::AsyncRuntime;

use super::fault::Health;
use super::identity::StoreLock;
use super::tail::{Tail, TailFile};
use super::{Table, Write};

/// Operations waiting for the disk; more than this means that it has stopped, and ends the store.
pub const QUEUE_MAX: usize = 65_536;
/// Bytes of one group, less the last operation's; see `sled::SEGMENT_BYTES`.
pub const GROUP_BYTES: usize = 128 << 10;
/// Deletions of one truncation's step.
pub const TRUNCATED_AT_ONCE: usize = 64;
/// What a truncation's deletion counts in a group: the page that it is taken out of is written again.
const DELETE_COST_BYTES: usize = GROUP_BYTES / TRUNCATED_AT_ONCE;
/// Bytes of purged values that every group may delete, so that purging never makes a commit wait long. A group that
/// writes more deletes as much, so that purged values go at least as fast as new ones come.
const PURGED_BYTES: usize = GROUP_BYTES / 8;

/// Called once with the outcome.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What happens to the tail mark with an operation.
pub enum TailStep {
    /// Nothing.
    Keep,
    /// It moves on once the operation is durable.
    Note(Tail),
    /// It moves on, durably, before the operation is answered: votes.
    Witness(Tail),
    /// It moves back, durably, before the operation starts: truncation.
    Lower(Tail),
}

/// One operation.
pub struct Op {
    /// What it was doing, for the message of a fault.
    pub doing: &'static str,
    /// All of these or none.
    pub writes: Vec<Write>,
    /// Whether it is answered only when it survives power loss.
    pub durable: bool,
    /// The tail mark.
    pub tail: TailStep,
    /// Who waits.
    pub done: Option<Done>,
}

/// A value that nobody will read again.
#[derive(Debug)]
pub struct Purged {
    /// Its key.
    pub key: Vec<u8>,
    /// What it takes.
    pub bytes: usize,
}

enum Message {
    Op(Op),
    Purged(Vec<Purged>),
    Close(Done),
}

/// The queue to a writer.
#[derive(Clone)]
pub struct WriterQueue {
    messages: Sender<Message>,
    health: Health,
    progress: Arc<Progress>,
}

/// How many operations were queued, and how many of those are answered.
#[derive(Default)]
struct Progress {
    queued: AtomicU64,
    answered: AtomicU64,
}

impl WriterQueue {
    /// Queues an operation. It is answered even when the store fails.
    ///
    /// # Errors
    /// When the store has failed or is closed; then it is not queued, and not answered.
    pub fn push(&self, op: Op) -> io::Result<()> {
        self.health.check()?;
        self.progress.queued.fetch_add(1, Ordering::Relaxed);
        self.send(Message::Op(op))
    }

    /// Whether anything can still be queued.
    ///
    /// # Errors
    /// When the store is closed.
    pub fn check_open(&self) -> io::Result<()> {
        if self.messages.is_closed() { Err(closed()) } else { Ok(()) }
    }

    /// How many operations were queued, and how many of those are answered.
    pub fn progress(&self) -> (u64, u64) {
        let answered = self.progress.answered.load(Ordering::Relaxed);
        (self.progress.queued.load(Ordering::Relaxed), answered)
    }

    /// Queues deletions of what nobody will read again: a few go with each group, and more when there is time.
    ///
    /// # Errors
    /// When the store has failed or is closed.
    pub fn purge(&self, purged: Vec<Purged>) -> io::Result<()> {
        self.health.check()?;
        self.send(Message::Purged(purged))
    }

    /// Closes the store after everything queued, and answers when its files and lock are free.
    pub fn close(&self, done: Done) {
        if let Err(e) = self.messages.try_send(Message::Close(done))
            && let Message::Close(done) = e.into_inner()
        {
            done(Ok(()));
        }
    }

    fn send(&self, message: Message) -> io::Result<()> {
        if self.messages.len() >= QUEUE_MAX {
            let waiting = format!("{QUEUE_MAX} writes are waiting: the disk has stopped");
            return Err(self.health.fail("queueing a write", &io::Error::other(waiting)).into());
        }
        self.messages.try_send(message).map_err(|_| closed())
    }
}

fn closed() -> io::Error {
    io::Error::other("the store is closed")
}

/// The writer of one store.
pub struct Writer<T> {
    table: T,
    tail: TailFile,
    messages: Receiver<Message>,
    health: Health,
    progress: Arc<Progress>,
    purged: VecDeque<Purged>,
    /// Taken from the queue but not fit for the group before it.
    held: Option<Message>,
    _lock: StoreLock,
}

enum Next {
    Message(Message),
    Purge,
    Wait,
    End,
}

impl<T: Table> Writer<T> {
    /// A writer and its queue.
    pub fn new(table: T, tail: TailFile, health: Health, lock: StoreLock) -> (Self, WriterQueue) {
        // A bounded channel takes the memory of its bound when it is made: 9 MB.
        let (sender, messages) = async_channel::unbounded();
        let progress = Arc::<Progress>::default();
        let queue = WriterQueue { messages: sender, health: health.clone(), progress: progress.clone() };
        (Self { table, tail, messages, health, progress, purged: VecDeque::new(), held: None, _lock: lock }, queue)
    }

    /// Runs it as a thread of its own until it is closed.
    ///
    /// # Errors
    /// When no thread can be made.
    pub fn spawn_thread(self) -> io::Result<()> {
        let run = move || {
            let mut writer = self;
            loop {
                let message = match writer.next() {
                    Next::Message(message) => message,
                    Next::Purge => {
                        writer.purge();
                        continue;
                    }
                    Next::Wait => match writer.messages.recv_blocking() {
                        Ok(message) => message,
                        Err(_) => return,
                    },
                    Next::End => return,
                };
                let Some(on) = writer.take(message) else { return };
                writer = on;
            }
        };
        std::thread::Builder::new().name("pkgctl-log".into()).spawn(run).map(drop)
    }

    /// Runs it as a task in which every commit takes that long.
    pub fn spawn_task<Rt: AsyncRuntime>(self, latency: Duration) {
        let run = async move {
            let mut writer = self;
            loop {
                let message = match writer.next() {
                    Next::Message(message) => message,
                    Next::Purge => {
                        writer.purge();
                        continue;
                    }
                    Next::Wait => match writer.messages.recv().await {
                        Ok(message) => message,
                        Err(_) => return,
                    },
                    Next::End => return,
                };
                // What arrives meanwhile joins the group; what is lost in a crash here was not answered.
                Rt::sleep(latency).await;
                let Some(on) = writer.take(message) else { return };
                writer = on;
            }
        };
        drop(Rt::spawn(run));
    }

    fn next(&mut self) -> Next {
        if let Some(held) = self.held.take() {
            return Next::Message(held);
        }
        match self.messages.try_recv() {
            Ok(message) => Next::Message(message),
            Err(TryRecvError::Closed) => Next::End,
            Err(TryRecvError::Empty) if self.purged.is_empty() => Next::Wait,
            Err(TryRecvError::Empty) => Next::Purge,
        }
    }

    /// Does what a message asks for; none when that was to close.
    fn take(mut self, message: Message) -> Option<Self> {
        match message {
            Message::Op(op) => self.commit_group(op),
            Message::Purged(some) => self.purged.extend(some),
            Message::Close(done) => {
                self.messages.close();
                // In this order: the lock goes last.
                let Self { table, tail, _lock: lock, .. } = self;
                drop((table, tail));
                drop(lock);
                done(Ok(()));
                return None;
            }
        }
        Some(self)
    }

    /// Deletions of purged values that take so many bytes.
    fn deletions(&mut self, mut bytes: usize) -> Vec<Write> {
        let mut deletions = Vec::new();
        while bytes > 0
            && let Some(next) = self.purged.pop_front()
        {
            bytes = bytes.saturating_sub(next.bytes);
            deletions.push(Write::Delete(next.key));
        }
        deletions
    }

    fn purge(&mut self) {
        let deletions = self.deletions(PURGED_BYTES);
        if self.health.check().is_ok()
            // Nobody waits for these, but what they make the engine rewrite must not pile up unsynced.
            && let Err(e) = self.table.commit(&deletions, true)
        {
            self.health.fail("removing purged entries", &e);
        }
    }

    /// Commits an operation together with those behind it that fit, and answers all of them.
    fn commit_group(&mut self, first: Op) {
        let mut group = vec![first];
        let mut bytes = size(&group[0]);
        while bytes < GROUP_BYTES && self.held.is_none() {
            match self.messages.try_recv() {
                Ok(Message::Op(op)) if !matches!(op.tail, TailStep::Lower(_)) => {
                    bytes += size(&op);
                    group.push(op);
                }
                Ok(Message::Purged(some)) => self.purged.extend(some),
                Ok(other @ (Message::Op(_) | Message::Close(_))) => self.held = Some(other),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        let outcome = self.health.check().and_then(|()| {
            let doing = group[0].doing;
            self.write_group(&mut group, bytes).map_err(|e| self.health.fail(doing, &e))
        });
        for op in group {
            self.progress.answered.fetch_add(1, Ordering::Relaxed);
            if let Some(done) = op.done {
                done(outcome.clone().map_err(io::Error::from));
            }
        }
    }

    fn write_group(&mut self, group: &mut [Op], bytes: usize) -> io::Result<()> {
        if let TailStep::Lower(tail) = &group[0].tail {
            self.tail.note(*tail)?;
            self.tail.sync()?;
        }
        let durable = group.iter().any(|op| op.durable);
        let mut writes: Vec<Write> = group.iter_mut().flat_map(|op| std::mem::take(&mut op.writes)).collect();
        if durable {
            writes.extend(self.deletions(bytes.max(PURGED_BYTES)));
        }
        self.table.commit(&writes, durable)?;
        let newest = group.iter().rev().find_map(|op| match op.tail {
            TailStep::Note(tail) | TailStep::Witness(tail) | TailStep::Lower(tail) => Some(tail),
            TailStep::Keep => None,
        });
        if let Some(tail) = newest {
            self.tail.note(tail)?;
        }
        if group.iter().any(|op| matches!(op.tail, TailStep::Witness(_))) {
            self.tail.sync()?;
        }
        Ok(())
    }
}

fn size(op: &Op) -> usize {
    let cost = |write: &Write| match write {
        Write::Put(..) => write.bytes(),
        Write::Delete(_) => DELETE_COST_BYTES,
    };
    op.writes.iter().map(cost).sum()
}

#[cfg(test)]
mod tests;
