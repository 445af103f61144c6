//! Readings of one node's clocks, a type per meaning, so that they cannot be mixed or compared across meanings.
//!
//! Rule 2 of docs/leases.md: who holds a lease counts elapsed time with the faster of two kernel clocks, who waits for
//! one to end counts with the slower. `host::clock` makes the readings; everything else receives them.

use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

macro_rules! reading {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// A reading that many milliseconds after the origin; for tests and scenarios.
            pub const fn from_millis(ms: u64) -> Self {
                Self(ms * 1_000_000)
            }

            /// Time passed since `earlier`, zero if `earlier` is later.
            pub fn since(self, earlier: Self) -> Duration {
                Duration::from_nanos(self.0.saturating_sub(earlier.0))
            }

            /// `self` moved back, stopping at the origin.
            pub fn back(self, by: Duration) -> Self {
                Self(self.0.saturating_sub(nanos(by)))
            }
        }

        impl Add<Duration> for $name {
            type Output = Self;
            fn add(self, by: Duration) -> Self {
                Self(self.0.saturating_add(nanos(by)))
            }
        }

        impl Sub<$name> for $name {
            type Output = Duration;
            fn sub(self, earlier: Self) -> Duration {
                self.since(earlier)
            }
        }
    };
}

fn nanos(by: Duration) -> u64 {
    u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)
}

reading!(
    /// Nanoseconds on the holder's clock: elapsed time is the larger of CLOCK_BOOTTIME's and CLOCK_MONOTONIC_RAW's.
    HolderTime
);
reading!(
    /// Nanoseconds on the voter's clock: elapsed time is the smaller of the two. Waiting leaders use it too.
    VoterTime
);
reading!(
    /// CLOCK_BOOTTIME in nanoseconds, the clock of armed kernel timers.
    BootTime
);

/// Wall-clock milliseconds since 1970 as the proposer stamped them: data for people, never compared for safety.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallMillis(pub u64);
