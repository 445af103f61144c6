//! A voter: promises not to let sessions expire, and agrees to expiries (rules 6, 6a, 9, 10, 11).
//!
//! Everything it knows dies with its keeper, and that is safe: a new life neither acks nor agrees before its own
//! `VoterUp` is applied (rule 9), and agrees to nothing before it has been up for the session's ttl (rule 10).
//!
//! Time comes in as [`VoterTime`], read after a message's receipt (rule 3).
//!
//! - `line`: what a voter remembers of one session.

mod line;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use self::line::Line;
use super::{Knowledge, Message, Refusal, Rule, Rules};
use crate::engine::command::TTL_MAX;
use crate::engine::{Incarnation, LogIndex, NodeId, Nonce, SessionId, VoterTime};
use crate::package::Millis;

/// Sessions remembered at most. Live ones are as many as there are nodes; the rest are newer than the known log.
pub const LINES_MAX: usize = 1024;
/// Askers remembered per session at most.
pub const PARKED_MAX: usize = 16;
/// Rule 11: at most one wish for a new incarnation in this time.
pub const VOTER_UP_EVERY: Duration = Duration::from_secs(10);
/// A session that the log still does not know may be forgotten, to make room, after this time without a renewal: every
/// promise to it has run out by then.
const UNKNOWN_LASTS: Duration = TTL_MAX.duration();

/// What a voter wants done or known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Send this.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Renewals of a live session have not been heard for a quarter of its ttl; told again every quarter.
    Silent {
        /// Which session.
        session: SessionId,
        /// Since the last one heard, or since the session was first known here.
        since: Duration,
    },
    /// A session that was silent renews again.
    Heard {
        /// Which session.
        session: SessionId,
    },
}

/// One life of a voter's keeper.
#[derive(Clone, Debug)]
pub struct Promiser {
    node: NodeId,
    nonce: Nonce,
    up_since: VoterTime,
    rules: Rules,
    incarnation: Option<Incarnation>,
    seen: LogIndex,
    lines: BTreeMap<SessionId, Line>,
    wished: Option<VoterTime>,
}

impl Promiser {
    /// A keeper that starts now. One value for the keeper's whole life, whatever its agent does.
    pub fn new(node: NodeId, nonce: Nonce, now: VoterTime) -> Self {
        Self {
            node,
            nonce,
            up_since: now,
            rules: Rules::ALL,
            incarnation: None,
            seen: LogIndex(0),
            lines: BTreeMap::new(),
            wished: None,
        }
    }

