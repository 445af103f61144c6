//! The state that the log adds up to on this node, and who took part as of its last entry.

use std::sync::Arc;

use super::record::{LogMark, Membership, Payload};
use super::store::snapshot::{Snapshot, SnapshotHead};
use crate::engine::apply::apply_under;
use crate::engine::lease::Rules;
use crate::engine::{Applied, LogIndex, State, apply_blank, apply_membership};

/// What was applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppliedState {
    /// The replicated state. Snapshots share it; the next entry then copies it once.
    pub state: Arc<State>,
    /// How far, and who took part.
    pub head: SnapshotHead,
}

impl AppliedState {
    /// Applies one entry and says what its proposer, the keepers and who watches keys must know.
    pub fn apply(&mut self, rules: &Rules, mark: LogMark, payload: &Payload) -> Applied {
        self.head.last = Some(mark);
        let state = Arc::make_mut(&mut self.state);
        let index = LogIndex(mark.index);
        match payload {
            Payload::Blank => {
                apply_blank(state, index);
                Applied::done()
            }
            Payload::Command(entry) => apply_under(rules, state, index, entry),
            Payload::Membership(membership) => {
                apply_membership(state, index, membership.voters());
                self.head.membership_at = Some(mark);
                self.head.membership = membership.clone();
                Applied::done()
            }
        }
    }

    /// The whole of it as a snapshot.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { head: self.head.clone(), state: self.state.clone() }
    }

    /// Who takes part.
    pub fn membership(&self) -> &Membership {
        &self.head.membership
    }
}

impl From<Snapshot> for AppliedState {
    fn from(snapshot: Snapshot) -> Self {
        Self { state: snapshot.state, head: snapshot.head }
    }
}
