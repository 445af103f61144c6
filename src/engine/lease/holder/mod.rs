//! Who holds a lease: sends renewals, counts acks, and knows until when it may act (rules 1, 3, 6, 6a, 8, 8a).
//!
//! Time comes in as [`HolderTime`]. The driver reads its clock right before [`Holder::poll`] and hands the copies to
//! sockets only afterwards, so the reading passed in is t0 of all copies of a seq (rule 3).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::{Knowledge, Message, Refusal, Rule, Rules, majority};
use crate::engine::profile::lease_length;
use crate::engine::{HolderTime, NodeId, Nonce, SessionId, SetId};
use crate::package::Millis;

/// Sends remembered at most; older ones are forgotten first, and their acks then count for nothing.
pub const SENDS_MAX: usize = 256;

/// Why a session is over at its holder. It is never renewed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// T has passed (rule 8a).
    Lapsed,
    /// The log has ended it, as a voter's refusal (rule 6) or this keeper's own prefix of the log says.
    Expired,
}

/// One session of this keeper's life. A new session is a new `Holder`.
#[derive(Clone, Debug)]
pub struct Holder {
    session: SessionId,
    ttl: Millis,
    renew_every: Duration,
    rules: Rules,
    next_send: HolderTime,
    last_seq: u64,
    sends: VecDeque<Send>,
    /// Whom a message was ever sent to; nobody else's answer counts, which also bounds the maps below.
    asked: BTreeSet<NodeId>,
    /// Per voter: which life of its keeper a refusal named, and the t0 that it answered (rule 6a).
    lives: BTreeMap<NodeId, (HolderTime, Nonce)>,
    /// n* and members(n*).
    newest: Option<(SetId, BTreeSet<NodeId>)>,
    /// Per voter: the latest t0 it promised on.
    promised: BTreeMap<NodeId, HolderTime>,
    /// Per voter: the latest t0 it answered at all.
    answered: BTreeMap<NodeId, HolderTime>,
    /// The latest t0 that a majority answered at all, or the start (rule 8a).
    heard: HolderTime,
    deadline: Option<HolderTime>,
    ending: Option<Ending>,
}

#[derive(Clone, Copy, Debug)]
struct Send {
    seq: u64,
    t0: HolderTime,
    renew: bool,
}

impl Holder {
    /// A session that was just registered; the first renewals are due at once.
    pub fn new(session: SessionId, ttl: Millis, renew_every: Duration, now: HolderTime) -> Self {
        Self {
            session,
            ttl,
            renew_every,
            rules: Rules::ALL,
            next_send: now,
            last_seq: 0,
            sends: VecDeque::new(),
            asked: BTreeSet::new(),
            lives: BTreeMap::new(),
            newest: None,
            promised: BTreeMap::new(),
            answered: BTreeMap::new(),
            heard: now,
            deadline: None,
            ending: None,
        }
    }

