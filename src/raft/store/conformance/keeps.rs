//! What was acknowledged is there after reopening, and what was taken away is not.

use std::sync::atomic::Ordering;
use std::sync::mpsc;

use super::super::Table;
use super::super::identity::STORE_DIR;
use super::{Bed, all, answered, append, close, mark, on_both, record, sized_record, vote};
use crate::engine::NodeId;
use crate::raft::record::Vote;

on_both!(
    a_new_store_is_empty,
    entries_are_read_at_once_and_after_reopening,
    the_newest_vote_and_commit_mark_come_back,
    a_truncated_log_ends_there_and_goes_on_from_there,
    a_purged_log_begins_there_and_leaves_nothing_behind,
    a_purge_beyond_the_end_moves_the_log_there,
    large_entries_come_back_whole,
    concurrent_writes_share_a_sync,
    an_entry_that_leaves_a_gap_is_not_taken,
);

fn a_new_store_is_empty<T: Table>() {
    let bed = Bed::<T>::new();
    let log = bed.open();
    assert!(log.is_unused());
    assert_eq!((log.last(), log.committed(), log.purged()), (None, None, None));
    assert_eq!(log.vote().unwrap(), None);
    assert_eq!(all(&log), []);
}

fn entries_are_read_at_once_and_after_reopening<T: Table>() {
    let bed = Bed::<T>::new();
    let log = bed.open();
    append(&log, 1, 0..100);
    append(&log, 2, 100..120);
    let written = all(&log);
    assert_eq!(written.len(), 120);
    assert_eq!(written[110], record(2, 110));
    let some = log.records(90..110).unwrap();
    assert_eq!((some[0].mark, some.len()), (mark(1, 90), 20));
    assert_eq!(log.records(119..500).unwrap().len(), 1);
    assert!(log.records(120..500).unwrap().is_empty());
    close(log);
    let again = bed.open();
    assert_eq!(all(&again), written);
    assert_eq!(again.last(), Some(mark(2, 119)));
}

fn the_newest_vote_and_commit_mark_come_back<T: Table>() {
    let bed = Bed::<T>::new();
    let log = bed.open();
    append(&log, 1, 0..5);
    let given = Vote { term: 7, node: NodeId(2), committed: false };
    log.save_committed(Some(mark(1, 3))).unwrap();
    answered(|done| log.save_vote(given, done)).unwrap();
    assert_eq!(log.vote().unwrap(), Some(given));
    close(log);
    let again = bed.open();
    assert_eq!(again.vote().unwrap(), Some(given));
    assert_eq!(again.committed(), Some(mark(1, 3)));
}

fn a_truncated_log_ends_there_and_goes_on_from_there<T: Table>() {
    let bed = Bed::<T>::new();
    let log = bed.open();
    append(&log, 1, 0..50);
    answered(|done| log.truncate_after(Some(mark(1, 19)), done)).unwrap();
    assert_eq!(log.last(), Some(mark(1, 19)));
    close(log);
    let log = bed.open();
    assert_eq!(all(&log).len(), 20);
    append(&log, 3, 20..30);
    close(log);
    let log = bed.open();
    assert_eq!(all(&log)[20..], (20..30).map(|index| record(3, index)).collect::<Vec<_>>());
    answered(|done| log.truncate_after(None, done)).unwrap();
    close(log);
    assert_eq!(bed.open().last(), None);
}

fn a_purged_log_begins_there_and_leaves_nothing_behind<T: Table>() {
    let bed = Bed::<T>::new();
    let log = bed.open();
    append(&log, 1, 0..1000);
    bed.snapshot_at(mark(1, 900));
    answered(|done| log.purge(mark(1, 899), done)).unwrap();
    assert_eq!((log.purged(), log.last()), (Some(mark(1, 899)), Some(mark(1, 999))));
    // Closed with deletions still queued: they are finished after the next opening.
    close(log);
    let log = bed.open();
    assert_eq!(all(&log), (900..1000).map(|index| record(1, index)).collect::<Vec<_>>());
    close(log);
    // They go a few at a time: with each group at least, and it may be closed again in between.
    let mut before = usize::MAX;
    for index in 1000.. {
        let log = bed.open();
        append(&log, 1, index..index + 1);
        close(log);
        let left = entries_on_disk(&bed) - (usize::try_from(index).unwrap() + 1 - 900);
        if left == 0 {
            return;
        }
        assert!(left < before, "{left} of {before} are left");
        before = left;
    }
}

fn entries_on_disk<T: Table>(bed: &Bed<T>) -> usize {
    let table = T::open(&bed.path().join(STORE_DIR), bed.disk.clone()).unwrap();
    let mut entries = 0;
    table.scan(&mut |key, _| entries += usize::from(key[0] == b'e')).unwrap();
    entries
}

fn a_purge_beyond_the_end_moves_the_log_there<T: Table>() {
    let bed = Bed::<T>::new();
    let log = bed.open();
    append(&log, 1, 0..10);
    vote(&log, 4);
    bed.snapshot_at(mark(4, 500));
    answered(|done| log.purge(mark(4, 500), done)).unwrap();
    append(&log, 4, 501..503);
    close(log);
    let log = bed.open();
    assert_eq!((log.purged(), log.last()), (Some(mark(4, 500)), Some(mark(4, 502))));
    assert_eq!(all(&log).len(), 2);
}

fn large_entries_come_back_whole<T: Table>() {
    let bed = Bed::<T>::new();
    let log = bed.open();
    vote(&log, 1);
    let sizes = [1 << 20, 0, 200_000, 7 << 10, 1 << 21];
    let written: Vec<_> = (0_u64..).zip(sizes).map(|(index, bytes)| sized_record(1, index, bytes)).collect();
    answered(|done| log.append(written.clone(), done)).unwrap();
    // sled never syncs what it spills into files of its own; nothing may get there.
    let blobs = bed.path().join(STORE_DIR).join("sled/blobs");
    assert_eq!(std::fs::read_dir(blobs).map_or(0, Iterator::count), 0);
    close(log);
    assert_eq!(all(&bed.open()), written);
}

fn concurrent_writes_share_a_sync<T: Table>() {
    const WRITES: u64 = 500;
    let bed = Bed::<T>::new();
    let log = bed.open();
    vote(&log, 1);
    let before = bed.disk.log_syncs.load(Ordering::Relaxed);
    let (sender, receiver) = mpsc::channel();
    for index in 0..WRITES {
        let sender = sender.clone();
        log.append(vec![record(1, index)], Box::new(move |outcome| sender.send(outcome).unwrap())).unwrap();
    }
    for _ in 0..WRITES {
        receiver.recv().unwrap().unwrap();
    }
    let syncs = bed.disk.log_syncs.load(Ordering::Relaxed) - before;
    assert!(syncs < 250, "{syncs} syncs for {WRITES} writes");
}

fn an_entry_that_leaves_a_gap_is_not_taken<T: Table>() {
    let bed = Bed::<T>::new();
    let log = bed.open();
    append(&log, 1, 0..3);
    assert!(log.append(vec![record(1, 4)], Box::new(|_| panic!("answered"))).is_err());
    assert_eq!(log.last(), Some(mark(1, 2)));
}
