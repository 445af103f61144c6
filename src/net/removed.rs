//! The word that a member has for a node which was removed, on the connection that the node made: definite, unlike any
//! other refusal.
//!
//! Who says it has proved by its certificate to be a node of the cluster, and one to which the removed node itself
//! turned. Removals are entries of the log and ids are never used again (rule 18), so the word never becomes untrue; it
//! names the id, and one about another id says nothing about this node.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::identity::{Bearer, Subject};
use crate::engine::{ClusterId, LogIndex, NodeId};

/// A node is a member no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removed {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Which node.
    pub node: NodeId,
    /// The entry that removed it, or a later one if the teller's log does not go back so far.
    pub index: LogIndex,
}

impl Removed {
    /// As it travels: text, so that a node which does not know this word shows it as a reason to refuse.
    pub fn to_text(self) -> String {
        serde_json::to_string(&self).unwrap_or_default()
    }

    /// Reads the word; none unless it is about the bearer of these credentials.
    pub fn about(bearer: &Bearer, text: &[u8]) -> Option<Self> {
        let word: Self = serde_json::from_slice(text).ok()?;
        let me = bearer.subject == Subject::Node(word.node) && bearer.cluster == word.cluster;
        // Nobody is removed by an entry before the one that took it in.
        (me && word.index.0 > word.node.0).then_some(word)
    }
}

/// Where the word is left for whoever waits for it; the first one stays.
#[derive(Debug, Default)]
pub struct Told {
    word: Mutex<Option<(Removed, NodeId)>>,
    rung: Notify,
}

impl Told {
    /// A member has said so.
    pub fn tell(&self, removed: Removed, by: NodeId) {
        self.word.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((removed, by));
        self.rung.notify_waiters();
    }

    /// Waits until it is said; answers the word, and whose it is.
    pub async fn heard(&self) -> (Removed, NodeId) {
        loop {
            let mut rung = std::pin::pin!(self.rung.notified());
            rung.as_mut().enable();
            if let Some(said) = *self.word.lock().unwrap_or_else(PoisonError::into_inner) {
                return said;
            }
            rung.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(cluster: u64, node: u64) -> Bearer {
        Bearer { cluster: ClusterId(cluster), subject: Subject::Node(NodeId(node)) }
    }

    #[test]
    fn only_a_word_about_this_very_node_counts() {
        let word = Removed { cluster: ClusterId(7), node: NodeId(20), index: LogIndex(90) };
        let text = word.to_text().into_bytes();
        assert_eq!(Removed::about(&bearer(7, 20), &text), Some(word));
        assert_eq!(Removed::about(&bearer(7, 95), &text), None, "it has come back under a new id");
        assert_eq!(Removed::about(&bearer(8, 20), &text), None, "another cluster's");
        let early = Removed { index: LogIndex(19), ..word };
        assert_eq!(Removed::about(&bearer(7, 20), early.to_text().as_bytes()), None);
        for cut in 0..text.len() {
            assert_eq!(Removed::about(&bearer(7, 20), &text[..cut]), None);
        }
    }

    #[tokio::test]
    async fn whoever_waits_hears_the_first_word() {
        let told = Told::default();
        let first = Removed { cluster: ClusterId(7), node: NodeId(20), index: LogIndex(90) };
        let (said, ()) = tokio::join!(told.heard(), async { told.tell(first, NodeId(1)) });
        told.tell(Removed { index: LogIndex(95), ..first }, NodeId(2));
        assert_eq!((said, told.heard().await), ((first, NodeId(1)), (first, NodeId(1))));
    }
}
