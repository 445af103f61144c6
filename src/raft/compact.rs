//! When this node makes a snapshot, and which entries of its log it then drops.
//!
//! By entries, as configured, but never so often that snapshots of a large state cost more than the log itself, and
//! never so seldom that the log outgrows memory. On a leader, members that can still be served from the log are waited
//! for, above all one that a snapshot is on its way to: without what was written meanwhile it would be of no use.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_channel::Receiver;
use openraft::AsyncRuntime;
use openraft::async_runtime::Select2;

use super::consensus::Consensus;
use super::peers::Peers;
use super::status::RaftStatus;
use super::store::log::{LogSize, LogStore};
use crate::engine::NodeId;

/// Entries between two snapshots, where nothing else is configured.
pub const SNAPSHOT_PERIOD_DEFAULT: u32 = 4000;
/// A snapshot is worth its writing when the log since the last one takes this share of it, as a divisor.
const SHARE: u64 = 2;
/// Memory of entries that no snapshot covers; at so much one is made, however few they are and however large it is.
pub const UNCOVERED_MAX_BYTES: u64 = 64 << 20;
/// Entries kept although a snapshot covers them, for members that are a little behind.
pub const KEPT_ENTRIES: u64 = 1000;
/// Memory of those.
pub const KEPT_MAX_BYTES: u64 = 8 << 20;
/// Memory of the whole log; beyond it nobody is waited for.
pub const LOG_MAX_BYTES: u64 = 128 << 20;
/// Entries dropped at once at least, while some are held for a member.
const DROPPED_MIN: u64 = 1000;
/// A member that was not heard of for so long is not waited for.
const HEARD_WITHIN_MILLIS: u64 = 10_000;
/// Entries applied between two looks.
pub const LOOK_EVERY: u64 = 64;
/// Time between two looks at most.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// Whether a snapshot is due, `since` being the log after the last one.
fn due(period: u64, since: LogSize, snapshot_bytes: u64) -> bool {
    let worth = (snapshot_bytes / SHARE).min(UNCOVERED_MAX_BYTES);
    (since.entries >= period && since.bytes >= worth) || since.bytes >= UNCOVERED_MAX_BYTES
}

/// The entry up to which the log goes, if enough does. `first` is the first entry there is, `least` what is kept
/// anyway, `held` the last entries that members have which are waited for.
fn drop_upto(first: u64, least: u64, log: LogSize, held: impl Iterator<Item = u64>) -> Option<u64> {
    let waited = held.min().filter(|_| log.bytes <= LOG_MAX_BYTES);
    let upto = waited.map_or(least, |held| held.min(least));
    let dropped = (upto + 1).saturating_sub(first);
    (dropped >= DROPPED_MIN || (dropped > 0 && upto == least)).then_some(upto)
}

/// Snapshots on their way to members: the last entry of each.
#[derive(Clone, Default)]
pub struct Sendings(Arc<Mutex<BTreeMap<NodeId, Sending>>>);

#[derive(Clone, Copy)]
struct Sending {
    last: u64,
    arrived: bool,
}

/// A snapshot that is being sent.
pub struct Sent {
    sendings: Sendings,
    to: NodeId,
}

impl Sendings {
    /// A snapshot begins its way.
    pub fn begin(&self, to: NodeId, last: u64) -> Sent {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(to, Sending { last, arrived: false });
        Sent { sendings: self.clone(), to }
    }

    /// The entries after which members need the log that are not seen in their progress yet.
    fn held(&self, status: &RaftStatus) -> Vec<u64> {
        let mut sendings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sendings.retain(|to, sending| {
            let peer = status.peers.get(to);
            let seen = peer.is_none_or(|peer| peer.matched.is_some_and(|matched| matched.0 >= sending.last));
            let silent = peer.is_some_and(|peer| peer.heard.is_none_or(|ago| ago.0 > HEARD_WITHIN_MILLIS));
            !sending.arrived || !(seen || silent)
        });
        sendings.values().map(|sending| sending.last).collect()
    }
}

impl Sent {
    /// It has arrived: it is held until the member's progress shows it.
    pub fn arrived(self) {
        if let Some(sending) = self.sendings.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&self.to) {
            sending.arrived = true;
        }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        let mut sendings = self.sendings.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sendings.get(&self.to).is_some_and(|sending| !sending.arrived) {
            sendings.remove(&self.to);
        }
    }
}

/// Makes snapshots and drops entries until `bell` is closed or consensus ends.
pub(super) fn keep_compact<Rt: AsyncRuntime, P: Peers>(
    consensus: Consensus<Rt, P>,
    period: u32,
    sendings: Sendings,
    bell: Receiver<()>,
) {
    drop(Rt::spawn(async move {
        let mut compaction = Compaction { period: u64::from(period), sendings, asked_at: None };
        loop {
            if let Select2::First(Err(_)) = Rt::select2(Box::pin(bell.recv()), Box::pin(Rt::sleep(LOOK_AFTER))).await {
                return;
            }
            if !compaction.look(&consensus).await {
                return;
            }
        }
    }));
}

