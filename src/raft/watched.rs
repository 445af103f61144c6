//! What was changed of the key/value tree lately, for whoever watches keys on this node.
//!
//! Kept in memory only, the newest changes: a watcher that has fallen behind them, or across a snapshot, is told so and
//! reads the keys again. It never gets a gap.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_channel::{Receiver, Sender};

use crate::engine::kv::{Item, Key, Range};
use crate::engine::{LogIndex, State};

/// Changes kept at most.
pub const CHANGES_MAX: usize = 16_384;
/// Bytes of keys and values among them at most.
pub const CHANGES_MAX_BYTES: usize = 8 << 20;
/// Changes handed over at once, unless one entry alone made more.
const BATCH: usize = 256;

/// One key's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvChange {
    /// The entry that made it.
    pub revision: LogIndex,
    /// Which key.
    pub key: Key,
    /// What it has now; none if it was taken away.
    pub item: Option<Item>,
}

impl KvChange {
    fn bytes(&self) -> usize {
        self.key.as_str().len() + self.item.as_ref().map_or(0, |item| item.value.bytes().len())
    }
}

/// Why a watch cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchEnd {
    /// Changes after the entry asked for are kept no more.
    #[error(
        "changes up to entry {kept_after} are kept no more: read the keys again, then watch from the entry that answer \
         names"
    )]
    Behind {
        /// All changes after this entry are kept.
        kept_after: LogIndex,
    },
    /// This node's agent ends.
    #[error("this node's agent ends: watch on another node, from the last entry you heard of")]
    Closed,
}

/// The newest changes, and who waits for more.
pub struct Watched {
    recent: Arc<Mutex<Recent>>,
}

struct Recent {
    changes: VecDeque<KvChange>,
    bytes: usize,
    /// All changes after this entry are there.
    kept_after: LogIndex,
    closed: bool,
    bells: Vec<Weak<Sender<()>>>,
}

impl Watched {
    /// Nothing is known of what was changed up to that entry.
    pub fn new(kept_after: LogIndex) -> Self {
        let recent = Recent { changes: VecDeque::new(), bytes: 0, kept_after, closed: false, bells: Vec::new() };
        Self { recent: Arc::new(Mutex::new(recent)) }
    }

    /// An entry was applied, and has touched these keys. Called in log order, under the lock of the applied state.
    pub fn touched(&self, state: &State, mut keys: Vec<Key>) {
        if keys.is_empty() {
            return;
        }
        keys.sort();
        keys.dedup();
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            let item = state.kv.get(&key).cloned();
            recent.push(KvChange { revision: state.applied, key, item });
        }
        recent.ring();
    }

    /// The state was replaced by one that reaches to that entry.
    pub fn replaced(&self, applied: LogIndex) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.changes.clear();
        recent.bytes = 0;
        recent.kept_after = applied;
        recent.ring();
    }

    /// Nothing more will come.
    pub fn close(&self) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.closed = true;
        recent.ring();
    }

    /// Whether anybody watches.
    pub fn is_watched(&self) -> bool {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.bells.iter().any(|bell| bell.strong_count() > 0)
    }

    /// Follows a range from that entry on.
    pub fn watch(&self, range: Range, after: LogIndex) -> Watch {
        let (bell, rung) = async_channel::bounded(1);
        let bell = Arc::new(bell);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.bells.push(Arc::downgrade(&bell));
        Watch { recent: self.recent.clone(), range, after, _bell: bell, rung }
    }
}

impl Recent {
    fn push(&mut self, change: KvChange) {
        self.bytes += change.bytes();
        self.changes.push_back(change);
        while self.changes.len() > CHANGES_MAX || self.bytes > CHANGES_MAX_BYTES {
            let Some(gone) = self.changes.pop_front() else { return };
            self.bytes -= gone.bytes();
            self.kept_after = gone.revision;
        }
    }

    fn ring(&mut self) {
        self.bells.retain(|bell| {
            let Some(bell) = bell.upgrade() else { return false };
            // Full means that it rings already.
            let _ = bell.try_send(());
            true
        });
    }
}

/// One watcher.
pub struct Watch {
    recent: Arc<Mutex<Recent>>,
    range: Range,
    after: LogIndex,
    _bell: Arc<Sender<()>>,
    rung: Receiver<()>,
}

impl Watch {
    /// Waits for the next changes of the range: whole entries, in order, at least one.
    ///
    /// # Errors
    /// When some of them are kept no more, or this node ends.
    pub async fn next(&mut self) -> Result<Vec<KvChange>, WatchEnd> {
        loop {
            let some = self.take()?;
            if !some.is_empty() {
                return Ok(some);
            }
            self.rung.recv().await.map_err(|_| WatchEnd::Closed)?;
        }
    }

