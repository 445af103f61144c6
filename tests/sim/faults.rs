//! How things go wrong.

use std::collections::BTreeSet;

use pkgctl::engine::Command;

use super::MS;
use super::net::Kind;
use super::setup::package;
use super::world::{Event, Item, World};

/// Which node.
#[derive(Clone, Copy, Debug)]
pub enum Who {
    Node(usize),
    /// The package's owner when a fault first named it.
    Owner,
    /// The package's owner when the fault strikes.
    Holder,
    /// Any node, drawn when the fault strikes.
    Any,
}

/// Which way a node is cut off from all others.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    Both,
    /// It hears nothing.
    In,
    /// It is not heard.
    Out,
}

#[derive(Clone, Debug)]
pub enum Fault {
    /// Cuts datagrams, and streams too if `streams`.
    Isolate {
        who: Who,
        way: Way,
        streams: bool,
    },
    /// Cuts datagrams one way between two nodes.
    Cut {
        from: Who,
        to: Who,
    },
    Mend {
        from: Who,
        to: Who,
    },
    /// Delays every datagram to a node.
    SlowTo {
        who: Who,
        ms: u64,
    },
    /// Of what a node sent to each voter until it was cut off, the renewal or query of that number comes again, over the
    /// cut link; after the last the first.
    Replay {
        who: Who,
        number: usize,
    },
    /// Mends every link and lifts every spell.
    Heal,
    /// The keeper dies, with everything it runs; a new life begins later.
    Restart {
        who: Who,
        down_ms: u64,
    },
    /// The agent restarts with a log that is shorter by so many entries.
    RestartAgent {
        who: Who,
        back: u64,
    },
    /// The agent applies nothing for a while.
    Stall {
        who: Who,
        ms: u64,
    },
    /// Nothing of ours runs for a while.
    Freeze {
        who: Who,
        ms: u64,
    },
    /// The agent's proposals are lost for a while.
    Mute {
        who: Who,
        ms: u64,
    },
    NewLeader,
    /// An operator moves the package to another node.
    Move,
    /// The agents of all nodes that lately released the package restart with an old log.
    RestartReleasers {
        back: u64,
    },
    /// Raft's voters change; lease sets follow.
    Voters(Vec<usize>),
}

impl World {
    pub fn strike(&mut self, fault: Fault) {
        self.trace.line(self.now, format_args!("fault: {fault:?}"));
        match fault {
            Fault::Isolate { who, way, streams } => self.isolate(who, way, streams),
            Fault::Cut { from, to } => {
                let (from, to) = (self.resolve(from), self.resolve(to));
                self.net.cut(Kind::Datagram, from, to);
            }
            Fault::Mend { from, to } => {
                let (from, to) = (self.resolve(from), self.resolve(to));
                self.net.mend(Kind::Datagram, from, to);
            }
            Fault::SlowTo { who, ms } => {
                let who = self.resolve(who);
                (0..self.nodes.len()).for_each(|from| self.net.slow(from, who, ms));
            }
            Fault::Replay { who, number } => {
                let who = self.resolve(who);
                self.replay(who, number);
            }
            Fault::Heal => self.heal(),
            Fault::Restart { who, down_ms } => self.crash(who, down_ms),
            Fault::RestartAgent { who, back } => {
                let who = self.resolve(who);
                self.restart_agent(who, back);
            }
            Fault::Stall { who, ms } => {
                let (who, until) = (self.resolve(who), self.now + ms * MS);
                self.nodes[who].stalled_until = until;
            }
            Fault::Freeze { who, ms } => {
                let (who, until) = (self.resolve(who), self.now + ms * MS);
                self.nodes[who].frozen_until = until;
            }
            Fault::Mute { who, ms } => {
                let (who, until) = (self.resolve(who), self.now + ms * MS);
                self.nodes[who].mute_until = until;
            }
            Fault::NewLeader => self.depose(),
            Fault::Move => self.move_package(),
            Fault::RestartReleasers { back } => {
                let released = |at: &usize| self.nodes[*at].released.contains_key(&package());
                let them: Vec<usize> = (0..self.nodes.len()).filter(released).collect();
                them.into_iter().for_each(|node| self.restart_agent(node, back));
            }
            Fault::Voters(voters) => {
                let voters: BTreeSet<_> = voters.into_iter().map(|node| self.id(node)).collect();
                self.append(Item::Voters(voters));
            }
        }
    }

