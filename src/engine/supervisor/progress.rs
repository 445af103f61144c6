//! The steps themselves: what each input changes, and which action is due.

use std::collections::BTreeSet;

use super::{Action, Busy, Duty, Early, Opening, REFUSED_RETRY, Report, STOP_RETRY, Settled, Slot, Supervisor, Work};
use crate::engine::command::ReleaseOutcome;
use crate::engine::state::{Phase, ResourceState};
use crate::engine::{SessionId, Token, VoterTime};
use crate::package::{Millis, Package, ResourceName, restart_needed};

impl Supervisor {
    pub(super) fn adopt(&mut self, token: Token, up: &BTreeSet<ResourceName>, said: Option<Phase>) {
        let (Duty::Own { token: wanted, session, definition } | Duty::Yield { token: wanted, session, definition, .. }) =
            &self.duty
        else {
            return;
        };
        if *wanted != token || self.work.is_some() {
            return;
        }
        let mut work = Work::new(token, *session, definition.as_ref().clone(), Phase::Running);
        for slot in work.slots.iter_mut().filter(|s| up.contains(&s.resource.name)) {
            slot.state = ResourceState::Up;
            slot.detail = "found running".to_owned();
        }
        // What an earlier agent did not live to say is said once everything is up.
        if said != Some(Phase::Running) || !work.slots.iter().all(Slot::is_up) {
            work.phase = Phase::Starting;
        }
        if matches!(self.duty, Duty::Yield { .. }) {
            work.owe_stops();
        }
        self.work = Some(work);
    }

    pub(super) fn done(&mut self, detail: String, now: VoterTime) {
        let Some(busy) = self.busy.take() else { return };
        let Some(work) = self.work.as_mut() else { return };
        match busy {
            Busy::Starting { name, .. } => {
                work.started(&name, detail, now);
                let token = work.token;
                match self.early.take() {
                    None => work.tell_if_again(&name, &mut self.reports),
                    Some(Early::Exited(how)) => self.exited(&name, token, &how, now),
                    Some(Early::Lapsed) => self.lapsed(&name, token, now),
                }
            }
            Busy::Stopping(name) => work.set(&name, ResourceState::Down, detail),
            Busy::Releasing => work.released = true,
        }
    }

    pub(super) fn failed(&mut self, why: String, now: VoterTime) {
        let Some(busy) = self.busy.take() else { return };
        let Some(work) = self.work.as_mut() else { return };
        match busy {
            Busy::Starting { name, .. } => {
                work.set(&name, ResourceState::Failed, why.clone());
                work.give_up(format!("{name} did not start: {why}"), &mut self.reports);
            }
            Busy::Stopping(name) => {
                work.set(&name, ResourceState::Failed, why.clone());
                work.phase = Phase::Held;
                work.retry_at = Some(now + STOP_RETRY);
                self.reports.push(work.report(held_note(&name, &why)));
            }
            Busy::Releasing => work.retry_at = Some(now + STOP_RETRY),
        }
    }

    /// The address has been asked for on the network, and nobody, or somebody, has claimed it.
    pub(super) fn opened(&mut self, name: &ResourceName, token: Token, settled: Settled, now: VoterTime) {
        let Some(work) = self.work.as_mut().filter(|w| w.token == token) else { return };
        // One that is being stopped, or has lapsed, is not being opened any more.
        if !work.slots.iter().any(|s| s.resource.name == *name && s.opening_until().is_some()) {
            return;
        }
        match settled {
            Settled::Done { detail } => {
                work.set(name, ResourceState::Up, detail);
                work.tell_if_again(name, &mut self.reports);
            }
            Settled::Failed { why } => {
                work.set(name, ResourceState::Failed, why.clone());
                if work.giving_up.is_none() {
                    work.give_up(format!("{name} did not start: {why}"), &mut self.reports);
                }
            }
            Settled::Refused { why } => {
                work.set(name, ResourceState::Down, why);
                work.retry_at = Some(now + REFUSED_RETRY);
            }
        }
    }

    /// What did not start within its time has failed; what of it may be up is stopped like everything else.
    pub(super) fn end_overdue(&mut self, now: VoterTime) {
        let Some(work) = &self.work else { return };
        let why = |slot: &Slot| format!("it was not up within {}", slot.resource.start_timeout);
        let opening = work.slots.iter().filter(|s| s.opening_until().is_some_and(|until| until <= now));
        let opening: Vec<_> = opening.map(|slot| (slot.resource.name.clone(), why(slot))).collect();
        let token = work.token;
        let starting = match &self.busy {
            Some(Busy::Starting { name, until }) if *until <= now => {
                work.slots.iter().find(|s| s.resource.name == *name).map(why)
            }
            Some(Busy::Starting { .. } | Busy::Stopping(_) | Busy::Releasing) | None => None,
        };
        for (name, why) in opening {
            self.opened(&name, token, Settled::Failed { why }, now);
        }
        if let Some(why) = starting {
            self.failed(why, now);
        }
    }

