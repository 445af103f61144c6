//! One suite for every storage engine: what must hold of the log on any of them.
//!
//! - `keeps`: what was acknowledged is there after reopening.
//! - `refuses`: what is missing or damaged is never taken for a store.
//! - `fails`: the first error of the disk ends the store.

mod fails;
mod keeps;
mod refuses;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use super::Table;
use super::disk::{Disk, Part, RealDisk};
use super::fault::Health;
use super::identity::{Identity, create};
use super::load::{OpenError, OpenStore, open};
use super::log::LogStore;
use super::snapshot::{Snapshot, SnapshotFiles, SnapshotHead};
use super::writer::Done;
use crate::engine::command::{Command, Entry};
use crate::engine::{ClusterId, NodeId, Profile, WallMillis};
use crate::raft::record::{LogMark, LogRecord, Payload, Vote};

/// Runs each named test of the suite on both engines.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod on_sled {
            $(#[test] fn $test() { super::$test::<crate::raft::store::sled::SledTable>(); })*
        }
        mod on_redb {
            $(#[test] fn $test() { super::$test::<crate::raft::store::redb::RedbTable>(); })*
        }
    };
}
use on_both;

const IDENTITY: Identity = Identity { cluster: ClusterId(0xc0ffee), node: NodeId(3), profile: Profile::Default };

/// A disk that counts syncs of the log and fails when told.
#[derive(Default)]
struct TestDisk {
    log_syncs: AtomicUsize,
    sync_error: AtomicI32,
    write_error: AtomicI32,
}

impl Disk for TestDisk {
    fn admit(&self, part: Part, bytes: usize) -> io::Result<()> {
        fail_with(&self.write_error)?;
        RealDisk.admit(part, bytes)
    }

    fn sync(&self, part: Part, file: &File) -> io::Result<()> {
        fail_with(&self.sync_error)?;
        if part == Part::Log {
            self.log_syncs.fetch_add(1, Ordering::Relaxed);
        }
        RealDisk.sync(part, file)
    }
}

fn fail_with(error: &AtomicI32) -> io::Result<()> {
    match error.load(Ordering::Relaxed) {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}

/// A store in a directory of its own, running.
struct Bed<T: Table> {
    dir: tempfile::TempDir,
    disk: Arc<TestDisk>,
    _table: std::marker::PhantomData<fn() -> T>,
}

impl<T: Table> Bed<T> {
    fn new() -> Self {
        let bed = Self { dir: tempfile::tempdir().unwrap(), disk: Arc::default(), _table: std::marker::PhantomData };
        create::<T>(bed.path(), IDENTITY, bed.disk.clone()).unwrap();
        bed
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn try_open(&self) -> Result<OpenStore<T>, OpenError> {
        open::<T>(self.path(), self.disk.clone())
    }

    /// Opens the store and runs its writer.
    fn open(&self) -> LogStore {
        let store = self.try_open().unwrap();
        store.writer.spawn_thread().unwrap();
        store.log
    }

    /// Why it is not opened.
    fn refusal(&self) -> OpenError {
        match self.try_open() {
            Ok(store) => panic!("opened, with last entry {:?}", store.log.last()),
            Err(error) => error,
        }
    }

    /// Stores a snapshot that covers the log up to there.
    fn snapshot_at(&self, last: LogMark) {
        let store = self.path().join(super::identity::STORE_DIR);
        let (files, _) = SnapshotFiles::open(&store, self.disk.clone(), Health::new(self.path())).unwrap();
        let head = SnapshotHead { last: Some(last), ..SnapshotHead::default() };
        files.save(&Snapshot { head, state: Arc::default() }).unwrap();
    }

    /// Changes the table behind the store's back.
    fn tamper(&self, writes: &[super::Write]) {
        let mut table = T::open(&self.path().join(super::identity::STORE_DIR), self.disk.clone()).unwrap();
        table.commit(writes, true).unwrap();
    }
}

/// Waits for one operation to be answered.
fn answered(start: impl FnOnce(Done) -> io::Result<()>) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel();
    start(Box::new(move |outcome| sender.send(outcome).unwrap()))?;
    receiver.recv().unwrap()
}

fn close(log: LogStore) {
    answered(|done| {
        log.close(done);
        Ok(())
    })
    .unwrap();
}

fn mark(term: u64, index: u64) -> LogMark {
    LogMark { term, index }
}

/// An entry whose contents follow from its place, so that a test can tell it from any other.
fn record(term: u64, index: u64) -> LogRecord {
    sized_record(term, index, 10)
}

fn sized_record(term: u64, index: u64, bytes: usize) -> LogRecord {
    let digest = format!("{term}/{index}/").repeat(bytes / 4 + 1);
    let command = Command::IssueToken { digest, expires: WallMillis(index) };
    let entry = Entry { wall: WallMillis(term), by: "test@n1".into(), command };
    LogRecord { mark: mark(term, index), payload: Payload::Command(Arc::new(entry)) }
}

fn append(log: &LogStore, term: u64, indexes: std::ops::Range<u64>) {
    vote(log, term);
    answered(|done| log.append(indexes.map(|index| record(term, index)).collect(), done)).unwrap();
}

fn vote(log: &LogStore, term: u64) {
    answered(|done| log.save_vote(Vote { term, node: NodeId(1), committed: true }, done)).unwrap();
}

fn all(log: &LogStore) -> Vec<LogRecord> {
    log.records(0..u64::MAX).unwrap().iter().map(|record| (**record).clone()).collect()
}
