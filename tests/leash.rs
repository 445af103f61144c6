//! Leashes as real processes: what they run ends by their deadline, whatever is frozen.
//!
//! Needs the right to make PID and mount namespaces; without it each test says so and passes.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pkgctl::engine::BootTime;
use pkgctl::host::clock::boot_now;
use pkgctl::keeper::leash::{End, ExecStep, Leash, LeashError, LeashEvent};
use pkgctl::keeper::protocol::Exit;
use pkgctl::resource::ProgramSpec;

const EXE: &str = env!("CARGO_BIN_EXE_pkgctl");
/// Longest that anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn after(ms: u64) -> BootTime {
    boot_now() + Duration::from_millis(ms)
}

struct Bench {
    leash: Leash,
    dir: tempfile::TempDir,
}

impl Bench {
    /// A leash that is ready, or none where namespaces are refused.
    fn new(deadline: BootTime) -> Option<Self> {
        let leash = Leash::spawn(Path::new(EXE), deadline).unwrap();
        let mut bench = Self { leash, dir: tempfile::tempdir().unwrap() };
        match bench.next() {
            LeashEvent::Ready { .. } => Some(bench),
            LeashEvent::Failed(LeashError::NamespacesRefused { step, .. }) => {
                println!("SKIPPED: namespaces are refused here ({step})");
                None
            }
            other => panic!("not ready: {other:?}"),
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn spec(&self, command: &[&str]) -> ProgramSpec {
        ProgramSpec {
            command: command.iter().map(|w| (*w).to_owned()).collect(),
            credentials: None,
            working_directory: "/".into(),
            environment: BTreeMap::from([("PKG_TOKEN".into(), "7".into()), ("PATH".into(), "/usr/bin:/bin".into())]),
            log: self.dir.path().join("log").display().to_string(),
        }
    }

    fn shell(&mut self, script: &str) -> i32 {
        let spec = self.spec(&["/bin/sh", "-c", script]);
        self.leash.start(&spec).unwrap();
        match self.next() {
            LeashEvent::Started { pid, .. } => pid,
            other => panic!("not started: {other:?}"),
        }
    }

    fn next(&mut self) -> LeashEvent {
        let until = boot_now() + PATIENCE;
        loop {
            if let Some(event) = self.leash.next_event() {
                return event;
            }
            assert!(boot_now() < until, "nothing came from the leash");
            wait_readable(self.leash.events_fd());
        }
    }

    /// Lines of the log, once there are so many.
    fn lines(&self, count: usize) -> Vec<String> {
        until(|| self.log().lines().count() >= count);
        self.log().lines().map(str::to_owned).collect()
    }
}

fn wait_readable(fd: impl AsFd) {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut fds, PollTimeout::from(100u8));
}

/// Looks again and again; a condition of the outside world has no descriptor to wait on.
fn until(mut condition: impl FnMut() -> bool) {
    let end = boot_now() + PATIENCE;
    while !condition() {
        assert!(boot_now() < end, "it never came true");
        let _ = poll(&mut [], PollTimeout::from(5u8));
    }
}

fn alive(pid: i32) -> bool {
    // A zombie is dead for our purpose.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z') && !rest.is_empty())
}

/// Host-side pids of everything below a process, itself included.
fn tree(of: i32) -> Vec<i32> {
    let mut all = vec![of];
    let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|p| p.parse().ok()) {
        all.extend(tree(child));
    }
    all
}

fn parent(pid: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("PPid:")).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn a_frozen_tree_of_daemons_is_dead_after_its_deadline_and_not_before() {
    let Some(mut bench) = Bench::new(after(600_000)) else { return };
    let pid = bench.shell("for i in 1 2 3; do (setsid sleep 1000 & ) ; done; echo up; exec sleep 1000");
    bench.lines(1);
    let init = parent(pid);
    let leash = parent(init);
    let all = tree(init);
    assert!(all.len() >= 5, "the daemons are there: {all:?}");
    let deadline = after(1500);
    bench.leash.arm(deadline).unwrap();
    // The leash must have read its order before it is frozen: it is running until it has gone back to waiting.
    until(|| std::fs::read_to_string(format!("/proc/{leash}/stat")).is_ok_and(|s| s.contains(") S ")));
    for frozen in [leash, init] {
        kill(Pid::from_raw(frozen), Signal::SIGSTOP).unwrap();
    }
    until(|| {
        let dead = all.iter().all(|p| !alive(*p));
        assert!(!dead || boot_now() >= deadline, "it died before its deadline");
        dead
    });
    assert!(matches!(bench.next(), LeashEvent::Exited { .. } | LeashEvent::Gone(End::Deadline)));
}

#[test]
fn a_deadline_that_is_moved_in_time_does_not_end_it() {
    let Some(mut bench) = Bench::new(after(3000)) else { return };
    let pid = bench.shell("exec sleep 1000");
    bench.leash.arm(after(600_000)).unwrap();
    let old = after(3500);
    until(|| boot_now() > old);
    assert!(alive(pid));
    bench.leash.kill();
    assert_eq!(bench.next_gone(), End::Killed);
    assert!(!alive(pid));
}

impl Bench {
    fn next_gone(&mut self) -> End {
        loop {
            if let LeashEvent::Gone(end) = self.next() {
                return end;
            }
        }
    }
}

