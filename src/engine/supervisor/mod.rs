//! How one package goes up and down on one node: inputs in, one action out. Pure.
//!
//! The leader decides who owns a package; the owner's supervisor decides how it gets there: resources start in order
//! and stop in reverse, a program that ends is restarted in place within its window, after a pause if it keeps ending, a
//! start that fails hands the package back, a stop that fails holds it here. Deadlines belong to the keeper; this machine
//! only works within them.
//!
//! One action is under way at a time, and beside it the openings of addresses: an address that is set is asked for on
//! the network for a while before it may answer, and what comes after it in the order starts meanwhile. An outcome, an
//! exit, a lapse or a new duty comes back as an [`Input`], and [`Supervisor::next`] says what to do now.

mod duty;
mod progress;
mod restarts;

pub use duty::{Duty, duty};

use std::collections::BTreeSet;
use std::time::Duration;

use self::restarts::Restarts;
use super::command::ReleaseOutcome;
use super::state::{Phase, ResourceReport, ResourceState};
use super::{SessionId, Token, VoterTime};
use crate::package::{Kind, Package, Resource, ResourceName};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// What the replicated state wants of this node.
    Duty(Duty),
    /// The keeper's inventory when the agent attached: what of that ownership is up already (L18). Follows the first
    /// duty, before the first [`Supervisor::next`].
    Adopt {
        /// The ownership it runs under.
        token: Token,
        /// Which resources are up.
        up: BTreeSet<ResourceName>,
        /// How far the log has it under this ownership; none if nothing was reported yet.
        said: Option<Phase>,
    },
    /// The action under way has ended.
    Settled(Settled),
    /// An [`Action::Open`] has ended.
    Opened {
        /// Which resource.
        resource: ResourceName,
        /// Under which ownership.
        token: Token,
        /// How.
        settled: Settled,
    },
    /// A program ended by itself.
    Exited {
        /// Which resource.
        resource: ResourceName,
        /// Under which ownership.
        token: Token,
        /// How: `exit code 1`, `signal 9`.
        how: String,
    },
    /// The lease ended and took this resource down.
    Lapsed {
        /// Which resource.
        resource: ResourceName,
        /// Under which ownership.
        token: Token,
    },
    /// The session is over: everything under it is down.
    SessionOver {
        /// Which one.
        session: SessionId,
    },
    /// Time passed; asked for by [`Supervisor::wake`].
    Tick,
}

/// How an action ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Well.
    Done {
        /// What to show for it: `pid 4711`.
        detail: String,
    },
    /// It has failed.
    Failed {
        /// Why.
        why: String,
    },
    /// It was refused by a rule: there is no lease to act under now.
    Refused {
        /// Which rule.
        why: String,
    },
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start this resource under this ownership.
    Start {
        /// Which one, as defined.
        resource: Resource,
        /// The ownership.
        token: Token,
        /// Its session.
        session: SessionId,
    },
    /// End the start of this resource, beside whatever else is under way. Answered by [`Input::Opened`].
    Open {
        /// Which one, as defined.
        resource: Resource,
        /// The ownership.
        token: Token,
        /// Its session.
        session: SessionId,
    },
    /// Stop this resource in good order.
    Stop {
        /// Which one, as defined when it was started.
        resource: Resource,
        /// The ownership.
        token: Token,
        /// Its session.
        session: SessionId,
    },
    /// Have the keeper record the token, then put the release into the log (rules 20 and 21).
    Release {
        /// The ownership.
        token: Token,
        /// Its session.
        session: SessionId,
        /// How it ended.
        outcome: ReleaseOutcome,
    },
}

/// A change worth telling the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Under which ownership.
    pub token: Token,
    /// How far.
    pub phase: Phase,
    /// Each resource, in start order.
    pub resources: Vec<ResourceReport>,
    /// What changed.
    pub note: String,
}

