//! Frames and authenticates the keepers' datagrams. No I/O, no state but the keys.
//!
//! Layout, big endian: magic `PKGD`, version (1 byte), cluster (8), key id (4), sender (8), receiver (8), body
//! (`engine::codec`), HMAC-SHA-256 of all that truncated to 16 bytes.
//!
//! Sender, receiver and cluster are under the MAC, so a datagram cannot be reflected, redirected or carried into
//! another cluster. A recorded datagram can be sent again; nothing here counts messages, because the lease rules tell it
//! where it matters (rule 6a) and bear it where it does not (a seq names one t0, an incarnation one life).

use std::collections::BTreeMap;
use std::fmt;

use ring::hmac;

use crate::engine::lease::Message;
use crate::engine::state::DatagramKey;
use crate::engine::{ClusterId, NodeId, codec};

/// Largest datagram sent or accepted, in bytes: fits an Ethernet frame with room for a tunnel's headers.
pub const MAX_BYTES: usize = 1400;
/// The sender of a joining node's probe, which has no id yet: ids are log indexes and begin at 1. A `Ping` from here is
/// answered to the address it came from, with a `Pong`; nothing else from here is acted on.
pub const JOINER: NodeId = NodeId(0);

const MAGIC: [u8; 4] = *b"PKGD";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 4 + 1 + 8 + 4 + 8 + 8;
const MAC_BYTES: usize = 16;

/// The cluster's datagram keys, ready to use.
#[derive(Clone)]
pub struct Keys {
    all: BTreeMap<u32, hmac::Key>,
    /// Which one seals; none is the largest.
    sealing: Option<u32>,
}

impl Keys {
    /// Prepares keys by id; the largest id seals, all of them open.
    pub fn new(keys: &BTreeMap<u32, DatagramKey>) -> Self {
        let all = keys.iter().map(|(id, key)| (*id, hmac::Key::new(hmac::HMAC_SHA256, &key.0))).collect();
        Self { all, sealing: None }
    }

    /// The same keys, of which this one seals; none is the largest.
    #[must_use]
    pub fn sealing(self, sealing: Option<u32>) -> Self {
        Self { sealing, ..self }
    }

    fn to_seal(&self) -> Option<(&u32, &hmac::Key)> {
        match &self.sealing {
            Some(id) => self.all.get_key_value(id),
            None => self.all.last_key_value(),
        }
    }

    /// Whether there is no key: nothing can be sealed or opened then.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.all.keys()).finish()
    }
}

/// Why a datagram was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Dropped {
    /// Not one of ours at all.
    #[error("not a pkgctl datagram")]
    Foreign,
    /// Cut off.
    #[error("too short")]
    Short,
    /// Larger than [`MAX_BYTES`].
    #[error("larger than {MAX_BYTES} bytes")]
    Long,
    /// Of a newer format.
    #[error("of an unknown version")]
    Version,
    /// Another cluster's.
    #[error("of another cluster")]
    Cluster,
    /// For another node.
    #[error("for another node")]
    Receiver,
    /// Sealed with a key that this node does not have (yet, or any more).
    #[error("sealed with an unknown key")]
    Key,
    /// Altered, or sealed by somebody without the key.
    #[error("not authentic")]
    Mac,
    /// Authentic, but not a message that this program knows.
    #[error("not a known message")]
    Body,
}

impl Dropped {
    /// Every reason, in the order of [`Drops::counts`].
    pub const ALL: [Dropped; 9] = [
        Dropped::Foreign,
        Dropped::Short,
        Dropped::Long,
        Dropped::Version,
        Dropped::Cluster,
        Dropped::Receiver,
        Dropped::Key,
        Dropped::Mac,
        Dropped::Body,
    ];
}

/// How many datagrams were dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops([u64; Dropped::ALL.len()]);

impl Drops {
    /// Counts one.
    pub fn count(&mut self, why: Dropped) {
        self.0[why as usize] = self.0[why as usize].saturating_add(1);
    }

    /// What was dropped since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].saturating_sub(earlier.0[at])))
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Each reason that occurred, with its number.
    pub fn counts(&self) -> impl Iterator<Item = (Dropped, u64)> + '_ {
        Dropped::ALL.into_iter().zip(self.0).filter(|(_, n)| *n > 0)
    }
}

/// Seals a message with the key that is to seal. Empty when there is no key: there is nobody to talk to then.
///
/// Our largest message, an `Ack` with a lease set's members, fits [`MAX_BYTES`] up to some 99 voters (tested); a larger
/// one would be dropped by every receiver as [`Dropped::Long`].
pub fn seal(keys: &Keys, cluster: ClusterId, from: NodeId, to: NodeId, message: &Message) -> Vec<u8> {
    let Some((id, key)) = keys.to_seal() else { return Vec::new() };
    let body = codec::encode(message);
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len() + MAC_BYTES);
    out.extend_from_slice(&MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&cluster.0.to_be_bytes());
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&from.0.to_be_bytes());
    out.extend_from_slice(&to.0.to_be_bytes());
    out.extend_from_slice(&body);
    let mac = hmac::sign(key, &out);
    out.extend_from_slice(&mac.as_ref()[..MAC_BYTES]);
    out
}

