//! The network between machines: cuts in either direction, loss, delay, duplication. Datagrams are lost; streams are
//! only late, until somebody gives up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::random::Random;

/// The first retransmission of a stream comes so late; each further one twice as late as the one before.
const RETRANSMIT: Duration = Duration::from_millis(200);
/// Losses in a row after which a stream's segment is not followed further.
const LOSSES_MAX: u32 = 4;

/// The network.
pub struct Net(Mutex<Inner>);

struct Inner {
    chance: Random,
    /// (from, to): nothing passes that way.
    cut: BTreeSet<(usize, usize)>,
    /// (from, to): no datagram passes that way; streams do.
    deaf: BTreeSet<(usize, usize)>,
    /// (from, to): no stream passes that way; datagrams do.
    hushed: BTreeSet<(usize, usize)>,
    /// What these ask of others is on its way until they are let go; what others ask of them passes.
    stalled: BTreeSet<usize>,
    /// Of all that a machine sends or is sent, so many in a thousand are lost.
    loss: BTreeMap<usize, u64>,
    /// Whatever a machine is sent may take so much longer, in microseconds.
    slow: BTreeMap<usize, u64>,
}

impl Net {
    /// A network where nothing is wrong.
    pub fn new(chance: Random) -> Self {
        Self(Mutex::new(Inner {
            chance,
            cut: BTreeSet::new(),
            deaf: BTreeSet::new(),
            hushed: BTreeSet::new(),
            stalled: BTreeSet::new(),
            loss: BTreeMap::new(),
            slow: BTreeMap::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing passes that way any more.
    pub fn cut(&self, from: usize, to: usize) {
        self.lock().cut.insert((from, to));
    }

    /// Something passes again.
    pub fn mend(&self, from: usize, to: usize) {
        self.lock().cut.remove(&(from, to));
    }

    /// No datagram passes that way any more.
    pub fn deafen(&self, from: usize, to: usize) {
        self.lock().deaf.insert((from, to));
    }

    /// Datagrams pass again.
    pub fn undeafen(&self, from: usize, to: usize) {
        self.lock().deaf.remove(&(from, to));
    }

    /// No stream passes that way any more.
    pub fn hush(&self, from: usize, to: usize) {
        self.lock().hushed.insert((from, to));
    }

    /// No stream passes any more between a machine and any of so many.
    pub fn hush_all(&self, machine: usize, count: usize) {
        (0..count).for_each(|other| self.hush(machine, other));
    }

    /// The connections that a machine has made pass nothing on for now.
    pub fn stall(&self, machine: usize) {
        self.lock().stalled.insert(machine);
    }

    /// They do again.
    pub fn unstall(&self, machine: usize) {
        self.lock().stalled.remove(&machine);
    }

    /// Whether they do not.
    pub fn is_stalled(&self, machine: usize) -> bool {
        self.lock().stalled.contains(&machine)
    }

    /// A machine's cable is bad: so many in a thousand are lost.
    pub fn lose(&self, machine: usize, permille: u64) {
        self.lock().loss.insert(machine, permille);
    }

    /// What a machine is sent takes up to that much longer.
    pub fn slow(&self, machine: usize, by: Duration) {
        self.lock().slow.insert(machine, u64::try_from(by.as_micros()).unwrap_or(u64::MAX));
    }

    /// Everything is well again.
    pub fn heal(&self) {
        let mut inner = self.lock();
        inner.cut.clear();
        inner.deaf.clear();
        inner.hushed.clear();
        inner.stalled.clear();
        inner.loss.clear();
        inner.slow.clear();
    }

    /// Whether anything passes that way.
    pub fn is_open(&self, from: usize, to: usize) -> bool {
        !self.lock().cut.contains(&(from, to))
    }

    /// After what delays a datagram's copies arrive.
    pub fn datagram(&self, from: usize, to: usize) -> Vec<Duration> {
        let mut inner = self.lock();
        let shut = inner.cut.contains(&(from, to)) || inner.deaf.contains(&(from, to));
        if shut || inner.is_lost(from, to) {
            return Vec::new();
        }
        let copies = if inner.chance.chance(5) { 2 } else { 1 };
        (0..copies).map(|_| inner.delay(to)).collect()
    }

    /// After what delay a message on a stream arrives; none if nothing passes.
    pub fn stream(&self, from: usize, to: usize) -> Option<Duration> {
        let mut inner = self.lock();
        // What comes back is needed too: a stream is acknowledged.
        let shut = |way| inner.cut.contains(&way) || inner.hushed.contains(&way);
        if shut((from, to)) || shut((to, from)) {
            return None;
        }
        let mut delay = inner.delay(to);
        let mut losses = 0;
        while losses < LOSSES_MAX && inner.is_lost(from, to) {
            delay += RETRANSMIT * 2_u32.pow(losses);
            losses += 1;
        }
        Some(delay)
    }
}

impl Inner {
    fn is_lost(&mut self, from: usize, to: usize) -> bool {
        let worst = self.loss.get(&from).max(self.loss.get(&to)).copied().unwrap_or(0);
        worst > 0 && self.chance.chance(worst)
    }

    fn delay(&mut self, to: usize) -> Duration {
        let usual = match self.chance.below(200) {
            0 => self.chance.between(1_000, 30_000),
            _ => self.chance.between(40, 300),
        };
        let slow = self.slow.get(&to).copied().unwrap_or(0);
        Duration::from_micros(usual + self.chance.below(slow + 1))
    }
}