    /// A pause that is over is asked for by no [`Supervisor::wake`] any more.
    pub(super) fn end_pauses(&mut self, now: VoterTime) {
        let slots = self.work.iter_mut().flat_map(|work| &mut work.slots);
        slots.for_each(|slot| slot.restarts.end_pause(now));
    }

    /// Whether this resource is being started, so that what is heard of its end is ahead of the start's own word.
    fn is_starting(&self, name: &ResourceName) -> bool {
        match &self.busy {
            Some(Busy::Starting { name: starting, .. }) => starting == name,
            Some(Busy::Stopping(_) | Busy::Releasing) | None => false,
        }
    }

    pub(super) fn exited(&mut self, name: &ResourceName, token: Token, how: &str, now: VoterTime) {
        let starting = self.is_starting(name);
        let Some(work) = self.work.as_mut().filter(|w| w.token == token) else { return };
        if starting {
            self.early = Some(Early::Exited(how.to_owned()));
            return;
        }
        let keep = work.phase == Phase::Running || work.phase == Phase::Starting;
        let Some(slot) = work.slots.iter_mut().find(|s| s.resource.name == *name) else { return };
        slot.state = ResourceState::Down;
        slot.detail = format!("ended by itself with {how}");
        if !keep || work.giving_up.is_some() {
            return;
        }
        if let Some(pause) = slot.may_restart(now) {
            let count = slot.restarts.count();
            let what = if pause.is_zero() {
                "restarting it in place".to_owned()
            } else {
                let pause = Millis::from(pause);
                slot.detail = format!("ended by itself with {how}; to be restarted {pause} later");
                format!("it keeps ending soon after its start and is restarted in place in {pause}")
            };
            let note = format!("{name} ended with {how}; {what} (restart {count} in its window)");
            self.reports.push(work.report(note));
        } else {
            work.give_up(format!("{name} ended with {how} and may not be restarted here any more"), &mut self.reports);
        }
    }

    /// A start was refused by a rule (no lease ahead, another session): no failure of the resource, so no mark on the
    /// node. Either the session is over, which is about to be said, or it comes back and the start is tried again.
    pub(super) fn refused(&mut self, why: String, now: VoterTime) {
        let Some(busy) = self.busy.take() else { return };
        let Some(work) = self.work.as_mut() else { return };
        match busy {
            Busy::Starting { name, .. } => work.set(&name, ResourceState::Down, why),
            // What may be up stays owed a stop; the stop or release is asked again.
            Busy::Stopping(_) | Busy::Releasing => {}
        }
        work.retry_at = Some(now + REFUSED_RETRY);
    }

    /// Ended by its deadline or by the guard. If the session lives on (another nft transaction held up the guard), it
    /// comes back by a full start; a short wait lets the end of the session be said first.
    pub(super) fn lapsed(&mut self, name: &ResourceName, token: Token, now: VoterTime) {
        let starting = self.is_starting(name);
        let Some(work) = self.work.as_mut().filter(|w| w.token == token) else { return };
        if starting {
            self.early = Some(Early::Lapsed);
            return;
        }
        work.set(name, ResourceState::Down, "ended with the lease".to_owned());
        work.retry_at = Some(now + REFUSED_RETRY);
    }

    pub(super) fn session_over(&mut self, session: SessionId) {
        if self.work.as_ref().is_some_and(|w| w.session == session) {
            // Ended by the kernel; the log has ended the ownership or will. Late outcomes find no work and are dropped.
            self.work = None;
            self.busy = None;
            self.duty = Duty::None;
        }
    }
}

impl Work {
    fn set(&mut self, name: &ResourceName, state: ResourceState, detail: String) {
        if let Some(slot) = self.slots.iter_mut().find(|s| s.resource.name == *name) {
            slot.state = state;
            slot.detail = detail;
            slot.opening = None;
        }
    }

    fn started(&mut self, name: &ResourceName, detail: String, now: VoterTime) {
        if let Some(slot) = self.slots.iter_mut().find(|s| s.resource.name == *name) {
            slot.detail = detail;
            if slot.opens() {
                slot.opening = Some(Opening::Due);
            } else {
                slot.state = ResourceState::Up;
                slot.restarts.is_up(now);
            }
        }
    }

    /// A resource that came back while the package ran.
    fn tell_if_again(&self, name: &ResourceName, reports: &mut Vec<Report>) {
        let up = self.slots.iter().any(|s| s.resource.name == *name && s.is_up());
        if up && self.phase == Phase::Running {
            reports.push(self.report(format!("{name} runs again")));
        }
    }

