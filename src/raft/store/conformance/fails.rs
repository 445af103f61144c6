//! The first error of the disk ends the store: no later call succeeds, and nothing acknowledged before it is lost.

use std::sync::atomic::Ordering;

use futures::FutureExt;

use super::super::Table;
use super::super::identity::create;
use super::super::load::OpenError;
use super::{Bed, IDENTITY, all, answered, append, close, on_both, record};
use crate::engine::NodeId;
use crate::raft::record::Vote;

on_both!(a_failed_sync_is_final, a_full_disk_is_final_and_says_so, a_disk_that_fails_at_creation_leaves_no_node,);

fn a_failed_sync_is_final<T: Table>() {
    let bed = Bed::<T>::new();
    let store = bed.try_open().unwrap();
    let (log, health) = (store.log, store.health);
    store.writer.spawn_thread().unwrap();
    append(&log, 1, 0..10);
    bed.disk.sync_error.store(libc::EIO, Ordering::Relaxed);
    let failed = answered(|done| log.append(vec![record(1, 10)], done)).unwrap_err();
    assert!(failed.to_string().contains("stops its packages in order"), "{failed}");

    bed.disk.sync_error.store(0, Ordering::Relaxed);
    assert!(answered(|done| log.append(vec![record(1, 11)], done)).is_err());
    let given = Vote { term: 2, node: NodeId(1), committed: false };
    assert!(answered(|done| log.save_vote(given, done)).is_err());
    assert!(log.save_committed(None).is_err());
    assert!(log.records(0..5).is_err());
    assert!(log.vote().is_err());
    assert!(!health.failed().now_or_never().expect("the alarm was raised").full);
    close(log);

    let again = bed.open();
    assert!(all(&again).len() >= 10);
    assert_eq!(all(&again)[..10], (0..10).map(|index| record(1, index)).collect::<Vec<_>>());
}

fn a_full_disk_is_final_and_says_so<T: Table>() {
    let bed = Bed::<T>::new();
    let log = bed.open();
    append(&log, 1, 0..10);
    bed.disk.write_error.store(libc::ENOSPC, Ordering::Relaxed);
    let failed = answered(|done| log.append(vec![record(1, 10)], done)).unwrap_err();
    assert!(failed.to_string().contains("Free space"), "{failed}");
    bed.disk.write_error.store(0, Ordering::Relaxed);
    assert!(answered(|done| log.append(vec![record(1, 11)], done)).is_err());
    close(log);
    assert_eq!(all(&bed.open())[..10], (0..10).map(|index| record(1, index)).collect::<Vec<_>>());
}

fn a_disk_that_fails_at_creation_leaves_no_node<T: Table>() {
    let bed = Bed::<T>::new();
    let fresh = tempfile::tempdir().unwrap();
    bed.disk.sync_error.store(libc::EIO, Ordering::Relaxed);
    let made = create::<T>(fresh.path(), IDENTITY, bed.disk.clone());
    assert!(matches!(made, Err(OpenError::Io { .. })), "{made:?}");
    bed.disk.sync_error.store(0, Ordering::Relaxed);
    create::<T>(fresh.path(), IDENTITY, bed.disk.clone()).unwrap();
}
