//! The namespace's init: starts what the keeper asks for, reaps everything, tells how it ended. It dies with the leash,
//! and everything in the namespace with it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use super::fault::{ExecFault, ExecStep, SetupStep};
use super::launch::{Launch, launch};
use super::namespace;
use super::process::{Failure, bind_to_leash, prefer_to_run};
use super::wire::{ExecRequest, FromInit};
use crate::engine::codec;
use crate::host::packets::{Packet, Packets, Wait};
use crate::host::process::{Ended, Process, ended_child, reap_child};
use crate::keeper::protocol::Exit;

/// Most operations of one resource at a time; a start, a monitor, a stop and an operator's `exec` are far fewer.
const OPERATIONS_MAX: usize = 64;

/// Runs as pid 1 of the new namespace, in the child of the leash's fork.
pub fn run(exec: Packets, leash: UnixStream, control: &Packets) -> ! {
    // The keeper must see the leash's end of this socket close when the leash ends. This process never returns to
    // where it would be closed a second time.
    // SAFETY: nothing in this process uses the descriptor after this.
    unsafe { libc::close(control.as_fd().as_raw_fd()) };
    let Err((step, errno)) = begin(leash).and_then(|begun| serve(&exec, begun));
    // If the keeper is gone there is nobody left to tell.
    let _ = tell(&exec, &FromInit::Fault { step, errno: errno as i32 });
    // SAFETY: ends the process without running what belongs to the leash.
    unsafe { libc::_exit(1) }
}

/// What setting up has found out.
struct Begun {
    random_pids: bool,
    fifo: bool,
    children: SignalFd,
}

fn begin(leash: UnixStream) -> Result<Begun, Failure> {
    bind_to_leash(leash).map_err(|errno| (SetupStep::Parent, errno))?;
    prctl::set_name(c"pkgctl-init").map_err(|errno| (SetupStep::Housekeeping, errno))?;
    namespace::enter()?;
    let mut ended = SigSet::empty();
    ended.add(Signal::SIGCHLD);
    let children = SignalFd::with_flags(&ended, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|errno| (SetupStep::Housekeeping, errno))?;
    // The leash's own scheduling does not pass through its fork.
    Ok(Begun { fifo: prefer_to_run(), random_pids: namespace::scatter_pids(), children })
}

/// What runs here.
#[derive(Default)]
struct Operations {
    launching: Vec<Launch>,
    running: BTreeMap<Pid, u64>,
}

fn serve(exec: &Packets, begun: Begun) -> Result<Infallible, Failure> {
    let failed = |errno: Errno| (SetupStep::Serving, errno);
    tell(exec, &FromInit::Ready { random_pids: begun.random_pids, fifo: begun.fifo }).map_err(failed)?;
    let mut operations = Operations::default();
    loop {
        let (asked, ended, settled) = watch(exec, &begun.children, &operations.launching).map_err(failed)?;
        for index in settled.into_iter().rev() {
            let launch = operations.launching.swap_remove(index);
            operations.settle(exec, launch).map_err(failed)?;
        }
        if ended {
            while begun.children.read_signal().map_err(failed)?.is_some() {}
            operations.reap(exec).map_err(failed)?;
        }
        if asked {
            match exec.receive(Wait::No) {
                Ok(Some(packet)) => operations.start(exec, packet).map_err(failed)?,
                // The keeper has let go of this namespace, or is dead.
                Ok(None) => return Err(failed(Errno::EPIPE)),
                Err(Errno::EAGAIN) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
    }
}

/// Waits for something to do: a request, a child's end, launches that are settled (by index, rising).
fn watch(exec: &Packets, children: &SignalFd, launching: &[Launch]) -> Result<(bool, bool, Vec<usize>), Errno> {
    let pipes: Vec<_> = launching.iter().map(Launch::pipe).collect();
    let mut watched =
        vec![PollFd::new(exec.as_fd(), PollFlags::POLLIN), PollFd::new(children.as_fd(), PollFlags::POLLIN)];
    watched.extend(pipes.iter().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
    while let Err(errno) = poll(&mut watched, PollTimeout::NONE) {
        if errno != Errno::EINTR {
            return Err(errno);
        }
    }
    let mut ready = watched.iter().map(|fd| fd.any().unwrap_or(true));
    let (asked, ended) = (ready.next() == Some(true), ready.next() == Some(true));
    Ok((asked, ended, ready.enumerate().filter(|(_, ready)| *ready).map(|(index, _)| index).collect()))
}

impl Operations {
    fn start(&mut self, exec: &Packets, packet: Packet) -> Result<(), Errno> {
        let request: ExecRequest = codec::decode(&packet.bytes).map_err(|_| Errno::EBADMSG)?;
        let op = request.op;
        if self.launching.len() + self.running.len() >= OPERATIONS_MAX {
            let (program, directory) = (request.argv.into_iter().next().unwrap_or_default(), request.directory);
            let fault = ExecFault { program, directory, step: ExecStep::Fork, errno: Errno::EAGAIN as i32 };
            return tell(exec, &FromInit::Refused { op, fault });
        }
        match launch(request, &packet.fds) {
            Ok(launch) => self.launching.push(launch),
            Err(fault) => tell(exec, &FromInit::Refused { op, fault })?,
        }
        Ok(())
    }

    /// Tells how a launch went. The child has not been reaped, so that its number is its own.
    fn settle(&mut self, exec: &Packets, launch: Launch) -> Result<(), Errno> {
        let (op, pid) = (launch.op, launch.pid);
        if let Err(fault) = launch.settle() {
            return tell(exec, &FromInit::Refused { op, fault });
        }
        self.running.insert(pid, op);
        let process = Process::open(pid)?;
        // The kernel translates the number into the keeper's PID namespace.
        exec.send(&codec::encode(&FromInit::Started { op }), &[process.as_fd()], Some(pid), Wait::Forever)
    }

    /// Reaps every child that has ended, orphans of the programs included.
    fn reap(&mut self, exec: &Packets) -> Result<(), Errno> {
        while let Some(pid) = ended_child() {
            if let Some(index) = self.launching.iter().position(|launch| launch.pid == pid) {
                let launch = self.launching.swap_remove(index);
                self.settle(exec, launch)?;
            }
            let Some(ended) = reap_child(pid) else { continue };
            if let Some(op) = self.running.remove(&pid) {
                let exit = match ended {
                    Ended::Code(code) => Exit::Code(code),
                    Ended::Signal(signal) => Exit::Signal(signal),
                };
                tell(exec, &FromInit::Exited { op, exit })?;
            }
        }
        Ok(())
    }
}

/// May wait: a keeper that does not read is frozen or dead, and the deadline takes care of both.
fn tell(exec: &Packets, message: &FromInit) -> Result<(), Errno> {
    exec.send(&codec::encode(message), &[], None, Wait::Forever)
}
