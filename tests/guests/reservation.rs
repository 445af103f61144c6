//! Persistent reservations on a real SCSI target, by the code that the package kind `lun` runs on.

use std::fs;
use std::io::Error;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use nix::libc;
use pkgctl::engine::{ClusterId, NodeId, Token};
use pkgctl::host::pr::BlockDevice;
use pkgctl::lab::wait_until;
use pkgctl::resource::reservation::{Abort, Key, Policy, PrFault, Reservations, TakeError, give_up, take};

use crate::disk::Disk;
use crate::facts::Facts;
use crate::lun::Lun;

const POLICY: Policy = Policy { abort: Abort::No, preempt_foreign: false };
/// A preemption takes milliseconds where it works.
const ABORT_LIMIT: Duration = Duration::from_secs(5);
/// Where LIO hangs in PREEMPT AND ABORT when the command came through its queue of submissions.
const SELF_FLUSH: [&str; 3] = ["flush_work", "core_tmr_lun_reset", "target_queued_submit_work"];

fn key(node: u64, token: u64) -> Key {
    Key::of(ClusterId(77), NodeId(node), Token(token)).unwrap()
}

fn refused(written: Result<(), Error>) -> bool {
    written.is_err_and(|e| e.raw_os_error() == Some(libc::EBADE))
}

/// Runs the scenario.
pub fn run(facts: &Facts) {
    let lun = Lun::get();
    let (a, b) = (Disk::open(&lun.first), Disk::open(&lun.second));
    let device = |path: &Path| BlockDevice::open(path).unwrap();
    let (mut by_a, mut by_b) = (device(&lun.first), device(&lun.second));

    take(&mut by_a, key(1, 10), POLICY).unwrap();
    a.write(1, 1).unwrap();
    assert!(refused(b.write(1, 2)));
    assert_eq!(b.read(1), 1);
    facts.shown("taken by one node, the LUN refuses the other's writes (EBADE) and lets it read");

    by_b.register(key(2, 9)).unwrap();
    b.write(1, 3).unwrap();
    by_b.unregister(key(2, 9)).unwrap();
    assert!(refused(b.write(1, 4)));
    facts.shown("whoever is registered writes, and nobody else: write exclusive, registrants only");

    let same = BlockDevice::open(&lun.first).unwrap().keys().unwrap();
    assert_eq!((same, by_b.keys().unwrap()), (vec![key(1, 10)], vec![key(1, 10)]));
    facts.shown("the keys registered are read back by SG_IO, the same by both initiators");

    let older = take(&mut by_b, key(2, 9), POLICY);
    assert!(matches!(older, Err(TakeError::Newer { .. })), "{older:?}");
    facts.shown("an ownership with a smaller token takes nothing");

    take(&mut by_b, key(2, 11), POLICY).unwrap();
    assert!(refused(a.write(1, 5)), "the descriptor was open before");
    b.write(1, 6).unwrap();
    assert_eq!((a.read(1), by_a.keys().unwrap()), (6, vec![key(2, 11).heir()]));
    facts.shown("the next ownership preempts: a descriptor that the old one has had open all along is refused (EBADE)");

    assert!(matches!(by_a.unregister(key(1, 10)), Err(PrFault::Conflict { .. })));
    give_up(&mut by_a, key(1, 10)).unwrap();
    assert_eq!(by_b.reservation().unwrap().map(|held| held.key), Some(key(2, 11).heir()));
    facts.shown("the old ownership can give up nothing that is the new one's");

    by_a.register(Key(0xF0)).unwrap();
    let foreign = take(&mut by_b, key(2, 12), POLICY);
    assert!(matches!(foreign, Err(TakeError::Foreign { .. })), "{foreign:?}");
    facts.shown("a LUN under a stranger's key is left alone");
    take(&mut by_b, key(2, 12), Policy { preempt_foreign: true, ..POLICY }).unwrap();
    assert!(refused(a.write(1, 7)));

    give_up(&mut by_b, key(2, 12)).unwrap();
    assert_eq!(by_a.keys().unwrap(), [key(2, 12).heir()]);
    assert!(refused(a.write(1, 8)));
    facts.shown("given up after a preemption, it stays reserved: an old owner that thaws only then is refused still");

    by_b.clear(key(2, 12).heir()).unwrap();
    take(&mut by_b, key(2, 13), POLICY).unwrap();
    assert!(refused(a.write(1, 9)));
    give_up(&mut by_b, key(2, 13)).unwrap();
    assert_eq!((by_a.keys().unwrap(), by_a.reservation().unwrap()), (vec![], None));
    a.write(1, 10).unwrap();
    facts.shown("taken and given up in order, it is anybody's");
    drop((a, b, by_a, by_b));
    abort(facts);
}

/// PREEMPT AND ABORT on this target: in a process of its own, because it may never return.
fn abort(facts: &Facts) {
    let lun = Lun::spare();
    let mut holder = BlockDevice::open(&lun.first).unwrap();
    take(&mut holder, key(1, 20), POLICY).unwrap();
    let mut child = Command::new("/proc/self/exe").arg("preempt-abort").arg(&lun.second).spawn().unwrap();
    match wait_until(ABORT_LIMIT, || child.try_wait().unwrap()) {
        Some(status) => {
            assert!(status.success(), "PREEMPT AND ABORT: {status}");
            assert_eq!(holder.keys().unwrap(), [key(2, 21).heir()]);
            facts.shown("PREEMPT AND ABORT works on this kernel's target");
        }
        None => hangs(facts, &child),
    }
}

/// It hangs for the known reason, or the scenario fails.
fn hangs(facts: &Facts, child: &Child) {
    let stacks = |pid: &str| fs::read_to_string(format!("/proc/{pid}/stack")).unwrap_or_default();
    let all: Vec<String> =
        fs::read_dir("/proc").unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    let known = all.iter().map(|pid| stacks(pid)).any(|stack| SELF_FLUSH.iter().all(|call| stack.contains(call)));
    assert!(known, "PREEMPT AND ABORT hangs for a new reason: {}", stacks(&child.id().to_string()));
    facts.noted(format_args!(
        "PREEMPT AND ABORT never returns on tcm_loop: LIO's core_tmr_lun_reset waits for the queue of submissions that \
         it was itself called from ({}); a package there needs abort = false",
        SELF_FLUSH.join(" < ")
    ));
}

/// The process that may hang.
pub fn preempt_abort(device: &str) -> ExitCode {
    let mut device = BlockDevice::open(Path::new(device)).unwrap();
    match take(&mut device, key(2, 21), Policy { abort: Abort::Yes, ..POLICY }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("preempt-abort: {why}");
            ExitCode::FAILURE
        }
    }
}
