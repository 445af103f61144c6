//! What a node does when something reaches it: a datagram, a log entry, its own time.

use pkgctl::engine::command::ReleaseOutcome;
use pkgctl::engine::lease::{Holder, Knowledge, Learn, Message, Notice};
use pkgctl::engine::supervisor::{Duty, duty};
use pkgctl::engine::{Command, LogIndex, Nonce, SessionId};
use pkgctl::package::PackageName;
use std::time::Duration;

use super::net::Kind;
use super::setup::{RENEW_EVERY_MS, TTL};
use super::world::{Event, World, apply_item};
use super::{MS, US};

impl World {
    /// Whether a node runs, in that life. A frozen one takes the event when it thaws.
    fn awake(&mut self, node: usize, life: u64, event: &Event) -> bool {
        let of = &self.nodes[node];
        if !of.up || of.life != life {
            return false;
        }
        let thaws = of.frozen_until;
        if thaws > self.now {
            self.schedule(thaws, event.clone());
            return false;
        }
        true
    }

    pub fn deliver(&mut self, from: usize, to: usize, life: u64, message: Message) {
        let event = Event::Deliver { from, to, life, message };
        if !self.awake(to, life, &event) {
            return;
        }
        let Event::Deliver { message, .. } = event else { return };
        self.trace.mix(&[self.now, from as u64, to as u64]);
        self.end_lapsed_acts(to);
        self.take_datagram(from, to, &message);
        self.turn(to);
    }

    fn take_datagram(&mut self, from: usize, to: usize, message: &Message) {
        let sender = self.nodes[from].id;
        let of = &mut self.nodes[to];
        let (held, voted) = (of.clock.holder(self.now), of.clock.voter(self.now));
        match message {
            Message::Renew { .. } | Message::Query { .. } | Message::Ask { .. } => {
                let notices = of.promiser.receive(voted, sender, message, &of.knowledge);
                self.carry_out(to, notices);
            }
            Message::Ack { .. } | Message::Refuse { .. } => {
                if let Some(holder) = of.holder.as_mut() {
                    holder.receive(held, sender, message);
                }
            }
            Message::Agreed { session, incarnation } => self.agreed(to, sender, *session, *incarnation),
            Message::AskSet { nonce } => {
                let set = of.knowledge.newest_set().map(|(set, _)| set);
                self.send(to, sender, &Message::KnowsSet { nonce: *nonce, set });
            }
            Message::KnowsSet { nonce, set } => self.confirmed(to, sender, *nonce, *set),
            Message::Ping { nonce } => {
                let ready = of.promiser.ready(&of.knowledge);
                self.send(to, sender, &Message::Pong { nonce: *nonce, ready });
            }
            Message::Pong { ready, .. } => {
                of.reached.insert(sender, *ready);
            }
        }
    }

    fn carry_out(&mut self, node: usize, notices: Vec<Notice>) {
        for notice in notices {
            match notice {
                Notice::Send { to, message } => self.send(node, to, &message),
                Notice::Silent { session, since } => {
                    let of = &mut self.nodes[node];
                    let last = of.clock.voter(self.now).back(since);
                    of.silent.insert(session, last);
                }
                Notice::Heard { session } => {
                    self.nodes[node].silent.remove(&session);
                }
            }
        }
    }

    pub fn woken(&mut self, node: usize, life: u64) {
        if self.awake(node, life, &Event::Wake { node, life }) {
            self.nodes[node].wake = None;
            self.end_lapsed_acts(node);
            self.turn(node);
        }
    }

    /// A node's turn: renewals, agreements due, the agent's wishes, what acts, and when to be called again.
    pub fn turn(&mut self, node: usize) {
        let of = &mut self.nodes[node];
        let (held, voted) = (of.clock.holder(self.now), of.clock.voter(self.now));
        let renewals = of.holder.as_mut().map(|h| h.poll(held, &of.knowledge)).unwrap_or_default();
        let notices = of.promiser.poll(voted, &of.knowledge);
        let jitter = Duration::from_millis(self.rng.below(20));
        let heals = of.promiser.wants_voter_up(voted, jitter);
        for (to, message) in renewals {
            self.send(node, to, &message);
        }
        self.carry_out(node, notices);
        if heals {
            self.voter_up(node, 0);
        }
        self.agent(node);
        self.update_acts(node);
        self.expect_wake(node);
    }

    fn expect_wake(&mut self, node: usize) {
        let of = &self.nodes[node];
        let idle = self.now + 50 * MS;
        let at = of.next_wake().map_or(idle, |at| at.min(idle)).max(self.now + US);
        if of.wake.is_none_or(|due| at < due) {
            let life = of.life;
            self.nodes[node].wake = Some(at);
            self.schedule(at, Event::Wake { node, life });
        }
    }

    fn voter_up(&mut self, node: usize, pause: u64) {
        let of = &mut self.nodes[node];
        if of.may_propose("voter up", self.now, pause) {
            let command = Command::VoterUp { voter: of.id, nonce: of.nonce };
            self.propose(node, command);
        }
    }

