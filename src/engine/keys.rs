//! How the key of the datagrams' MAC is replaced: added, then used, then alone, each step once whoever is there goes by the
//! step before. Pure.
//!
//! No lease may lapse because of it (I5), so nobody seals with a key that somebody else may not accept: docs/security.md
//! has the argument.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::lease::majority;
use super::state::DatagramKey;
use super::{LogIndex, NodeId, Nonce, State};

/// Where the replacement of the datagrams' key stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// Why a new key is wanted; none when none is.
    pub wanted: Option<String>,
    /// The key that everybody accepts and nobody seals with yet.
    pub coming: Option<u32>,
    /// The entry that changed the keys last.
    pub changed: LogIndex,
    /// Keepers that go by the keys as of that entry: in which life.
    pub confirmed: BTreeMap<NodeId, Nonce>,
}

/// The next step of a replacement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyStep {
    /// Make a new key, which everybody is to accept.
    Add {
        /// Its id.
        id: u32,
        /// What it is wanted for.
        why: String,
    },
    /// Seal with it from now on.
    Use {
        /// Its id.
        id: u32,
    },
    /// Accept no other any more.
    Drop {
        /// The id of the key that stays.
        keep: u32,
    },
}

impl State {
    /// The datagram keys; none without a cluster.
    pub fn datagram_keys(&self) -> Option<&BTreeMap<u32, DatagramKey>> {
        self.cluster.as_ref().map(|cluster| &cluster.datagram_keys)
    }

    /// The id of the key to seal with: the largest that is not coming yet.
    pub fn sealing_key(&self) -> Option<u32> {
        self.datagram_keys()?.keys().rev().find(|id| Some(**id) != self.rotation.coming).copied()
    }

    /// The step that is due; whether it may be taken is for [`State::keys_wait_for`] to say.
    pub fn key_step(&self) -> Option<KeyStep> {
        let keys = self.datagram_keys()?;
        let newest = keys.last_key_value().map(|(id, _)| *id).unwrap_or_default();
        match (self.rotation.coming, &self.rotation.wanted) {
            (Some(id), _) => Some(KeyStep::Use { id }),
            (None, _) if keys.len() > 1 => Some(KeyStep::Drop { keep: newest }),
            // An id is used once; there are more of them than nodes that could be removed.
            (None, Some(why)) => newest.checked_add(1).map(|id| KeyStep::Add { id, why: why.clone() }),
            (None, None) => None,
        }
    }

    /// Whether that life of a node's keeper goes by the present keys, as it said.
    pub fn has_keys(&self, node: NodeId, life: Nonce) -> bool {
        self.rotation.confirmed.get(&node) == Some(&life)
    }

    /// Whose keepers must go by the present keys before they may change again: of everybody with a live session, and of
    /// as many more as make a majority of each lease set. Empty when all do.
    pub fn keys_wait_for(&self) -> BTreeSet<NodeId> {
        let hosts = self.sessions.values().filter(|session| !self.has_keys(session.node, session.nonce));
        let mut waited: BTreeSet<NodeId> = hosts.map(|session| session.node).collect();
        for set in self.lease_sets.values() {
            let without = |node: &&NodeId| {
                let life = self.voter_lives.get(node);
                life.is_none_or(|life| !self.has_keys(**node, life.nonce))
            };
            let missing: BTreeSet<NodeId> = set.iter().filter(without).copied().collect();
            if set.len() - missing.len() < majority(set.len()) {
                waited.extend(missing);
            }
        }
        waited
    }
}
