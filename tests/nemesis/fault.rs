//! What can go wrong, and the plan of one round: which faults begin and end when, drawn from the seed.

use std::time::Duration;

use pkgctl::lab::Direction;

use crate::field::{NODES, PACKAGES, SMALL};
use crate::random::Random;

/// Processes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    Agent,
    Keeper,
    AgentAndKeeper,
    /// Leashes and the inits of their namespaces.
    Leashes,
    /// Every process of ours, and nothing of the user's.
    Ours,
    /// The user's programs too.
    Everything,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Power lost, all at once where there are several.
    PowerOff(Vec<&'static str>),
    Kill(&'static str, Whom),
    Pause(&'static str, Whom),
    Cut(&'static str, Direction),
    /// These two do not reach each other; everybody else reaches both.
    Apart(&'static str, &'static str),
    Loss(&'static str, u8),
    /// The cable is cut and whole again so many times.
    Flap(&'static str, Direction, u32),
    /// The leader's agent is told to end, and hands leadership over.
    StepDown,
    /// The leader's agent is killed.
    KillLeader,
    /// A node loses power and is removed from the cluster; it comes back as a new one.
    Remove(&'static str),
    /// No room is left for the state of [`SMALL`].
    FillDisk,
    KillProgram(usize),
    KillLeash(usize),
}

/// A fault with its time in the round.
#[derive(Clone, Debug)]
pub struct Planned {
    pub fault: Fault,
    pub begins: Duration,
    /// When it is taken back.
    pub ends: Duration,
}

fn node(random: &mut Random) -> &'static str {
    NODES[random.index(NODES.len())]
}

fn direction(random: &mut Random) -> Direction {
    [Direction::Both, Direction::In, Direction::Out][random.index(3)]
}

fn whom(random: &mut Random) -> Whom {
    let all = [Whom::Agent, Whom::Keeper, Whom::AgentAndKeeper, Whom::Leashes, Whom::Ours, Whom::Everything];
    all[random.index(all.len())]
}

/// So many nodes, none twice.
fn several(random: &mut Random, count: usize) -> Vec<&'static str> {
    let mut nodes = NODES.to_vec();
    while nodes.len() > count {
        nodes.remove(random.index(nodes.len()));
    }
    nodes
}

fn draw(random: &mut Random) -> Fault {
    match random.below(100) {
        0..10 => Fault::PowerOff(several(random, 1)),
        10..13 => Fault::PowerOff(several(random, 2)),
        13..15 => Fault::PowerOff(several(random, 3)),
        15..18 => Fault::PowerOff(NODES.to_vec()),
        18..28 => Fault::Kill(node(random), whom(random)),
        28..42 => Fault::Pause(node(random), whom(random)),
        42..54 => Fault::Cut(node(random), direction(random)),
        54..62 => {
            let pair = several(random, 2);
            Fault::Apart(pair[0], pair[1])
        }
        62..70 => Fault::Loss(node(random), u8::try_from(random.between(5, 50)).unwrap_or(50)),
        70..76 => Fault::Flap(node(random), direction(random), u32::try_from(random.between(2, 6)).unwrap_or(2)),
        76..80 => Fault::StepDown,
        80..84 => Fault::KillLeader,
        84..89 => {
            let others: Vec<_> = NODES.into_iter().filter(|node| *node != SMALL).collect();
            Fault::Remove(others[random.index(others.len())])
        }
        89..92 => Fault::FillDisk,
        92..96 => Fault::KillProgram(random.index(PACKAGES)),
        _ => Fault::KillLeash(random.index(PACKAGES)),
    }
}

/// One to three faults that overlap or not, from a blink to many lease times long. Sorted by their beginnings.
pub fn plan(random: &mut Random, longest: Duration) -> Vec<Planned> {
    let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
    let count = random.between(1, 3);
    let mut planned: Vec<Planned> = (0..count)
        .map(|_| {
            let begins = Duration::from_millis(random.between(0, 4000));
            let length = match random.below(3) {
                0 => random.between(200, 1000),
                1 => random.between(1000, 4000),
                _ => random.between(4000, longest.max(4000)),
            };
            Planned { fault: draw(random), begins, ends: begins + Duration::from_millis(length) }
        })
        .collect();
    planned.sort_by_key(|p| p.begins);
    planned
}

impl Fault {
    /// Nodes on which something may rightly end or lapse because of it. An agent that is killed is not one of these
    /// reasons, nor is the leader's end (I5).
    pub fn touches(&self) -> Vec<&'static str> {
        match self {
            Fault::PowerOff(nodes) => nodes.clone(),
            Fault::Kill(_, Whom::Agent) | Fault::StepDown | Fault::KillLeader => Vec::new(),
            Fault::Kill(node, _)
            | Fault::Pause(node, _)
            | Fault::Cut(node, _)
            | Fault::Loss(node, _)
            | Fault::Flap(node, _, _)
            | Fault::Remove(node) => vec![node],
            Fault::Apart(one, other) => vec![one, other],
            Fault::FillDisk => vec![SMALL],
            Fault::KillProgram(_) | Fault::KillLeash(_) => Vec::new(),
        }
    }

    /// The package whose program it ends.
    pub fn package(&self) -> Option<usize> {
        match self {
            Fault::KillProgram(package) | Fault::KillLeash(package) => Some(*package),
            Fault::PowerOff(_)
            | Fault::Kill(..)
            | Fault::Pause(..)
            | Fault::Cut(..)
            | Fault::Apart(..)
            | Fault::Loss(..)
            | Fault::Flap(..)
            | Fault::StepDown
            | Fault::KillLeader
            | Fault::Remove(_)
            | Fault::FillDisk => None,
        }
    }
}
