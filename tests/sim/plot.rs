//! What goes wrong when. Each plot is a family of runs: its seed draws the clocks, the delays and the times.

use super::clock::Clocks;
use super::faults::{Fault, Way, Who};
use super::net::Weather;
use super::random::Random;
use super::setup::TTL;

/// A family of runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plot {
    /// Anything at any time, with a leader that collects against silent sessions.
    Chaos,
    /// The same, with a leader that collects against every session all the time.
    Eager,
    /// The owner is cut off, both ways.
    CutOwner,
    /// The same, with the slowest holder and the fastest voters.
    Drift,
    /// Acks reach the owner late; then it is cut off.
    LateAcks,
    /// The owner hears nothing and is heard, until the end.
    Deaf,
    /// The owner is cut off, and what it had sent is sent again, over and over, until the end.
    Replays,
    /// The same; and every other voter restarts at once.
    RestartReplays,
    /// The owner is cut off and every other voter restarts at once.
    RestartVoters,
    /// A voter misses renewals, agrees, and hears them again; then the other voter misses them.
    Dance,
    /// The same; in between, the first voter restarts.
    RestartDance,
    /// The same; and the restarted voter's VoterUp is slow.
    MuteDance,
    /// A host does not learn that its session, never renewed yet, has expired; the voters that agreed restart.
    StaleHost,
    /// One voter becomes three; the old one does not learn of it.
    GrowUnheard,
    /// One voter becomes three; later the first is cut off.
    GrowThenCut,
    /// Planned moves, after which agents restart with old logs.
    Moves,
}

/// A run's circumstances.
#[derive(Clone, Debug)]
pub struct Script {
    pub nodes: usize,
    /// Raft's voters at the start.
    pub voters: Vec<usize>,
    pub clocks: Clocks,
    pub weather: Weather,
    /// Who leads; anyone if nobody is named.
    pub leader: Option<usize>,
    pub eager: bool,
    /// Entries are now and then slow to commit and to arrive.
    pub slow_log: bool,
    pub faults: Vec<(u64, Fault)>,
    pub end_ms: u64,
    /// Nodes that do not count as running the package at the end.
    pub deaf_at_end: Vec<usize>,
}

impl Plot {
    pub const ALL: [Self; 16] = [
        Self::Chaos,
        Self::Eager,
        Self::CutOwner,
        Self::Drift,
        Self::LateAcks,
        Self::Deaf,
        Self::Replays,
        Self::RestartReplays,
        Self::RestartVoters,
        Self::Dance,
        Self::RestartDance,
        Self::MuteDance,
        Self::StaleHost,
        Self::GrowUnheard,
        Self::GrowThenCut,
        Self::Moves,
    ];

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plot| format!("{plot:?}") == name)
    }

    pub fn script(self, rng: &mut Random) -> Script {
        let mut script = self.bare(rng);
        script.faults.sort_by_key(|(at, _)| *at);
        script
    }

    fn bare(self, rng: &mut Random) -> Script {
        let jitter = rng.below(60);
        match self {
            Self::Chaos => chaos(rng, false),
            Self::Eager => chaos(rng, true),
            Self::CutOwner => calm(vec![(1000 + jitter, cut_off(Who::Owner, Way::Both))], 4000, 3000),
            Self::Drift => {
                let faults = vec![(1000 + jitter, cut_off(Who::Owner, Way::Both))];
                Script { clocks: Clocks::FirstSlow, ..calm(faults, 2500, 2500) }
            }
            Self::LateAcks => {
                let ms = 60 + jitter / 3;
                let slow = (1000, Fault::SlowTo { who: Who::Owner, ms });
                calm(vec![slow, (1600 + jitter, cut_off(Who::Owner, Way::Both))], 4000, 3000)
            }
            Self::Deaf => {
                let faults = vec![(1000 + jitter, cut_off(Who::Node(0), Way::In))];
                Script { leader: Some(1), deaf_at_end: vec![0], ..calm(faults, 3000, 0) }
            }
            Self::Replays => replayed(vec![(1000 + jitter, cut_off(Who::Node(0), Way::Both))]),
            Self::RestartReplays => replayed(restart_voters(rng, 1000 + jitter)),
            Self::RestartVoters => watched(restart_voters(rng, 1000 + jitter)),
            Self::Dance => watched(dance(rng, vec![])),
            Self::RestartDance => {
                let restart = (1500, Fault::Restart { who: Who::Node(2), down_ms: rng.between(5, 40) });
                watched(dance(rng, vec![restart]))
            }
            Self::MuteDance => {
                let restart = (1500, Fault::Restart { who: Who::Node(2), down_ms: rng.between(5, 40) });
                watched(dance(rng, vec![(1490, Fault::Mute { who: Who::Node(2), ms: 1500 }), restart]))
            }
            Self::StaleHost => stale_host(rng),
            Self::GrowUnheard => {
                let stall = (1000, Fault::Stall { who: Who::Node(0), ms: 1200 });
                let faults = vec![stall, (1001 + jitter, Fault::Voters(vec![0, 1, 2]))];
                Script { voters: vec![0], leader: Some(1), ..calm(faults, 4500, 2500) }
            }
            Self::GrowThenCut => {
                let faults =
                    vec![(1000, Fault::Voters(vec![0, 1, 2])), (2600 + jitter, cut_off(Who::Node(0), Way::Both))];
                Script { voters: vec![0], ..calm(faults, 5500, 4500) }
            }
            Self::Moves => moves(rng),
        }
    }
}

