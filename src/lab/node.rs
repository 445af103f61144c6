//! One node's power: its namespaces and its init, as the bed makes and unmakes them.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Error, ErrorKind, Result};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, execv};

use super::bridge;
use super::cut::Wrong;
use super::init::{InitReport, InitSpec};
use super::order::{BedNode, receive, send};
use super::process::Handle;

/// Namespaces, mounts and addresses take milliseconds; a node that is not up by then never will be.
const UP_LIMIT: Duration = Duration::from_secs(20);
/// Until every process of a node whose init was killed is gone. One in uninterruptible sleep can take its time.
const DOWN_LIMIT: Duration = Duration::from_secs(20);

/// A machine of its own: network, mounts, processes, host name and System V IPC.
const MACHINE: i32 =
    libc::CLONE_NEWNET | libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;

/// A node that is on.
pub(super) struct Running {
    init: Handle,
}

impl Running {
    /// The node's init, as this machine numbers it.
    pub(super) fn pid(&self) -> i32 {
        self.init.pid()
    }
}

/// Makes new namespaces, lays the cable, and returns when the node's init has set everything up and started `command`.
pub(super) fn power_on(node: &BedNode, command: Vec<String>) -> Result<Running> {
    let console = OpenOptions::new().create(true).append(true).open(&node.console)?;
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(UP_LIMIT))?;
    let running = Running { init: start_init(theirs.into(), &console)? };
    let up = bridge::plug(&node.wiring, running.pid()).and_then(|()| {
        let spec = InitSpec { name: node.name.clone(), wiring: node.wiring.clone(), command };
        send(&ours, &spec)?;
        match receive::<InitReport>(BufReader::new(&ours))? {
            Some(InitReport::Up) => Ok(()),
            Some(InitReport::Failed { reason }) => Err(Error::other(reason)),
            None => Err(Error::new(ErrorKind::UnexpectedEof, "its init ended; its console says why")),
        }
    });
    match up {
        Ok(()) => Ok(running),
        Err(e) => {
            let _ = power_off(node, running, &Wrong::default());
            Err(e)
        }
    }
}

/// As when the power fails: first nothing leaves any more, then every process is gone, then the network itself.
pub(super) fn power_off(node: &BedNode, running: Running, wrong: &Wrong) -> Result<()> {
    let dark = bridge::darken(&node.wiring);
    running.init.send(Signal::SIGKILL)?;
    if !running.init.wait_for_end(DOWN_LIMIT)? {
        return Err(Error::new(ErrorKind::TimedOut, "a process of it does not die"));
    }
    waitpid(Pid::from_raw(running.pid()), Some(WaitPidFlag::empty()))?;
    bridge::change(&node.wiring, wrong, &Wrong::default())?;
    bridge::unplug(&node.wiring)?;
    dark
}

/// Forks a child into new namespaces, where it becomes `pkgctl lab-init` with `socket` as its standard input.
fn start_init(socket: OwnedFd, console: &File) -> Result<Handle> {
    // By this path, because it names the running binary even when the file has been replaced since.
    let path = CString::new("/proc/self/exe")?;
    let argv = [CString::new("pkgctl")?, CString::new("lab-init")?];
    // SAFETY: the bed has one thread, so a fork by bare clone (no stack, no shared memory) leaves a consistent child.
    let pid = unsafe { libc::syscall(libc::SYS_clone, MACHINE | libc::SIGCHLD, 0, 0, 0, 0) };
    match i32::try_from(pid) {
        Ok(0) => {
            let failed = become_init(&path, &argv, &socket, console);
            eprintln!("lab-init: {failed}");
            // SAFETY: ends the forked child without running the parent's exit code.
            unsafe { libc::_exit(127) }
        }
        Ok(pid) if pid > 0 => Handle::open(pid),
        Ok(_) | Err(_) => Err(Error::last_os_error()),
    }
}

fn become_init(path: &CString, argv: &[CString], socket: &OwnedFd, console: &File) -> Error {
    let prepared = prctl::set_pdeathsig(Signal::SIGKILL)
        .and_then(|()| dup2_stdin(socket.as_fd()))
        .and_then(|()| dup2_stdout(console.as_fd()))
        .and_then(|()| dup2_stderr(console.as_fd()));
    debug_assert!(socket.as_raw_fd() > 2);
    match prepared.and_then(|()| execv(path, argv)) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}