    /// All changes up to this entry were handed over, or were of other keys.
    pub fn seen(&self) -> LogIndex {
        self.after
    }

    /// The next changes if there are some.
    ///
    /// # Errors
    /// As for [`Self::next`].
    pub fn take(&mut self) -> Result<Vec<KvChange>, WatchEnd> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if self.after < recent.kept_after {
            return Err(WatchEnd::Behind { kept_after: recent.kept_after });
        }
        let first = recent.changes.partition_point(|change| change.revision <= self.after);
        let mut some: Vec<KvChange> = Vec::new();
        for change in recent.changes.range(first..) {
            if some.len() >= BATCH && change.revision > self.after {
                return Ok(some);
            }
            self.after = change.revision;
            if self.range.contains(&change.key) {
                some.push(change.clone());
            }
        }
        if some.is_empty() && recent.closed { Err(WatchEnd::Closed) } else { Ok(some) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kv::{Change, Txn};

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    /// A state to which each entry gives a key the value of the entry's index.
    struct Log {
        state: State,
        watched: Watched,
    }

    impl Log {
        fn new() -> Self {
            Self { state: State::default(), watched: Watched::new(LogIndex(0)) }
        }

        fn put(&mut self, keys: &[&str]) {
            let index = LogIndex(self.state.applied.0 + 1);
            let put = |name: &&str| Change::Put { key: key(name), value: index.to_string().into() };
            let txn = Txn { then: keys.iter().map(put).collect(), ..Txn::default() };
            self.state.applied = index;
            let (_, touched) = self.state.kv.carry_out(&txn, index).unwrap();
            self.watched.touched(&self.state, touched);
        }
    }

    fn seen(some: &[KvChange]) -> Vec<(u64, &str)> {
        some.iter().map(|change| (change.revision.0, change.key.as_str())).collect()
    }

    #[test]
    fn a_watcher_hears_of_its_keys_only_in_order_and_from_where_it_asked() {
        let mut log = Log::new();
        let mut all = log.watched.watch(Range::All, LogIndex(0));
        log.put(&["a"]);
        log.put(&["d/x", "b", "d/x"]);
        let mut below = log.watched.watch(Range::Below(key("d")), LogIndex(1));
        let mut late = log.watched.watch(Range::All, LogIndex(2));
        assert_eq!(seen(&all.take().unwrap()), [(1, "a"), (2, "b"), (2, "d/x")]);
        assert_eq!(seen(&below.take().unwrap()), [(2, "d/x")]);
        assert_eq!(late.take().unwrap(), []);
        log.put(&["c"]);
        assert_eq!(seen(&late.take().unwrap()), [(3, "c")]);
        assert_eq!(below.take().unwrap(), []);
    }

    #[test]
    fn who_falls_behind_what_is_kept_or_across_a_snapshot_is_told() {
        let mut log = Log::new();
        let mut slow = log.watched.watch(Range::Below(key("none")), LogIndex(0));
        let mut asleep = log.watched.watch(Range::All, LogIndex(0));
        assert_eq!(slow.take(), Ok(Vec::new()));
        for _ in 0..=CHANGES_MAX {
            log.put(&["k"]);
        }
        assert_eq!(asleep.take(), Err(WatchEnd::Behind { kept_after: LogIndex(1) }));
        let mut awake = log.watched.watch(Range::All, LogIndex(1));
        let mut total = 0;
        loop {
            let some = awake.take().unwrap().len();
            total += some;
            if some == 0 {
                break;
            }
        }
        assert_eq!(total, CHANGES_MAX);
        log.watched.replaced(LogIndex(90_000));
        assert_eq!(awake.take(), Err(WatchEnd::Behind { kept_after: LogIndex(90_000) }));
        log.watched.close();
        assert_eq!(log.watched.watch(Range::All, LogIndex(90_000)).take(), Err(WatchEnd::Closed));
    }

    #[test]
    fn an_entry_is_handed_over_whole() {
        let mut log = Log::new();
        let names: Vec<String> = (0..200).map(|at| format!("k{at}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        log.put(&names);
        log.put(&names);
        log.put(&names);
        let mut all = log.watched.watch(Range::All, LogIndex(0));
        assert_eq!(all.take().unwrap().len(), 400);
        assert_eq!(all.take().unwrap().len(), 200);
    }
}
