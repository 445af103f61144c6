//! `pkgctl lab-enter PID COMMAND…`: runs a command inside the node whose init is PID, as this machine numbers it.

use std::fs;
use std::io::{Error, Result};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode};

use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal, signal};

use super::process::Handle;

/// Exit code when the command was not run at all, as in sh(1).
const NOT_RUN: u8 = 127;

/// Enters and runs; ends as the command ended (128 + n for signal n).
pub fn main(args: &[String]) -> ExitCode {
    let [pid, program, arguments @ ..] = args else {
        eprintln!("usage: pkgctl lab-enter PID COMMAND [ARGUMENT…]   (PID: the node's init, as the lab prints it)");
        return ExitCode::from(NOT_RUN);
    };
    match enter(pid).and_then(|()| run(program, arguments)) {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("lab-enter: {program} was not run in the node of pid {pid}: {e}");
            ExitCode::from(NOT_RUN)
        }
    }
}

/// Moves this process, and by its children's numbers also its future children, into the node.
fn enter(pid: &str) -> Result<()> {
    let node = Handle::open(pid.parse().map_err(Error::other)?)?;
    let mut spaces = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    // Entering the user namespace one is in already is an error.
    let user = |whose: &str| fs::metadata(format!("/proc/{whose}/ns/user")).map(|m| m.ino());
    if user(pid)? != user("self")? {
        spaces |= CloneFlags::CLONE_NEWUSER;
    }
    let here = std::env::current_dir();
    setns(node, spaces)?;
    // Entering another mount namespace leads to its root; the machine's directories are there as well.
    here.and_then(std::env::set_current_dir).or(Ok(()))
}

/// A process never changes its own process namespace, only its children's: so the command is a child.
fn run(program: &str, arguments: &[String]) -> Result<u8> {
    let mut command = Command::new(program);
    command.args(arguments);
    // SAFETY: one system call, allowed between fork and exec.
    unsafe {
        command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?));
    }
    let mut child = command.spawn()?;
    // Ctrl-C is the command's, as under any shell; an ignored signal would have been inherited, hence after the spawn.
    for key in [Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: ignoring a signal runs no code of ours.
        unsafe { signal(key, SigHandler::SigIgn) }?;
    }
    let status = child.wait()?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}
