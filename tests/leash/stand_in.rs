//! A process that stands in for the keeper, so that a test can freeze and kill it: this test binary, run again with
//! one of its tests that is ignored otherwise.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use pkgctl::engine::BootTime;
use pkgctl::host::clock::boot_now;
use pkgctl::host::process::Process;
use pkgctl::keeper::leash::LeashEvent;

use super::bench::{Bench, alive, parent};

/// The test that is the stand-in's main function.
const ROLE: &str = "stand_in_for_the_keeper";
/// How far ahead it arms, in milliseconds. Without it, it was run by `cargo test -- --ignored` and has nothing to do.
const AHEAD: &str = "PKGCTL_TEST_STAND_IN_AHEAD_MS";
/// How often it arms.
const EVERY: Duration = Duration::from_millis(50);

/// A stand-in that keeps moving its leash's deadline, with a tree of daemons in the leash.
pub struct StandIn {
    process: Child,
    lines: BufReader<std::process::ChildStdout>,
    /// It ends when this is closed.
    _stdin: ChildStdin,
    pub leash: i32,
    pub init: i32,
    pub programs: Vec<i32>,
    last: BootTime,
    /// What must not outlive the test, even if what is tested does not work.
    ends: Vec<Process>,
}

impl StandIn {
    /// One that has moved the deadline a few times, so far ahead each time, or none where namespaces are refused.
    pub fn start(ahead: Duration) -> Option<Self> {
        let exe = std::env::current_exe().unwrap();
        let mut process = Command::new(exe)
            .args(["--exact", ROLE, "--ignored", "--nocapture", "--test-threads=1"])
            .env(AHEAD, ahead.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = process.stdin.take().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap());
        let (mut program, mut programs, mut armed, mut last) = (0, vec![], 0, BootTime(0));
        while armed < 5 {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "the stand-in ended early");
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                words if words.contains(&"SKIPPED:") => {
                    process.wait().unwrap();
                    println!("{}", line.trim());
                    return None;
                }
                ["PROGRAM", pid, rest @ ..] => {
                    program = pid.parse().unwrap();
                    programs = rest.iter().map(|pid| pid.parse().unwrap()).collect();
                }
                ["ARMED", at] => {
                    armed += 1;
                    last = BootTime(at.parse().unwrap());
                }
                _ => {}
            }
        }
        let init = parent(program);
        let leash = parent(init);
        let ends = [leash, init].map(|pid| Process::open(Pid::from_raw(pid)).unwrap()).into();
        Some(Self { process, lines, _stdin: stdin, leash, init, programs, last, ends })
    }

    pub fn pid(&self) -> i32 {
        self.process.id().try_into().unwrap()
    }

    /// The latest deadline it can have given, once it is frozen or dead.
    pub fn last_deadline(&mut self) -> BootTime {
        loop {
            let mut waiting = [PollFd::new(self.lines.get_ref().as_fd(), PollFlags::POLLIN)];
            if self.lines.buffer().is_empty() && poll(&mut waiting, PollTimeout::ZERO).unwrap() == 0 {
                break;
            }
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                break;
            }
            if let Some(at) = line.strip_prefix("ARMED ") {
                self.last = BootTime(at.trim().parse().unwrap());
            }
        }
        self.last
    }

    pub fn all_dead(&self) -> bool {
        !alive(self.leash) && !alive(self.init) && self.programs.iter().all(|pid| !alive(*pid))
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        for process in &self.ends {
            let _ = process.kill();
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the stand-in does: a tree of daemons in a leash, and the deadline moved until standard input is closed.
pub fn main() {
    let Some(ahead) = std::env::var(AHEAD).ok().and_then(|ms| ms.parse().ok()).map(Duration::from_millis) else {
        println!("only for other tests; nothing done");
        return;
    };
    let Some(mut bench) = Bench::new(boot_now() + Duration::from_secs(600)) else { return };
    let program = bench.shell("for i in 1 2 3; do (setsid sleep 1000 & ) ; done; echo up; exec sleep 1000");
    bench.lines(1);
    let programs: Vec<String> = super::bench::tree(parent(program)).iter().skip(1).map(i32::to_string).collect();
    println!("\nPROGRAM {program} {}", programs.join(" "));
    let stdin = std::io::stdin();
    loop {
        let at = boot_now() + ahead;
        // Said before it is done: the reader must never know less than the leash.
        println!("ARMED {}", at.0);
        std::io::stdout().flush().unwrap();
        bench.leash.arm(at).unwrap();
        if let Some(event @ (LeashEvent::Gone(_) | LeashEvent::Failed(_))) = bench.leash.next_event() {
            panic!("the leash ended although it was moved: {event:?}");
        }
        let mut closed = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        if poll(&mut closed, PollTimeout::try_from(EVERY).unwrap()).unwrap() > 0 {
            return;
        }
    }
}
