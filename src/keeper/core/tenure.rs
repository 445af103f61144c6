//! This keeper's own session: held, ending, over, and then the next one (rules 4, 5 and 8a).
//!
//! A session ends once: its lease ran out, the log ended it, or a voter said that the log had. From then on it is never
//! renewed, everything under it is ended, and only when nothing is left is it reported as over, so that the agent may
//! register the next one, which supersedes it.

use std::time::Duration;

use crate::engine::lease::knowledge::KnownSession;
use crate::engine::lease::{Ending, Holder, Knowledge, Message, Rules};
use crate::engine::{HolderTime, NodeId, Nonce, SessionId};
use crate::keeper::protocol::LeaseView;
use crate::package::Millis;

/// The stages of a keeper's sessions.
#[derive(Clone, Debug, Default)]
pub struct Tenure {
    stage: Stage,
    /// Sessions up to this one have ended and are never held again.
    ended: SessionId,
}

#[derive(Clone, Debug, Default)]
enum Stage {
    /// No session yet.
    #[default]
    Before,
    /// The session is live as far as known.
    Held(Box<Held>),
    /// Everything under it is being ended.
    Ending(SessionId),
    /// Nothing under it is left.
    Over(SessionId),
}

/// What makes a session this keeper's.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// This node.
    pub node: NodeId,
    /// This keeper life.
    pub nonce: Nonce,
    /// Time between two renewals.
    pub renew_every: Duration,
    /// The lease rules in force.
    pub rules: Rules,
}

#[derive(Clone, Debug)]
struct Held {
    holder: Holder,
    /// The end of the lease that leashes and guard were last given.
    given: Option<HolderTime>,
}

/// The least advance of a lease's end that is passed on to leashes and guard: a twentieth of the ttl (rule 22 asks for
/// a tenth or so).
const ADVANCE_PARTS: u32 = 20;

impl Tenure {
    /// Takes up the newest live session of this keeper life, if it is not held and has not ended (rule 4). Not while an
    /// earlier one is still ending (rule 5). Returns whether it did.
    pub fn adopt(&mut self, knowledge: &Knowledge, life: Life, now: HolderTime) -> bool {
        match self.stage {
            Stage::Before | Stage::Over(_) => {}
            Stage::Held(_) | Stage::Ending(_) => return false,
        }
        let mine = |(id, known): (&SessionId, &KnownSession)| {
            let mine = known.node == life.node && known.nonce == life.nonce && *id > self.ended;
            mine.then_some((*id, known.ttl))
        };
        let Some((session, ttl)) = knowledge.sessions.iter().rev().find_map(mine) else { return false };
        let holder = Holder::new(session, ttl, life.renew_every, now).under(life.rules);
        self.stage = Stage::Held(Box::new(Held { holder, given: None }));
        true
    }

    /// Why the session held must end now, if it must: the log ended it, or its lease ran out (rule 8a).
    /// `silence` is why there were no renewals or no answers to them.
    pub fn doom(&self, knowledge: &Knowledge, silence: &str, now: HolderTime) -> Option<String> {
        let Stage::Held(held) = &self.stage else { return None };
        let session = held.holder.session();
        let lapsed = || Some(format!("the lease of session {session} ran out: {silence}"));
        match held.holder.ending() {
            Some(Ending::Expired) => Some(format!("session {session} was ended in the log, says a voter")),
            Some(Ending::Lapsed) => lapsed(),
            None if held.holder.deadline().is_some_and(|deadline| deadline <= now) => lapsed(),
            None => knowledge.has_ended(session).then(|| format!("session {session} was ended in the log")),
        }
    }

    /// A voter's answer.
    pub fn receive(&mut self, from: NodeId, message: &Message, now: HolderTime) {
        match &mut self.stage {
            // Whether T moved or the session ended is looked at after every input.
            Stage::Held(held) => drop(held.holder.receive(now, from, message)),
            Stage::Before | Stage::Ending(_) | Stage::Over(_) => {}
        }
    }

    /// The session held ends.
    pub fn end(&mut self) {
        if let Stage::Held(held) = &self.stage {
            self.ended = held.holder.session();
            self.stage = Stage::Ending(self.ended);
        }
    }

    /// Nothing under the session that ended is left. Returns whether that is news.
    pub fn nothing_left(&mut self) -> bool {
        let Stage::Ending(session) = self.stage else { return false };
        self.stage = Stage::Over(session);
        true
    }

    /// Whether a session has ended of which something is left.
    pub fn is_ending(&self) -> bool {
        matches!(self.stage, Stage::Ending(_))
    }

    /// The session held, its lease's end unknown or ahead.
    pub fn held(&self) -> Option<SessionId> {
        match &self.stage {
            Stage::Held(held) => Some(held.holder.session()),
            Stage::Before | Stage::Ending(_) | Stage::Over(_) => None,
        }
    }

    /// Its lease time; zero without a session.
    pub fn ttl(&self) -> Millis {
        match &self.stage {
            Stage::Held(held) => held.holder.ttl(),
            Stage::Before | Stage::Ending(_) | Stage::Over(_) => Millis(0),
        }
    }

    /// Whether the session held has had a lease.
    pub fn has_lease(&self) -> bool {
        matches!(&self.stage, Stage::Held(held) if held.holder.deadline().is_some())
    }

    /// The end of the lease as leashes and guard know it.
    pub fn given(&self) -> Option<HolderTime> {
        match &self.stage {
            Stage::Held(held) => held.given,
            Stage::Before | Stage::Ending(_) | Stage::Over(_) => None,
        }
    }

    /// The lease's end, if it has advanced enough to pass on; it counts as passed on.
    pub fn advance(&mut self) -> Option<HolderTime> {
        let Stage::Held(held) = &mut self.stage else { return None };
        let until = held.holder.deadline()?;
        let step = held.holder.ttl().duration() / ADVANCE_PARTS;
        if held.given.is_some_and(|given| until < given + step) {
            return None;
        }
        held.given = Some(until);
        Some(until)
    }

    /// The renewals due now: to whom, and what.
    pub fn due(&mut self, knowledge: &Knowledge, now: HolderTime) -> Vec<(NodeId, Message)> {
        match &mut self.stage {
            Stage::Held(held) => held.holder.poll(now, knowledge),
            Stage::Before | Stage::Ending(_) | Stage::Over(_) => Vec::new(),
        }
    }

    /// When a renewal is due, unless they have stopped, or the lease runs out.
    pub fn wake(&self, renewing: bool) -> Option<HolderTime> {
        match &self.stage {
            Stage::Held(held) if renewing => held.holder.next_wake(),
            Stage::Held(held) => held.holder.deadline(),
            Stage::Before | Stage::Ending(_) | Stage::Over(_) => None,
        }
    }

    /// As the agent is told, on clocks that run evenly.
    pub fn view(&self, now: HolderTime) -> LeaseView {
        let (session, left, over) = match &self.stage {
            Stage::Before => return LeaseView::default(),
            Stage::Held(held) => {
                let left = held.holder.deadline().map_or(Duration::ZERO, |until| until.since(now));
                (held.holder.session(), left.into(), false)
            }
            Stage::Ending(session) => (*session, Millis(0), false),
            Stage::Over(session) => (*session, Millis(0), true),
        };
        LeaseView { session: Some(session), left, over, ..LeaseView::default() }
    }
}