    fn resolve(&mut self, who: Who) -> usize {
        match who {
            Who::Node(node) => node,
            Who::Any => self.rng.index(self.nodes.len()),
            Who::Owner => self.mark(),
            Who::Holder => self.owner(),
        }
    }

    fn mark(&mut self) -> usize {
        let owner = self.owner();
        *self.marked.get_or_insert(owner)
    }

    fn owner(&self) -> usize {
        let owner = self.state.packages.get(&package()).and_then(|entry| entry.owner.as_ref()).map(|o| o.node);
        owner.and_then(|id| self.position(id)).unwrap_or(0)
    }

    fn isolate(&mut self, who: Who, way: Way, streams: bool) {
        let who = self.resolve(who);
        let (hears, heard) = match way {
            Way::Both => (false, false),
            Way::In => (false, true),
            Way::Out => (true, false),
        };
        let kinds = if streams { &[Kind::Datagram, Kind::Stream][..] } else { &[Kind::Datagram][..] };
        for other in (0..self.nodes.len()).filter(|other| *other != who) {
            for kind in kinds {
                if !hears {
                    self.net.cut(*kind, other, who);
                }
                if !heard {
                    self.net.cut(*kind, who, other);
                }
            }
        }
    }

    fn heal(&mut self) {
        self.net.heal();
        for node in &mut self.nodes {
            node.stalled_until = node.stalled_until.min(self.now);
            node.frozen_until = node.frozen_until.min(self.now);
            node.mute_until = node.mute_until.min(self.now);
        }
        self.script.eager = false;
        self.script.slow_log = false;
    }

    fn replay(&mut self, from: usize, number: usize) {
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            let sent: Vec<_> = self.recorded.iter().filter(|(by, at, _)| (*by, *at) == (from, to)).collect();
            let Some((_, _, message)) = sent.get(number % sent.len().max(1)) else { continue };
            let (life, message) = (self.nodes[to].life, message.clone());
            self.schedule(self.now, Event::Deliver { from, to, life, message });
        }
    }

    fn crash(&mut self, who: Who, down_ms: u64) {
        let node = self.resolve(who);
        if !self.nodes[node].up {
            return;
        }
        self.end_all_acts(node);
        self.nodes[node].up = false;
        self.nodes[node].frozen_until = 0;
        self.schedule(self.now + down_ms.max(1) * MS, Event::Start { node });
    }

    fn restart_agent(&mut self, node: usize, back: u64) {
        let of = &self.nodes[node];
        if of.up && of.frozen_until <= self.now {
            let kept = of.state.applied.0.saturating_sub(back);
            self.nodes[node].state = self.prefix(kept);
            self.nodes[node].quiet.clear();
            self.nodes[node].silent.clear();
            self.attach(node);
        }
    }

    fn move_package(&mut self) {
        let Some(owner) = self.state.packages.get(&package()).and_then(|entry| entry.owner.clone()) else { return };
        let others: Vec<usize> = (0..self.nodes.len()).filter(|at| self.id(*at) != owner.node).collect();
        let Some(leader) = self.leader.as_ref().map(|leader| leader.node) else { return };
        if others.is_empty() {
            return;
        }
        let drawn = self.rng.index(others.len());
        let to = self.id(others[drawn]);
        let (package, why) = (package(), "an operator moves it".to_owned());
        self.propose(leader, Command::MovePackage { package, token: owner.token, to, why });
    }
}
