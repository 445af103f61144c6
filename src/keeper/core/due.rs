//! What time brings: renewals, questions, deadlines, and the stages of an end.

use super::Core;
use super::limits::LEAVE_WAIT;
use super::ports::{Effect, Now, Settings};
use super::tenure::Life;
use crate::engine::{HolderTime, VoterTime};
use crate::keeper::protocol::FromKeeper;
use crate::package::Millis;

/// Whether this process is to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leaving {
    /// It is not.
    #[default]
    No,
    /// The agent is asked to stop and release what runs, until then.
    Asked {
        /// When the keeper does it alone.
        until: HolderTime,
    },
    /// The keeper stops everything itself.
    Alone,
    /// [`Effect::Exit`] was given.
    Gone,
}

impl Core {
    /// Somebody wants this process to end in good order. The agent knows how to release packages; the keeper alone can
    /// only stop them.
    pub(super) fn leave(&mut self, now: Now) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Asked { until: now.holder + LEAVE_WAIT };
            self.tell_leaving();
        }
    }

    pub(super) fn tell_leaving(&mut self) {
        if let Leaving::Asked { .. } = self.leaving {
            self.out.tell(FromKeeper::Leaving { within: Millis::from(LEAVE_WAIT) });
        }
    }

    /// There is no agent whose part it would be.
    pub(super) fn end_alone(&mut self) {
        match self.leaving {
            Leaving::No | Leaving::Asked { .. } => self.leaving = Leaving::Alone,
            Leaving::Alone | Leaving::Gone => {}
        }
    }

    /// The agent has done its part of leaving.
    pub(super) fn leave_alone(&mut self) {
        match self.leaving {
            Leaving::Asked { .. } => self.leaving = Leaving::Alone,
            Leaving::No | Leaving::Alone | Leaving::Gone => {}
        }
    }

    /// Why nothing may start here, if so.
    pub(super) fn why_no_starts(&self) -> Option<String> {
        match (&self.agent.retired, self.leaving) {
            (Some(why), _) => Some(format!("this node is retiring: {why}")),
            (None, Leaving::No) => None,
            (None, Leaving::Asked { .. } | Leaving::Alone | Leaving::Gone) => {
                Some("this node's keeper is being stopped".to_owned())
            }
        }
    }

    /// Does everything that is due now, in an order in which nothing is done late: first ends, then renewals.
    pub(super) fn do_due(&mut self, now: Now) {
        self.mind_session(now);
        self.renew(now);
        self.ask(now);
        self.read_mail(now);
        // This node's own refusal counts like any other's.
        self.mind_session(now);
        self.pass_on(now);
        self.inventory.tick(now.holder, &mut self.out);
        self.mind_agent(now);
        self.mind_end(now);
        self.mind_watchdog(now);
        for (waiter, outcome) in self.surveys.ended(now.voter) {
            self.out.answer(waiter, outcome);
        }
        if self.view_at <= now.holder {
            self.tell_lease(now);
        }
    }

    /// Ends the session if it must end, calls it over once nothing of it is left, takes up the next one.
    fn mind_session(&mut self, now: Now) {
        if self.settings.enforcement.is_on()
            && let Some(why) = self.tenure.doom(&self.knowledge, self.silence(), now.holder)
        {
            self.end_session(&why, now);
        }
        if self.leash_deadline().is_some_and(|deadline| deadline <= now.holder) {
            self.inventory.lapse_programs("its lease came to its end", &mut self.out);
        }
        if self.inventory.is_empty() && self.tenure.nothing_left() {
            self.agent.retired = None;
            self.tell_lease(now);
        }
        let Some(configuration) = &self.configuration else { return };
        let renew_every = configuration.profile.renew_every();
        let Settings { nonce, rules, .. } = self.settings;
        let life = Life { node: configuration.node, nonce, renew_every, rules };
        if self.tenure.adopt(&self.knowledge, life, now.holder) {
            self.tell_lease(now);
        }
    }

    /// Why a lease is not renewed, or runs out although it is.
    fn silence(&self) -> &'static str {
        match (&self.agent.retired, self.agent.is_silent()) {
            (Some(_), _) => "the node is retiring",
            (None, true) => "no word of a fit agent came, so it was not renewed",
            (None, false) => "no majority of voters answered in time",
        }
    }

    /// The session ends now, whatever the reason: the kernel ends what ran under it, and this makes sure of it.
    pub(super) fn end_session(&mut self, why: &str, now: Now) {
        let ttl = self.tenure.ttl();
        self.tenure.end();
        self.out.note(None, format!("{why}; everything under it is ended, and a new session follows"));
        self.out.push(Effect::Lease { until: None, ttl });
        self.inventory.lapse_all(why, &mut self.out);
        self.tell_lease(now);
    }

    fn may_renew(&self, now: Now) -> bool {
        self.agent.retired.is_none() && self.agent.is_fit(self.settings.agent_grace, now.holder)
    }

    fn renew(&mut self, now: Now) {
        if !self.may_renew(now) {
            return;
        }
        for (to, message) in self.tenure.due(&self.knowledge, now.holder) {
            self.send(to, message);
        }
    }

    fn ask(&mut self, now: Now) {
        let notices = self.voter.due(&self.knowledge, now.voter);
        self.notice(notices);
        if self.voter.wants_voter_up(now.voter) {
            self.out.tell(FromKeeper::WantsVoterUp);
        }
        let questions = self.collections.due(now.voter).into_iter().chain(self.surveys.due(now.voter));
        for (to, message) in questions {
            self.send(to, message);
        }
    }

    /// Passes the lease's new end on to leashes and guard (rule 22).
    fn pass_on(&mut self, now: Now) {
        let first = self.tenure.given().is_none();
        let Some(until) = self.tenure.advance() else { return };
        let until = self.settings.enforcement.end_of(until);
        self.out.push(Effect::Lease { until: Some(until), ttl: self.tenure.ttl() });
        self.inventory.arm(until.back(self.settings.leash_margin), &mut self.out);
        if first {
            self.tell_lease(now);
        }
    }

    fn mind_agent(&mut self, now: Now) {
        let fit = self.agent.is_fit(self.settings.agent_grace, now.holder);
        if !self.agent.turned(fit) || self.tenure.held().is_none() {
            return;
        }
        let text = if fit {
            "the agent is fit again; renewals go on".to_owned()
        } else {
            let grace = Millis::from(self.settings.agent_grace);
            format!("no word of a fit agent for {grace}: the lease is not renewed, and what runs here ends with it")
        };
        self.out.note(None, text);
    }

    /// The keeper's own orderly stop: on retirement, or when it is to end and the agent is done or gone.
    fn mind_end(&mut self, now: Now) {
        match self.leaving {
            Leaving::Asked { until } if !self.out.is_attached() || until <= now.holder => self.leave_alone(),
            Leaving::Asked { .. } | Leaving::No | Leaving::Alone | Leaving::Gone => {}
        }
        let alone = self.leaving == Leaving::Alone;
        if alone || self.agent.retired.is_some() {
            let why = if alone { "the keeper is being stopped" } else { "the node is retiring" };
            self.inventory.tear_down(why, now.holder, &mut self.out);
        }
        if alone && self.inventory.is_empty() {
            self.leaving = Leaving::Gone;
            self.watchdog.end(&mut self.out);
            self.out.push(Effect::Exit);
        }
    }

    pub(super) fn wake_holder(&self) -> Option<HolderTime> {
        let leaving = match self.leaving {
            Leaving::Asked { until } => Some(until),
            Leaving::No | Leaving::Alone | Leaving::Gone => None,
        };
        let fit = !self.agent.is_silent();
        let grace = fit.then(|| self.agent.grace_ends(self.settings.agent_grace));
        let deadline = self.leash_deadline().filter(|_| self.inventory.has_armed());
        let renewing = fit && self.agent.retired.is_none();
        // Where a lease's end ends nothing, nothing is due at it either.
        let tenure = self.tenure.wake(renewing).filter(|_| renewing || self.settings.enforcement.is_on());
        let all = [leaving, grace, deadline, tenure, self.inventory.wake(), self.watchdog.wake(), Some(self.view_at)];
        all.into_iter().flatten().min()
    }

    pub(super) fn wake_voter(&self) -> Option<VoterTime> {
        [self.voter.wake(), self.collections.wake(), self.surveys.wake()].into_iter().flatten().min()
    }
}
