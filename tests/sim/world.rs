//! The world: true time, the queue of events, the committed log, and the run from a seed to its outcome.

use std::collections::{BTreeMap, BTreeSet};

use pkgctl::engine::check::{Claim, consistent, equal_states, one_actor, tokens_rise};
use pkgctl::engine::command::Entry;
use pkgctl::engine::lease::{Message, Rule, Rules};
use pkgctl::engine::{Command, LogIndex, NodeId, State, WallMillis, apply_membership};

use super::faults::Fault;
use super::leader::Leader;
use super::net::{Kind, Net};
use super::node::Node;
use super::plot::{Plot, Script};
use super::random::Random;
use super::trace::Trace;
use super::{MS, US};

/// What lies in the log.
#[derive(Clone, Debug)]
pub enum Item {
    Command(Entry),
    Voters(BTreeSet<NodeId>),
}

/// Something that is to happen.
#[derive(Clone, Debug)]
pub enum Event {
    Deliver {
        from: usize,
        to: usize,
        life: u64,
        message: Message,
    },
    Wake {
        node: usize,
        life: u64,
    },
    /// The node's agent applies the next entry.
    Learn {
        node: usize,
        life: u64,
    },
    Commit {
        by: usize,
        command: Command,
    },
    LeaderTurn {
        term: u64,
    },
    Elect,
    Start {
        node: usize,
    },
    Fault(Fault),
}

/// How a run went.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The first thing that did not hold.
    pub failure: Option<String>,
    pub hash: u64,
    /// Sessions that ended, ownerships that moved with them, planned moves, lease sets made or retired.
    pub expired: usize,
    pub taken_over: usize,
    pub moved: usize,
    pub sets: usize,
    pub events: usize,
}

impl Outcome {
    /// Adds what another run did.
    pub fn add(&mut self, other: &Self) {
        self.expired += other.expired;
        self.taken_over += other.taken_over;
        self.moved += other.moved;
        self.sets += other.sets;
        self.events += other.events;
    }
}

pub struct World {
    pub now: u64,
    pub rng: Random,
    pub rules: Rules,
    pub net: Net,
    pub nodes: Vec<Node>,
    pub log: Vec<Item>,
    pub state: State,
    pub leader: Option<Leader>,
    pub term: u64,
    pub script: Script,
    pub claims: Vec<Claim>,
    pub trace: Trace,
    pub failure: Option<String>,
    pub nonces: u64,
    /// Renewals and queries that reached somebody: from whom, to whom.
    pub recorded: Vec<(usize, usize, Message)>,
    /// The node that owned the package when a fault first named the owner.
    pub marked: Option<usize>,
    pub applied: BTreeMap<&'static str, usize>,
    queue: BTreeMap<(u64, u64), Event>,
    queued: u64,
    handled: usize,
}

/// Runs a plot from a seed, with one rule dropped if one is named.
pub fn run(plot: Plot, seed: u64, dropped: Option<Rule>, print: bool) -> Outcome {
    let rules = dropped.map_or(Rules::ALL, Rules::without);
    let mut world = World::new(plot, seed, rules, print);
    world.play();
    let count = |what| world.applied.get(what).copied().unwrap_or(0);
    Outcome {
        failure: world.failure.clone(),
        hash: world.trace.hash(),
        expired: count("expired"),
        taken_over: count("taken_over"),
        moved: count("moved"),
        sets: count("lease_set"),
        events: world.handled,
    }
}

impl World {
    fn new(plot: Plot, seed: u64, rules: Rules, print: bool) -> Self {
        let mut rng = Random::new(seed);
        let script = plot.script(&mut rng);
        let mut world = Self {
            now: 0,
            rng,
            rules,
            net: Net::new(script.weather),
            nodes: Vec::new(),
            log: Vec::new(),
            state: State::default(),
            leader: None,
            term: 0,
            script,
            claims: Vec::new(),
            trace: Trace::new(print),
            failure: None,
            nonces: 1000,
            recorded: Vec::new(),
            marked: None,
            applied: BTreeMap::new(),
            queue: BTreeMap::new(),
            queued: 0,
            handled: 0,
        };
        world.set_up();
        world
    }

    fn play(&mut self) {
        let end = self.script.end_ms * MS;
        while let Some(((at, _), event)) = self.queue.pop_first() {
            if at > end || self.failure.is_some() {
                break;
            }
            self.now = at;
            self.handled += 1;
            self.handle(event);
        }
        self.now = self.now.max(end);
        if self.failure.is_none() {
            self.judge();
        }
        if let Some(failure) = &self.failure {
            self.trace.line(self.now, format_args!("FAILED: {failure}"));
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Deliver { from, to, life, message } => self.deliver(from, to, life, message),
            Event::Wake { node, life } => self.woken(node, life),
            Event::Learn { node, life } => self.learn(node, life),
            Event::Commit { by, command } => self.commit(by, command),
            Event::LeaderTurn { term } => self.leader_turn(term),
            Event::Elect => self.elect(),
            Event::Start { node } => self.start(node),
            Event::Fault(fault) => self.strike(fault),
        }
    }

