//! The leader: it sees what its own keeper hears, asks the planner, collects agreements and proposes. Nothing it
//! believes is trusted by `apply`; it may be replaced at any time and starts over.

use std::collections::{BTreeMap, BTreeSet};

use pkgctl::engine::lease::{Collector, Message, Retirement, majority};
use pkgctl::engine::planner::{Agreement, Observations, Step, plan};
use pkgctl::engine::{Incarnation, NodeId, Nonce, SessionId, SetId, VoterTime, WallMillis};

use super::MS;
use super::net::Kind;
use super::node::Node;
use super::setup::TTL;
use super::world::{Event, World};

pub struct Leader {
    pub node: usize,
    pub life: u64,
    pub term: u64,
    collections: BTreeMap<SessionId, Collection>,
    retirement: Option<Retirement>,
    quiet: BTreeMap<String, u64>,
    missed_turns: u32,
}

struct Collection {
    collector: Collector,
    ask_at: u64,
}

const TURN_NS: u64 = 20 * MS;
const MISSED_TURNS_MAX: u32 = 3;
const REPEAT_NS: u64 = 30 * MS;
const ASK_EVERY_NS: u64 = TTL.0 * MS / 16;

impl World {
    /// Whether a node runs and reaches a majority of Raft's voters: only then can it lead and commit.
    pub fn can_commit(&self, node: usize) -> bool {
        let of = &self.nodes[node];
        let runs = |at: usize| self.nodes[at].up && self.nodes[at].frozen_until <= self.now;
        let voters = &self.state.raft_voters;
        let reached =
            |id: &&NodeId| self.position(**id).is_some_and(|at| runs(at) && self.net.both_ways(Kind::Stream, node, at));
        of.up && of.frozen_until <= self.now && voters.iter().filter(reached).count() >= majority(voters.len())
    }

    /// Some node becomes leader: the one that the plot wants, or any that can.
    pub fn elect(&mut self) {
        let able = |at: &usize| self.can_commit(*at);
        let candidates: Vec<usize> = match self.script.leader {
            Some(node) => vec![node],
            None => (0..self.nodes.len()).collect(),
        };
        let candidates: Vec<usize> = candidates.into_iter().filter(able).collect();
        if candidates.is_empty() {
            return self.schedule(self.now + 50 * MS, Event::Elect);
        }
        let node = candidates[self.rng.index(candidates.len())];
        self.term += 1;
        let (life, term) = (self.nodes[node].life, self.term);
        let (collections, quiet, retirement) = (BTreeMap::new(), BTreeMap::new(), None);
        self.leader = Some(Leader { node, life, term, collections, retirement, quiet, missed_turns: 0 });
        self.trace.line(self.now, format_args!("n{} leads term {term}", node + 1));
        self.schedule(self.now, Event::LeaderTurn { term });
    }

    /// The leader is lost; another one is elected after a while.
    pub fn depose(&mut self) {
        if let Some(leader) = self.leader.take() {
            self.trace.line(self.now, format_args!("n{} no longer leads", leader.node + 1));
            let after = self.rng.between(60, 250) * MS;
            self.schedule(self.now + after, Event::Elect);
        }
    }

    pub fn leader_turn(&mut self, term: u64) {
        let Some(leader) = self.leader.as_ref().filter(|leader| leader.term == term) else { return };
        let (node, life) = (leader.node, leader.life);
        let lost = self.nodes[node].life != life || !self.nodes[node].up;
        // A leader that is cut off or frozen is replaced after an election timeout.
        let missed = if self.can_commit(node) { 0 } else { leader.missed_turns + 1 };
        if lost || missed > MISSED_TURNS_MAX {
            return self.depose();
        }
        if let Some(leader) = self.leader.as_mut() {
            leader.missed_turns = missed;
        }
        if self.nodes[node].frozen_until <= self.now {
            self.lead();
        }
        self.schedule(self.now + TURN_NS, Event::LeaderTurn { term });
    }

