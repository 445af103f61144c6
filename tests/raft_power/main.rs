//! What the store acknowledged survives `kill -9` and power loss, on both engines, shown with a real writing process.
//!
//! - `writer`: the child: writes, votes, truncates, takes snapshots, purges, and says what was acknowledged.
//! - `promises`: what must be there, given what it said.
//! - `trace`: the child's system calls as strace recorded them. `disk`: what they leave on a disk whose power is lost.
//! - `os_crash`: the same on a real file system that is shut down under it.
//! - `span`: how much was written between two syncs. `replay`: many such losses, and what must hold after each.

mod disk;
mod os_crash;
mod promises;
mod replay;
mod span;
mod trace;
mod writer;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use pkgctl::raft::store::Table;
use pkgctl::raft::store::redb::RedbTable;
use pkgctl::raft::store::sled::{SEGMENT_BYTES, SledTable};
use promises::Promises;

/// Kills of one run, all on one directory.
const KILLS: u64 = 8;

/// The child's command: this test binary, running only `child`.
fn writing_process<T: Table>(dir: &Path, rounds: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]);
    command.env("RAFT_POWER_DIR", dir).env("RAFT_POWER_ENGINE", T::NAME).env("RAFT_POWER_ROUNDS", rounds.to_string());
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// Not a test of its own: the child's side, which does nothing unless it is told to by its parent.
#[test]
fn child() {
    let Some(dir) = std::env::var_os("RAFT_POWER_DIR") else { return };
    let rounds = std::env::var("RAFT_POWER_ROUNDS").unwrap().parse().unwrap();
    match std::env::var("RAFT_POWER_ENGINE").unwrap().as_str() {
        "sled" => writer::run::<SledTable>(Path::new(&dir), rounds),
        "redb" => writer::run::<RedbTable>(Path::new(&dir), rounds),
        other => panic!("{other}"),
    }
}

fn survives_kills<T: Table>() {
    let dir = tempfile::tempdir().unwrap();
    writer::make::<T>(dir.path());
    let mut promises = Promises::default();
    for kill in 1..=KILLS {
        let mut child = writing_process::<T>(dir.path(), u64::MAX).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let before = promises.said;
        while promises.said < before + 40 * kill {
            promises.hear(&lines.next().expect("the child writes until it is killed").unwrap());
        }
        child.kill().unwrap();
        // What it said before it died still counts.
        lines.map_while(Result::ok).for_each(|line| promises.hear(&line));
        child.wait().unwrap();
        promises.check::<T>(dir.path()).unwrap_or_else(|broken| panic!("after kill {kill}: {broken}"));
    }
}

#[test]
fn sled_keeps_what_it_acknowledged_when_killed() {
    survives_kills::<SledTable>();
}

#[test]
fn redb_keeps_what_it_acknowledged_when_killed() {
    survives_kills::<RedbTable>();
}

#[test]
fn sled_keeps_what_it_acknowledged_when_the_system_crashes() {
    os_crash::survives_crashes::<SledTable>();
}

#[test]
fn redb_keeps_what_it_acknowledged_when_the_system_crashes() {
    os_crash::survives_crashes::<RedbTable>();
}

#[test]
fn sled_keeps_what_it_acknowledged_when_power_is_lost() {
    let Some(calls) = replay::survives_power_loss::<SledTable>() else { return };
    // With more between two syncs sled may lose what it had acknowledged: see `SEGMENT_BYTES`.
    let most = span::between_syncs(&calls, Path::new("raft/sled/db"), SEGMENT_BYTES);
    println!("sled: at most {most:?} between two syncs");
    assert!(most.begun <= 1 && most.bytes < SEGMENT_BYTES, "{most:?} between two syncs");
}

#[test]
fn redb_keeps_what_it_acknowledged_when_power_is_lost() {
    drop(replay::survives_power_loss::<RedbTable>());
}