fn cut_off(who: Who, way: Way) -> Fault {
    Fault::Isolate { who, way, streams: true }
}

/// Three voters, a good network, and these faults; healed at `heal_ms` if that is not 0.
fn calm(mut faults: Vec<(u64, Fault)>, end_ms: u64, heal_ms: u64) -> Script {
    if heal_ms > 0 && heal_ms < end_ms {
        faults.push((heal_ms, Fault::Heal));
    }
    Script {
        nodes: 3,
        voters: vec![0, 1, 2],
        clocks: Clocks::Any,
        weather: Weather::FAIR,
        leader: None,
        eager: false,
        slow_log: false,
        faults,
        end_ms,
        deaf_at_end: Vec::new(),
    }
}

/// A node is cut off and the other two restart.
fn restart_voters(rng: &mut Random, at: u64) -> Vec<(u64, Fault)> {
    let restart = |who, after, down_ms| (at + after, Fault::Restart { who: Who::Node(who), down_ms });
    let (one, two) = (restart(1, 2, rng.between(5, 40)), restart(2, 4, rng.between(5, 40)));
    vec![(at, cut_off(Who::Node(0), Way::Both)), one, two]
}

/// The first node never comes back; after the faults its datagrams do, oldest first, half a lease time apart.
fn replayed(faults: Vec<(u64, Fault)>) -> Script {
    let from = faults.iter().map(|(at, _)| *at).max().unwrap_or_default() + 50;
    let again = (0..).map(|n| from + n * TTL.0 / 2).take_while(|at| *at < REPLAYED_MS).enumerate();
    let again = again.map(|(number, at)| (at, Fault::Replay { who: Who::Node(0), number }));
    let faults = faults.into_iter().chain(again).collect();
    Script { deaf_at_end: vec![0], ..calm(faults, REPLAYED_MS, 0) }
}

/// Longer than a takeover takes by ten lease times.
const REPLAYED_MS: u64 = 1100 + 10 * TTL.0;

/// Three voters, watched by a fourth node that leads and collects against every session.
fn watched(faults: Vec<(u64, Fault)>) -> Script {
    Script { nodes: 4, leader: Some(3), eager: true, ..calm(faults, 4500, 3000) }
}

/// The lease's majority moves from one voter to the other while each agrees to its end.
fn dance(rng: &mut Random, between: Vec<(u64, Fault)>) -> Vec<(u64, Fault)> {
    let (owner, first, second) = (Who::Node(0), Who::Node(2), Who::Node(1));
    let mend = 1600 + rng.below(40);
    let mut faults = vec![
        // The worst owner: it never learns that it lost the package.
        (1300, Fault::Stall { who: owner, ms: 1600 }),
        (1000 + rng.below(40), Fault::Cut { from: owner, to: first }),
        (mend, Fault::Mend { from: owner, to: first }),
        // Before rule 11 heals the first voter's fence, which takes it a ttl.
        (mend - rng.below(80), Fault::Cut { from: owner, to: second }),
    ];
    faults.extend(between);
    faults
}