    /// The agent: its keeper's life and session are in the log, and what is to be yielded is released.
    fn agent(&mut self, node: usize) {
        let of = &self.nodes[node];
        if of.stalled_until > self.now {
            return;
        }
        if of.state.voter_lives.get(&of.id).is_none_or(|life| life.nonce != of.nonce) {
            self.voter_up(node, 30 * MS);
        }
        self.tend_session(node);
        let packages: Vec<PackageName> = self.nodes[node].state.packages.keys().cloned().collect();
        packages.iter().for_each(|package| self.yield_package(node, package));
    }

    /// Rules 4, 5 and 8a: a session of this keeper's own nonce is held once; an ended one is superseded.
    fn tend_session(&mut self, node: usize) {
        let of = &mut self.nodes[node];
        if let Some(over) = of.holder.as_ref().filter(|holder| holder.over()).map(Holder::session) {
            of.ended = of.ended.max(over);
            of.holder = None;
        }
        let (id, nonce) = (of.id, of.nonce);
        let mine = of.state.sessions.iter().find(|(_, session)| session.node == id);
        let mine: Option<(SessionId, Nonce)> = mine.map(|(session, of)| (*session, of.nonce));
        let fresh =
            mine.filter(|(session, of_life)| *of_life == nonce && *session > of.ended).map(|(session, _)| session);
        match (of.holder.is_some(), fresh) {
            (true, _) => {}
            (false, Some(session)) => {
                let every = Duration::from_millis(RENEW_EVERY_MS);
                let holder = Holder::new(session, TTL, every, of.clock.holder(self.now)).under(self.rules);
                of.holder = Some(holder);
                self.expect_wake(node);
            }
            (false, None) => {
                if of.may_propose("register", self.now, 30 * MS) {
                    let supersedes = mine.map(|(session, _)| session);
                    self.propose(node, Command::Register { node: id, nonce, ttl: TTL, supersedes });
                }
            }
        }
    }

    /// Rule 20: the keeper records the token with everything down; then the release is proposed, again and again.
    fn yield_package(&mut self, node: usize, package: &PackageName) {
        let of = &self.nodes[node];
        let Some(session) = of.held(self.now) else { return };
        let Some(entry) = of.state.packages.get(package) else { return };
        let Duty::Yield { token, .. } = duty(&of.state, of.id, session, entry) else { return };
        self.end_act(node, package);
        let of = &mut self.nodes[node];
        let known = of.released.entry(package.clone()).or_default();
        *known = token.max(*known);
        if of.may_propose("release", self.now, 30 * MS) {
            let (package, outcome) = (package.clone(), ReleaseOutcome::Stopped);
            self.propose(node, Command::Release { package, token, session, outcome });
        }
    }

    /// The agent attaches to its keeper and hands over its prefix, however old; the keeper goes no way back (rule 7).
    pub fn attach(&mut self, node: usize) {
        let of = &mut self.nodes[node];
        of.knowledge.learn(Learn::Whole(Knowledge::of(&of.state)));
        self.expect_learning(node);
        self.end_lapsed_acts(node);
        self.turn(node);
    }

    /// Schedules the next entry's way to a node, if there is one that it has not applied.
    pub fn expect_learning(&mut self, node: usize) {
        let of = &self.nodes[node];
        if of.up && of.state.applied.0 < self.log.len() as u64 {
            let slow = self.script.slow_log && self.rng.chance(50);
            let delay = if slow { self.rng.below(100 * MS) } else { self.rng.between(50, 300) * US };
            let (at, life) = ((self.now + delay).max(of.stalled_until), of.life);
            self.schedule(at, Event::Learn { node, life });
        }
    }

    /// The node's agent applies the next entry, if the log reaches it, and tells its keeper.
    pub fn learn(&mut self, node: usize, life: u64) {
        let event = Event::Learn { node, life };
        if !self.awake(node, life, &event) {
            return;
        }
        let at = self.nodes[node].state.applied.0 as usize;
        let Some(item) = self.log.get(at).cloned() else { return };
        let source = self.leader.as_ref().map(|leader| leader.node);
        let reached = source.is_some_and(|leader| self.net.open(Kind::Stream, leader, node));
        if !reached || self.nodes[node].stalled_until > self.now {
            let again = self.nodes[node].stalled_until.max(self.now + 20 * MS);
            self.schedule(again, event);
            return;
        }
        let (rules, index) = (self.rules, LogIndex(at as u64 + 1));
        let of = &mut self.nodes[node];
        let applied = apply_item(&rules, &mut of.state, index, &item);
        of.knowledge.learn(Learn::Step { index, facts: applied.facts });
        let (live, applied) = (&of.state.sessions, of.state.applied);
        of.silent.retain(|session, _| live.contains_key(session) || session.0 > applied.0);
        self.end_lapsed_acts(node);
        self.turn(node);
        self.expect_learning(node);
    }
}
