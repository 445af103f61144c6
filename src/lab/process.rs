//! Processes of a node as this machine sees them: which there are, whose they are, and signals to them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Error, Result};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

/// Roles of the binary that are part of the lab or of the user's package, not of the system under test.
const NOT_OURS: [&str; 5] = ["demo-program", "lab-bed", "lab-init", "lab-enter", "lab-observe"];

/// One process of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// As this machine numbers it, not as the node does.
    pub pid: i32,
    /// Its parent, in the same numbering.
    pub parent: i32,
    /// R, S, D, T, Z …, as in proc(5).
    pub state: char,
    pub argv: Vec<String>,
    /// In clock ticks since boot; with the pid it names this process and no later one.
    started: u64,
}

impl Process {
    /// What this process of the pkgctl binary is (`agent`, `keeper`, `leash` …), `None` if it runs another program.
    pub fn role(&self) -> Option<&str> {
        let program = Path::new(self.argv.first()?).file_name()?;
        (program == "pkgctl").then(|| self.argv.get(1).map_or("", String::as_str))
    }

    /// Whether it belongs to the system under test: freezing all of these and nothing else is the fault `freeze`.
    pub fn is_ours(&self) -> bool {
        self.role().is_some_and(|role| !NOT_OURS.contains(&role))
    }

    /// Sends a signal to this very process; `false` if it has ended, even if its number is in use again.
    pub fn send(&self, signal: Signal) -> Result<bool> {
        let handle = match Handle::open(self.pid) {
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Ok(false),
            other => other?,
        };
        // The handle holds whoever has the number now; the start time says whether that is still our process.
        if read(self.pid).is_none_or(|now| now.started != self.started) {
            return Ok(false);
        }
        handle.send(signal)
    }

    /// What the process is now; `None` when it has ended (a zombie has).
    pub fn again(&self) -> Option<Self> {
        read(self.pid).filter(|now| now.started == self.started && now.state != 'Z')
    }
}

/// A process that cannot be mistaken for a later one of the same number.
pub(super) struct Handle {
    pid: i32,
    fd: OwnedFd,
}

impl Handle {
    pub(super) fn open(pid: i32) -> Result<Self> {
        // SAFETY: plain system call; on success it returns a new descriptor that nobody else owns.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(Error::last_os_error)?;
        // SAFETY: as above.
        Ok(Self { pid, fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// `false` if the process has ended.
    pub(super) fn send(&self, signal: Signal) -> Result<bool> {
        let null = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: plain system call on a descriptor we own, without a siginfo.
        let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), signal as i32, null, 0) };
        match (sent, Error::last_os_error()) {
            (0, _) => Ok(true),
            (_, e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            (_, e) => Err(e),
        }
    }

    /// Waits until the process has ended, with all threads; `false` when it has not within `limit`.
    pub(super) fn wait_for_end(&self, limit: Duration) -> Result<bool> {
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        loop {
            match poll(&mut [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// All processes of the node whose init is `init`, its own nested namespaces included; init itself is not listed.
///
/// A snapshot: processes may come and go while it is taken.
pub(super) fn of_node(init: i32) -> Vec<Process> {
    let namespace = |pid: i32| fs::metadata(format!("/proc/{pid}/ns/pid")).map(|m| m.ino()).ok();
    let Some(home) = namespace(init) else { return Vec::new() };
    let all: BTreeMap<i32, Process> = pids().into_iter().filter_map(|pid| Some((pid, read(pid)?))).collect();
    // Members by namespace, and whoever descends from one: a leash's init has a namespace of its own.
    let mut members: BTreeSet<i32> = all.keys().copied().filter(|pid| namespace(*pid) == Some(home)).collect();
    loop {
        let before = members.len();
        members.extend(all.values().filter(|p| members.contains(&p.parent)).map(|p| p.pid).collect::<Vec<_>>());
        if members.len() == before {
            break;
        }
    }
    all.into_values().filter(|p| p.pid != init && p.state != 'Z' && members.contains(&p.pid)).collect()
}

fn pids() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn read(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (state, parent, started) = fields(&stat)?;
    let argv = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let argv = argv.split(|b| *b == 0).map(|arg| String::from_utf8_lossy(arg).into_owned());
    let mut argv: Vec<String> = argv.collect();
    argv.pop();
    Some(Process { pid, parent, state, argv, started })
}

/// State, parent and start time of a line of /proc/PID/stat; the second field may itself contain spaces and brackets.
fn fields(stat: &str) -> Option<(char, i32, u64)> {
    let mut rest = stat.rsplit_once(") ")?.1.split(' ');
    let state = rest.next()?.chars().next()?;
    let parent = rest.next()?.parse().ok()?;
    let started = rest.nth(17)?.parse().ok()?;
    Some((state, parent, started))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(argv: &[&str]) -> Process {
        let argv = argv.iter().map(|arg| (*arg).to_owned()).collect();
        Process { pid: 1, parent: 0, state: 'S', argv, started: 0 }
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields_of_stat() {
        let mut line = "42 (a) b (c)) T 7".to_owned();
        (5..=21).for_each(|field| line.push_str(&format!(" {field}")));
        assert_eq!(fields(&format!("{line} 12345 0")), Some(('T', 7, 12345)));
    }

    #[test]
    fn this_process_is_found_with_its_arguments_and_the_start_time_tells_it_from_a_later_one() {
        let me = read(std::process::id().cast_signed()).unwrap();
        assert_eq!(me.argv, std::env::args().collect::<Vec<_>>());
        let later = Process { started: me.started + 1, ..me.clone() };
        assert!(!later.send(Signal::SIGKILL).unwrap(), "a signal to a process that has ended must reach nobody");
        assert!(me.again().is_some() && later.again().is_none());
    }

    #[test]
    fn ours_are_agent_keeper_and_leash_and_neither_the_program_nor_the_lab() {
        assert!(process(&["/x/pkgctl", "agent"]).is_ours());
        assert!(process(&["pkgctl", "leash", "3"]).is_ours());
        assert!(!process(&["/x/pkgctl", "demo-program"]).is_ours());
        assert!(!process(&["pkgctl", "lab-init"]).is_ours());
        assert!(!process(&["/usr/sbin/nginx"]).is_ours());
    }
}