    /// The same under other rules; for tests.
    pub fn under(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    /// Whether it could ack and agree (rule 9): its own `VoterUp` is applied. The first lease set of a cluster waits for
    /// this, so that it does not depend on a set being known; an ack, which must name one, does.
    pub fn ready(&self, knowledge: &Knowledge) -> bool {
        knowledge.incarnation_of(self.node, self.nonce).is_some() || !self.rules.hold(Rule::VoterUpFirst)
    }

    /// Takes a message and answers it.
    pub fn receive(&mut self, now: VoterTime, from: NodeId, message: &Message, knowledge: &Knowledge) -> Vec<Notice> {
        self.absorb(now, knowledge);
        let mut out = Vec::new();
        match message {
            Message::Renew { session, seq, ttl, life } => {
                let word = Word { from, session: *session, seq: *seq, life: *life, renews: Some(*ttl) };
                self.hear(now, &word, knowledge, &mut out);
            }
            Message::Query { session, seq, life } => {
                let word = Word { from, session: *session, seq: *seq, life: *life, renews: None };
                self.hear(now, &word, knowledge, &mut out);
            }
            Message::Ask { session, .. } => self.park(now, from, *session, &mut out),
            Message::Ack { .. }
            | Message::Refuse { .. }
            | Message::Agreed { .. }
            | Message::AskSet { .. }
            | Message::KnowsSet { .. }
            | Message::Ping { .. }
            | Message::Pong { .. } => {}
        }
        out
    }

    /// What is due by now: agreements whose promise has run out, sessions gone silent. Call it also when the known
    /// prefix of the log has grown.
    pub fn poll(&mut self, now: VoterTime, knowledge: &Knowledge) -> Vec<Notice> {
        self.absorb(now, knowledge);
        let mut out = Vec::new();
        for (session, line) in &mut self.lines {
            line.drop_stale_questions(now);
            if let Some(since) = line.tells_silence(now) {
                out.push(Notice::Silent { session: *session, since });
            }
        }
        let sessions: Vec<SessionId> = self.lines.keys().copied().collect();
        for session in sessions {
            self.settle(now, session, &mut out);
        }
        out
    }

    /// Rule 11: a session fenced here has gone on renewing for longer than its ttl (plus `jitter`), so its expiry was
    /// abandoned: commit a new `VoterUp`. True at most once in [`VOTER_UP_EVERY`] plus `jitter`.
    pub fn wants_voter_up(&mut self, now: VoterTime, jitter: Duration) -> bool {
        let too_soon = self.wished.is_some_and(|at| now < at + VOTER_UP_EVERY + jitter);
        let wants = !too_soon && self.lines.values().any(|line| line.outlives_its_fence(now, jitter));
        if wants {
            self.wished = Some(now);
        }
        wants
    }

    /// When to call [`Promiser::poll`] next.
    pub fn next_wake(&self) -> Option<VoterTime> {
        let ready = self.incarnation.is_some();
        self.lines.values().filter_map(|line| line.next_wake(self.up_since, ready, &self.rules)).min()
    }

    /// Follows the known prefix of the log: a newer incarnation of this life forgets its fences and keeps its promises
    /// (rule 11); sessions that ended are forgotten, sessions that began are watched.
    fn absorb(&mut self, now: VoterTime, knowledge: &Knowledge) {
        if knowledge.index <= self.seen {
            return;
        }
        self.seen = knowledge.index;
        let incarnation = knowledge.incarnation_of(self.node, self.nonce);
        if incarnation > self.incarnation {
            self.lines.values_mut().for_each(Line::forget_fence);
        }
        self.incarnation = incarnation;
        if self.rules.hold(Rule::LogRefuse) {
            self.lines.retain(|session, _| !knowledge.has_ended(*session));
        }
        for (session, known) in &knowledge.sessions {
            self.lines.entry(*session).or_insert_with(|| Line::new(known.ttl, now)).register(known.ttl);
        }
    }

    /// Answers a `Renew` or a `Query` (rules 6, 6a, 8a, 9).
    fn hear(&mut self, now: VoterTime, word: &Word, knowledge: &Knowledge, out: &mut Vec<Notice>) {
        let known = knowledge.sessions.get(&word.session);
        if known.is_some_and(|known| known.node != word.from) {
            return;
        }
        if self.rules.hold(Rule::LogRefuse) && knowledge.has_ended(word.session) {
            out.push(word.refuse(Refusal::Expired));
            return;
        }
        if self.rules.hold(Rule::ThisLife) && word.life != self.nonce {
            out.push(word.refuse(Refusal::OtherLife { life: self.nonce }));
            return;
        }
        let set = knowledge.newest_set().filter(|_| self.ready(knowledge));
        if !self.has_room(now, word.session, knowledge) {
            out.push(word.refuse(Refusal::NotReady));
            return;
        }
        let ttl = word.renews.unwrap_or_default().min(TTL_MAX);
        let line = self.lines.entry(word.session).or_insert_with(|| Line::new(ttl, now));
        // Taken even if it is refused below, or it could be recorded until then and count later.
        if !line.takes(word.seq) && self.rules.hold(Rule::TakenOnce) {
            return;
        }
        let Some((set, members)) = set else {
            out.push(word.refuse(Refusal::NotReady));
            return;
        };
        if line.hears(now, word.renews) {
            out.push(Notice::Heard { session: word.session });
        }
        if self.rules.hold(Rule::Fence) && line.is_fenced() {
            out.push(word.refuse(Refusal::Fenced));
            return;
        }
        if let Some(ttl) = word.renews {
            line.promise(now, ttl.min(TTL_MAX));
        }
        let (session, seq, promised) = (word.session, word.seq, word.renews.is_some());
        let members = members.iter().copied().collect();
        let message = Message::Ack { session, seq, promised, set, members };
        out.push(Notice::Send { to: word.from, message });
    }

    /// Whether a session is or may be remembered. One that the log does not know makes room only when it must: with it
    /// goes what was taken of it (rule 6a).
    fn has_room(&mut self, now: VoterTime, session: SessionId, knowledge: &Knowledge) -> bool {
        if self.lines.len() >= LINES_MAX && !self.lines.contains_key(&session) {
            let known = |session: &SessionId| knowledge.sessions.contains_key(session);
            self.lines.retain(|session, line| known(session) || line.heard_within(now, UNKNOWN_LASTS));
        }
        self.lines.len() < LINES_MAX || self.lines.contains_key(&session)
    }

    /// Rule 10: agree now, or park the question. A session that the known log has not told of waits for the log: its
    /// ttl is the registered one, never the asker's.
    fn park(&mut self, now: VoterTime, from: NodeId, session: SessionId, out: &mut Vec<Notice>) {
        if let Some(line) = self.lines.get_mut(&session) {
            line.park(now, from);
            self.settle(now, session, out);
        }
    }

    fn settle(&mut self, now: VoterTime, session: SessionId, out: &mut Vec<Notice>) {
        let (Some(incarnation), Some(line)) = (self.incarnation, self.lines.get_mut(&session)) else { return };
        for to in line.agree(now, self.up_since, &self.rules) {
            out.push(Notice::Send { to, message: Message::Agreed { session, incarnation } });
        }
    }
}

/// A `Renew` or a `Query`.
struct Word {
    from: NodeId,
    session: SessionId,
    seq: u64,
    /// The life of a voter's keeper that it is for.
    life: Nonce,
    /// The session's ttl, if it renews.
    renews: Option<Millis>,
}

impl Word {
    fn refuse(&self, why: Refusal) -> Notice {
        let message = Message::Refuse { session: self.session, seq: self.seq, why };
        Notice::Send { to: self.from, message }
    }
}
