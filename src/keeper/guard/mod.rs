//! The bookkeeping of lease elements in the kernel: pure, with time as an argument (design 6.1, rules 22 and 23).
//!
//! The kernel counts an element's timeout from the moment it commits, and we may be paused between any two of our own
//! instructions. What can be proven is an upper bound `B` of the element's expiry. Every request is compare-and-set
//! (it fails once the element has run out), so it commits before `B` or not at all, and an extension by
//! `s = min(slice, (T − j) − B)` cannot end after `T − j`, wherever we were paused.
//!
//! - [`Pace`]: how long a slice is and how often it is renewed.
//! - [`Permit`]: the first grant.
//! - [`Slice`]: an open element.

mod permit;
mod slice;

use std::time::Duration;

pub use permit::{Grant, Permit, Permitting};
pub use slice::{Next, Renewal, Renewed, Slice};

use crate::engine::HolderTime;
use crate::engine::profile::{KERNEL_LATENESS, RHO_PERMILLE};
use crate::package::Millis;

/// A slice, as a share of the lease time, in parts per hundred.
const SLICE_PERCENT: u32 = 40;
/// Renewals per slice while the lease is being renewed.
const RENEWALS_PER_SLICE: u32 = 6;
/// Longest pause between looks at an element while acks are missing.
const TIGHT: Duration = Duration::from_millis(30);

/// How long a slice is and how often it is renewed; follows from the session's ttl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Longest extension asked for. Not shorter, because any other nftables transaction in the network namespace
    /// blocks ours (0.2–0.63 s were measured).
    pub slice: Duration,
    /// Time between renewals while T is far enough ahead for whole slices.
    pub every: Duration,
    /// Time between looks once it is not.
    pub tight: Duration,
}

impl Pace {
    /// The pace of a session with that lease time.
    pub fn of(ttl: Millis) -> Self {
        let slice = ttl.duration() * SLICE_PERCENT / 100;
        let every = slice / RENEWALS_PER_SLICE;
        Self { slice, every, tight: every.min(TIGHT) }
    }

    /// Least gain worth a transaction.
    fn least_gain(&self) -> Duration {
        self.tight / 2
    }
}

/// When elements must have run out: T less the worst kernel lateness (rule 22).
pub fn horizon(t: HolderTime) -> HolderTime {
    t.back(KERNEL_LATENESS)
}

/// The timeout to ask the kernel for, so that the element lives no longer than `length` on the holder's clock: the
/// kernel counts jiffies of CLOCK_MONOTONIC, which may run slower by rho/2, or by `slow` if that was measured to be more
/// (a part of one; rule 2). Whole milliseconds, rounded down; zero means that it is too short to ask for, never "for
/// ever".
pub fn kernel_timeout(length: Duration, slow: f64) -> Duration {
    let allowed = f64::from(u32::try_from(RHO_PERMILLE).unwrap_or(u32::MAX)) / 2000.0;
    let shortened = length.mul_f64(1.0 - slow.max(allowed).min(1.0));
    Duration::from_millis(u64::try_from(shortened.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
