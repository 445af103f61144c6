//! One LUN or filesystem from its start until nothing of it is left on this node. Processes of their own do the work,
//! one at a time, because any of it can hang in the kernel; this says what is to be done next.
//!
//! A start that has failed is undone like one that had succeeded: its process may have ended anywhere. Only one that was
//! never begun needs no undoing.

use super::address::Step;
use super::limits::{STUCK_RETRY, WAITERS_MAX};
use super::outbox::Outbox;
use super::ports::{Effect, StorageEvent};
use super::program::Asker;
use super::waiter::Waiter;
use crate::engine::HolderTime;
use crate::keeper::protocol::{Outcome, Place, RunningKind};
use crate::keeper::storage::Task;
use crate::package::Millis;

/// A LUN or filesystem.
#[derive(Clone, Debug)]
pub struct Storage {
    task: Task,
    phase: Phase,
    /// Who waits for its start.
    starts: Vec<Waiter>,
    /// Who waits for its end.
    stops: Vec<Waiter>,
    /// When those are told that it has not come.
    patience: Option<HolderTime>,
    /// Why it ends although no agent asked.
    fate: Option<Fate>,
    /// What was said last of why it cannot; it is tried every second.
    said: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    /// Its start was killed, and its process is to end.
    Killed,
    Up,
    /// To be given up, once what was started on top of it is gone.
    Doomed,
    Stopping,
    /// It could not be given up; it is tried again then.
    Stuck {
        retry_at: HolderTime,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// Its start failed.
    Failed(String),
    /// Its right to be up ended.
    Lapsed(String),
}

impl Storage {
    /// One whose start is being begun.
    pub fn starting(task: Task, waiter: Waiter) -> Self {
        Self {
            task,
            phase: Phase::Starting,
            starts: vec![waiter],
            stops: Vec::new(),
            patience: None,
            fate: None,
            said: None,
        }
    }

    /// Somebody wants it started although it is here already (L18): the answer, unless the start is still under way.
    pub fn start_again(&mut self, waiter: Waiter) -> Option<Outcome> {
        match self.phase {
            Phase::Up => Some(Outcome::Ok),
            Phase::Starting if self.starts.len() >= WAITERS_MAX => {
                Some(Outcome::Refused { why: "too many operations wait for this start".to_owned() })
            }
            Phase::Starting => {
                self.starts.push(waiter);
                None
            }
            Phase::Killed | Phase::Doomed | Phase::Stopping | Phase::Stuck { .. } => {
                Some(Outcome::Refused { why: "it is still being given up; start it again when it is gone".to_owned() })
            }
        }
    }

    /// Gives it up; the answer, if there is nothing to wait for.
    pub fn stop(
        &mut self,
        place: &Place,
        within: Millis,
        asker: Asker,
        now: HolderTime,
        out: &mut Outbox,
    ) -> Option<Outcome> {
        match asker {
            Asker::Agent(_) if self.stops.len() >= WAITERS_MAX => {
                return Some(Outcome::Refused { why: "too many operations wait for this stop".to_owned() });
            }
            Asker::Agent(waiter) => {
                self.stops.push(waiter);
                self.patience.get_or_insert(now + within.duration());
            }
            Asker::Keeper { why } => {
                self.fate.get_or_insert(Fate::Lapsed(why.to_owned()));
            }
        }
        match self.phase {
            Phase::Starting => self.kill(place, out),
            Phase::Up | Phase::Doomed | Phase::Stuck { .. } => self.undo(place, out),
            Phase::Killed | Phase::Stopping => {}
        }
        None
    }

    fn kill(&mut self, place: &Place, out: &mut Outbox) {
        self.phase = Phase::Killed;
        out.push(Effect::Kill { place: place.clone() });
    }

    fn undo(&mut self, place: &Place, out: &mut Outbox) {
        self.phase = Phase::Stopping;
        out.push(Effect::StopStorage { place: place.clone(), task: self.task.clone() });
    }

    /// Its right to be up has ended. It goes down by itself, once nothing is left of what was started on top of it.
    pub fn lapse(&mut self, place: &Place, why: &str, out: &mut Outbox) {
        self.fate.get_or_insert(Fate::Lapsed(why.to_owned()));
        match self.phase {
            Phase::Starting => self.kill(place, out),
            Phase::Up => self.phase = Phase::Doomed,
            Phase::Killed | Phase::Doomed | Phase::Stopping | Phase::Stuck { .. } => {}
        }
    }

