//! Timing profiles: one word chooses every interval, so that the rules between them hold by construction.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::package::Millis;

/// Bound on each node's clock rate error against true time (leases.md, `rho`), in parts per thousand.
pub const RHO_PERMILLE: u64 = 10;
/// Worst kernel lateness allowed for (leases.md, `j`).
pub const KERNEL_LATENESS: Duration = Duration::from_millis(25);

/// A named set of intervals, fixed when the cluster is created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// ttl 1500 ms; for most clusters.
    #[default]
    Default,
    /// ttl 400 ms; only where SCHED_FIFO is granted.
    Fast,
    /// ttl 4 s; on virtual machines that their host may hold up for a second.
    Vm,
    /// ttl 10 s; between sites.
    Wan,
}

impl Profile {
    /// The word used in files and tables.
    pub fn word(self) -> &'static str {
        match self {
            Profile::Default => "default",
            Profile::Fast => "fast",
            Profile::Vm => "vm",
            Profile::Wan => "wan",
        }
    }

    /// A session's lease time.
    pub fn ttl(self) -> Millis {
        match self {
            Profile::Default => Millis(1500),
            Profile::Fast => Millis(400),
            Profile::Vm => Millis(4000),
            Profile::Wan => Millis(10_000),
        }
    }

    /// Time between two renewals.
    pub fn renew_every(self) -> Duration {
        match self {
            Profile::Default => Duration::from_millis(100),
            Profile::Fast => Duration::from_millis(20),
            Profile::Vm => Duration::from_millis(250),
            Profile::Wan => Duration::from_millis(1000),
        }
    }

    /// Raft's election timeout, smallest and largest; 2·largest stays under 0.45·ttl.
    pub fn election(self) -> (Duration, Duration) {
        let (min, max) = match self {
            Profile::Default => (150, 300),
            Profile::Fast => (45, 90),
            Profile::Vm => (400, 800),
            Profile::Wan => (1000, 2000),
        };
        (Duration::from_millis(min), Duration::from_millis(max))
    }

    /// Raft's heartbeat interval.
    pub fn heartbeat(self) -> Duration {
        Duration::from_millis(match self {
            Profile::Default => 50,
            Profile::Fast => 15,
            Profile::Vm => 120,
            Profile::Wan => 200,
        })
    }
}

/// Length of a lease on the holder's clock for a session of that ttl: ttl − 2·rho·ttl − 2 ms (rule 1).
pub fn lease_length(ttl: Millis) -> Duration {
    let ttl = ttl.duration();
    let drift = ttl * u32::try_from(2 * RHO_PERMILLE).unwrap_or(u32::MAX) / 1000;
    ttl.saturating_sub(drift).saturating_sub(Duration::from_millis(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elections_end_before_promises_do() {
        for profile in [Profile::Default, Profile::Fast, Profile::Vm, Profile::Wan] {
            assert!(2 * profile.election().1 * 100 <= profile.ttl().duration() * 45, "{profile:?}");
        }
    }

    #[test]
    fn a_lease_is_shorter_than_its_promise_by_both_clocks_errors() {
        assert_eq!(lease_length(Millis(1500)), Duration::from_millis(1500 - 30 - 2));
        assert_eq!(lease_length(Millis(400)), Duration::from_millis(400 - 8 - 2));
    }
}
