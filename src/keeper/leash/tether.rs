//! The keeper's end of a leash: spawn, arm, exec, signal, kill. Nothing here waits: answers come as events
//! (`events.rs`), when [`Leash::events_fd`] is readable.
//!
//! The keeper must not wait for "any child" (`waitpid(-1)`): leash and init are reaped here, by descriptor.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::unistd::Pid;

use super::fault::LeashError;
use super::log;
use super::wire::{ExecRequest, deadline_bytes};
use crate::engine::codec;
use crate::engine::time::BootTime;
use crate::host::packets::{PACKET_MAX_BYTES, Packets, Wait};
use crate::host::process::{Ended, Process};
use crate::resource::{Credentials, ProgramSpec};

use super::events::LeashEvent;

/// One program run in a leash's namespace; unique within the leash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub(super) u64);

/// What to run, with descriptors of the caller's.
#[derive(Debug)]
pub struct ExecSpec<'a> {
    /// Executable and arguments; an executable without a slash is looked for in the environment's PATH.
    pub argv: &'a [String],
    /// The whole environment; nothing is added.
    pub environment: &'a BTreeMap<String, String>,
    /// As whom; as the keeper if none.
    pub credentials: Option<&'a Credentials>,
    /// Working directory, entered as that user.
    pub directory: &'a str,
    /// Standard input, output and error.
    pub stdio: [BorrowedFd<'a>; 3],
}

/// A leash. Dropping it kills it, and everything in it; only [`LeashEvent::Gone`] says that this has happened.
#[derive(Debug)]
pub struct Leash {
    /// The leash process.
    pub(super) process: Process,
    /// Its status, once it has been reaped.
    pub(super) ended: Option<Ended>,
    /// The namespace's init, once the leash has handed it over.
    pub(super) init: Option<Process>,
    pub(super) control: Line,
    pub(super) exec: Line,
    /// All of the above, for the keeper's poll loop.
    pub(super) watch: Epoll,
    pub(super) events: VecDeque<LeashEvent>,
    /// Programs that run.
    pub(super) running: BTreeMap<OpId, Process>,
    pub(super) stage: Stage,
    /// Every part of leash and init that can have SCHED_FIFO has it, as far as they have said.
    pub(super) fifo: bool,
    pub(super) killed: bool,
    armed: BootTime,
    next_op: u64,
}

/// A socket to read from, until its other end is closed.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) socket: Packets,
    pub(super) open: bool,
}

/// How far a leash is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Leash and init may run.
    Alive,
    /// Init has ended, and with it everything in the namespace; the leash may not have been reaped.
    InitGone,
    /// [`LeashEvent::Gone`] is among the events, or has been.
    Gone,
}

