//! Power losses at many moments of a recorded run: after each, the store must open and hold every promise made before.

use pkgctl::raft::store::Table;

use crate::disk::{Chance, Disk, EVERY_KIND};
use crate::promises::Promises;
use crate::trace::{self, Call, What};
use crate::{writer, writing_process};

/// Rounds that the recorded writer does.
const ROUNDS: u64 = 16;
/// Power losses replayed without being told otherwise.
const REPLAYS: usize = 160;
/// How many power losses are replayed; more take longer and find more. docs/storage.md names it.
const REPLAYS_VARIABLE: &str = "PKGCTL_POWER_REPLAYS";

/// Replays power losses; answers the calls of the recorded run, or none when it cannot be done here.
pub fn survives_power_loss<T: Table>() -> Option<Vec<Call>> {
    if let Err(why) = trace::available() {
        println!("skipped: 1 test needs strace and ptrace, which are not to be had here: {why}");
        return None;
    }
    let replays = std::env::var(REPLAYS_VARIABLE).map_or(REPLAYS, |number| number.parse().expect(REPLAYS_VARIABLE));
    let (dir, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    writer::make::<T>(dir.path());
    let mut disk = Disk::holding(dir.path());
    let calls = trace::record(&writing_process::<T>(dir.path(), ROUNDS), dir.path(), scratch.path());
    assert!(calls.iter().filter(|call| matches!(call.what, What::Sync(_))).count() > 50, "it recorded hardly anything");

    let mut promises = Promises::default();
    let (mut chance, mut done) = (Chance(7), 0);
    for (place, call) in calls.iter().enumerate() {
        disk.begin(call);
        if let What::Said(text) = &call.what {
            text.lines().for_each(|line| promises.hear(line));
        }
        // Evenly over the run, each with the next kind of loss.
        while done * calls.len() < (place + 1) * replays {
            let kept = EVERY_KIND[done % EVERY_KIND.len()];
            let after = tempfile::tempdir_in(memory_backed()).unwrap();
            disk.lose_power(kept, &mut chance, after.path());
            promises.check::<T>(after.path()).unwrap_or_else(|broken| {
                panic!(
                    "{}: power lost during call {place} of {} ({}), with {} changes open of which it kept {kept:?}: {broken}",
                    T::NAME,
                    calls.len(),
                    call.what.describe(),
                    disk.open_changes(),
                )
            });
            done += 1;
        }
    }
    println!("{}: {done} power losses over {} calls", T::NAME, calls.len());
    Some(calls)
}

/// Where thousands of small databases are made without wearing a disk.
fn memory_backed() -> std::path::PathBuf {
    let shm = std::path::PathBuf::from("/dev/shm");
    if tempfile::tempdir_in(&shm).is_ok() { shm } else { std::env::temp_dir() }
}