fn stale_host(rng: &mut Random) -> Script {
    let at = 1000 + rng.below(40);
    let owner = Who::Node(0);
    let datagrams = |way| Fault::Isolate { who: owner, way, streams: false };
    let faults = vec![
        (at, datagrams(Way::Both)),
        (at, Fault::Restart { who: owner, down_ms: 10 }),
        // It owns the package again under a session that no other voter ever heard of, and then learns nothing more.
        (at + 90, Fault::Stall { who: owner, ms: 1500 }),
        (at + 300, Fault::Restart { who: Who::Node(1), down_ms: rng.between(5, 20) }),
        (at + 300, Fault::Restart { who: Who::Node(2), down_ms: rng.between(5, 20) }),
    ];
    let mend = |a: usize, b: usize| (at + 400, Fault::Mend { from: Who::Node(a), to: Who::Node(b) });
    let mended = [1, 2, 3].into_iter().flat_map(|other| [mend(0, other), mend(other, 0)]);
    let faults = faults.into_iter().chain(mended).collect();
    Script { nodes: 4, leader: Some(3), ..calm(faults, 4500, 3000) }
}

fn moves(rng: &mut Random) -> Script {
    let mut faults = Vec::new();
    for round in 0..8 {
        let at = 800 + round * 250 + rng.below(50);
        faults.push((at, Fault::Move));
        faults.push((at + rng.between(3, 40), Fault::RestartReleasers { back: rng.between(1, 40) }));
    }
    calm(faults, 4500, 3200)
}

const CHAOS_ENDS_MS: u64 = 5200;
/// With everything healed the package runs again within ten lease times.
const SETTLES_WITHIN_MS: u64 = 10 * TTL.0;

/// Anything at any time.
fn chaos(rng: &mut Random, eager: bool) -> Script {
    let nodes = rng.between(3, 5) as usize;
    let voters = some_voters(rng, nodes);
    let (mut at, mut faults) = (600, Vec::new());
    while at < CHAOS_ENDS_MS {
        at += rng.between(5, 350);
        let fault = any_fault(rng, nodes);
        let spell = rng.between(20, 900);
        faults.push((at, fault));
        if rng.chance(500) {
            faults.push((at + spell, Fault::Heal));
        }
    }
    let weather = if rng.chance(500) { Weather::FOUL } else { Weather::FAIR };
    // Healing ends the eagerness too: a leader that goes on asking for every session's end is no live majority's.
    faults.retain(|(at, fault)| *at < CHAOS_ENDS_MS && !(eager && matches!(fault, Fault::Heal)));
    faults.push((CHAOS_ENDS_MS, Fault::Heal));
    let script = calm(faults, CHAOS_ENDS_MS + SETTLES_WITHIN_MS, 0);
    Script { nodes, voters, weather, eager, slow_log: true, ..script }
}

fn some_voters(rng: &mut Random, nodes: usize) -> Vec<usize> {
    let count = rng.between(1, nodes as u64) as usize;
    let first = rng.index(nodes);
    (0..count).map(|at| (first + at) % nodes).collect()
}

fn any_fault(rng: &mut Random, nodes: usize) -> Fault {
    let ways = [Way::Both, Way::In, Way::Out];
    let who = Who::Node(rng.index(nodes));
    let ms = rng.between(5, 900);
    match rng.below(16) {
        0 => Fault::Isolate { who, way: ways[rng.index(3)], streams: rng.chance(600) },
        1 | 13 => Fault::Isolate { who: Who::Holder, way: ways[rng.index(3)], streams: rng.chance(600) },
        14 => Fault::Restart { who: Who::Holder, down_ms: rng.between(1, 900) },
        15 => Fault::Freeze { who: Who::Holder, ms },
        2 | 3 => Fault::Cut { from: who, to: Who::Any },
        4 | 5 => Fault::Restart { who, down_ms: rng.between(1, 300) },
        6 => Fault::RestartAgent { who, back: rng.below(60) },
        7 => Fault::Stall { who, ms },
        8 => Fault::Freeze { who, ms },
        9 => Fault::Mute { who, ms },
        10 => Fault::NewLeader,
        11 => Fault::Move,
        _ => Fault::Voters(some_voters(rng, nodes)),
    }
}