impl Leash {
    /// Starts a leash, armed with its first deadline before it does anything. `exe` is this program, best
    /// `/proc/self/exe`, which stays the same file while a newer one is installed. Call it from a thread that lives as
    /// long as the keeper: the leash dies with the thread that started it.
    ///
    /// # Errors
    /// [`LeashError::Spawn`] or [`LeashError::System`]. That namespaces are refused comes as an event.
    pub fn spawn(exe: &Path, first_deadline: BootTime) -> Result<Self, LeashError> {
        let (control, leash_end) = Packets::pair().map_err(system("make a socket pair for a leash"))?;
        let (exec, init_end) = Packets::pair().map_err(system("make a socket pair for a leash"))?;
        exec.name_senders().map_err(system("have senders named on a leash's socket"))?;
        let watch = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(system("watch a leash"))?;
        let child = Command::new(exe)
            .arg0("pkgctl")
            .arg("leash")
            .arg(std::process::id().to_string())
            .arg(first_deadline.0.to_string())
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(leash_end)))
            .stdout(Stdio::from(OwnedFd::from(init_end)))
            .spawn()
            .map_err(|e| LeashError::Spawn { exe: exe.display().to_string(), why: e.to_string() })?;
        let pid = i32::try_from(child.id()).map_err(|_| system("open a leash")(Errno::ESRCH))?;
        // The child has not been waited for, so that the number is its own; std's handle does nothing when dropped.
        let process = Process::open(Pid::from_raw(pid)).map_err(system("open a leash"))?;
        let line = |socket| Line { socket, open: true };
        let leash = Self {
            process,
            ended: None,
            init: None,
            control: line(control),
            exec: line(exec),
            watch,
            events: VecDeque::new(),
            running: BTreeMap::new(),
            stage: Stage::Alive,
            fifo: true,
            killed: false,
            armed: first_deadline,
            next_op: 1,
        };
        leash.watch(&leash.process)?;
        leash.watch(&leash.control.socket)?;
        leash.watch(&leash.exec.socket)?;
        Ok(leash)
    }

    /// Moves the deadline: everything in the leash ends at `at` unless it is moved again (rule 22: T less
    /// [`super::leash_margin`]). A leash that is too late for it has ended at the deadline before.
    ///
    /// # Errors
    /// [`LeashError::Gone`]; [`LeashError::Busy`] if it does not read, and the deadline stands as it was.
    pub fn arm(&mut self, at: BootTime) -> Result<(), LeashError> {
        self.refuse_if_gone()?;
        self.control.socket.send(&deadline_bytes(at), &[], None, Wait::No).map_err(LeashError::send)?;
        self.armed = at;
        Ok(())
    }

    /// What is known to have ended is not written to: the socket may look open for a moment longer, because a child of
    /// another thread, on its way to its exec, has a copy of every descriptor.
    fn refuse_if_gone(&self) -> Result<(), LeashError> {
        match (self.stage, &self.ended) {
            (Stage::Alive, None) => Ok(()),
            (Stage::Alive, Some(_)) | (Stage::InitGone | Stage::Gone, _) => Err(LeashError::Gone),
        }
    }

    /// The deadline it was last given.
    pub fn armed(&self) -> BootTime {
        self.armed
    }

    /// Asks init to run a program; may be called at once, before [`LeashEvent::Ready`]. The answer is
    /// [`LeashEvent::Started`] or [`LeashEvent::Refused`]. A keeper thawed after the deadline asks nobody (rule 23).
    ///
    /// # Errors
    /// [`LeashError::Gone`], [`LeashError::Busy`] or [`LeashError::TooLarge`]; nothing was started then.
    pub fn exec(&mut self, spec: &ExecSpec<'_>) -> Result<OpId, LeashError> {
        self.refuse_if_gone()?;
        let op = OpId(self.next_op);
        let request = codec::encode(&ExecRequest {
            op: op.0,
            argv: spec.argv.to_vec(),
            environment: spec.environment.clone(),
            credentials: spec.credentials.cloned(),
            directory: spec.directory.to_owned(),
        });
        if request.len() > PACKET_MAX_BYTES {
            return Err(LeashError::TooLarge { bytes: request.len() });
        }
        self.exec.socket.send(&request, &spec.stdio, None, Wait::No).map_err(LeashError::send)?;
        self.next_op += 1;
        Ok(op)
    }

    /// Runs a package's program: standard input from /dev/null, output and errors appended to its log.
    ///
    /// # Errors
    /// As [`Leash::exec`], and [`LeashError::Log`].
    pub fn start(&mut self, program: &ProgramSpec) -> Result<OpId, LeashError> {
        let log = log::open(Path::new(&program.log))?;
        let null = log::null()?;
        self.exec(&ExecSpec {
            argv: &program.command,
            environment: &program.environment,
            credentials: program.credentials.as_ref(),
            directory: &program.working_directory,
            stdio: [null.as_fd(), log.as_fd(), log.as_fd()],
        })
    }

    /// Sends a signal to a program's main process, never to another one that got its number.
    ///
    /// # Errors
    /// [`LeashError::NotRunning`] if it has ended, or has not started yet.
    pub fn signal(&self, op: OpId, signal: i32) -> Result<(), LeashError> {
        let process = self.running.get(&op).ok_or(LeashError::NotRunning { op: op.0 })?;
        process.signal(signal).map_err(|errno| match errno {
            Errno::ESRCH => LeashError::NotRunning { op: op.0 },
            other => system("signal a program")(other),
        })
    }

    /// Ends the leash and everything in it, now. [`LeashEvent::Gone`] says when that is done.
    pub fn kill(&mut self) {
        self.killed = true;
        self.kill_process();
    }

    pub(super) fn kill_process(&mut self) {
        if self.ended.is_none() {
            // Fails only if it has ended already.
            let _ = self.process.kill();
        }
    }

    /// Whether leash and init both said that they have SCHED_FIFO; true as long as neither has said no. A leash
    /// without it needs the wider margin.
    pub fn fifo(&self) -> bool {
        self.fifo
    }

    /// Readable when [`Leash::next_event`] has something to do. The same descriptor for the leash's whole life.
    pub fn events_fd(&self) -> BorrowedFd<'_> {
        self.watch.0.as_fd()
    }

    /// The namespace's init: readable when everything in the namespace has ended. None before the leash has handed it
    /// over (nothing has run by then).
    pub fn gone_fd(&self) -> Option<BorrowedFd<'_>> {
        self.init.as_ref().map(Process::as_fd)
    }

    pub(super) fn watch(&self, fd: &impl AsFd) -> Result<(), LeashError> {
        self.watch.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, 0)).map_err(system("watch a leash"))
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.kill_process();
        self.process.reap();
    }
}

pub(super) fn system(what: &'static str) -> impl Fn(Errno) -> LeashError {
    move |errno| LeashError::System { what, errno: errno as i32 }
}
