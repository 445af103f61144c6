//! One program from its start until nothing of it is left.
//!
//! "Gone" means that the init of its namespace is gone, never that its main process or its leash has ended. Until then
//! it is dying, and nothing else may start in its place.

use super::limits::{SIGKILL, WAITERS_MAX};
use super::outbox::Outbox;
use super::ports::{Effect, ProgramEvent};
use super::waiter::Waiter;
use crate::engine::HolderTime;
use crate::keeper::protocol::{Exit, Outcome, Place, RunningKind};
use crate::package::Millis;

/// A program.
#[derive(Clone, Debug)]
pub struct Program {
    phase: Phase,
    /// How its main process ended, once it has.
    exit: Option<Exit>,
    /// Who waits for its start.
    starts: Vec<Waiter>,
    /// Who waits for its end.
    stops: Vec<Waiter>,
    /// Why it ends, when neither its main process nor an operation ended it.
    fate: Option<Fate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Up {
        pid: i32,
    },
    /// Its main process was asked to end; the leash is killed at this time.
    Asked {
        pid: i32,
        kill_at: HolderTime,
    },
    /// The leash was killed or has ended.
    Dying {
        pid: i32,
    },
    /// Nothing of it is left, and no agent has been told how it ended.
    Untold {
        pid: i32,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// Its start failed.
    Failed(String),
    /// Its right to run ended.
    Lapsed(String),
}

/// Who asks for an end.
#[derive(Clone, Copy, Debug)]
pub enum Asker<'a> {
    /// The agent, which waits for the outcome.
    Agent(Waiter),
    /// The keeper itself.
    Keeper {
        /// Why.
        why: &'a str,
    },
}

/// What is to be told about a program of which nothing is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Only those who waited.
    Answered,
    /// Its main process ended by itself.
    Exited(Exit),
    /// Its right to run ended.
    Lapsed(String),
}

/// Process id shown for a program whose start has not come that far.
const NO_PID: i32 = 0;

impl Program {
    /// A program whose leash is being spawned.
    pub fn starting(waiter: Waiter) -> Self {
        Self { phase: Phase::Starting, exit: None, starts: vec![waiter], stops: Vec::new(), fate: None }
    }

    /// Somebody wants it started although it is here already (L18): the answer, unless the start is still under way.
    pub fn start_again(&mut self, waiter: Waiter) -> Option<Outcome> {
        match self.phase {
            Phase::Starting if self.starts.len() < WAITERS_MAX => {
                self.starts.push(waiter);
                None
            }
            Phase::Starting => Some(refused("too many operations wait for this start")),
            Phase::Up { pid } => Some(Outcome::Started { pid }),
            Phase::Asked { .. } | Phase::Dying { .. } | Phase::Untold { .. } => {
                let why = "its last process is not gone yet; start it again when it is";
                Some(Outcome::Failed { why: why.to_owned() })
            }
        }
    }

    /// Asks it to end; the answer, if there is nothing to wait for.
    pub fn stop(
        &mut self,
        place: &Place,
        signal: i32,
        grace: Millis,
        asker: Asker,
        now: HolderTime,
        out: &mut Outbox,
    ) -> Option<Outcome> {
        match asker {
            Asker::Agent(_) if self.stops.len() >= WAITERS_MAX => {
                return Some(refused("too many operations wait for this stop"));
            }
            Asker::Agent(waiter) => self.stops.push(waiter),
            Asker::Keeper { why } => {
                self.fate.get_or_insert(Fate::Lapsed(why.to_owned()));
            }
        }
        match self.phase {
            Phase::Up { pid } => {
                out.push(Effect::Signal { place: place.clone(), signal });
                self.phase = Phase::Asked { pid, kill_at: now + grace.duration() };
            }
            // A program that has not begun cannot be asked.
            Phase::Starting => self.kill(place, out),
            Phase::Asked { pid, kill_at } => {
                self.phase = Phase::Asked { pid, kill_at: kill_at.min(now + grace.duration()) };
            }
            Phase::Dying { .. } | Phase::Untold { .. } => {}
        }
        None
    }

    /// Its right to run has ended: whatever is left of it is killed.
    pub fn lapse(&mut self, place: &Place, why: &str, out: &mut Outbox) {
        if self.is_gone() {
            return;
        }
        if self.exit.is_none() && self.fate.is_none() {
            self.fate = Some(Fate::Lapsed(why.to_owned()));
        }
        self.kill(place, out);
    }

