//! Leashes as real processes: what they run ends by their deadline, whatever is frozen.
//!
//! Needs the right to make PID and mount namespaces; without it each test says so and passes.

#[path = "leash/bench.rs"]
mod bench;
#[path = "leash/lateness.rs"]
mod lateness;
#[path = "leash/stand_in.rs"]
mod stand_in;

use std::time::Duration;

use bench::{Bench, after, alive, namespace, parent, status, tree, until, wait_readable};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use pkgctl::host::clock::boot_now;
use pkgctl::host::users::lookup;
use pkgctl::keeper::leash::{End, ExecStep, LeashError, LeashEvent};
use pkgctl::keeper::protocol::Exit;
use stand_in::StandIn;

/// A deadline that no test reaches.
const FAR_MS: u64 = 600_000;
/// A tree of daemons that have left their parents and their session.
const DAEMONS: &str = "for i in 1 2 3; do (setsid sleep 1000 & ) ; done; echo up; exec sleep 1000";

fn freeze(pids: &[i32]) {
    for pid in pids {
        kill(Pid::from_raw(*pid), Signal::SIGSTOP).unwrap();
        until(|| status(*pid, "State").is_none_or(|state| state.starts_with('T')));
    }
}

#[test]
#[ignore = "a process of other tests"]
fn stand_in_for_the_keeper() {
    stand_in::main();
}

#[test]
#[ignore = "a program of the measurement"]
fn beating_program() {
    lateness::beat();
}

/// Run it by hand: `cargo test --test leash -- --ignored --nocapture lateness_of_the_end`.
#[test]
#[ignore = "a measurement, not a test"]
fn lateness_of_the_end() {
    lateness::measure();
}

#[test]
fn a_frozen_tree_of_daemons_is_dead_after_its_deadline_and_not_before() {
    let deadline = after(4000);
    let Some(mut bench) = Bench::new(deadline) else { return };
    let pid = bench.shell(DAEMONS);
    bench.lines(1);
    let init = parent(pid);
    let all = tree(init);
    assert!(all.len() >= 5, "the daemons are there: {all:?}");
    freeze(&[parent(init), init]);
    assert!(boot_now() < deadline, "this machine is too busy to try it");
    until(|| {
        let before = boot_now();
        let dead = all.iter().filter(|pid| !alive(**pid)).count();
        // Read after the clock: whoever was dead then had died before that.
        assert!(dead == 0 || boot_now() >= deadline, "{dead} died before the deadline, seen after {before:?}");
        dead == all.len()
    });
    assert_eq!(bench.next_gone(), End::Deadline);
}

#[test]
fn with_keeper_leash_and_init_frozen_everything_is_dead_by_the_last_deadline() {
    let Some(mut keeper) = StandIn::start(Duration::from_millis(1500)) else { return };
    freeze(&[keeper.pid(), keeper.leash, keeper.init]);
    let deadline = keeper.last_deadline();
    assert!(keeper.programs.len() >= 4, "the daemons are there: {:?}", keeper.programs);
    until(|| keeper.all_dead());
    let late = boot_now().since(deadline);
    println!("all dead {late:?} after the deadline, as far as a look every 5 ms can tell");
    assert!(late < Duration::from_secs(5), "it took {late:?}; nothing but the kernel had to act");
}

#[test]
fn a_dead_keeper_takes_everything_with_it_even_what_is_frozen() {
    // So far ahead that no deadline can have done it.
    let Some(keeper) = StandIn::start(Duration::from_millis(FAR_MS)) else { return };
    freeze(&[keeper.leash, keeper.init]);
    assert!(keeper.programs.iter().all(|pid| alive(*pid)));
    kill(Pid::from_raw(keeper.pid()), Signal::SIGKILL).unwrap();
    until(|| keeper.all_dead());
}

#[test]
fn a_deadline_that_is_moved_in_time_does_not_end_it() {
    let first = after(3000);
    let Some(mut bench) = Bench::new(first) else { return };
    let pid = bench.shell("exec sleep 1000");
    bench.leash.arm(after(FAR_MS)).unwrap();
    let past = first + Duration::from_millis(500);
    until(|| boot_now() > past);
    assert!(alive(pid));
    bench.leash.kill();
    assert_eq!(bench.next_gone(), End::Killed);
    assert!(!alive(pid));
}

#[test]
fn a_deadline_in_the_past_lets_nothing_run() {
    let Some(_) = Bench::new(after(FAR_MS)) else { return };
    let mut bench = Bench::unready(boot_now());
    // It may be dead already; if not, the request is in init's socket and never read.
    let _ = bench.leash.start(&bench.spec(&["/bin/echo", "acted"]));
    let (mut last, mut started) = (bench.next(), false);
    while !matches!(last, LeashEvent::Gone(_)) {
        started |= matches!(last, LeashEvent::Started { .. });
        last = bench.next();
    }
    assert_eq!(last, LeashEvent::Gone(End::Deadline));
    assert!(!started);
    assert_eq!(bench.log(), "");
    assert_eq!(bench.leash.arm(after(FAR_MS)), Err(LeashError::Gone), "it cannot be revived");
}

