//! The first grant of an element, compare-and-set without anything to compare yet: a permit that opens nothing, with a
//! bound proven by reading the clock after it, is exchanged for the lease element in one batch.

use std::time::Duration;

use super::{Pace, Slice, horizon};
use crate::engine::HolderTime;

/// Least time a permit lasts: it spans two transactions of ours.
const PERMIT_LEAST: Duration = Duration::from_millis(40);

/// A permit to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permitting {
    length: Duration,
}

/// A permit in the kernel, and its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    bound: HolderTime,
}

/// A grant to be asked for: exchange the permit for an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    bound: HolderTime,
    length: Duration,
}

impl Permitting {
    /// Decides the permit's length; none when too little of the lease is left to open anything.
    pub fn begin(now: HolderTime, t: HolderTime, pace: &Pace) -> Option<Self> {
        let length = pace.every.max(PERMIT_LEAST).min(pace.slice);
        (horizon(t) > now + length + 2 * pace.least_gain()).then_some(Self { length })
    }

    /// How long the permit lasts at most.
    pub fn length(&self) -> Duration {
        self.length
    }

    /// The kernel has acknowledged the permit; `after` was read after that.
    pub fn permitted(self, after: HolderTime) -> Permit {
        Permit { bound: after + self.length }
    }
}

impl Permit {
    /// Decides the element's length; none when too little of the lease is left.
    pub fn grant(self, t: HolderTime, pace: &Pace) -> Option<Grant> {
        let length = pace.slice.min(horizon(t).since(self.bound));
        (length >= 2 * pace.least_gain()).then_some(Grant { bound: self.bound, length })
    }
}

impl Grant {
    /// How long the element lasts at most.
    pub fn length(&self) -> Duration {
        self.length
    }

    /// The kernel has made the exchange; `after` was read after that. The permit had not run out, so the commit came
    /// before its bound.
    pub fn granted(self, after: HolderTime) -> super::Renewed<Slice> {
        let bound = (self.bound + self.length).min(after + self.length);
        let slice = Slice::new(bound, after);
        if after > self.bound { super::Renewed::Late(slice) } else { super::Renewed::Held(slice) }
    }
}
