//! How a node asks a member to be let in, and proves beforehand that both of its ports work in both directions.
//!
//! On a TLS connection without a client certificate (the joiner knows the authority's fingerprint from the token):
//!
//! 1. The joiner sends [`JoinRequest`] with the token's secret. A wrong secret ends it here: nobody can use a member
//!    to probe other machines.
//! 2. The member sends a `Probe`, connects to the joiner's tcp port and sends datagrams to its udp port, both at the
//!    address the request came from; each must be answered with a proof that only this joiner can compute. Meanwhile
//!    the joiner sends the sealed ping from the `Probe` to the udp port of the member's keeper and returns its answer.
//! 3. The member says which direction of which port failed and what to open, or lets the node in: [`Welcome`].
//!
//! Asking again with the same request nonce and key is safe: the log gives the same node id.
//!
//! - `client`: the joiner's side. `server`: the member's. `ports`: the proofs.

use std::net::SocketAddr;
use std::time::Duration;

use ring::hmac;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::datagram::Keys;
use super::frame::{self, FrameError};
use crate::engine::{ClusterId, NodeId, Nonce, Profile, codec};
use crate::package::NodeName;

mod client;
mod ports;
mod server;

pub use client::{JoinError, Joiner};
pub use server::{put_off, serve};

/// How often somebody who was put off asks again before it says so, and with which pause.
pub(in crate::net) const ASK_AGAIN_MAX: u32 = 40;
pub(in crate::net) const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Version of this protocol.
pub const VERSION: u32 = 1;
/// Further addresses a node may announce.
pub const LINKS_MAX: usize = 4;
/// Largest message of a joiner, in bytes.
const ASK_MAX_BYTES: usize = 16 << 10;
/// Largest message of a member, in bytes; a `Welcome` lists every member.
const ANSWER_MAX_BYTES: usize = 1 << 20;
/// How long a port has to prove that it works.
const PROOF_TIME_MAX: Duration = Duration::from_secs(3);
/// How long the cluster may take to let a node in once its ports are proved.
const ADMIT_TIME_MAX: Duration = Duration::from_secs(30);

/// What a joiner says about itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// Version of the protocol.
    pub version: u32,
    /// The token's secret, hex.
    pub secret: String,
    /// Its name.
    pub name: NodeName,
    /// Where its agent (tcp) and keeper (udp) answer.
    pub address: SocketAddr,
    /// Further datagram addresses.
    #[serde(default)]
    pub links: Vec<SocketAddr>,
    /// Certificate request, PEM.
    pub csr: String,
    /// Names this attempt, so that a repeated one finds the id it was given.
    pub request: Nonce,
    /// Keys the answers of its ports.
    pub proof: Nonce,
}

impl std::fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("JoinRequest");
        out.field("name", &self.name).field("address", &self.address).field("links", &self.links);
        out.field("request", &self.request).finish_non_exhaustive()
    }
}

/// A member, as a new one learns of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Where its agent and keeper answer.
    pub address: SocketAddr,
    /// Its further datagram addresses.
    #[serde(default)]
    pub links: Vec<SocketAddr>,
}

/// What a node that was let in needs to begin; everything else comes with the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Its id, for ever.
    pub node: NodeId,
    /// The cluster.
    pub cluster: ClusterId,
    /// The cluster's profile.
    pub profile: Profile,
    /// Its certificate, PEM.
    pub certificate: String,
    /// The authority's certificate, PEM.
    pub authority: String,
    /// Everyone in the cluster, itself included.
    pub members: Vec<Member>,
}

/// The member's keeper as the joiner's datagrams must reach it, and how to read its answer.
#[derive(Clone, Debug)]
pub struct KeeperPort {
    /// The cluster's datagram keys.
    pub keys: Keys,
    /// The cluster.
    pub cluster: ClusterId,
    /// The member's id.
    pub node: NodeId,
    /// Its datagram address.
    pub address: SocketAddr,
}

/// What a member does about a join; the agent implements it.
pub trait JoinService: Send + Sync + 'static {
    /// Looks at the token and at what is asked before any port is probed.
    ///
    /// # Errors
    /// The sentence for the operator at the joiner.
    fn check(&self, token_digest: &str, ask: &JoinRequest) -> impl Future<Output = Result<(), String>> + Send;

    /// The port of this member's keeper.
    ///
    /// # Errors
    /// The sentence for the operator at the joiner, when there is no keeper to answer.
    fn keeper(&self) -> Result<KeeperPort, String>;

    /// Takes the node in: `Command::AddNode`, a certificate for its id.
    ///
    /// # Errors
    /// The sentence for the operator at the joiner (`Rejected`'s text).
    fn admit(&self, token_digest: String, ask: JoinRequest) -> impl Future<Output = Result<Welcome, String>> + Send;
}

