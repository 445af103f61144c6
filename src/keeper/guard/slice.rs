//! An open element and `B`, the proven upper bound of its expiry.

use std::time::Duration;

use super::{Pace, horizon};
use crate::engine::HolderTime;

/// An element in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    bound: HolderTime,
    renewed_at: HolderTime,
}

/// What to do about an element now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Renew it.
    Renew(Renewal),
    /// Nothing; look again by then at the latest, and whenever T has moved.
    Wait(HolderTime),
    /// Its bound has passed: it has run out.
    Lapsed,
}

/// A renewal to be asked for: delete and add in one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    length: Duration,
}

/// What came of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed<S> {
    /// The element is held.
    Held(S),
    /// The acknowledgement came after the bound: delete the element at once, and say so.
    Late(S),
}

impl Slice {
    pub(super) fn new(bound: HolderTime, renewed_at: HolderTime) -> Self {
        Self { bound, renewed_at }
    }

    /// The proven upper bound of the expiry.
    pub fn bound(&self) -> HolderTime {
        self.bound
    }

    /// Decides what to do. While whole slices fit before T, renewals come every `slice/6`. When acks are missing, the
    /// bound moves toward `T − j` in halves: a renewal is worth its transaction only if it gains time, that is once
    /// less is left of the element than half of what is left of the lease.
    pub fn next(&self, now: HolderTime, t: HolderTime, pace: &Pace) -> Next {
        if now >= self.bound {
            return Next::Lapsed;
        }
        let length = pace.slice.min(horizon(t).since(self.bound));
        let due = if length == pace.slice {
            self.renewed_at + pace.every
        } else if length < 2 * pace.least_gain() {
            self.bound
        } else {
            // From here on `now + length` is later than the bound by the least gain.
            (self.bound + pace.least_gain()).back(length)
        };
        if due <= now && length >= 2 * pace.least_gain() {
            Next::Renew(Renewal { length })
        } else {
            Next::Wait(if length == pace.slice { due } else { due.min(now + pace.tight) }.min(self.bound))
        }
    }

    /// The kernel has renewed the element; `after` was read after its acknowledgement. It can only have done so before
    /// the old bound.
    pub fn renewed(&mut self, renewal: Renewal, after: HolderTime) -> Renewed<()> {
        let late = after > self.bound;
        self.bound = (self.bound + renewal.length).min(after + renewal.length);
        self.renewed_at = after;
        if late { Renewed::Late(()) } else { Renewed::Held(()) }
    }

    /// It is not known whether the kernel has: the bound must allow for it.
    pub fn unknown(&mut self, renewal: Renewal, after: HolderTime) {
        self.bound = (self.bound + renewal.length).min(after + renewal.length);
    }
}

impl Renewal {
    /// How long the element lasts at most, from the commit.
    pub fn length(&self) -> Duration {
        self.length
    }
}
