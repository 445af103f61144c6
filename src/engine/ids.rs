//! Identities as types of their own. Most are log indexes: the log is the only source of order.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id!(
    /// Position in the replicated log.
    LogIndex
);
id!(
    /// A node, given by the log when it joins and never reused (leases.md rule 18).
    NodeId
);
id!(
    /// One registration of one keeper life: the index of the `Register` entry that created it (rule 4).
    SessionId
);
id!(
    /// Fencing token: the index of the entry that gave the ownership; strictly increasing per package (I2).
    Token
);
id!(
    /// A lease set: the index of the entry that made it (rule 14).
    SetId
);
id!(
    /// A life of a voter's keeper: the index of its `VoterUp` entry (rule 9).
    Incarnation
);

/// The node that creates a cluster. Later nodes have larger ids: the index of the entry that took them in.
pub const FOUNDER: NodeId = NodeId(1);

/// A random number that names one life of one keeper, or one request (rule 4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug, Default)]
#[serde(transparent)]
pub struct Nonce(pub u64);

/// The identity of a cluster, random at `cluster init`; messages of another cluster are dropped. Written as people see
/// it, in hex: many readers of JSON round whole numbers of its size.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Debug, Default)]
#[serde(into = "String", try_from = "String")]
pub struct ClusterId(pub u64);

impl ClusterId {
    /// The exclusive or of its bytes: all that a reservation key has room for.
    pub fn folded(self) -> u8 {
        self.0.to_be_bytes().into_iter().fold(0, |folded, byte| folded ^ byte)
    }
}

impl From<ClusterId> for String {
    fn from(id: ClusterId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for ClusterId {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u64::from_str_radix(&text, 16).map(Self)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<LogIndex> for Token {
    fn from(index: LogIndex) -> Self {
        Self(index.0)
    }
}

impl From<LogIndex> for SessionId {
    fn from(index: LogIndex) -> Self {
        Self(index.0)
    }
}

impl From<LogIndex> for SetId {
    fn from(index: LogIndex) -> Self {
        Self(index.0)
    }
}

impl From<LogIndex> for Incarnation {
    fn from(index: LogIndex) -> Self {
        Self(index.0)
    }
}