    /// The same under other rules; for tests.
    pub fn under(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    /// Its session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Its lease time.
    pub fn ttl(&self) -> Millis {
        self.ttl
    }

    /// T: by then everything is down already. None before the first majority, and once the session is over. While
    /// the session lasts it never decreases.
    pub fn deadline(&self) -> Option<HolderTime> {
        self.deadline.filter(|_| self.ending.is_none())
    }

    /// Whether something may act under this session now.
    pub fn holds(&self, now: HolderTime) -> bool {
        self.deadline().is_some_and(|deadline| now < deadline)
    }

    /// Why the session is over, if it is: take everything down, then register a session that supersedes it (rule 5).
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Whether the session is over, as of the last call that brought a time or a message.
    pub fn over(&self) -> bool {
        self.ending.is_some()
    }

    /// What to send now, and to whom: a `Renew`, or a `Query` when a majority has not been heard for ttl/4 (rule 8a).
    /// Empty until [`Holder::next_wake`].
    pub fn poll(&mut self, now: HolderTime, knowledge: &Knowledge) -> Vec<(NodeId, Message)> {
        self.lapse(now);
        if self.ending.is_none() && knowledge.has_ended(self.session) {
            self.ending = Some(Ending::Expired);
        }
        if self.ending.is_some() || now < self.next_send {
            return Vec::new();
        }
        self.next_send = now + self.renew_every;
        let renew = !self.querying(now);
        let seq = self.remember(now, renew);
        let (session, ttl) = (self.session, self.ttl);
        let targets = self.targets(knowledge);
        self.asked.extend(&targets);
        let message = |life| match renew {
            true => Message::Renew { session, seq, ttl, life },
            false => Message::Query { session, seq, life },
        };
        targets.into_iter().map(|to| (to, message(self.life_of(to, knowledge)))).collect()
    }

    /// Which life of a voter's keeper is to take this (rule 6a): the one that it named itself, or else the log. A wrong
    /// one costs a refusal, which names the right one.
    fn life_of(&self, voter: NodeId, knowledge: &Knowledge) -> Nonce {
        let named = self.lives.get(&voter).map(|(_, life)| *life);
        named.or_else(|| knowledge.voters.get(&voter).map(|(life, _)| *life)).unwrap_or_default()
    }

    /// Takes a voter's answer. Returns whether T moved or the session ended.
    pub fn receive(&mut self, now: HolderTime, from: NodeId, message: &Message) -> bool {
        let before = (self.deadline, self.ending);
        self.lapse(now);
        if self.ending.is_none() && self.asked.contains(&from) {
            match message {
                Message::Ack { session, seq, promised, set, members } if *session == self.session => {
                    self.ack(now, from, Answer { seq: *seq, promised: *promised, set: *set, members });
                }
                Message::Refuse { session, seq, why } if *session == self.session => {
                    self.refused(now, from, *seq, *why);
                }
                Message::Ack { .. }
                | Message::Refuse { .. }
                | Message::Renew { .. }
                | Message::Query { .. }
                | Message::Ask { .. }
                | Message::Agreed { .. }
                | Message::AskSet { .. }
                | Message::KnowsSet { .. }
                | Message::Ping { .. }
                | Message::Pong { .. } => {}
            }
        }
        before != (self.deadline, self.ending)
    }

    /// When to call [`Holder::poll`] next; none once the session is over.
    pub fn next_wake(&self) -> Option<HolderTime> {
        let open = self.ending.is_none();
        let lapse = self.deadline.filter(|_| self.rules.hold(Rule::QueryMode));
        open.then(|| lapse.map_or(self.next_send, |deadline| deadline.min(self.next_send)))
    }

    /// Rule 8a: once T has passed, nothing renews this session; a late ack must not carry it on either.
    fn lapse(&mut self, now: HolderTime) {
        let passed = self.deadline.is_some_and(|deadline| now >= deadline);
        if self.ending.is_none() && passed && self.rules.hold(Rule::QueryMode) {
            self.ending = Some(Ending::Lapsed);
        }
    }

    fn querying(&self, now: HolderTime) -> bool {
        self.rules.hold(Rule::QueryMode) && now.since(self.heard) > self.ttl.duration() / 4
    }

    /// A seq is the reading of t0 itself, so that no two sends of a keeper's life share one.
    fn remember(&mut self, now: HolderTime, renew: bool) -> u64 {
        let seq = now.0.max(self.last_seq + 1);
        self.last_seq = seq;
        let useful = self.length();
        self.sends.retain(|send| send.t0 + useful > now);
        if self.sends.len() >= SENDS_MAX {
            self.sends.pop_front();
        }
        self.sends.push_back(Send { seq, t0: now, renew });
        seq
    }

    /// Every voter of every set known, and whoever the acks name.
    fn targets(&self, knowledge: &Knowledge) -> BTreeSet<NodeId> {
        let named = self.newest.iter().flat_map(|(_, members)| members);
        knowledge.sets.values().flatten().chain(named).copied().collect()
    }

    fn ack(&mut self, now: HolderTime, from: NodeId, answer: Answer) {
        let Some(send) = self.sends.iter().find(|send| send.seq == answer.seq).copied() else { return };
        let t0 = if self.rules.hold(Rule::SendTime) { send.t0 } else { now };
        self.adopt(answer.set, answer.members);
        latest(&mut self.answered, from, send.t0);
        if send.renew && answer.promised {
            latest(&mut self.promised, from, t0);
        }
        let Some((_, members)) = &self.newest else { return };
        // Rule 8: t0* is the latest time such that a majority of members(n*) acked a t0 at or after it.
        if let Some(t0) = reached_by_majority(&self.promised, members) {
            self.deadline = self.deadline.max(Some(t0 + self.length()));
        }
        if let Some(heard) = reached_by_majority(&self.answered, members) {
            let queried = self.querying(now);
            self.heard = self.heard.max(heard);
            if queried && !self.querying(now) {
                self.next_send = now;
            }
        }
    }

    /// n* is the largest n in any ack for this session (rule 8), and comes from acks only (rule 6).
    fn adopt(&mut self, set: SetId, members: &[NodeId]) {
        let adopts = match &self.newest {
            None => true,
            Some((newest, _)) => set > *newest && self.rules.hold(Rule::NewestSet),
        };
        if adopts && !members.is_empty() {
            self.newest = Some((set, members.iter().copied().collect()));
        }
    }

    fn refused(&mut self, now: HolderTime, from: NodeId, seq: u64, why: Refusal) {
        match why {
            Refusal::OtherLife { life } => self.meet(now, from, seq, life),
            Refusal::Expired => self.ending = Some(Ending::Expired),
            // One voter's fence or start is no majority's: the others may hold the lease up.
            Refusal::Fenced | Refusal::NotReady => {}
        }
    }

    /// A voter has named its life: the next renewal, due now, is for that one. An older word does not count.
    fn meet(&mut self, now: HolderTime, voter: NodeId, seq: u64, life: Nonce) {
        let Some(send) = self.sends.iter().find(|send| send.seq == seq).copied() else { return };
        let known = self.lives.get(&voter);
        if known.is_some_and(|(t0, _)| send.t0 < *t0) {
            return;
        }
        if known.is_none_or(|(_, known)| *known != life) {
            self.next_send = now;
        }
        self.lives.insert(voter, (send.t0, life));
    }

    /// Rule 1.
    fn length(&self) -> Duration {
        if self.rules.hold(Rule::TwoClocksErr) { lease_length(self.ttl) } else { self.ttl.duration() * 99 / 100 }
    }
}

struct Answer<'a> {
    seq: u64,
    promised: bool,
    set: SetId,
    members: &'a [NodeId],
}

fn latest(times: &mut BTreeMap<NodeId, HolderTime>, voter: NodeId, at: HolderTime) {
    let known = times.entry(voter).or_insert(at);
    *known = at.max(*known);
}

/// The latest time that a majority of the members has reached.
fn reached_by_majority(times: &BTreeMap<NodeId, HolderTime>, members: &BTreeSet<NodeId>) -> Option<HolderTime> {
    let mut reached: Vec<HolderTime> = members.iter().filter_map(|member| times.get(member).copied()).collect();
    reached.sort_unstable_by(|a, b| b.cmp(a));
    reached.get(majority(members.len()) - 1).copied()
}

#[cfg(test)]
mod tests;
