//! Openraft's configuration, from a profile.

use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, ConfigError, SnapshotPolicy, StepDownPolicy};

use crate::engine::Profile;

/// A new member is waited for until it is no further behind than this.
const BEHIND_MAX: u64 = 6000;
/// Entries of one append to a follower.
const APPEND_ENTRIES: u64 = 256;
/// Entries of one write to the log.
const WRITE_ENTRIES: u64 = 1024;

/// How long a request with entries may take: a follower answers once they are durable there.
pub fn append_within(profile: Profile) -> Duration {
    2 * profile.election().1
}

/// How long a restarted voter neither votes nor campaigns: an old leader may still trust a lease that it gave.
pub fn quiet_after_restart(profile: Profile) -> Duration {
    profile.election().1
}

/// The configuration. Elections start disabled when `quiet`.
///
/// # Errors
/// When the profile's intervals contradict one another.
pub fn settings(profile: Profile, cluster: String, quiet: bool) -> Result<Arc<Config>, ConfigError> {
    let (min, max) = profile.election();
    let heartbeat = millis(profile.heartbeat());
    let config = Config {
        cluster_name: cluster,
        election_timeout_min: millis(min),
        election_timeout_max: millis(max),
        heartbeat_interval: heartbeat,
        max_payload_entries: APPEND_ENTRIES,
        max_append_entries: Some(WRITE_ENTRIES),
        replication_lag_threshold: BEHIND_MAX,
        // `raft::compact` decides about both.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        enable_elect: !quiet,
        // A removed leader goes when the agent says so, after the lease sets have followed (rule 14).
        removed_leader_step_down: StepDownPolicy::Never,
        // A leader that can send but not hear falls silent in turns, so that the others can elect.
        quorum_loss_probe_interval: Some(2 * millis(max)),
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        // A node that comes back is found again within a heartbeat, not within the default second.
        backoff: format!("{heartbeat}ms {heartbeat}ms {heartbeat}ms"),
        ..Config::default()
    };
    config.validate().map(Arc::new)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_makes_a_valid_configuration() {
        for profile in [Profile::Default, Profile::Fast, Profile::Vm, Profile::Wan] {
            let config = settings(profile, "c".into(), true).unwrap();
            assert!(!config.enable_elect);
            assert_eq!(config.snapshot_policy, SnapshotPolicy::Never);
        }
    }
}