    /// When there is something to do without an input.
    pub(super) fn wakes(&self) -> impl Iterator<Item = VoterTime> {
        let slots = self.slots.iter().flat_map(|s| s.opening_until().into_iter().chain(s.restarts.pause_ends()));
        self.retry_at.into_iter().chain(slots)
    }

    fn give_up(&mut self, reason: String, reports: &mut Vec<Report>) {
        self.phase = Phase::Stopping;
        self.giving_up = Some(ReleaseOutcome::Failed { reason: reason.clone() });
        reports.push(self.report(reason));
    }

    /// Whether this ownership is over for the replicated state too, so that nothing is left to do for it.
    pub(super) fn is_over(&self, duty: &Duty) -> bool {
        let current = match duty {
            Duty::Own { token, .. } | Duty::Yield { token, .. } => *token == self.token,
            Duty::None => false,
        };
        let down = self.slots.iter().all(|s| !s.may_be_up());
        !current && down
    }

    /// The action that is due.
    pub(super) fn next(&mut self, duty: &Duty, now: VoterTime, reports: &mut Vec<Report>) -> Option<Action> {
        if self.released || self.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        self.retry_at = None;
        match duty {
            Duty::Own { token, definition, .. } if *token == self.token && self.giving_up.is_none() => {
                self.go_up(definition, now, reports)
            }
            Duty::Own { .. } | Duty::Yield { .. } | Duty::None => self.go_down(duty, reports),
        }
    }

    fn go_up(&mut self, definition: &Package, now: VoterTime, reports: &mut Vec<Report>) -> Option<Action> {
        if !restart_needed(&self.definition, definition).is_empty() {
            return self.replace(definition, now, reports);
        }
        self.take_settings(definition);
        if let Some(slot) = self.slots.iter_mut().find(|s| s.opening == Some(Opening::Due)) {
            slot.opening = Some(Opening::UnderWay { until: now + slot.resource.start_timeout.duration() });
            let resource = slot.resource.clone();
            return Some(Action::Open { resource, token: self.token, session: self.session });
        }
        if let Some(slot) = self.slots.iter_mut().find(|s| !s.is_up() && s.opening.is_none()) {
            if slot.restarts.pause_ends().is_some() {
                return None;
            }
            slot.state = ResourceState::Starting;
            if self.phase == Phase::Held {
                self.phase = Phase::Starting;
            }
            let resource = slot.resource.clone();
            return Some(Action::Start { resource, token: self.token, session: self.session });
        }
        if self.phase != Phase::Running && self.slots.iter().all(Slot::is_up) {
            self.phase = Phase::Running;
            reports.push(self.report("running".to_owned()));
        }
        None
    }

    /// Timeouts, signals and limits of a new definition count from now on.
    fn take_settings(&mut self, definition: &Package) {
        for (slot, resource) in self.slots.iter_mut().zip(&definition.resources) {
            slot.resource = resource.clone();
        }
        self.definition = definition.clone();
    }

    /// The definition's resources changed: what is up stops in reverse, then the new ones start, under one ownership.
    fn replace(&mut self, definition: &Package, now: VoterTime, reports: &mut Vec<Report>) -> Option<Action> {
        if let Some(stop) = self.stop_last() {
            return Some(stop);
        }
        *self = Work::new(self.token, self.session, definition.clone(), Phase::Starting);
        reports.push(self.report("its definition changed".to_owned()));
        self.go_up(definition, now, reports)
    }

    fn go_down(&mut self, duty: &Duty, reports: &mut Vec<Report>) -> Option<Action> {
        if self.phase == Phase::Running || self.phase == Phase::Starting {
            self.phase = Phase::Stopping;
            let note = match duty {
                Duty::Yield { why, .. } => why.clone(),
                Duty::Own { .. } | Duty::None => "its ownership has ended".to_owned(),
            };
            reports.push(self.report(note));
        }
        if let Some(stop) = self.stop_last() {
            return Some(stop);
        }
        // From here on the keeper refuses this token, so the ownership can only end, whatever is wanted by now.
        let outcome = self.giving_up.get_or_insert(ReleaseOutcome::Stopped).clone();
        Some(Action::Release { token: self.token, session: self.session, outcome })
    }

    fn stop_last(&mut self) -> Option<Action> {
        let slot = self.slots.iter_mut().rev().find(|s| s.may_be_up())?;
        slot.state = ResourceState::Stopping;
        slot.opening = None;
        Some(Action::Stop { resource: slot.resource.clone(), token: self.token, session: self.session })
    }
}

fn held_note(name: &ResourceName, why: &str) -> String {
    format!("{name} did not stop: {why}; nothing starts elsewhere, and the stop is tried again every 2 s")
}