    /// Takes an event that is not its end.
    pub fn event(&mut self, place: &Place, event: ProgramEvent, out: &mut Outbox) {
        match event {
            ProgramEvent::Started { pid } => match self.phase {
                Phase::Starting => {
                    self.phase = Phase::Up { pid };
                    out.answer_all(std::mem::take(&mut self.starts), &Outcome::Started { pid });
                }
                // Killed while it started.
                Phase::Dying { .. } => self.phase = Phase::Dying { pid },
                Phase::Up { .. } | Phase::Asked { .. } | Phase::Untold { .. } => {}
            },
            ProgramEvent::Failed { why } => {
                let starts = self.phase == Phase::Starting;
                self.fate.get_or_insert(if starts { Fate::Failed(why) } else { Fate::Lapsed(why) });
                self.kill(place, out);
            }
            ProgramEvent::Exited { exit } => {
                self.exit.get_or_insert(exit);
                self.kill(place, out);
            }
            ProgramEvent::Gone { .. } => {}
        }
    }

    fn kill(&mut self, place: &Place, out: &mut Outbox) {
        let pid = self.pid();
        if !matches!(self.phase, Phase::Dying { .. } | Phase::Untold { .. }) {
            self.phase = Phase::Dying { pid };
            out.push(Effect::Kill { place: place.clone() });
        }
    }

    /// Nothing of it is left: answers whoever waited, and says what else is to be told. A leash that ended without a word
    /// from us was killed by its own deadline, or by somebody else.
    pub fn gone(&mut self, by_deadline: bool, out: &mut Outbox) -> End {
        let (starts, stops) = (std::mem::take(&mut self.starts), std::mem::take(&mut self.stops));
        // Those of an earlier connection wait no longer; the agent of now is told as if nobody had asked.
        let answered = starts.iter().chain(&stops).any(|waiter| out.is_current(*waiter));
        out.answer_all(starts, &self.start_failure());
        out.answer_all(stops, &Outcome::Ok);
        match (self.fate.take(), self.exit) {
            _ if answered => End::Answered,
            (Some(Fate::Failed(_)), _) => End::Answered,
            (Some(Fate::Lapsed(why)), _) => End::Lapsed(why),
            (None, Some(exit)) => End::Exited(exit),
            (None, None) if by_deadline => End::Lapsed("its lease came to its end".to_owned()),
            (None, None) => End::Exited(Exit::Signal(SIGKILL)),
        }
    }

    /// The answer to those who waited for a start of which nothing is left.
    fn start_failure(&self) -> Outcome {
        match &self.fate {
            Some(Fate::Failed(why)) => Outcome::Failed { why: why.clone() },
            Some(Fate::Lapsed(why)) => Outcome::Refused { why: why.clone() },
            None => Outcome::Failed { why: "it was ended while it started".to_owned() },
        }
    }

    /// Keeps only the news of its end, for the next agent.
    pub fn leave_untold(&mut self, exit: Exit) {
        self.exit = Some(exit);
        self.phase = Phase::Untold { pid: self.pid() };
    }

    /// Kills it if its time to end in good order is over.
    pub fn tick(&mut self, place: &Place, now: HolderTime, out: &mut Outbox) {
        if self.wake().is_some_and(|at| at <= now) {
            self.kill(place, out);
        }
    }

    /// When to be called with [`Self::tick`].
    pub fn wake(&self) -> Option<HolderTime> {
        match self.phase {
            Phase::Asked { kill_at, .. } => Some(kill_at),
            Phase::Starting | Phase::Up { .. } | Phase::Dying { .. } | Phase::Untold { .. } => None,
        }
    }

    /// Whether nothing of it is left but the news of its end.
    pub fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Untold { .. })
    }

    /// Whether it has not been asked or made to end.
    pub fn is_wanted(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Up { .. })
    }

    /// Whether a leash's deadline can be moved.
    pub fn is_armed(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Up { .. } | Phase::Asked { .. })
    }

    /// As the agent is told on attach. A start under way is not shown: the agent starts it too, and joins it.
    pub fn shown(&self) -> Option<RunningKind> {
        let exited = self.exit.filter(|_| self.is_gone());
        (self.phase != Phase::Starting).then_some(RunningKind::Program { pid: self.pid(), exited })
    }

    fn pid(&self) -> i32 {
        match self.phase {
            Phase::Up { pid } | Phase::Asked { pid, .. } | Phase::Dying { pid } | Phase::Untold { pid } => pid,
            Phase::Starting => NO_PID,
        }
    }
}

fn refused(why: &str) -> Outcome {
    Outcome::Refused { why: why.to_owned() }
}