#[test]
fn killing_the_leash_kills_everything_that_escaped_its_parent() {
    let Some(mut bench) = Bench::new(after(600_000)) else { return };
    let pid = bench.shell("(setsid sleep 1000 & ); echo up; exec sleep 1000");
    bench.lines(1);
    let all = tree(parent(pid));
    bench.leash.kill();
    assert_eq!(bench.next_gone(), End::Killed);
    assert!(all.iter().all(|p| !alive(*p)));
}

#[test]
fn exit_codes_and_signals_are_told() {
    let Some(mut bench) = Bench::new(after(600_000)) else { return };
    bench.shell("exit 7");
    assert!(matches!(bench.next(), LeashEvent::Exited { exit: Exit::Code(7), .. }));
    bench.shell("kill -9 $$");
    assert!(matches!(bench.next(), LeashEvent::Exited { exit: Exit::Signal(9), .. }));
}

#[test]
fn a_signal_reaches_the_main_process() {
    let Some(mut bench) = Bench::new(after(600_000)) else { return };
    let spec = bench.spec(&["/bin/sh", "-c", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"]);
    let op = bench.leash.start(&spec).unwrap();
    assert!(matches!(bench.next(), LeashEvent::Started { .. }));
    bench.lines(1);
    bench.leash.signal(op, 15).unwrap();
    assert!(matches!(bench.next(), LeashEvent::Exited { exit: Exit::Code(3), .. }));
    assert_eq!(bench.log(), "up\nbye\n");
}

#[test]
fn what_cannot_be_executed_is_told_with_its_step() {
    let Some(mut bench) = Bench::new(after(600_000)) else { return };
    let spec = bench.spec(&["/no/such/program"]);
    bench.leash.start(&spec).unwrap();
    let LeashEvent::Refused { fault, .. } = bench.next() else { panic!("it started") };
    assert_eq!(fault.step, ExecStep::Exec);
    assert!(fault.to_string().contains("/no/such/program"), "{fault}");
    let mut elsewhere = bench.spec(&["/bin/true"]);
    elsewhere.working_directory = "/no/such/directory".into();
    bench.leash.start(&elsewhere).unwrap();
    let LeashEvent::Refused { fault, .. } = bench.next() else { panic!("it started") };
    assert_eq!(fault.step, ExecStep::Directory);
}

#[test]
fn a_program_gets_exactly_its_environment_and_only_its_descriptors() {
    let Some(mut bench) = Bench::new(after(600_000)) else { return };
    let leaked = std::fs::File::open("/dev/null").unwrap();
    // The test's own descriptor survives exec on purpose: the leash must not pass it on.
    nix::fcntl::fcntl(&leaked, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let spec = bench.spec(&["/usr/bin/env"]);
    bench.leash.start(&spec).unwrap();
    while !matches!(bench.next(), LeashEvent::Exited { .. }) {}
    let mut lines = bench.lines(2);
    lines.sort();
    assert_eq!(lines, ["PATH=/usr/bin:/bin", "PKG_TOKEN=7"]);
    let fds = bench.spec(&["/bin/ls", "/proc/self/fd"]);
    bench.leash.start(&fds).unwrap();
    while !matches!(bench.next(), LeashEvent::Exited { .. }) {}
    // 0 to 2, and the one that ls itself opened.
    assert_eq!(bench.log().lines().skip(2).collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    drop(leaked);
}

#[test]
fn programs_run_in_a_pid_namespace_whose_first_number_is_random() {
    let Some(mut first) = Bench::new(after(600_000)) else { return };
    let numbers: Vec<String> = (0..3)
        .filter_map(|_| {
            let mut bench = Bench::new(after(600_000))?;
            bench.shell("echo $$; exec sleep 1000");
            bench.lines(1).pop()
        })
        .collect();
    assert!(numbers.iter().any(|n| n.parse::<u32>().unwrap() > 300), "drawn at random: {numbers:?}");
    first.leash.kill();
    first.next_gone();
}

#[test]
fn a_dropped_leash_leaves_nothing() {
    let Some(mut bench) = Bench::new(after(600_000)) else { return };
    let pid = bench.shell("exec sleep 1000");
    let gone = bench.leash.gone_fd().unwrap().try_clone_to_owned().unwrap();
    drop(bench);
    wait_readable(&gone);
    until(|| !alive(pid));
    assert!(gone.as_raw_fd() >= 0);
}

/// Lateness of the end under load; run it by hand: `cargo test --release --test leash -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a test"]
fn lateness_of_the_end() {
    let mut late = vec![];
    for _ in 0..50 {
        let Some(mut bench) = Bench::new(after(600_000)) else { return };
        let pid = bench.shell("exec sleep 1000");
        let init = parent(pid);
        let deadline = after(100);
        bench.leash.arm(deadline).unwrap();
        kill(Pid::from_raw(init), Signal::SIGSTOP).unwrap();
        let gone = bench.leash.gone_fd().unwrap().try_clone_to_owned().unwrap();
        let mut fds = [PollFd::new(gone.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(5000u16)).unwrap();
        late.push(boot_now().since(deadline).as_secs_f64() * 1000.0);
    }
    late.sort_by(f64::total_cmp);
    println!("end after the deadline, ms: min {:.2} median {:.2} max {:.2}", late[0], late[25], late[49]);
}