impl Report {
    /// As a line of a log, where nothing else says the phase: `stopping: n1 was stopped by root`.
    pub fn line(&self) -> String {
        match self.phase {
            Phase::Starting | Phase::Running => self.note.clone(),
            Phase::Stopping | Phase::Held => format!("{}: {}", self.phase.word(), self.note),
        }
    }
}

/// How long a failed stop waits before it is tried again.
pub const STOP_RETRY: Duration = Duration::from_secs(2);

/// How long a refused start, or a resource whose guard lapsed, waits for word of its session.
pub const REFUSED_RETRY: Duration = Duration::from_millis(100);

/// One package on this node.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    duty: Duty,
    /// The ownership being worked on; none when nothing of the package is here.
    work: Option<Work>,
    /// An action is under way.
    busy: Option<Busy>,
    /// The end of the resource that is being started, heard before the word that it had started: the two come by
    /// different ways. It counts once the start is known.
    early: Option<Early>,
    reports: Vec<Report>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Busy {
    Starting {
        name: ResourceName,
        /// It counts as failed then.
        until: VoterTime,
    },
    Stopping(ResourceName),
    Releasing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Early {
    Exited(String),
    Lapsed,
}

#[derive(Clone, Debug)]
struct Work {
    token: Token,
    session: SessionId,
    /// The definition its resources were started from.
    definition: Package,
    slots: Vec<Slot>,
    phase: Phase,
    /// Why it is going down, when it is; decides the release.
    giving_up: Option<ReleaseOutcome>,
    retry_at: Option<VoterTime>,
    released: bool,
}

#[derive(Clone, Debug)]
struct Slot {
    resource: Resource,
    state: ResourceState,
    detail: String,
    /// Its start has laid the ground and is to be ended.
    opening: Option<Opening>,
    restarts: Restarts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    Due,
    /// It counts as failed then.
    UnderWay {
        until: VoterTime,
    },
}

impl Supervisor {
    /// Takes what happened.
    pub fn handle(&mut self, input: Input, now: VoterTime) {
        match input {
            Input::Duty(duty) => self.duty = duty,
            Input::Adopt { token, up, said } => self.adopt(token, &up, said),
            Input::Settled(Settled::Done { detail }) => self.done(detail, now),
            Input::Settled(Settled::Failed { why }) => self.failed(why, now),
            Input::Settled(Settled::Refused { why }) => self.refused(why, now),
            Input::Opened { resource, token, settled } => self.opened(&resource, token, settled, now),
            Input::Exited { resource, token, how } => self.exited(&resource, token, &how, now),
            Input::Lapsed { resource, token } => self.lapsed(&resource, token, now),
            Input::SessionOver { session } => self.session_over(session),
            Input::Tick => {}
        }
    }

    /// The resources taken to be up, with the ownership they are up under.
    pub fn up(&self) -> Vec<(ResourceName, Token)> {
        let up = |work: &Work| {
            let slots = work.slots.iter().filter(|slot| slot.is_up());
            slots.map(|slot| (slot.resource.name.clone(), work.token)).collect()
        };
        self.work.as_ref().map(up).unwrap_or_default()
    }

    /// What to do now; none while an action is under way or nothing is due. To be called until it has nothing.
    pub fn next(&mut self, now: VoterTime) -> Option<Action> {
        self.end_overdue(now);
        self.end_pauses(now);
        if self.busy.is_some() {
            return None;
        }
        self.take_up_duty();
        let action = self.work.as_mut().and_then(|work| work.next(&self.duty, now, &mut self.reports))?;
        self.early = None;
        self.busy = match &action {
            Action::Start { resource, .. } => {
                Some(Busy::Starting { name: resource.name.clone(), until: now + resource.start_timeout.duration() })
            }
            Action::Open { .. } => None,
            Action::Stop { resource, .. } => Some(Busy::Stopping(resource.name.clone())),
            Action::Release { .. } => Some(Busy::Releasing),
        };
        Some(action)
    }

    /// When to be called with [`Input::Tick`] at the latest.
    pub fn wake(&self) -> Option<VoterTime> {
        let start = match &self.busy {
            Some(Busy::Starting { until, .. }) => Some(*until),
            Some(Busy::Stopping(_) | Busy::Releasing) | None => None,
        };
        start.into_iter().chain(self.work.iter().flat_map(Work::wakes)).min()
    }

    /// Changes to tell the cluster, oldest first; each is handed out once.
    pub fn reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }

    /// Whether nothing of the package is here and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.work.is_none() && self.busy.is_none()
    }

    fn take_up_duty(&mut self) {
        if self.work.as_ref().is_some_and(|work| work.is_over(&self.duty)) {
            self.work = None;
        }
        if self.work.is_some() {
            return;
        }
        self.work = match &self.duty {
            Duty::Own { token, session, definition } => {
                let work = Work::new(*token, *session, definition.as_ref().clone(), Phase::Starting);
                self.reports.push(work.report("starting".to_owned()));
                Some(work)
            }
            // Nothing is known to be up, but a start may be under way at the keeper that an earlier agent asked for.
            Duty::Yield { token, session, definition, .. } => {
                let mut work = Work::new(*token, *session, definition.as_ref().clone(), Phase::Stopping);
                work.owe_stops();
                Some(work)
            }
            Duty::None => None,
        };
    }
}

