//! What is missing or damaged is never taken for a store, and the refusal says what to do.

use std::path::PathBuf;

use super::super::identity::{IDENTITY_FILE, Identity, STORE_DIR, create};
use super::super::load::OpenError;
use super::super::{Table, Write, key};
use super::{Bed, IDENTITY, all, answered, append, close, mark, on_both, record};
use crate::engine::NodeId;

on_both!(
    a_second_opener_is_kept_out,
    a_store_that_is_gone_is_not_replaced,
    a_store_without_its_name_is_not_replaced,
    a_store_made_and_never_used_is_replaced,
    another_nodes_store_is_refused,
    a_gap_in_the_log_is_refused,
    a_forgotten_vote_is_refused,
    a_log_that_lost_its_end_is_refused,
    a_log_purged_beyond_its_snapshots_is_refused,
    a_flipped_bit_in_an_entry_is_refused,
    damage_anywhere_in_the_file_is_refused_or_harmless,
);

fn filled<T: Table>() -> Bed<T> {
    let bed = Bed::<T>::new();
    let log = bed.open();
    append(&log, 1, 0..40);
    close(log);
    bed
}

fn damaged(error: &OpenError, what: &str) {
    let said = error.to_string();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    assert!(said.contains(what) && said.contains("pkgctl cluster join"), "{said}");
}

fn a_second_opener_is_kept_out<T: Table>() {
    let bed = filled::<T>();
    let log = bed.open();
    assert!(matches!(bed.refusal(), OpenError::Locked { .. }));
    close(log);
    bed.open();
}

fn a_store_that_is_gone_is_not_replaced<T: Table>() {
    let bed = filled::<T>();
    let store = bed.path().join(STORE_DIR);
    for part in ["snapshots", "tail", if T::NAME == "sled" { "sled/db" } else { "log.redb" }] {
        let aside = bed.path().join("aside");
        std::fs::rename(store.join(part), &aside).unwrap();
        let refused = bed.refusal();
        assert!(matches!(refused, OpenError::Lost { .. }), "{part}: {refused:?}");
        std::fs::rename(&aside, store.join(part)).unwrap();
    }
    std::fs::remove_dir_all(&store).unwrap();
    let refused = bed.refusal();
    assert!(matches!(refused, OpenError::Lost { .. }), "{refused:?}");
    assert!(refused.to_string().contains("pkgctl cluster join"));
    let made = create::<T>(bed.path(), IDENTITY, bed.disk.clone());
    assert!(matches!(made, Err(OpenError::Exists { .. })), "{made:?}");
}

fn a_store_without_its_name_is_not_replaced<T: Table>() {
    let bed = filled::<T>();
    std::fs::remove_file(bed.path().join(IDENTITY_FILE)).unwrap();
    assert!(matches!(bed.refusal(), OpenError::NoNode { .. }));
    let made = create::<T>(bed.path(), IDENTITY, bed.disk.clone());
    assert!(matches!(made, Err(OpenError::Exists { .. })), "{made:?}");
}

fn a_store_made_and_never_used_is_replaced<T: Table>() {
    let bed = Bed::<T>::new();
    std::fs::remove_file(bed.path().join(IDENTITY_FILE)).unwrap();
    let other = Identity { node: NodeId(9), ..IDENTITY };
    create::<T>(bed.path(), other, bed.disk.clone()).unwrap();
    assert_eq!(bed.try_open().unwrap().identity, other);
}

fn another_nodes_store_is_refused<T: Table>() {
    let (bed, other) = (filled::<T>(), tempfile::tempdir().unwrap());
    create::<T>(other.path(), Identity { node: NodeId(4), ..IDENTITY }, bed.disk.clone()).unwrap();
    std::fs::copy(other.path().join(IDENTITY_FILE), bed.path().join(IDENTITY_FILE)).unwrap();
    damaged(&bed.refusal(), "made for node 3");
    std::fs::write(bed.path().join(IDENTITY_FILE), "{\"version\":1").unwrap();
    damaged(&bed.refusal(), IDENTITY_FILE);
}

fn a_gap_in_the_log_is_refused<T: Table>() {
    let bed = filled::<T>();
    bed.tamper(&[Write::Delete(key::entry(17, 0))]);
    damaged(&bed.refusal(), "entries 17 to 17 are missing");
}

fn a_forgotten_vote_is_refused<T: Table>() {
    let bed = filled::<T>();
    bed.tamper(&[Write::Delete(key::VOTE.to_vec())]);
    damaged(&bed.refusal(), "vote");
}

fn a_log_that_lost_its_end_is_refused<T: Table>() {
    let bed = filled::<T>();
    bed.tamper(&[Write::Delete(key::entry(39, 0)), Write::Delete(key::entry(38, 0))]);
    damaged(&bed.refusal(), "reached entry 39 (term 1) and now holds 37");
}

fn a_log_purged_beyond_its_snapshots_is_refused<T: Table>() {
    let bed = filled::<T>();
    let log = bed.open();
    bed.snapshot_at(mark(1, 30));
    answered(|done| log.purge(mark(1, 30), done)).unwrap();
    close(log);
    close(bed.open());
    let snapshots = bed.path().join(STORE_DIR).join("snapshots");
    for file in std::fs::read_dir(snapshots).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    damaged(&bed.refusal(), "no snapshot reaches that far");
}

fn a_flipped_bit_in_an_entry_is_refused<T: Table>() {
    let bed = filled::<T>();
    let (writes, _) = key::put(&record(1, 20));
    let Write::Put(key, mut value) = writes[0].clone() else { panic!() };
    value[30] ^= 4;
    bed.tamper(&[Write::Put(key, value)]);
    damaged(&bed.refusal(), "entry 20");
}

/// A bad sector anywhere in the engine's file: the store is refused, or everything it promised is still there.
fn damage_anywhere_in_the_file_is_refused_or_harmless<T: Table>() {
    let bed = filled::<T>();
    let whole = all_of(&bed);
    let file: PathBuf = bed.path().join(STORE_DIR).join(if T::NAME == "sled" { "sled/db" } else { "log.redb" });
    let backup = tempfile::tempdir().unwrap();
    copy_tree(bed.path(), backup.path());
    let bytes = std::fs::read(&file).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut refused = 0;
    let step = used / 60;
    for at in (0..used).step_by(step.max(1)) {
        let mut bad = bytes.clone();
        let end = (at + 64).min(used);
        bad[at..end].iter_mut().for_each(|byte| *byte = !*byte);
        std::fs::write(&file, bad).unwrap();
        match bed.try_open() {
            Ok(store) => assert_eq!(all(&store.log), whole, "after damage at byte {at}"),
            Err(OpenError::Damaged { .. } | OpenError::Lost { .. }) => refused += 1,
            Err(other) => panic!("damage at byte {at}: {other:?}"),
        }
        std::fs::remove_dir_all(bed.path().join(STORE_DIR)).unwrap();
        copy_tree(backup.path(), bed.path());
    }
    assert!(refused > 5, "{refused} of about 60 damages were noticed");
}

fn all_of<T: Table>(bed: &Bed<T>) -> Vec<crate::raft::record::LogRecord> {
    let log = bed.open();
    let records = all(&log);
    close(log);
    records
}

fn copy_tree(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for found in std::fs::read_dir(from).unwrap() {
        let found = found.unwrap();
        let target = to.join(found.file_name());
        if found.file_type().unwrap().is_dir() {
            copy_tree(&found.path(), &target);
        } else {
            std::fs::copy(found.path(), target).unwrap();
        }
    }
}
