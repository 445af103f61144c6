//! The network: datagrams that are lost, delayed, duplicated and reordered, links cut one way, and the streams of the
//! agents, which can be cut apart from the datagrams.

use std::collections::{BTreeMap, BTreeSet};

use super::random::Random;
use super::{MS, US};

/// What travels between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Keepers' datagrams.
    Datagram,
    /// Agents' streams: the log on its way to a node, proposals on their way to the leader.
    Stream,
}

/// How bad the network is everywhere.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub loss_permille: u64,
    pub duplicate_permille: u64,
    /// Datagrams that take far longer than usual.
    pub late_permille: u64,
    pub late_max_ms: u64,
}

impl Weather {
    pub const FAIR: Self = Self { loss_permille: 0, duplicate_permille: 0, late_permille: 0, late_max_ms: 0 };
    pub const FOUL: Self = Self { loss_permille: 100, duplicate_permille: 100, late_permille: 60, late_max_ms: 700 };
}

#[derive(Clone, Debug)]
pub struct Net {
    pub weather: Weather,
    cuts: BTreeSet<(Kind, usize, usize)>,
    slow_ms: BTreeMap<(usize, usize), u64>,
}

impl Net {
    pub fn new(weather: Weather) -> Self {
        Self { weather, cuts: BTreeSet::new(), slow_ms: BTreeMap::new() }
    }

    pub fn cut(&mut self, kind: Kind, from: usize, to: usize) {
        self.cuts.insert((kind, from, to));
    }

    pub fn mend(&mut self, kind: Kind, from: usize, to: usize) {
        self.cuts.remove(&(kind, from, to));
    }

    pub fn slow(&mut self, from: usize, to: usize, ms: u64) {
        self.slow_ms.insert((from, to), ms);
    }

    pub fn heal(&mut self) {
        *self = Self::new(Weather::FAIR);
    }

    /// Whether something sent now gets through. A node always reaches itself.
    pub fn open(&self, kind: Kind, from: usize, to: usize) -> bool {
        from == to || !self.cuts.contains(&(kind, from, to))
    }

    /// Whether a call and its answer get through.
    pub fn both_ways(&self, kind: Kind, a: usize, b: usize) -> bool {
        self.open(kind, a, b) && self.open(kind, b, a)
    }

    /// When the copies of a datagram sent now arrive, in nanoseconds from now; what is under way arrives even if the
    /// link is cut meanwhile.
    pub fn copies(&self, from: usize, to: usize, rng: &mut Random) -> Vec<u64> {
        if from == to {
            return vec![rng.between(5, 30) * US];
        }
        if !self.open(Kind::Datagram, from, to) || rng.chance(self.weather.loss_permille) {
            return Vec::new();
        }
        let copies = 1 + usize::from(rng.chance(self.weather.duplicate_permille));
        (0..copies).map(|_| self.delay(from, to, rng)).collect()
    }

    fn delay(&self, from: usize, to: usize, rng: &mut Random) -> u64 {
        let base = rng.between(50, 200) * US + self.slow_ms.get(&(from, to)).unwrap_or(&0) * MS;
        if rng.chance(self.weather.late_permille) { base + rng.below(self.weather.late_max_ms * MS) } else { base }
    }
}
