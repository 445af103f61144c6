//! One reading of the machine's monotonic clock, comparable between all nodes of a lab because they share a kernel.
//!
//! The lab measures; nothing it reads ever decides anything. That is why it has a clock reading of its own instead of
//! the lease clocks of `host::clock`, whose types forbid comparing two nodes.

use std::time::Duration;

use nix::poll::{PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::host::clock::wall_now;

/// Nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(pub u64);

/// How often a condition without an event of its own is looked at.
const LOOK_EVERY_MS: u16 = 2;

impl Moment {
    /// The present.
    pub fn now() -> Self {
        // CLOCK_MONOTONIC cannot fail on Linux.
        let at = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        Self(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Time from `earlier` to `self`, zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Milliseconds from 1970 to a moment not long ago, by the wall clock as it is now; it counts whole milliseconds.
    pub fn wall(self) -> f64 {
        // Counts of milliseconds since 1970 are exact in an f64.
        #[expect(clippy::cast_precision_loss)]
        let now = wall_now().0 as f64;
        now - Self::now().since(self).as_secs_f64() * 1000.0
    }

    /// `self` moved on by a duration.
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Looks at `condition` every two milliseconds until it yields something, at most for `limit`; `None` when it never did.
///
/// For conditions that have no event to wait for, such as the state of another node's process.
pub fn wait_until<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Moment::now().after(limit);
    loop {
        if let Some(found) = condition() {
            return Some(found);
        }
        if Moment::now() >= end {
            return None;
        }
        // A poll of nothing is the pause between two looks; an early return by a signal only looks sooner.
        let _ = poll(&mut [], PollTimeout::from(LOOK_EVERY_MS));
    }
}