#[test]
fn killing_the_leash_kills_everything_that_escaped_its_parent() {
    let Some(mut bench) = Bench::new(after(FAR_MS)) else { return };
    let pid = bench.shell(DAEMONS);
    bench.lines(1);
    let all = tree(parent(pid));
    bench.leash.kill();
    assert_eq!(bench.next_gone(), End::Killed);
    assert!(all.iter().all(|pid| !alive(*pid)));
    assert!(matches!(bench.leash.start(&bench.spec(&["/bin/true"])), Err(LeashError::Gone)));
}

#[test]
fn a_restart_shares_no_namespace_with_leftovers() {
    let Some(mut old) = Bench::new(after(FAR_MS)) else { return };
    let script = "trap 'exit 1' TERM; (setsid sleep 1000 & ); echo up; while :; do sleep 0.05; done";
    let spec = old.spec(&["/bin/sh", "-c", script]);
    let (op, main) = old.start(&spec);
    old.lines(1);
    let (init, namespace_then) = (parent(main), namespace(parent(main), "pid"));
    old.leash.signal(op, 15).unwrap();
    while !matches!(old.next(), LeashEvent::Exited { exit: Exit::Code(1), .. }) {}
    // The shell's own sleep ends by itself.
    until(|| tree(init).len() == 2);
    let leftovers = tree(init);
    assert_eq!(leftovers.len(), 2, "init and the daemon outlive the main process: {leftovers:?}");
    old.leash.kill();
    old.next_gone();
    assert!(leftovers.iter().all(|pid| !alive(*pid)), "gone means gone, not on its way");
    let Some(mut fresh) = Bench::new(after(FAR_MS)) else { return };
    let again = fresh.shell("exec sleep 1000");
    assert_ne!(namespace(parent(again), "pid"), namespace_then);
    assert_eq!(tree(parent(again)), [parent(again), again], "nothing else is in there");
}

#[test]
fn exit_codes_and_signals_are_told() {
    let Some(mut bench) = Bench::new(after(FAR_MS)) else { return };
    for (script, exit) in [
        ("exit 7", Exit::Code(7)),
        ("exit 0", Exit::Code(0)),
        ("kill -9 $$", Exit::Signal(9)),
        ("kill -34 $$", Exit::Signal(34)),
    ] {
        let spec = bench.spec(&["/bin/sh", "-c", script]);
        assert_eq!(bench.run(&spec), exit, "{script}");
    }
}