    pub fn schedule(&mut self, at: u64, event: Event) {
        self.queued += 1;
        self.queue.insert((at, self.queued), event);
    }

    pub fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }

    pub fn position(&self, id: NodeId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == id)
    }

    pub fn id(&self, node: usize) -> NodeId {
        self.nodes[node].id
    }

    /// Sends a datagram.
    pub fn send(&mut self, from: usize, to: NodeId, message: &Message) {
        let Some(to) = self.position(to) else { return };
        let renews = matches!(message, Message::Renew { .. } | Message::Query { .. });
        if renews && self.net.open(Kind::Datagram, from, to) {
            self.recorded.push((from, to, message.clone()));
        }
        for delay in self.net.copies(from, to, &mut self.rng) {
            let life = self.nodes[to].life;
            self.schedule(self.now + delay, Event::Deliver { from, to, life, message: message.clone() });
        }
    }

    /// Puts a command on its way into the log, if the proposer reaches the leader.
    pub fn propose(&mut self, by: usize, command: Command) {
        let Some(leader) = self.leader.as_ref().map(|l| l.node) else { return };
        if !self.net.both_ways(Kind::Stream, by, leader) || !self.can_commit(leader) {
            return;
        }
        let slow = self.script.slow_log && self.rng.chance(50);
        let delay = if slow { self.rng.below(100 * MS) } else { self.rng.between(100, 400) * US };
        self.schedule(self.now + delay, Event::Commit { by, command });
    }

    fn commit(&mut self, by: usize, command: Command) {
        let entry = Entry { wall: WallMillis(self.now / MS), by: format!("n{}", by + 1), command };
        self.append(Item::Command(entry));
    }

    /// Appends to the log and applies it at its one true place, then judges the state.
    pub fn append(&mut self, item: Item) {
        let before = self.state.clone();
        let index = LogIndex(self.log.len() as u64 + 1);
        let facts = apply_item(&self.rules, &mut self.state, index, &item);
        match &item {
            Item::Command(entry) => {
                self.trace.line(self.now, format_args!("{index} {:?} -> {:?}", entry.command, facts.reply));
            }
            Item::Voters(voters) => self.trace.line(self.now, format_args!("{index} voters {voters:?}")),
        }
        let new = self.state.events.iter().filter(|event| event.index == index);
        for event in new {
            let what = ["expired", "taken_over", "moved", "lease_set"].into_iter().find(|what| *what == event.what);
            if let Some(what) = what {
                *self.applied.entry(what).or_default() += 1;
            }
        }
        self.log.push(item);
        let judged = consistent(&self.state).and_then(|()| tokens_rise(&before, &self.state));
        if let Err(violation) = judged {
            self.fail(violation.to_string());
        }
        for node in 0..self.nodes.len() {
            self.expect_learning(node);
        }
    }

    /// What must hold at the end: one actor throughout, everybody's state the same, and the package runs somewhere.
    fn judge(&mut self) {
        for node in 0..self.nodes.len() {
            self.end_lapsed_acts(node);
        }
        let open = self.open_claims();
        let running =
            open.iter().any(|claim| !self.script.deaf_at_end.contains(&self.position(claim.node).unwrap_or(0)));
        let claims: Vec<Claim> = self.claims.iter().cloned().chain(open).collect();
        if let Err(violation) = one_actor(&claims) {
            return self.fail(violation.to_string());
        }
        if !running {
            let owner = self.state.packages.values().next().and_then(|entry| entry.owner.clone());
            return self
                .fail(format!("I4 does not hold: nobody acts for the package at the end; its owner is {owner:?}"));
        }
        for node in self.nodes.iter().filter(|node| node.up) {
            if let Err(violation) = equal_states(&node.state, &self.state) {
                return self.failure = Some(violation.to_string());
            }
        }
    }
}

/// Applies an item to any copy of the state.
pub fn apply_item(rules: &Rules, state: &mut State, index: LogIndex, item: &Item) -> pkgctl::engine::Applied {
    match item {
        Item::Command(entry) => pkgctl::engine::apply::apply_under(rules, state, index, entry),
        Item::Voters(voters) => {
            apply_membership(state, index, voters.clone());
            pkgctl::engine::Applied::done()
        }
    }
}