struct Compaction {
    period: u64,
    sendings: Sendings,
    /// Where the log was when a snapshot was asked for that is not there yet.
    asked_at: Option<u64>,
}

impl Compaction {
    /// False when consensus has ended.
    async fn look<Rt: AsyncRuntime, P: Peers>(&mut self, consensus: &Consensus<Rt, P>) -> bool {
        let status = consensus.status();
        let log = &consensus.inner.log;
        let newest = consensus.inner.snapshots.newest();
        let covered = newest.as_ref().and_then(|newest| newest.head.last).map(|last| last.index);
        let applied = status.applied.map_or(0, |applied| applied.0);
        // Asked for and not there yet; openraft passes over a question while it is at another snapshot.
        self.asked_at = self.asked_at.filter(|at| covered < Some(*at) && applied < at + self.period);
        if self.asked_at.is_none() && due(self.period, log.size_after(covered), newest.map_or(0, |newest| newest.bytes))
        {
            self.asked_at = Some(applied);
            if consensus.inner.raft.trigger().snapshot().await.is_err() {
                return false;
            }
        }
        match covered.and_then(|covered| self.dropped(covered, log, &status)) {
            Some(upto) => consensus.inner.raft.trigger().purge_log(upto).await.is_ok(),
            None => true,
        }
    }

    fn dropped(&self, covered: u64, log: &LogStore, status: &RaftStatus) -> Option<u64> {
        let first = log.purged().map_or(0, |purged| purged.index + 1);
        let least = log.beyond(covered, KEPT_ENTRIES, KEPT_MAX_BYTES)?;
        let heard = |ago: u64| ago <= HEARD_WITHIN_MILLIS;
        let near = status.peers.values().filter(|peer| peer.heard.is_some_and(|ago| heard(ago.0)));
        let near = near.filter_map(|peer| peer.matched.map(|matched| matched.0)).filter(|matched| matched + 1 >= first);
        drop_upto(first, least, log.size_after(None), near.chain(self.sendings.held(status)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(entries: u64, bytes: u64) -> LogSize {
        LogSize { entries, bytes }
    }

    #[test]
    fn a_snapshot_is_made_by_entries_unless_it_would_cost_more_than_the_log() {
        assert!(due(4000, size(4000, 1 << 20), 0));
        assert!(!due(4000, size(3999, 1 << 20), 0));
        assert!(!due(4000, size(4000, 1 << 20), 100 << 20));
        assert!(due(4000, size(60_000, 50 << 20), 100 << 20));
        assert!(due(4000, size(70_000, 64 << 20), 300 << 20), "no log outgrows memory");
        assert!(due(4000, size(300, 64 << 20), 0), "neither do few entries");
    }

    #[test]
    fn entries_go_when_nobody_near_needs_them_or_when_they_outgrow_memory() {
        let log = size(9000, 9 << 20);
        assert_eq!(drop_upto(0, 3000, log, [].into_iter()), Some(3000));
        assert_eq!(drop_upto(3001, 3000, log, [].into_iter()), None);
        assert_eq!(drop_upto(2999, 3000, log, [].into_iter()), Some(3000), "what is left of a snapshot's goes");
        assert_eq!(drop_upto(0, 3000, log, [5000, 2000].into_iter()), Some(2000));
        assert_eq!(drop_upto(0, 3000, log, [500].into_iter()), None, "too few at once");
        assert_eq!(drop_upto(0, 3000, size(9000, LOG_MAX_BYTES + 1), [500].into_iter()), Some(3000));
    }

    #[test]
    fn what_follows_a_snapshot_on_its_way_is_held_until_the_member_has_it() {
        use crate::engine::LogIndex;
        use crate::package::Millis;
        use crate::raft::status::{PeerProgress, Role};
        let mut status = RaftStatus::empty(NodeId(1), Role::Leader);
        status.peers.insert(NodeId(2), PeerProgress { matched: None, heard: Some(Millis(5)) });
        let sendings = Sendings::default();
        drop(sendings.begin(NodeId(2), 70));
        assert_eq!(sendings.held(&status), [0; 0], "one that failed holds nothing");
        let sent = sendings.begin(NodeId(2), 70);
        assert_eq!(sendings.held(&status), [70]);
        sent.arrived();
        assert_eq!(sendings.held(&status), [70]);
        status.peers.get_mut(&NodeId(2)).unwrap().matched = Some(LogIndex(70));
        assert_eq!(sendings.held(&status), [0; 0]);
    }
}
