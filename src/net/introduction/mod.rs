//! How two nodes that share a secret, and know nothing else of each other, come to one cluster (docs/security.md).
//!
//! A node that knows a member's address asks it for a join token; or, from a member's machine, a node that is in no cluster
//! is invited and sent one. With the token it joins as every node does (`net::join`). Over TLS whose certificate nobody
//! knows yet:
//!
//! 1. The caller says what it is for and a nonce; the listener answers with a nonce.
//! 2. The caller proves the secret, and gets nothing but a refusal if it does not.
//! 3. The listener proves it. From here on the connection is as good as one between members.
//! 4. The token: from the member to the one who asked, or to the one who is invited, who says what came of it.
//!
//! - `secret`: the file. `proof`: what is proved, as pure functions.
//! - `caller`, `listener`: the two sides. `waiting`: the port of a node that may be invited.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::proof::BYTES;
use super::join::TalkError;
use crate::engine::{ClusterId, NodeId};
use crate::package::NodeName;

pub mod proof;
pub mod secret;

mod caller;
mod listener;
mod waiting;

pub use caller::{IntroductionError, Knock, ask_for_token, invite};
pub use listener::{Invited, Tokens, put_off, serve_asker, serve_inviter};
pub use proof::{Purpose, Side, Transcript};
pub use secret::{SecretError, SharedSecret};
pub use waiting::{Invitee, Waiting};

/// Version of this protocol.
pub const VERSION: u32 = 1;
/// What the TLS connection's keying material is exported under.
pub const EXPORTER: &[u8] = b"EXPORTER-pkgctl-introduction-1";
/// What a node says that is asked for a token and has none to give.
pub const IN_NO_CLUSTER: &str = "that node is in no cluster itself";
/// How long an introduction takes up its place at least.
pub const TIME_MIN: Duration = super::listener::JOIN_TIME_MIN;
/// Largest message, in bytes; a token and a name.
const MESSAGE_MAX_BYTES: usize = 4 << 10;
/// How long either side may take for its next word.
const WORD_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a member may take to put a token into the log.
const TOKEN_TIME_MAX: Duration = Duration::from_secs(20);
/// How long an invited node may take to join.
const JOIN_TIME_MAX: Duration = Duration::from_secs(60);

/// Caller to listener.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToListener {
    /// The first message.
    Hello {
        /// Version of the protocol.
        version: u32,
        /// What it is for.
        purpose: Purpose,
        /// Never used before.
        nonce: [u8; BYTES],
    },
    /// That the caller has the secret.
    Proof {
        /// The MAC.
        mac: [u8; BYTES],
    },
    /// Join with this token.
    Invitation(Invitation),
}

/// Listener to caller.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToCaller {
    /// Prove it over this.
    Challenge {
        /// Never used before.
        nonce: [u8; BYTES],
    },
    /// That the listener has the secret too.
    Proof {
        /// The MAC.
        mac: [u8; BYTES],
    },
    /// What was asked for.
    Token {
        /// A join token.
        token: String,
    },
    /// Too many are introduced at this moment; nothing was looked at.
    Busy {},
    /// The invited node is in.
    Joined(Newcomer),
    /// It comes to nothing.
    Refused {
        /// The sentence for the operator.
        why: String,
    },
}

/// What a node is invited with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Who is meant; another node refuses.
    pub name: NodeName,
    /// A join token.
    pub token: String,
}

impl std::fmt::Debug for Invitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invitation").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A node that came in by an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newcomer {
    /// Where it is now.
    pub cluster: ClusterId,
    /// Its id.
    pub node: NodeId,
}

/// Who connects shows neither more nor less than this when the secret is another one.
const OTHER_SECRET: &str = "the two nodes do not have the same secret: compare what `pkgctl cluster secret` says on both, \
                            and copy the file from one to the other";

/// What the TLS connection exports; one of its two ends.
///
/// # Errors
/// rustls's own: the handshake is not over.
pub fn channel<D>(connection: &rustls::ConnectionCommon<D>) -> Result<[u8; BYTES], rustls::Error> {
    connection.export_keying_material([0; BYTES], EXPORTER, None)
}

/// How a talk ends in which something else was said than was to come.
fn out_of_turn<T>() -> Result<T, TalkError> {
    Err(TalkError::OutOfTurn)
}

#[cfg(test)]
mod tests;
