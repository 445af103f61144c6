//! Processes as a test sees them: who is whose child, frozen, thawed, gone.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pkgctl::host::clock::boot_now;
use pkgctl::host::process::Process;

use super::bench::PATIENCE;

/// Time between two looks at something that nobody tells of.
const LOOK_EVERY: Duration = Duration::from_millis(3);

/// State and parent of a process, as /proc tells them.
fn stat(pid: i32) -> Option<(char, i32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut rest = text.rsplit_once(')')?.1.split_whitespace();
    Some((rest.next()?.chars().next()?, rest.next()?.parse().ok()?))
}

pub fn children(parent: i32) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent)).collect()
}

/// A process and all below it, the eldest first.
pub fn family(root: i32) -> Vec<i32> {
    let mut all = vec![root];
    let mut next = 0;
    while next < all.len() {
        all.extend(children(all[next]));
        next += 1;
    }
    all
}

pub fn freeze(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
}

/// It may be gone already.
pub fn thaw(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
}

/// A process that must not have ended yet.
pub fn open(pid: i32) -> Process {
    Process::open(Pid::from_raw(pid)).expect("the process runs")
}

pub fn try_open(pid: i32) -> Option<Process> {
    Process::open(Pid::from_raw(pid)).ok()
}

pub fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// Waits until a process has ended.
pub fn await_end(process: &Process, what: &str) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut fds, PollTimeout::try_from(PATIENCE).unwrap()).unwrap();
    assert_eq!(ready, 1, "{what} has not ended");
}

/// Looks again and again until something is there.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let (_never, pause) = std::sync::mpsc::channel::<()>();
    let begun = boot_now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(boot_now() - begun < PATIENCE, "{what}: not in time");
        let _ = pause.recv_timeout(LOOK_EVERY);
    }
}
