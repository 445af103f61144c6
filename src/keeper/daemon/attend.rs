//! What the descriptors of the loop bring, each in bounded portions so that none keeps the others waiting; and the
//! service manager, if there is one.

use std::cell::Cell;
use std::time::Duration;

use nix::sys::epoll::EpollFlags;
use nix::sys::signal::Signal;

use super::links::Received;
use super::turn::{Daemon, Source};
use crate::host::systemd::Systemd;
use crate::keeper::core::Input;

/// Datagrams taken from one socket at one time; the rest waits for the next turn.
const DATAGRAMS_MAX: usize = 256;
/// The longest wait of the loop; the core and the service manager ask for less.
const WAIT_MAX: Duration = Duration::from_secs(1);

impl Daemon {
    /// Takes what a ready descriptor brings.
    pub(super) fn attend(&mut self, source: Source, flags: EpollFlags) {
        match source {
            Source::Signals => self.signalled(),
            Source::Listener => {
                if self.agent.accept() {
                    self.watch_new_agent();
                    self.take(Input::AgentConnected);
                }
            }
            Source::Agent => self.agent_ready(flags),
            Source::Addresses => {
                while let Some(input) = self.addresses.next_event() {
                    self.take(input);
                }
            }
            Source::Link(number) => {
                for _ in 0..DATAGRAMS_MAX {
                    match self.links.receive(number) {
                        Received::Message(from, message) => self.take(Input::Datagram { from, message }),
                        Received::Dropped => {}
                        Received::Nothing => break,
                    }
                }
            }
            Source::Storage(number) => self.storage_ended(number),
            Source::Leash(number) => {
                while let Some((place, event)) = self.leashes.next_event(number) {
                    self.take(Input::Program { place, event });
                }
            }
        }
    }

    fn signalled(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            // There is no terminal to hang up and nothing to be read again.
            if signal.ssi_signo == Signal::SIGHUP as u32 {
                continue;
            }
            tracing::info!("signal {}: an orderly end is wanted", signal.ssi_signo);
            self.shown.leaving();
            self.take(Input::Terminate);
        }
    }

    fn agent_ready(&mut self, flags: EpollFlags) {
        if flags.contains(EpollFlags::EPOLLOUT) {
            let written = self.agent.write();
            self.after_agent(written);
        }
        if flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            self.read_agent();
        }
    }

    /// What was read at one time is at most a buffer's worth, so that the frames in it are few.
    fn read_agent(&mut self) {
        let read = self.agent.read();
        let over = read.is_err();
        while let Some(frame) = match self.agent.next_frame() {
            Ok(frame) => frame,
            Err(why) => return self.after_agent(Err(why)),
        } {
            self.take(Input::Frame(frame));
        }
        if over {
            self.after_agent(read);
        }
    }
}

/// What the service manager shows of the keeper, if one started it.
pub(super) struct Shown {
    systemd: Systemd,
    /// What it was told last: whether there is a lease, and how many programs.
    last: Cell<Option<(bool, usize)>>,
    leaving: Cell<bool>,
}

impl Shown {
    pub(super) fn new(systemd: Systemd) -> Self {
        Self { systemd, last: Cell::new(None), leaving: Cell::new(false) }
    }

    /// Says that the keeper is ready: its socket listens, and nothing of an earlier life is left.
    pub(super) fn ready(&self) {
        self.systemd.ready();
    }

    /// The longest wait between two turns.
    pub(super) fn turn_within(&self) -> Duration {
        self.systemd.turn_within().map_or(WAIT_MAX, |within| within.min(WAIT_MAX))
    }

    /// Says that the loop turns, and what it has come to.
    pub(super) fn turned(&self, leased: bool, programs: usize) {
        if self.last.replace(Some((leased, programs))) != Some((leased, programs)) {
            let leaving = if self.leaving.get() { "stopping; " } else { "" };
            let lease = if leased { "lease held" } else { "no lease" };
            let plural = if programs == 1 { "" } else { "s" };
            self.systemd.status(&format!("{leaving}{lease}, {programs} program{plural}"));
        }
        self.systemd.turned();
    }

    /// Says that the keeper is to end.
    fn leaving(&self) {
        if !self.leaving.replace(true) {
            self.last.set(None);
            self.systemd.stopping();
        }
    }
}