    /// Takes how an operation ended.
    pub fn event(&mut self, place: &Place, event: StorageEvent, now: HolderTime, out: &mut Outbox) -> Step {
        match (event, self.phase) {
            (StorageEvent::Up, Phase::Starting) => {
                self.phase = Phase::Up;
                out.answer_all(std::mem::take(&mut self.starts), &Outcome::Ok);
            }
            (StorageEvent::Failed { why }, Phase::Starting) => {
                self.fate.get_or_insert(Fate::Failed(why));
                self.undo(place, out);
            }
            // It was quicker than its end, or not.
            (StorageEvent::Up | StorageEvent::Failed { .. }, Phase::Killed) => self.undo(place, out),
            (StorageEvent::Unbegun { why }, Phase::Starting | Phase::Killed) => {
                self.fate.get_or_insert(Fate::Failed(why));
                return self.down(out);
            }
            (StorageEvent::Down, Phase::Stopping) => return self.down(out),
            (StorageEvent::Stuck { why }, Phase::Stopping) => {
                self.phase = Phase::Stuck { retry_at: now + STUCK_RETRY };
                self.patience = None;
                let news = self.said.replace(why.clone()).as_ref() != Some(&why);
                if news && matches!(self.fate, Some(Fate::Lapsed(_))) {
                    out.note(Some(&place.package), format!("{}: {why}", place.resource));
                }
                let failed = self.start_failure(&format!("; and it could not be undone: {why}"));
                out.answer_all(std::mem::take(&mut self.starts), &failed);
                out.answer_all(std::mem::take(&mut self.stops), &Outcome::Failed { why });
            }
            // Of an operation that was not begun here.
            (StorageEvent::Up | StorageEvent::Failed { .. }, Phase::Up | Phase::Doomed)
            | (StorageEvent::Up | StorageEvent::Failed { .. }, Phase::Stopping | Phase::Stuck { .. })
            | (StorageEvent::Unbegun { .. }, Phase::Up | Phase::Doomed | Phase::Stopping | Phase::Stuck { .. })
            | (StorageEvent::Down | StorageEvent::Stuck { .. }, Phase::Starting | Phase::Killed | Phase::Up)
            | (StorageEvent::Down | StorageEvent::Stuck { .. }, Phase::Doomed | Phase::Stuck { .. }) => {}
        }
        Step::Here
    }

    fn down(&mut self, out: &mut Outbox) -> Step {
        let waiting = self.starts.iter().chain(&self.stops);
        let answered = waiting.into_iter().any(|waiter| out.is_current(*waiter));
        let failed = self.start_failure("");
        out.answer_all(std::mem::take(&mut self.starts), &failed);
        out.answer_all(std::mem::take(&mut self.stops), &Outcome::Ok);
        match self.fate.take() {
            _ if answered => Step::Gone,
            Some(Fate::Failed(why) | Fate::Lapsed(why)) => Step::Lapsed(why),
            None => Step::Lapsed("it was given up".to_owned()),
        }
    }

    fn start_failure(&self, left: &str) -> Outcome {
        match &self.fate {
            Some(Fate::Failed(why)) => Outcome::Failed { why: format!("{why}{left}") },
            Some(Fate::Lapsed(why)) => Outcome::Refused { why: format!("{why}{left}") },
            None => Outcome::Failed { why: format!("it was given up while it started{left}") },
        }
    }

    /// Does what is due. `nothing_on_top`: nothing of the package that was started later is left.
    pub fn tick(&mut self, place: &Place, nothing_on_top: bool, now: HolderTime, out: &mut Outbox) {
        match self.phase {
            Phase::Doomed if nothing_on_top => self.undo(place, out),
            Phase::Stuck { retry_at } if retry_at <= now => self.undo(place, out),
            Phase::Starting | Phase::Killed | Phase::Up | Phase::Doomed | Phase::Stopping | Phase::Stuck { .. } => {}
        }
        if self.patience.is_some_and(|until| until <= now) {
            self.patience = None;
            let why = "it has not been given up yet: the system call that does so has not come back. Nothing is \
                       released; see the kernel's log (dmesg), and which device does not answer";
            out.answer_all(std::mem::take(&mut self.stops), &Outcome::Failed { why: why.to_owned() });
        }
    }

    /// When to be called with [`Self::tick`].
    pub fn wake(&self) -> Option<HolderTime> {
        let retry = match self.phase {
            Phase::Stuck { retry_at } => Some(retry_at),
            Phase::Starting | Phase::Killed | Phase::Up | Phase::Doomed | Phase::Stopping => None,
        };
        retry.into_iter().chain(self.patience).min()
    }

    /// Whether its process dies at the lease's end.
    pub fn is_armed(&self) -> bool {
        self.phase == Phase::Starting
    }

    /// Whether nobody is giving it up.
    pub fn is_wanted(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Up)
    }

    /// As the agent is told on attach. A start under way is not shown: the agent starts it too, and joins it.
    pub fn shown(&self) -> Option<RunningKind> {
        (self.phase != Phase::Starting).then(|| RunningKind::Storage(self.task.storage()))
    }
}
