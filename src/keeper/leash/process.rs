//! The leash process: `pkgctl leash PARENT DEADLINE`, started by the keeper with two sockets as its standard input and
//! output. It arms its own death before it does anything else.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::unistd::{ForkResult, Pid, dup2_stdin, dup2_stdout, fork, setsid};

use super::fault::SetupStep;
use super::init;
use super::wire::{FromLeash, deadline};
use crate::engine::codec;
use crate::engine::time::BootTime;
use crate::host::kill_timer::KillTimer;
use crate::host::packets::{Packets, Wait};
use crate::host::process::{Process, block_signals, close_from, die_with_parent, keep_children};
use crate::host::sched;

/// A step that failed, and what the kernel said.
pub(super) type Failure = (SetupStep, Errno);

/// The leash's two ways to talk.
struct Sockets {
    /// With the keeper.
    control: Packets,
    /// Init's, with the keeper.
    exec: Packets,
}

/// Runs a leash until it is killed. The arguments are the keeper's process id and the first deadline (CLOCK_BOOTTIME,
/// nanoseconds).
pub fn run(arguments: &[OsString]) -> ExitCode {
    let Some((parent, first)) = parse(arguments) else {
        eprintln!("pkgctl leash is started by the keeper, not by people; nothing was done");
        return ExitCode::from(2);
    };
    let sockets = match take_sockets() {
        Ok(sockets) => sockets,
        Err(errno) => {
            eprintln!("pkgctl leash: its sockets are missing: {}; nothing was done", errno.desc());
            return ExitCode::FAILURE;
        }
    };
    let control = sockets.control;
    let Err((step, errno)) = serve(&control, sockets.exec, parent, first);
    let fault = codec::encode(&FromLeash::Fault { step, errno: errno as i32 });
    // If the keeper is gone as well there is nobody left to tell.
    let _ = control.send(&fault, &[], None, Wait::No);
    ExitCode::FAILURE
}

fn parse(arguments: &[OsString]) -> Option<(Pid, BootTime)> {
    let [parent, first] = arguments else { return None };
    let parent = parent.to_str()?.parse().ok()?;
    Some((Pid::from_raw(parent), BootTime(first.to_str()?.parse().ok()?)))
}

/// Moves the sockets away from standard input and output, which become /dev/null, and closes everything else that was
/// inherited.
fn take_sockets() -> Result<Sockets, Errno> {
    close_from(3)?;
    let moved = |from: std::os::fd::BorrowedFd<'_>| -> Result<OwnedFd, Errno> {
        let fd = fcntl(from, FcntlArg::F_DUPFD_CLOEXEC(3))?;
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) })
    };
    let control = moved(std::io::stdin().as_fd())?;
    let exec = moved(std::io::stdout().as_fd())?;
    let null = File::options().read(true).write(true).open("/dev/null").map_err(os_error)?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    Ok(Sockets { control: Packets::from_fd(control), exec: Packets::from_fd(exec) })
}

/// Sets up and then moves the deadline as told. Returns only on failure; the end of this process is the end of the
/// namespace, by whatever way.
fn serve(control: &Packets, exec: Packets, parent: Pid, first: BootTime) -> Result<Infallible, Failure> {
    die_with_parent(parent).map_err(|errno| (SetupStep::Parent, errno))?;
    let timer = KillTimer::new().and_then(|mut timer| timer.arm(first).map(|()| timer));
    // From here on this process ends by the deadline, frozen or not, and nothing has run yet.
    let mut timer = timer.map_err(|errno| (SetupStep::Timer, errno))?;
    setsid().map_err(|errno| (SetupStep::Housekeeping, errno))?;
    block_signals().map_err(|errno| (SetupStep::Housekeeping, errno))?;
    keep_children();
    let fifo = prefer_to_run();
    start_init(control, exec, fifo)?;
    loop {
        match control.receive(Wait::Forever) {
            Ok(Some(packet)) => {
                let Some(at) = deadline(&packet.bytes) else { return Err((SetupStep::Serving, Errno::EBADMSG)) };
                timer.arm(at).map_err(|errno| (SetupStep::Timer, errno))?;
            }
            // The keeper has let go of us, or is dead.
            Ok(None) => return Err((SetupStep::Serving, Errno::EPIPE)),
            Err(errno) => return Err((SetupStep::Serving, errno)),
        }
    }
}

/// Asks for what lets this process run when it must; what is refused is part of the answers to the keeper. Returns
/// whether SCHED_FIFO was granted.
pub(super) fn prefer_to_run() -> bool {
    // The keeper reports the same refusals for itself, once for all its leashes.
    let _ = sched::lock_memory();
    let _ = sched::protect_from_oom();
    sched::prefer_fifo(sched::LEASH_PRIORITY).is_fifo()
}

fn start_init(control: &Packets, exec: Packets, fifo: bool) -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWPID).map_err(|errno| (SetupStep::PidNamespace, errno))?;
    let init_failed = |errno: Errno| (SetupStep::Init, errno);
    let (mut ours, theirs) = UnixStream::pair().map_err(|e| init_failed(os_error(e)))?;
    // SAFETY: this process has one thread, so that the child may do what any process may.
    let pid = match unsafe { fork() }.map_err(init_failed)? {
        ForkResult::Child => {
            drop(ours);
            init::run(exec, theirs, control)
        }
        ForkResult::Parent { child } => child,
    };
    drop(theirs);
    drop(exec);
    let init = Process::open(pid).map_err(init_failed)?;
    let message = codec::encode(&FromLeash::Init { fifo });
    control.send(&message, &[init.as_fd()], None, Wait::Forever).map_err(init_failed)?;
    // Init says that its life is bound to ours, we say that we were alive after that. Only then does it go on.
    ours.read_exact(&mut [0]).and_then(|()| ours.write_all(&[1])).map_err(|e| init_failed(os_error(e)))
}

/// Init's half of [`start_init`]'s exchange: after it, this process dies with the leash for certain.
pub(super) fn bind_to_leash(mut leash: UnixStream) -> Result<(), Errno> {
    prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    leash.write_all(&[1]).and_then(|()| leash.read_exact(&mut [0])).map_err(os_error)
}

pub(super) fn os_error(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_anybody_but_the_keeper_are_refused() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(parse(&words("12 34")), Some((Pid::from_raw(12), BootTime(34))));
        for bad in ["", "12", "12 x", "12 34 56", "x 34"] {
            assert_eq!(parse(&words(bad)), None, "{bad}");
        }
    }
}