impl Work {
    fn new(token: Token, session: SessionId, definition: Package, phase: Phase) -> Self {
        let slots = definition.resources.iter().cloned().map(Slot::down).collect();
        Self { token, session, definition, slots, phase, giving_up: None, retry_at: None, released: false }
    }

    /// Whatever is not known to be up may yet be on its way: it is owed a stop before anything is released. To stop what
    /// is not there costs nothing.
    fn owe_stops(&mut self) {
        for slot in self.slots.iter_mut().filter(|slot| !slot.may_be_up()) {
            slot.state = ResourceState::Starting;
            slot.detail = "may be on its way".to_owned();
        }
    }

    fn report(&self, note: String) -> Report {
        let resources = self.slots.iter().map(Slot::report).collect();
        Report { token: self.token, phase: self.phase, resources, note }
    }
}

impl Slot {
    fn down(resource: Resource) -> Self {
        Self {
            resource,
            state: ResourceState::Down,
            detail: String::new(),
            opening: None,
            restarts: Restarts::default(),
        }
    }

    fn report(&self) -> ResourceReport {
        ResourceReport { name: self.resource.name.clone(), state: self.state, detail: self.detail.clone() }
    }

    fn is_up(&self) -> bool {
        match self.state {
            ResourceState::Up => true,
            ResourceState::Down
            | ResourceState::Starting
            | ResourceState::Stopping
            | ResourceState::Dying
            | ResourceState::Failed => false,
        }
    }

    /// Whether something of it may still be there, so that a stop is owed.
    fn may_be_up(&self) -> bool {
        match self.state {
            ResourceState::Down => false,
            ResourceState::Up
            | ResourceState::Starting
            | ResourceState::Stopping
            | ResourceState::Dying
            | ResourceState::Failed => true,
        }
    }

    /// Whether a start of this kind only lays the ground, and an [`Action::Open`] ends it.
    fn opens(&self) -> bool {
        match &self.resource.kind {
            Kind::Ip(_) => true,
            Kind::Program(_) | Kind::Lun(_) | Kind::Filesystem(_) => false,
        }
    }

    fn opening_until(&self) -> Option<VoterTime> {
        match self.opening {
            Some(Opening::UnderWay { until }) => Some(until),
            Some(Opening::Due) | None => None,
        }
    }

    /// The pause before it is restarted in place, if that is allowed; only programs are restarted.
    fn may_restart(&mut self, now: VoterTime) -> Option<Duration> {
        match &self.resource.kind {
            Kind::Ip(_) | Kind::Lun(_) | Kind::Filesystem(_) => None,
            Kind::Program(program) => self.restarts.allow(program.restarts, program.restart_window.duration(), now),
        }
    }
}

#[cfg(test)]
mod tests;
