//! What the descriptors of the loop bring, each in bounded portions so that none keeps the others waiting; and the
//! service manager, if there is one.

use std::cell::Cell;
use std::time::Duration;

use nix::sys::epoll::EpollFlags;
use nix::sys::signal::Signal;
use sd_notify::NotifyState;

use super::turn::{Daemon, Source};
use crate::engine::HolderTime;
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
                    let Some((from, message)) = self.links.receive(number) else { break };
                    self.take(Input::Datagram { from, message });
                }
            }
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

/// The service manager that started the keeper, if one did.
pub(super) struct Supervisor {
    /// It wants to hear from the keeper within this time.
    watchdog: Option<Duration>,
    petted: Cell<HolderTime>,
}

impl Supervisor {
    /// Says that the keeper is ready. Failing to say so is the service manager's to report.
    pub(super) fn ready() -> Self {
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        Self { watchdog: sd_notify::watchdog_enabled(), petted: Cell::new(HolderTime::default()) }
    }

    /// The longest wait between two turns.
    pub(super) fn pet_every(&self) -> Duration {
        self.watchdog.map_or(WAIT_MAX, |within| (within / 3).min(WAIT_MAX))
    }

    /// Says that the loop turns.
    pub(super) fn pet(&self, now: HolderTime) {
        if self.watchdog.is_some() && now.since(self.petted.get()) >= self.pet_every() {
            self.petted.set(now);
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
        }
    }

    /// Says that the keeper ends because it was told to.
    pub(super) fn leaving(&self) {
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
    }
}