/// Opens a datagram that arrived at node `me`: its sender and message.
///
/// # Errors
/// The reason why it must be ignored. Cheap refusals come before the MAC is computed.
pub fn open(keys: &Keys, cluster: ClusterId, me: NodeId, bytes: &[u8]) -> Result<(NodeId, Message), Dropped> {
    if bytes.len() > MAX_BYTES {
        return Err(Dropped::Long);
    }
    if !bytes.starts_with(&MAGIC) {
        return Err(Dropped::Foreign);
    }
    if bytes.len() < HEADER_BYTES + MAC_BYTES {
        return Err(Dropped::Short);
    }
    let (sealed, mac) = bytes.split_at(bytes.len() - MAC_BYTES);
    let (header, body) = sealed.split_at(HEADER_BYTES);
    if header[4] != VERSION {
        return Err(Dropped::Version);
    }
    if number(&header[5..13]) != cluster.0 {
        return Err(Dropped::Cluster);
    }
    if number(&header[25..33]) != me.0 {
        return Err(Dropped::Receiver);
    }
    let id = u32::try_from(number(&header[13..17])).map_err(|_| Dropped::Key)?;
    let key = keys.all.get(&id).ok_or(Dropped::Key)?;
    if !same(&hmac::sign(key, sealed).as_ref()[..MAC_BYTES], mac) {
        return Err(Dropped::Mac);
    }
    let message = codec::decode(body).map_err(|_| Dropped::Body)?;
    Ok((NodeId(number(&header[17..25])), message))
}

