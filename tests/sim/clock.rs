//! A node's two clocks as functions of true time: each within 1 % of it, the holder's never slower than the voter's
//! (rule 2 takes the faster of two kernel clocks for the one and the slower for the other).

use pkgctl::engine::{HolderTime, VoterTime};

use super::random::Random;

/// How clocks are drawn.
#[derive(Clone, Copy, Debug)]
pub enum Clocks {
    /// Anywhere within the bound, often at its ends.
    Any,
    /// The first node's clocks are as slow as allowed and all others' as fast as allowed: the worst for a lease.
    FirstSlow,
}

const MILLION: i128 = 1_000_000;
const BOUND_PPM: i64 = 10_000;

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    holder: Rate,
    voter: Rate,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    origin: u64,
    ppm: i64,
}

impl Rate {
    fn read(self, at: u64) -> u64 {
        let passed = i128::from(at) * (MILLION + i128::from(self.ppm)) / MILLION;
        self.origin + passed as u64
    }

    /// The first instant at which the clock reads `reading` or more.
    fn instant(self, reading: u64) -> u64 {
        let passed = i128::from(reading.saturating_sub(self.origin));
        let rate = MILLION + i128::from(self.ppm);
        let mut at = (passed * MILLION / rate) as u64;
        while self.read(at) < reading {
            at += 1;
        }
        at
    }
}

impl Clock {
    pub fn draw(how: Clocks, node: usize, rng: &mut Random) -> Self {
        let (faster, slower) = match how {
            Clocks::FirstSlow if node == 0 => (-BOUND_PPM, -BOUND_PPM),
            Clocks::FirstSlow => (BOUND_PPM, BOUND_PPM),
            Clocks::Any => {
                let (a, b) = (ppm(rng), ppm(rng));
                (a.max(b), a.min(b))
            }
        };
        Self::running(faster, slower, rng)
    }

    /// Clocks of those rates, and any origins.
    pub fn running(faster: i64, slower: i64, rng: &mut Random) -> Self {
        let mut rate = |ppm| Rate { origin: rng.below(1 << 50), ppm };
        Self { holder: rate(faster), voter: rate(slower) }
    }

    pub fn holder(&self, at: u64) -> HolderTime {
        HolderTime(self.holder.read(at))
    }

    pub fn voter(&self, at: u64) -> VoterTime {
        VoterTime(self.voter.read(at))
    }

    pub fn holder_instant(&self, reading: HolderTime) -> u64 {
        self.holder.instant(reading.0)
    }

    pub fn voter_instant(&self, reading: VoterTime) -> u64 {
        self.voter.instant(reading.0)
    }
}

fn ppm(rng: &mut Random) -> i64 {
    match rng.below(4) {
        0 => BOUND_PPM,
        1 => -BOUND_PPM,
        _ => rng.below(2 * BOUND_PPM as u64 + 1) as i64 - BOUND_PPM,
    }
}
