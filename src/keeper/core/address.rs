//! One address from its take-over until nothing of it is left. The guard's worker does the work and says how it went.

use super::limits::{STUCK_RETRY, WAITERS_MAX};
use super::outbox::Outbox;
use super::ports::{AddressEvent, Effect};
use super::waiter::Waiter;
use crate::engine::HolderTime;
use crate::keeper::protocol::{Outcome, Place, RunningKind};
use crate::package::IpResource;

/// An address.
#[derive(Clone, Debug)]
pub struct Address {
    ip: IpResource,
    phase: Phase,
    /// Who waits until it is set.
    sets: Vec<Waiter>,
    /// Who waits until it is up.
    starts: Vec<Waiter>,
    /// Who waits for its end.
    stops: Vec<Waiter>,
    /// Why the keeper itself gives it up.
    lapsed: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    /// Set, guarded and shut; being asked for on the network.
    Set,
    Up,
    Stopping,
    /// It could not be deleted; it is tried again then, if the keeper itself gives it up too.
    Stuck {
        retry_at: HolderTime,
    },
}

/// How far a start is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// It is set, guarded and shut.
    Set,
    /// It answers.
    Up,
}

/// What an event has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is still here.
    Here,
    /// Nothing of it is left, and whoever waited was answered.
    Gone,
    /// Nothing of it is left, although nobody asked.
    Lapsed(String),
}

impl Address {
    /// An address being taken over.
    pub fn starting(ip: IpResource, until: Until, waiter: Waiter) -> Self {
        let mut address =
            Self { ip, phase: Phase::Starting, sets: Vec::new(), starts: Vec::new(), stops: Vec::new(), lapsed: None };
        address.waiting(until).push(waiter);
        address
    }

    fn waiting(&mut self, until: Until) -> &mut Vec<Waiter> {
        match until {
            Until::Set => &mut self.sets,
            Until::Up => &mut self.starts,
        }
    }

    /// Somebody wants it started although it is here already (L18): the answer, unless the start is still under way.
    pub fn start_again(&mut self, until: Until, waiter: Waiter) -> Option<Outcome> {
        match (self.phase, until) {
            (Phase::Up, Until::Set | Until::Up) | (Phase::Set, Until::Set) => Some(Outcome::Ok),
            (Phase::Starting, Until::Set | Until::Up) | (Phase::Set, Until::Up) => {
                let waiting = self.waiting(until);
                if waiting.len() >= WAITERS_MAX {
                    return Some(Outcome::Refused { why: "too many operations wait for this start".to_owned() });
                }
                waiting.push(waiter);
                None
            }
            (Phase::Stopping | Phase::Stuck { .. }, Until::Set | Until::Up) => {
                Some(Outcome::Failed { why: "it is still being given up; start it again when it is gone".to_owned() })
            }
        }
    }

    /// An agent gives it up; the answer, if there is nothing to wait for.
    pub fn stop(&mut self, place: &Place, waiter: Waiter, out: &mut Outbox) -> Option<Outcome> {
        if self.stops.len() >= WAITERS_MAX {
            return Some(Outcome::Refused { why: "too many operations wait for this stop".to_owned() });
        }
        self.stops.push(waiter);
        match self.phase {
            Phase::Starting | Phase::Set | Phase::Up | Phase::Stuck { .. } => self.begin_stop(place, out),
            Phase::Stopping => {}
        }
        None
    }

    /// The keeper itself gives it up, from now on: also what an agent gave up that could not be deleted, because that
    /// agent may not be there to try again.
    pub fn give_up(&mut self, place: &Place, why: &str, out: &mut Outbox) {
        if self.lapsed.is_none() {
            self.lapsed = Some(why.to_owned());
        }
        match self.phase {
            Phase::Starting | Phase::Set | Phase::Up => self.begin_stop(place, out),
            // Tried again when it is due.
            Phase::Stopping | Phase::Stuck { .. } => {}
        }
    }

    fn begin_stop(&mut self, place: &Place, out: &mut Outbox) {
        self.phase = Phase::Stopping;
        out.push(Effect::StopAddress { place: place.clone() });
    }

    /// Takes what the guard's worker says.
    pub fn event(&mut self, event: AddressEvent, now: HolderTime, out: &mut Outbox) -> Step {
        match event {
            AddressEvent::Set => {
                if self.phase == Phase::Starting {
                    self.phase = Phase::Set;
                }
                out.answer_all(std::mem::take(&mut self.sets), &Outcome::Ok);
                Step::Here
            }
            AddressEvent::Up => {
                if self.is_starting() {
                    self.phase = Phase::Up;
                }
                self.answer_starts(&Outcome::Ok, out);
                Step::Here
            }
            AddressEvent::Failed { why } => {
                self.answer_starts(&Outcome::Failed { why }, out);
                // With a stop under way, its own answer follows.
                if self.is_starting() { Step::Gone } else { Step::Here }
            }
            AddressEvent::Down => self.down(out),
            AddressEvent::Stuck { why } => {
                out.answer_all(std::mem::take(&mut self.stops), &Outcome::Failed { why });
                self.phase = Phase::Stuck { retry_at: now + STUCK_RETRY };
                Step::Here
            }
            AddressEvent::Lapsed { why } => match self.phase {
                // The stop's own answer follows.
                Phase::Stopping => Step::Here,
                Phase::Starting | Phase::Set | Phase::Up | Phase::Stuck { .. } => {
                    self.answer_starts(&Outcome::Refused { why: why.clone() }, out);
                    Step::Lapsed(why)
                }
            },
        }
    }

    fn down(&mut self, out: &mut Outbox) -> Step {
        let stops = std::mem::take(&mut self.stops);
        let answered = stops.iter().any(|waiter| out.is_current(*waiter));
        self.answer_starts(&Outcome::Failed { why: "it was given up while it started".to_owned() }, out);
        out.answer_all(stops, &Outcome::Ok);
        match self.lapsed.take() {
            _ if answered => Step::Gone,
            Some(why) => Step::Lapsed(why),
            None => Step::Lapsed("an earlier agent gave it up".to_owned()),
        }
    }

    fn answer_starts(&mut self, outcome: &Outcome, out: &mut Outbox) {
        out.answer_all(std::mem::take(&mut self.sets), outcome);
        out.answer_all(std::mem::take(&mut self.starts), outcome);
    }

    /// Tries again to delete what could not be deleted.
    pub fn tick(&mut self, place: &Place, now: HolderTime, out: &mut Outbox) {
        if self.wake().is_some_and(|at| at <= now) {
            self.begin_stop(place, out);
        }
    }

    /// When to be called with [`Self::tick`].
    pub fn wake(&self) -> Option<HolderTime> {
        match self.phase {
            Phase::Stuck { retry_at } if self.lapsed.is_some() => Some(retry_at),
            Phase::Starting | Phase::Set | Phase::Up | Phase::Stopping | Phase::Stuck { .. } => None,
        }
    }

    fn is_starting(&self) -> bool {
        match self.phase {
            Phase::Starting | Phase::Set => true,
            Phase::Up | Phase::Stopping | Phase::Stuck { .. } => false,
        }
    }

    /// As the agent is told on attach. A start under way is not shown: the agent starts it too, and joins it.
    pub fn shown(&self) -> Option<RunningKind> {
        (!self.is_starting()).then(|| RunningKind::Ip(self.ip.clone()))
    }
}
