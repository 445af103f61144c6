//! The child process: does to a store what Raft does, and says on its standard output what was acknowledged.
//!
//! Lines: `acked INDEX TERM`, `voted TERM`, `purged INDEX` once each is answered; `truncating INDEX` before it begins.

use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, mpsc};

use pkgctl::engine::command::{Command, Entry};
use pkgctl::engine::{ClusterId, NodeId, Profile, WallMillis};
use pkgctl::raft::propose::ENTRY_MAX_BYTES;
use pkgctl::raft::record::{LogMark, LogRecord, Payload, Vote};
use pkgctl::raft::store::Table;
use pkgctl::raft::store::disk::RealDisk;
use pkgctl::raft::store::identity::{Identity, create};
use pkgctl::raft::store::load::{OpenStore, open};
use pkgctl::raft::store::log::LogStore;
use pkgctl::raft::store::snapshot::{Snapshot, SnapshotHead};
use pkgctl::raft::store::writer::Done;

/// Entries written before the oldest of them is waited for.
const IN_FLIGHT: u64 = 12;
/// Entries of one round.
const ROUND: u64 = 60;
/// Entries truncated at a time.
const TRUNCATED: u64 = 5;
/// Rounds between two snapshots.
const SNAPSHOT_ROUNDS: u64 = 4;
/// Rounds between two requests of many entries at once, as a member gets that was away.
const CATCH_UP_ROUNDS: u64 = 5;
/// Entries of such a request; with one large entry this comes near the most that a leader sends in one.
const CATCH_UP: u64 = 200;

/// Makes the store.
pub fn make<T: Table>(dir: &Path) {
    let identity = Identity { cluster: ClusterId(1), node: NodeId(1), profile: Profile::Default };
    create::<T>(dir, identity, Arc::new(RealDisk)).unwrap();
}

/// The entry at a place, whose contents follow from it.
pub fn record(term: u64, index: u64) -> LogRecord {
    let bytes = match index % 97 {
        0 => ENTRY_MAX_BYTES as u64 - 4096,
        _ => (index * 7919 + term * 104_729) % 3000,
    };
    let digest = format!("{term}.{index}.").repeat(usize::try_from(bytes / 4).unwrap() + 1);
    let command = Command::IssueToken { digest, expires: WallMillis(index) };
    let entry = Entry { wall: WallMillis(term), by: "writer".into(), command };
    LogRecord { mark: LogMark { term, index }, payload: Payload::Command(Arc::new(entry)) }
}

/// One line, written at once: the parent must know of it before anything that follows.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
}

fn wait(start: impl FnOnce(Done)) {
    let (sender, receiver) = mpsc::channel();
    start(Box::new(move |outcome| sender.send(outcome).unwrap()));
    receiver.recv().unwrap().unwrap();
}

/// Writes that many rounds, in a new term, on top of what is there.
pub fn run<T: Table>(dir: &Path, rounds: u64) {
    let OpenStore { log, writer, snapshots, .. } = open::<T>(dir, Arc::new(RealDisk)).unwrap();
    writer.spawn_thread().unwrap();
    let mut term = log.vote().unwrap().map_or(0, |vote| vote.term);
    for round in 0..rounds {
        if round % 3 == 0 {
            term += 1;
            let vote = Vote { term, node: NodeId(1), committed: true };
            wait(|done| log.save_vote(vote, done).unwrap());
            say(&format!("voted {term}"));
        }
        if round % 3 == 2 {
            truncate(&log);
        }
        append(&log, term);
        if round % CATCH_UP_ROUNDS == CATCH_UP_ROUNDS - 1 {
            catch_up(&log, term);
        }
        // Raft never truncates what is committed.
        let committed = back(&log, TRUNCATED + 5);
        log.save_committed(Some(committed)).unwrap();
        if round % SNAPSHOT_ROUNDS == SNAPSHOT_ROUNDS - 1 {
            let last = log.last().unwrap();
            let head = SnapshotHead { last: Some(last), ..SnapshotHead::default() };
            snapshots.save(&Snapshot { head, state: Arc::default() }).unwrap();
            let upto = back(&log, 20);
            wait(|done| log.purge(upto, done).unwrap());
            say(&format!("purged {}", upto.index));
        }
    }
    wait(|done| log.close(done));
}

/// The entry that far before the last one.
fn back(log: &LogStore, by: u64) -> LogMark {
    let last = log.last().unwrap().index;
    log.records(last - by..last).unwrap()[0].mark
}

/// A new leader overrides the last entries.
fn truncate(log: &LogStore) {
    let keep = back(log, TRUNCATED);
    say(&format!("truncating {}", keep.index));
    wait(|done| log.truncate_after(Some(keep), done).unwrap());
}

/// Many entries in one append: acknowledged together, or not at all.
fn catch_up(log: &LogStore, term: u64) {
    let first = log.last().map_or(0, |last| last.index + 1);
    let entries = (first..first + CATCH_UP).map(|index| record(term, index)).collect();
    wait(|done| log.append(entries, done).unwrap());
    (first..first + CATCH_UP).for_each(|index| say(&format!("acked {index} {term}")));
}

fn append(log: &LogStore, term: u64) {
    let first = log.last().map_or(0, |last| last.index + 1);
    let (sender, receiver) = mpsc::channel();
    for index in first..first + ROUND {
        let sender = sender.clone();
        let done: Done = Box::new(move |outcome| sender.send(outcome.map(|()| index)).unwrap());
        log.append(vec![record(term, index)], done).unwrap();
        if index >= first + IN_FLIGHT {
            say(&format!("acked {} {term}", receiver.recv().unwrap().unwrap()));
        }
    }
    drop(sender);
    receiver.iter().for_each(|acked| say(&format!("acked {} {term}", acked.unwrap())));
}