    fn lead(&mut self) {
        let Some(mut leader) = self.leader.take() else { return };
        let seen = self.observe(&mut leader);
        let decisions = plan(&self.nodes[leader.node].state, &seen).decisions;
        let (node, mut proposals) = (leader.node, Vec::new());
        for decision in decisions {
            match decision.step {
                Step::Propose(command) => proposals.push((format!("{command:?}"), command)),
                Step::Collect(session) => self.collect(&mut leader, session),
                Step::Confirm { old, newer, keepers } => self.confirm(&mut leader, old, newer, keepers),
                Step::AskReach { members, hosts } => self.ask_reach(&mut leader, &members, &hosts),
                // The plots change Raft's voters themselves; no node of theirs has a fence device.
                Step::Fence { .. }
                | Step::AddLearner { .. }
                | Step::Promote(_)
                | Step::Remove(_)
                | Step::FinishChange
                | Step::AddKey { .. }
                | Step::StepDown => {}
            }
        }
        self.ask(&mut leader);
        proposals.retain(|(key, _)| leader.may(key, self.now));
        self.leader = Some(leader);
        for (_, command) in proposals {
            self.propose(node, command);
        }
    }

    /// What this leader sees. An eager one (the plot says so) collects against every session all the time and never
    /// abandons a collection, which the rules allow to anyone.
    fn observe(&mut self, leader: &mut Leader) -> Observations {
        let of = &self.nodes[leader.node];
        let mut silent = self.silent_sessions(leader.node);
        let unheard = silent.clone();
        if !self.script.eager {
            leader.collections.retain(|session, _| silent.contains(session));
        }
        leader.collections.retain(|session, _| of.state.sessions.contains_key(session));
        let agreement = |c: &Collection| {
            let agreed = c.collector.ready(&of.state)?;
            Some(Agreement { agreed, timeline: c.collector.timeline() })
        };
        let mut agreed: BTreeMap<SessionId, Agreement> =
            leader.collections.iter().filter_map(|(id, c)| Some((*id, agreement(c)?))).collect();
        // One that is not silent at a time, the owner's first: others remain to take over.
        let owning = of.state.packages.values().find_map(|entry| entry.owner.as_ref()).map(|owner| owner.session);
        let heard = |id: &SessionId| !unheard.contains(id);
        let chosen = owning.filter(|id| agreed.contains_key(id)).or(agreed.keys().copied().find(heard));
        agreed.retain(|id, _| Some(*id) == chosen || !heard(id));
        silent.extend(agreed.keys());
        let now = of.clock.voter(self.now);
        let retirable = leader.retirement.as_mut().and_then(|r| r.due(&of.state, now).then(|| r.old()));
        let reach = self.reports(leader.node);
        // A keeper is ready if any host says so; `apply` and the rules do not rest on it.
        let ready = self.nodes.iter().flat_map(|n| n.reached.iter().filter(|(_, ready)| **ready).map(|(id, _)| *id));
        Observations {
            wall: WallMillis(self.now / MS),
            silent,
            agreed,
            learners: of.state.nodes.keys().copied().collect(),
            ready: ready.collect(),
            reach,
            retirable,
            ..Observations::default()
        }
    }

    /// What a leader takes for silent: what its own keeper misses, or, while it is in no lease set and so is sent no
    /// renewals, what a majority of a set's members miss.
    fn silent_sessions(&self, leader: usize) -> BTreeSet<SessionId> {
        let of = &self.nodes[leader];
        let sets = &of.state.lease_sets;
        let Some(members) = sets.values().next_back().filter(|_| !sets.values().any(|set| set.contains(&of.id))) else {
            return of.silent.keys().copied().collect();
        };
        let ears = members.iter().filter_map(|id| self.position(*id)).map(|at| &self.nodes[at]);
        let ears: Vec<&Node> = ears.filter(|node| node.up && node.frozen_until <= self.now).collect();
        let missed = |id: &&SessionId| ears.iter().filter(|ear| ear.silent.contains_key(id)).count();
        let sessions = of.state.sessions.keys();
        sessions.filter(|id| missed(id) >= majority(members.len())).copied().collect()
    }

    /// Whom the hosts have reached, as far as the leader can ask them.
    fn reports(&self, leader: usize) -> BTreeMap<NodeId, BTreeSet<NodeId>> {
        let asked = |at: &usize| self.nodes[*at].up && self.net.both_ways(Kind::Stream, leader, *at);
        let of = |at: usize| (self.nodes[at].id, self.nodes[at].reached.keys().copied().collect());
        (0..self.nodes.len()).filter(asked).map(of).collect()
    }

