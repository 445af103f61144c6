//! Reservation keys: which ownership of which cluster a LUN was taken for, in 64 bits.
//!
//! ```text
//!  63       56 55       48 47       40  39  38                               0
//! ┌───────────┬───────────┬───────────┬────┬──────────────────────────────────┐
//! │ tag 0xB7  │ cluster   │ node      │ h  │ fencing token                    │
//! └───────────┴───────────┴───────────┴────┴──────────────────────────────────┘
//! ```
//!
//! The bit `h` (heir) says that the LUN was found registered when it was taken: an older owner has not given it up
//! itself, and may still be frozen with it mounted. What is registered so stays registered and reserved when it is given
//! up, and passes from heir to heir: with no reservation at all, that older owner would write once it thaws.
//!
//! The tag tells our keys from other programs', and makes none of them zero, which means "no key". Cluster and node are
//! folded to eight bits: together with the tag they keep a stranger's key from being taken for ours (one in 65,536),
//! and the node's are for people to read. What decides is the token: the index of the log entry that gave the
//! ownership, so that of two keys of one cluster the larger token is the newer ownership, whatever the package.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::engine::{ClusterId, NodeId, Token};

/// The uppermost byte of every key of ours.
pub const TAG: u8 = 0xB7;
/// The largest token that a key has room for: 10,000 entries a second fill it in a year and eight months, a thousand in
/// seventeen years.
pub const TOKEN_MAX: Token = Token((1 << TOKEN_BITS) - 1);

const TOKEN_BITS: u32 = 39;
const HEIR: u64 = 1 << TOKEN_BITS;
const NODE_SHIFT: u32 = TOKEN_BITS + 1;
const CLUSTER_SHIFT: u32 = 48;
const TAG_SHIFT: u32 = 56;

/// A reservation key, ours or not; written as sg_persist writes it. Never compared by size: ask [`Key::ours`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(pub u64);

/// What one of our keys says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// The cluster, folded.
    pub cluster: u8,
    /// The lowest eight bits of the node's id.
    pub node: u8,
    /// The ownership.
    pub token: Token,
}

/// A token that no key has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "token {token} does not fit into a reservation key (at most {TOKEN_MAX}); no LUN can be taken. Make a new cluster \
     and move the packages there"
)]
pub struct TokenTooLarge {
    /// The token.
    pub token: Token,
}

impl Key {
    /// The key of an ownership.
    ///
    /// # Errors
    /// [`TokenTooLarge`].
    pub fn of(cluster: ClusterId, node: NodeId, token: Token) -> Result<Self, TokenTooLarge> {
        if token > TOKEN_MAX {
            return Err(TokenTooLarge { token });
        }
        let folded = u64::from(cluster.folded());
        let node = node.0 & 0xFF;
        Ok(Self(u64::from(TAG) << TAG_SHIFT | folded << CLUSTER_SHIFT | node << NODE_SHIFT | token.0))
    }

    /// The same ownership's, of a LUN that was found registered when it was taken.
    #[must_use]
    pub fn heir(self) -> Self {
        Self(self.0 | HEIR)
    }

    /// Whether it is [`Key::heir`].
    pub fn is_heir(self) -> bool {
        self.meaning().is_some() && self.0 & HEIR != 0
    }

    /// Whether both are of the same ownership.
    pub fn is_of(self, other: Key) -> bool {
        self == other || (self.meaning().is_some() && self.heir() == other.heir())
    }

    /// What it says, if it is one of pkgctl's, of whichever cluster.
    pub fn meaning(self) -> Option<Meaning> {
        let [tag, cluster, node, ..] = self.0.to_be_bytes();
        (tag == TAG).then_some(Meaning { cluster, node, token: Token(self.0 & TOKEN_MAX.0) })
    }

    /// The token, if it is a key of the same cluster as this one.
    pub fn sibling(self, other: Key) -> Option<Token> {
        let (own, other) = (self.meaning()?, other.meaning()?);
        (own.cluster == other.cluster).then_some(other.token)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId(0x0102_0304_0506_0708);

    #[test]
    fn a_key_carries_tag_cluster_node_and_token_in_its_documented_places() {
        let key = Key::of(CLUSTER, NodeId(3), Token(0x12_3456_789A)).unwrap();
        assert_eq!(key.to_string(), "0xb70803123456789a");
        assert_eq!(key.meaning(), Some(Meaning { cluster: 8, node: 3, token: Token(0x12_3456_789A) }));
        let far = Key::of(CLUSTER, NodeId(0x1203), Token(1)).unwrap();
        assert_eq!(far.meaning().map(|m| m.node), Some(3), "the lowest eight bits");
    }

    #[test]
    fn no_key_is_zero_and_every_token_that_fits_comes_back() {
        for token in [0, 1, TOKEN_MAX.0 - 1, TOKEN_MAX.0] {
            let key = Key::of(ClusterId(0), NodeId(0), Token(token)).unwrap();
            assert_ne!(key.0, 0);
            assert_eq!(key.meaning().map(|m| m.token), Some(Token(token)));
        }
        let why = Key::of(CLUSTER, NodeId(1), Token(TOKEN_MAX.0 + 1)).unwrap_err().to_string();
        assert!(why.contains("549755813888") && why.contains("no LUN can be taken"), "{why}");
    }

    #[test]
    fn an_heirs_key_is_of_the_same_ownership_and_no_strangers_is() {
        let key = Key::of(CLUSTER, NodeId(3), Token(7)).unwrap();
        assert!(key.heir().is_heir() && !key.is_heir() && key.heir().is_of(key) && key.is_of(key.heir()));
        assert_eq!(key.heir().meaning(), key.meaning());
        assert!(!key.is_of(Key::of(CLUSTER, NodeId(3), Token(8)).unwrap().heir()));
        assert!(!Key(1).is_of(Key(1 | HEIR)) && !Key(HEIR).is_heir());
    }

    #[test]
    fn keys_of_other_programs_and_of_other_clusters_are_told_from_ours() {
        let own = Key::of(CLUSTER, NodeId(1), Token(9)).unwrap();
        assert_eq!(own.sibling(Key::of(CLUSTER, NodeId(2), Token(7)).unwrap()), Some(Token(7)));
        assert_eq!(own.sibling(Key::of(ClusterId(9), NodeId(2), Token(7)).unwrap()), None);
        for stranger in [0, 1, 0x1234, 0xDEAD_BEEF_0000_0001, u64::MAX] {
            assert_eq!(own.sibling(Key(stranger)), None, "{stranger:#x}");
        }
    }
}