/// A big-endian number of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Compares without telling by its duration where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (x, y)| sum | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;
    use crate::engine::lease::Refusal;
    use crate::engine::{Incarnation, Nonce, SessionId, SetId};
    use crate::package::Millis;

    const CLUSTER: ClusterId = ClusterId(0xabcd);
    const ME: NodeId = NodeId(3);
    const PEER: NodeId = NodeId(7);

    fn keys(ids: &[u32]) -> Keys {
        Keys::new(&ids.iter().map(|id| (*id, DatagramKey([*id as u8; 32]))).collect())
    }

    fn message() -> impl Strategy<Value = Message> {
        let (session, seq, ttl) = (any::<u64>(), any::<u64>(), any::<u64>());
        (0..10u8, session, seq, ttl, prop::collection::vec(any::<u64>(), 0..9), any::<bool>()).prop_map(
            |(which, session, seq, ttl, members, flag)| {
                let (session, ttl, nonce) = (SessionId(session), Millis(ttl), Nonce(seq));
                let members = members.into_iter().map(NodeId).collect();
                match which {
                    0 => Message::Renew { session, seq, ttl, life: nonce },
                    1 => Message::Query { session, seq, life: nonce },
                    2 => Message::Ack { session, seq, promised: flag, set: SetId(ttl.0), members },
                    3 if flag => Message::Refuse { session, seq, why: Refusal::Fenced },
                    3 => Message::Refuse { session, seq, why: Refusal::OtherLife { life: Nonce(ttl.0) } },
                    4 => Message::Ask { session, ttl },
                    5 => Message::Agreed { session, incarnation: Incarnation(seq) },
                    6 => Message::AskSet { nonce },
                    7 => Message::KnowsSet { nonce, set: flag.then_some(SetId(ttl.0)) },
                    8 => Message::Ping { nonce },
                    _ => Message::Pong { nonce, ready: flag },
                }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn what_was_sealed_opens_at_its_receiver(m in message()) {
            let sealed = seal(&keys(&[1, 2]), CLUSTER, PEER, ME, &m);
            prop_assert!(sealed.len() <= MAX_BYTES);
            prop_assert_eq!(open(&keys(&[2, 3]), CLUSTER, ME, &sealed), Ok((PEER, m)));
        }

        #[test]
        fn any_altered_byte_is_refused(m in message(), at in any::<prop::sample::Index>(), mask in 1..=255u8) {
            let mut sealed = seal(&keys(&[1]), CLUSTER, PEER, ME, &m);
            let at = at.index(sealed.len());
            sealed[at] ^= mask;
            prop_assert!(open(&keys(&[1]), CLUSTER, ME, &sealed).is_err());
        }

        #[test]
        fn any_cut_or_grown_datagram_is_refused(m in message(), cut in any::<prop::sample::Index>(), more in any::<u8>()) {
            let mut sealed = seal(&keys(&[1]), CLUSTER, PEER, ME, &m);
            prop_assert!(open(&keys(&[1]), CLUSTER, ME, &sealed[..cut.index(sealed.len())]).is_err());
            sealed.push(more);
            prop_assert!(open(&keys(&[1]), CLUSTER, ME, &sealed).is_err());
        }

        #[test]
        fn arbitrary_bytes_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..1600), ours in any::<bool>()) {
            let mut bytes = bytes;
            if ours && bytes.len() >= 5 {
                bytes[..4].copy_from_slice(&MAGIC);
                bytes[4] = VERSION;
            }
            prop_assert!(open(&keys(&[1]), CLUSTER, ME, &bytes).is_err());
        }

        #[test]
        fn an_authentic_body_that_is_no_message_is_refused(body in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assume!(codec::decode::<Message>(&body).is_err());
            let sealed = seal(&keys(&[1]), CLUSTER, PEER, ME, &Message::Ping { nonce: Nonce(1) });
            let mut forged = sealed[..HEADER_BYTES].to_vec();
            forged.extend_from_slice(&body);
            let mac = hmac::sign(&keys(&[1]).all[&1], &forged);
            forged.extend_from_slice(&mac.as_ref()[..MAC_BYTES]);
            prop_assert_eq!(open(&keys(&[1]), CLUSTER, ME, &forged), Err(Dropped::Body));
        }
    }

    #[test]
    fn each_reason_is_told_apart_and_counted() {
        let ping = Message::Ping { nonce: Nonce(1) };
        let sealed = seal(&keys(&[1]), CLUSTER, PEER, ME, &ping);
        let wrong_version: Vec<u8> = sealed.iter().enumerate().map(|(i, b)| if i == 4 { 9 } else { *b }).collect();
        let cases = [
            (Dropped::Foreign, open(&keys(&[1]), CLUSTER, ME, b"GET / HTTP/1.1\r\n")),
            (Dropped::Short, open(&keys(&[1]), CLUSTER, ME, &sealed[..20])),
            (Dropped::Long, open(&keys(&[1]), CLUSTER, ME, &[0; MAX_BYTES + 1])),
            (Dropped::Version, open(&keys(&[1]), CLUSTER, ME, &wrong_version)),
            (Dropped::Cluster, open(&keys(&[1]), ClusterId(1), ME, &sealed)),
            (Dropped::Receiver, open(&keys(&[1]), CLUSTER, NodeId(4), &sealed)),
            (Dropped::Key, open(&keys(&[2]), CLUSTER, ME, &sealed)),
            (Dropped::Mac, open(&Keys::new(&BTreeMap::from([(1, DatagramKey([9; 32]))])), CLUSTER, ME, &sealed)),
        ];
        let mut drops = Drops::default();
        for (why, got) in cases {
            assert_eq!(got, Err(why));
            drops.count(why);
        }
        assert_eq!(drops.total(), 8);
        assert_eq!(drops.counts().map(|(why, _)| why).collect::<Vec<_>>(), Dropped::ALL[..8]);
    }

    #[test]
    fn a_datagram_cannot_be_reflected_to_its_sender() {
        let sealed = seal(&keys(&[1]), CLUSTER, PEER, ME, &Message::Ping { nonce: Nonce(1) });
        assert_eq!(open(&keys(&[1]), CLUSTER, PEER, &sealed), Err(Dropped::Receiver));
    }

    #[test]
    fn an_ack_of_ninety_nine_voters_fits() {
        let members = (0..99).map(|i| NodeId(u64::MAX - i)).collect();
        let session = SessionId(u64::MAX);
        let ack = Message::Ack { session, seq: u64::MAX, promised: true, set: SetId(u64::MAX), members };
        assert!(seal(&keys(&[1]), CLUSTER, PEER, ME, &ack).len() <= MAX_BYTES);
    }

    #[test]
    fn without_a_key_nothing_is_sealed() {
        assert!(seal(&keys(&[]), CLUSTER, PEER, ME, &Message::Ping { nonce: Nonce(1) }).is_empty());
        assert!(keys(&[]).is_empty());
    }

    #[test]
    fn a_key_that_is_coming_opens_and_does_not_seal() {
        let (ping, both) = (Message::Ping { nonce: Nonce(1) }, keys(&[1, 2]).sealing(Some(1)));
        let sealed = seal(&both, CLUSTER, PEER, ME, &ping);
        assert!(open(&keys(&[1]), CLUSTER, ME, &sealed).is_ok(), "who has the old key only can open it");
        let newer = seal(&keys(&[1, 2]), CLUSTER, PEER, ME, &ping);
        assert_eq!(open(&keys(&[1]), CLUSTER, ME, &newer), Err(Dropped::Key));
        assert_eq!(open(&both, CLUSTER, ME, &newer), Ok((PEER, ping)));
    }

    #[test]
    fn keys_do_not_show_in_debug_output() {
        assert_eq!(format!("{:?}", keys(&[5])), "{5}");
    }
}