/// Joiner to member.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToMember {
    /// The first message.
    Ask(JoinRequest),
    /// The keeper's answer to the sealed ping, if any came.
    Seen {
        /// As it came.
        pong: Option<Vec<u8>>,
    },
}

/// Member to joiner.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToJoiner {
    /// Your ports are being probed; send `ping` to `keeper` by udp, from your own port, and return the answer.
    Probe {
        /// Where the member's keeper answers.
        keeper: SocketAddr,
        /// As it is to be sent.
        ping: Vec<u8>,
    },
    /// It does not come in.
    Refused {
        /// The sentence for the operator.
        why: String,
    },
    /// Too many join at this moment; nothing was looked at.
    Busy {},
    /// It is in.
    Welcome(Welcome),
}

/// Why the talk ended without an answer.
#[derive(Debug, thiserror::Error)]
pub enum TalkError {
    /// The stream failed or a frame was not acceptable.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A message does not decode.
    #[error("a message of the join protocol does not decode: {0}")]
    Form(#[from] codec::DecodeError),
    /// A message out of turn.
    #[error("a message of the join protocol came out of turn")]
    OutOfTurn,
    /// Nothing came in time.
    #[error("nothing came within {within:?}")]
    Silent {
        /// How long was waited.
        within: Duration,
    },
}

pub(in crate::net) async fn say<T: Serialize>(
    stream: &mut (impl tokio::io::AsyncWrite + Unpin),
    message: &T,
) -> Result<(), TalkError> {
    Ok(frame::write(stream, 0, &codec::encode(message)).await?)
}

pub(in crate::net) async fn hear<T: DeserializeOwned>(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
    limit: usize,
    within: Duration,
) -> Result<T, TalkError> {
    let read = tokio::time::timeout(within, frame::read(stream, limit)).await;
    let (_, body) = read.map_err(|_| TalkError::Silent { within })??;
    Ok(codec::decode(&body)?)
}

/// First bytes of a probe of a joiner's port and of its answer.
const PROBE_MAGIC: [u8; 4] = *b"PKGJ";
/// Length of both. They are equally long, so that a joiner's port amplifies nothing.
const PROBE_BYTES: usize = 20;

/// A probe: magic, nonce, padding.
fn probe(nonce: Nonce) -> [u8; PROBE_BYTES] {
    let mut out = [0; PROBE_BYTES];
    out[..4].copy_from_slice(&PROBE_MAGIC);
    out[4..12].copy_from_slice(&nonce.0.to_be_bytes());
    out
}

/// The answer to a probe: magic and a MAC of the probe under the joiner's proof nonce; none if it is no probe.
pub fn answer_to(probe: &[u8], proof: Nonce) -> Option<[u8; PROBE_BYTES]> {
    if probe.len() != PROBE_BYTES || !probe.starts_with(&PROBE_MAGIC) {
        return None;
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, &proof.0.to_be_bytes());
    let mut out = [0; PROBE_BYTES];
    out[..4].copy_from_slice(&PROBE_MAGIC);
    out[4..].copy_from_slice(&hmac::sign(&key, probe).as_ref()[..PROBE_BYTES - 4]);
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn arbitrary_messages_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(codec::decode::<ToMember>(&bytes).is_err());
            prop_assert!(codec::decode::<ToJoiner>(&bytes).is_err());
        }

        #[test]
        fn only_a_probe_is_answered(bytes in prop::collection::vec(any::<u8>(), 0..40), ours in any::<bool>()) {
            let mut bytes = bytes;
            if ours && bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&PROBE_MAGIC);
            }
            let is_probe = bytes.len() == PROBE_BYTES && bytes.starts_with(&PROBE_MAGIC);
            prop_assert_eq!(answer_to(&bytes, Nonce(1)).is_some(), is_probe);
        }
    }

    #[test]
    fn an_answer_proves_the_joiner_and_the_probe() {
        let answer = answer_to(&probe(Nonce(1)), Nonce(2)).unwrap();
        assert_ne!(answer_to(&probe(Nonce(1)), Nonce(3)).unwrap(), answer);
        assert_ne!(answer_to(&probe(Nonce(2)), Nonce(2)).unwrap(), answer);
    }

    #[test]
    fn a_request_does_not_show_its_secret() {
        let ask = JoinRequest {
            version: VERSION,
            secret: "c0ffee".into(),
            name: NodeName::new("n2").unwrap(),
            address: "10.0.0.2:7447".parse().unwrap(),
            links: vec![],
            csr: String::new(),
            request: Nonce(1),
            proof: Nonce(2),
        };
        assert!(!format!("{ask:?}").contains("c0ffee"));
    }
}