    fn collect(&self, leader: &mut Leader, session: SessionId) {
        let of = &self.nodes[leader.node];
        let now = of.clock.voter(self.now);
        let last = of.silent.get(&session).copied().unwrap_or(now);
        leader.begin(session, last, now, self);
    }

    /// Asks every member of every unretired lease set, again and again.
    fn ask(&mut self, leader: &mut Leader) {
        if self.script.eager {
            let now = self.nodes[leader.node].clock.voter(self.now);
            let sessions: Vec<SessionId> = self.nodes[leader.node].state.sessions.keys().copied().collect();
            sessions.into_iter().for_each(|session| leader.begin(session, now, now, self));
        }
        let sets = &self.nodes[leader.node].state.lease_sets;
        let voters: BTreeSet<NodeId> = sets.values().flatten().copied().collect();
        let due = leader.collections.iter_mut().filter(|(_, c)| c.ask_at <= self.now);
        let mut questions = Vec::new();
        for (session, collection) in due {
            collection.ask_at = self.now + ASK_EVERY_NS;
            let ask = Message::Ask { session: *session, ttl: TTL };
            questions.extend(voters.iter().map(|voter| (*voter, ask.clone())));
        }
        for (voter, ask) in questions {
            self.send(leader.node, voter, &ask);
        }
    }

    pub fn agreed(&mut self, node: usize, voter: NodeId, session: SessionId, incarnation: Incarnation) {
        let now = self.nodes[node].clock.voter(self.now);
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.node == node) else { return };
        let Some(collection) = leader.collections.get_mut(&session) else { return };
        collection.collector.agreed(voter, incarnation, now);
        self.lead();
    }

    fn confirm(&mut self, leader: &mut Leader, old: SetId, newer: SetId, keepers: BTreeSet<NodeId>) {
        if leader.retirement.as_ref().is_none_or(|r| r.old() != old || r.newer() != newer) {
            leader.retirement = Some(Retirement::new(old, newer).under(self.rules));
        }
        if leader.may("confirm", self.now) {
            let nonce = Nonce(leader.term);
            keepers.into_iter().for_each(|keeper| self.send(leader.node, keeper, &Message::AskSet { nonce }));
        }
    }

    /// A keeper's answer to this leader's own question; a new leader asks anew.
    pub fn confirmed(&mut self, node: usize, keeper: NodeId, nonce: Nonce, set: Option<SetId>) {
        let now = self.nodes[node].clock.voter(self.now);
        let leader = self.leader.as_mut().filter(|leader| leader.node == node && Nonce(leader.term) == nonce);
        let retirement = leader.and_then(|leader| leader.retirement.as_mut());
        if let (Some(retirement), Some(set)) = (retirement, set) {
            retirement.confirm(keeper, set, now);
        }
    }

    fn ask_reach(&mut self, leader: &mut Leader, members: &BTreeSet<NodeId>, hosts: &BTreeSet<NodeId>) {
        if !leader.may("reach", self.now) {
            return;
        }
        let asked: BTreeSet<NodeId> = hosts.iter().chain(members).copied().collect();
        let asked: Vec<usize> = asked.into_iter().filter_map(|id| self.position(id)).collect();
        for host in asked {
            let reachable = self.net.both_ways(Kind::Stream, leader.node, host);
            if reachable && self.nodes[host].up && self.nodes[host].frozen_until <= self.now {
                self.nodes[host].reached.clear();
                let nonce = Nonce(self.now);
                members.iter().for_each(|member| self.send(host, *member, &Message::Ping { nonce }));
            }
        }
    }
}

impl Leader {
    fn begin(&mut self, session: SessionId, last_heard: VoterTime, now: VoterTime, world: &World) {
        let rules = world.rules;
        let new = || Collection { collector: Collector::new(session, last_heard, now).under(rules), ask_at: world.now };
        self.collections.entry(session).or_insert_with(new);
    }

    /// Whether a step may be taken now; if so, not again for a while.
    fn may(&mut self, key: &str, now: u64) -> bool {
        if self.quiet.get(key).is_some_and(|until| now < *until) {
            return false;
        }
        self.quiet.insert(key.to_owned(), now + REPEAT_NS);
        true
    }
}
