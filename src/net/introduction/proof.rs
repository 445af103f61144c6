//! What both sides of an introduction prove, as pure functions of the connection and of what was said on it.
//!
//! A proof is an HMAC-SHA-256 under the shared secret over a label that names the purpose and the side, the connection's
//! TLS exporter, and both sides' nonces. The exporter is known to the two ends of one TLS connection only: who stands in
//! between has two connections, and a proof made on the one is worth nothing on the other. No two labels are alike, so a
//! proof that is sent back proves nothing. The one who connects proves first: whoever reaches the port without the secret
//! gets a nonce and a refusal, and nothing that was made with the secret.

use ring::hmac;
use serde::{Deserialize, Serialize};

use super::secret::SharedSecret;

/// Length of a nonce, of a proof and of what a TLS connection exports.
pub const BYTES: usize = 32;

/// What an introduction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// A node that is in no cluster asks a member for a join token.
    Join,
    /// From a member's machine a node that is in no cluster is invited, and sent a join token.
    Invite,
}

/// Which end of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one who connects, and proves first.
    Caller,
    /// The one who listens.
    Listener,
}

/// Everything that a proof is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// What it is for.
    pub purpose: Purpose,
    /// What the TLS connection exports under [`super::EXPORTER`].
    pub channel: [u8; BYTES],
    /// The caller's nonce.
    pub caller: [u8; BYTES],
    /// The listener's nonce.
    pub listener: [u8; BYTES],
}

impl Transcript {
    /// One side's proof that it has the secret.
    pub fn prove(&self, secret: &SharedSecret, side: Side) -> [u8; BYTES] {
        let mut out = [0; BYTES];
        out.copy_from_slice(hmac::sign(&secret.key(), &self.message(side)).as_ref());
        out
    }

    /// Whether `proof` is that side's; takes the same time for every wrong one.
    pub fn proves(&self, secret: &SharedSecret, side: Side, proof: &[u8]) -> bool {
        hmac::verify(&secret.key(), &self.message(side), proof).is_ok()
    }

    /// The label ends in a byte that is in no label; all that follows has a fixed length.
    fn message(&self, side: Side) -> Vec<u8> {
        let label: &[u8] = match (self.purpose, side) {
            (Purpose::Join, Side::Caller) => b"pkgctl introduction 1: who asks to join\n",
            (Purpose::Join, Side::Listener) => b"pkgctl introduction 1: who lets join\n",
            (Purpose::Invite, Side::Caller) => b"pkgctl introduction 1: who invites\n",
            (Purpose::Invite, Side::Listener) => b"pkgctl introduction 1: who is invited\n",
        };
        [label, &self.channel, &self.caller, &self.listener].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDES: [Side; 2] = [Side::Caller, Side::Listener];

    fn transcript() -> Transcript {
        Transcript { purpose: Purpose::Join, channel: [1; BYTES], caller: [2; BYTES], listener: [3; BYTES] }
    }

    fn secret(byte: u8) -> SharedSecret {
        SharedSecret::of([byte; BYTES])
    }

    #[test]
    fn who_has_the_secret_proves_it() {
        for side in SIDES {
            assert!(transcript().proves(&secret(9), side, &transcript().prove(&secret(9), side)));
        }
    }

    #[test]
    fn another_secret_proves_nothing() {
        for side in SIDES {
            assert!(!transcript().proves(&secret(9), side, &transcript().prove(&secret(8), side)));
        }
    }

    #[test]
    fn a_proof_that_is_sent_back_proves_nothing_for_either_purpose() {
        let made = |purpose, side| Transcript { purpose, ..transcript() }.prove(&secret(9), side);
        let all = [Purpose::Join, Purpose::Invite].map(|purpose| SIDES.map(|side| (purpose, side))).concat();
        for (at, (purpose, side)) in all.iter().enumerate() {
            for (of, (other, other_side)) in all.iter().enumerate() {
                let asked = Transcript { purpose: *purpose, ..transcript() };
                assert_eq!(asked.proves(&secret(9), *side, &made(*other, *other_side)), at == of);
            }
        }
    }

    #[test]
    fn a_proof_from_another_connection_or_an_earlier_talk_proves_nothing() {
        // Another certificate makes another handshake, and so another exporter.
        let others = [
            Transcript { channel: [7; BYTES], ..transcript() },
            Transcript { caller: [7; BYTES], ..transcript() },
            Transcript { listener: [7; BYTES], ..transcript() },
            Transcript { caller: [3; BYTES], listener: [2; BYTES], ..transcript() },
        ];
        for side in SIDES {
            let proof = transcript().prove(&secret(9), side);
            assert!(others.iter().all(|other| !other.proves(&secret(9), side, &proof)));
        }
    }

    #[test]
    fn a_proof_counts_whole_or_not_at_all() {
        let proof = transcript().prove(&secret(9), Side::Caller);
        for length in 0..BYTES {
            assert!(!transcript().proves(&secret(9), Side::Caller, &proof[..length]));
        }
        for bit in 0..BYTES * 8 {
            let mut other = proof;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!transcript().proves(&secret(9), Side::Caller, &other));
        }
    }
}