#[test]
fn a_signal_reaches_the_main_process() {
    let Some(mut bench) = Bench::new(after(FAR_MS)) else { return };
    let spec = bench.spec(&["/bin/sh", "-c", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"]);
    let (op, _) = bench.start(&spec);
    bench.lines(1);
    bench.leash.signal(op, 15).unwrap();
    assert!(matches!(bench.next(), LeashEvent::Exited { exit: Exit::Code(3), .. }));
    assert_eq!(bench.log(), "up\nbye\n");
    assert!(matches!(bench.leash.signal(op, 15), Err(LeashError::NotRunning { .. })), "its number may be another's");
}

#[test]
fn what_cannot_be_executed_is_told_with_its_step() {
    let Some(mut bench) = Bench::new(after(FAR_MS)) else { return };
    let mut elsewhere = bench.spec(&["/bin/true"]);
    elsewhere.working_directory = "/no/such/directory".into();
    let missing = bench.spec(&["/no/such/program"]);
    let not_a_program = bench.spec(&["/etc/passwd"]);
    let not_in_path = bench.spec(&["no-such-program-here"]);
    for (spec, step, names) in [
        (missing, ExecStep::Exec, "/no/such/program"),
        (elsewhere, ExecStep::Directory, "/no/such/directory"),
        (not_a_program, ExecStep::Exec, "Permission denied"),
        (not_in_path, ExecStep::Exec, "No such file"),
    ] {
        bench.leash.start(&spec).unwrap();
        let LeashEvent::Refused { fault, .. } = bench.next() else { panic!("it started") };
        assert_eq!(fault.step, step);
        assert!(fault.to_string().contains(names), "{fault}");
    }
    let long = "x".repeat(200_000);
    assert!(matches!(bench.leash.start(&bench.spec(&["/bin/echo", &long])), Err(LeashError::TooLarge { .. })));
    assert_eq!(bench.run(&bench.spec(&["true"])), Exit::Code(0), "found in PATH, and no worse for the failures");
}

#[test]
fn a_program_gets_exactly_its_environment_and_only_its_descriptors() {
    let Some(mut bench) = Bench::new(after(FAR_MS)) else { return };
    let leaked = std::fs::File::open("/dev/null").unwrap();
    // The test's own descriptor survives exec on purpose: the leash must not pass it on.
    nix::fcntl::fcntl(&leaked, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    bench.run(&bench.spec(&["/usr/bin/env"]));
    let mut lines = bench.lines(2);
    lines.sort();
    assert_eq!(lines, ["PATH=/usr/bin:/bin", "PKG_TOKEN=7"]);
    bench.run(&bench.spec(&["/bin/ls", "/proc/self/fd"]));
    // 0 to 2, and the one that ls itself opened.
    assert_eq!(bench.log().lines().skip(2).collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    drop(leaked);
}

#[test]
fn a_program_starts_as_an_ordinary_process() {
    // Whatever the keeper has, the program starts with 022. (Other tests of this process do not look at modes.)
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let Some(mut bench) = Bench::new(after(FAR_MS)) else { return };
    let (_, pid) = bench.start(&bench.spec(&["/bin/sleep", "1000"]));
    let field = |name| status(pid, name).unwrap();
    for mask in ["SigBlk", "SigIgn", "SigCgt"] {
        assert_eq!(u64::from_str_radix(&field(mask), 16), Ok(0), "{mask}");
    }
    assert_eq!(field("Umask"), "0022");
    let score = std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    assert!(score.trim().parse::<i32>().unwrap() >= 0, "{score}");
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert!(files.split_whitespace().nth(3).unwrap().parse::<u64>().unwrap() <= 1024, "{files}");
    // Policy is the 41st field; those after the name in brackets are counted from the third.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert_eq!(stat.rsplit(')').next().unwrap().split_whitespace().nth(38), Some("0"), "SCHED_OTHER");
}

#[test]
fn a_program_has_its_own_processes_and_mounts_and_shares_the_rest() {
    let Some(mut bench) = Bench::new(after(FAR_MS)) else { return };
    let (_, pid) = bench.start(&bench.spec(&["/bin/sleep", "1000"]));
    let here = i32::try_from(std::process::id()).unwrap();
    for kind in ["pid", "mnt"] {
        assert_ne!(namespace(pid, kind), namespace(here, kind), "{kind}");
    }
    for kind in ["ipc", "uts", "net", "user"] {
        assert_eq!(namespace(pid, kind), namespace(here, kind), "{kind}");
    }
    // What it sees in /proc is its own namespace: pid 1 is our init.
    bench.run(&bench.spec(&["/bin/cat", "/proc/1/comm"]));
    assert_eq!(bench.log(), "pkgctl-init\n");
    let init = parent(pid);
    assert_eq!(std::fs::read_link(format!("/proc/{init}/cwd")).unwrap().to_str(), Some("/"));
}

#[test]
fn a_program_runs_as_the_user_it_is_given() {
    let Some(mut bench) = Bench::new(after(FAR_MS)) else { return };
    let Ok(nobody) = lookup("nobody") else { return println!("SKIPPED: this system has no nobody") };
    let mut spec = bench.spec(&["/bin/sh", "-c", "id -u; id -g; id -G"]);
    let expected = format!("{}\n{}\n{}\n", nobody.uid, nobody.gid, nobody.groups[0]);
    spec.credentials = Some(nobody);
    bench.leash.start(&spec).unwrap();
    match bench.next() {
        LeashEvent::Started { .. } => {
            while !matches!(bench.next(), LeashEvent::Exited { .. }) {}
            assert_eq!(bench.log(), expected);
        }
        // In a user namespace with one user, there is no other to become.
        LeashEvent::Refused { fault, .. } => {
            assert!(matches!(fault.step, ExecStep::Groups | ExecStep::Group | ExecStep::User), "{fault}");
            println!("SKIPPED: users cannot be changed here (euid {}): {fault}", geteuid());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn programs_run_in_a_pid_namespace_whose_first_number_is_random() {
    let Some(mut first) = Bench::new(after(FAR_MS)) else { return };
    let numbers: Vec<u32> = (0..3)
        .filter_map(|_| {
            let mut bench = Bench::new(after(FAR_MS))?;
            bench.shell("echo $$; exec sleep 1000");
            bench.lines(1).pop()?.parse().ok()
        })
        .collect();
    assert!(numbers.iter().all(|number| *number > 300), "drawn at random: {numbers:?}");
    assert!(numbers.windows(2).any(|pair| pair[0] != pair[1]), "drawn at random: {numbers:?}");
    first.leash.kill();
    first.next_gone();
}

#[test]
fn a_dropped_leash_leaves_nothing() {
    let Some(mut bench) = Bench::new(after(FAR_MS)) else { return };
    let pid = bench.shell("exec sleep 1000");
    let gone = bench.leash.gone_fd().unwrap().try_clone_to_owned().unwrap();
    drop(bench);
    wait_readable(&gone);
    until(|| !alive(pid));
}
