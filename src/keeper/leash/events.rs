//! What a leash tells the keeper, and in which order: answers first, then the end of everything, once.

use nix::errno::Errno;
use nix::sys::epoll::Epoll;
use nix::unistd::Pid;

use super::fault::{ExecFault, LeashError, SetupStep};
use super::tether::{Leash, Line, OpId, Stage, system};
use super::wire::{FromInit, FromLeash};
use crate::engine::codec;
use crate::host::clock::boot_now;
use crate::host::packets::{Packet, Wait};
use crate::host::process::{Ended, Process};
use crate::keeper::protocol::Exit;

/// Something a leash has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeashEvent {
    /// The namespace is complete.
    Ready {
        /// The first program's number was drawn at random; if not, PostgreSQL may refuse its stale pidfile.
        random_pids: bool,
    },
    /// A program runs.
    Started {
        /// Which operation.
        op: OpId,
        /// Its main process in the keeper's PID namespace.
        pid: i32,
    },
    /// A program did not start.
    Refused {
        /// Which operation.
        op: OpId,
        /// Why.
        fault: ExecFault,
    },
    /// A program's main process ended. Others it has started may run on, until the leash is killed.
    Exited {
        /// Which operation.
        op: OpId,
        /// How.
        exit: Exit,
    },
    /// The leash failed and is being ended; [`LeashEvent::Gone`] follows.
    Failed(LeashError),
    /// The last event: nothing of the namespace is left. Programs without an [`LeashEvent::Exited`] ended with it.
    Gone(End),
}

/// What ended a leash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// [`Leash::kill`].
    Killed,
    /// Its deadline.
    Deadline,
    /// Something else: the status of the leash process, if it is known.
    Unexpected {
        /// How the leash process ended.
        leash: Option<Ended>,
    },
}

impl Leash {
    /// The next event, if there is one. Call it until it answers none whenever [`Leash::events_fd`] is readable; after
    /// [`LeashEvent::Gone`] there is nothing more.
    pub fn next_event(&mut self) -> Option<LeashEvent> {
        if self.events.is_empty()
            && let Err(error) = self.gather()
        {
            self.fail(error);
        }
        self.events.pop_front()
    }

    fn gather(&mut self) -> Result<(), LeashError> {
        // The ends are looked at before the sockets are read: what was sent before an end is then read before it is
        // reported.
        let leash_ended = self.ended.is_some() || self.process.ended();
        let init_ended = self.init.as_ref().is_some_and(Process::ended);
        while let Some(packet) = read(&self.watch, &mut self.control)? {
            self.hear_leash(packet)?;
        }
        while let Some(packet) = read(&self.watch, &mut self.exec)? {
            self.hear_init(packet)?;
        }
        // A leash that ended without handing init over never gave it the word to go on: nothing has run.
        let nothing_left = init_ended || (leash_ended && self.init.is_none());
        if nothing_left && self.stage == Stage::Alive {
            self.stage = Stage::InitGone;
            self.kill_process();
            if let Some(init) = &self.init {
                let _ = self.watch.delete(init);
                // Ours if the leash has ended and this process is its subreaper; otherwise the leash's.
                init.reap();
            }
        }
        if leash_ended && self.ended.is_none() {
            self.ended = self.process.reap();
            let _ = self.watch.delete(&self.process);
        }
        if leash_ended && self.stage == Stage::InitGone {
            self.stage = Stage::Gone;
            // Once more: init may have become ours with the leash's end.
            self.init.as_ref().map(Process::reap);
            self.running.clear();
            let end = self.end();
            self.events.push_back(LeashEvent::Gone(end));
        }
        Ok(())
    }

    fn end(&self) -> End {
        match self.ended {
            _ if self.killed => End::Killed,
            Some(Ended::Signal(nix::libc::SIGKILL)) if boot_now() >= self.armed() => End::Deadline,
            leash => End::Unexpected { leash },
        }
    }

    /// The leash is of no use any more: says why, once, and ends it.
    fn fail(&mut self, error: LeashError) {
        self.events.push_back(LeashEvent::Failed(error));
        self.kill_process();
    }

    fn hear_leash(&mut self, packet: Packet) -> Result<(), LeashError> {
        match codec::decode(&packet.bytes).map_err(|_| garbled())? {
            FromLeash::Init { fifo } => {
                self.fifo &= fifo;
                let fd = packet.fds.into_iter().next().ok_or_else(garbled)?;
                let init = Process::from_fd(fd);
                let watched = self.watch(&init);
                self.init = Some(init);
                watched
            }
            FromLeash::Fault { step, errno } => Err(LeashError::setup(step, errno)),
        }
    }

    fn hear_init(&mut self, packet: Packet) -> Result<(), LeashError> {
        match codec::decode(&packet.bytes).map_err(|_| garbled())? {
            FromInit::Ready { random_pids, fifo } => {
                self.fifo &= fifo;
                self.events.push_back(LeashEvent::Ready { random_pids });
            }
            FromInit::Started { op } => {
                let fd = packet.fds.into_iter().next().ok_or_else(garbled)?;
                self.running.insert(OpId(op), Process::from_fd(fd));
                let pid = packet.pid.map_or(0, Pid::as_raw);
                self.events.push_back(LeashEvent::Started { op: OpId(op), pid });
            }
            FromInit::Refused { op, fault } => self.events.push_back(LeashEvent::Refused { op: OpId(op), fault }),
            FromInit::Exited { op, exit } => {
                self.running.remove(&OpId(op));
                self.events.push_back(LeashEvent::Exited { op: OpId(op), exit });
            }
            FromInit::Fault { step, errno } => return Err(LeashError::setup(step, errno)),
        }
        Ok(())
    }
}

/// The next packet, if one waits.
fn read(watch: &Epoll, line: &mut Line) -> Result<Option<Packet>, LeashError> {
    if !line.open {
        return Ok(None);
    }
    let read = line.socket.receive(Wait::No);
    if let Err(Errno::EAGAIN) = read {
        return Ok(None);
    }
    if !matches!(read, Ok(Some(_))) {
        // A closed socket is readable for ever.
        line.open = false;
        let _ = watch.delete(&line.socket);
    }
    read.map_err(system("read from a leash"))
}

fn garbled() -> LeashError {
    LeashError::Setup { step: SetupStep::Serving, errno: Errno::EBADMSG as i32 }
}
