//! Datagrams between keepers: before authentication, and the message behind it.

use std::collections::BTreeMap;

use pkgctl::engine::lease::{Message, Refusal};
use pkgctl::engine::state::DatagramKey;
use pkgctl::engine::{ClusterId, Incarnation, NodeId, Nonce, SessionId, SetId, codec};
use pkgctl::net::datagram::{Keys, MAX_BYTES, open, seal};
use pkgctl::package::Millis;

use super::{choice, chosen};

const CLUSTER: ClusterId = ClusterId(0xabcd);
const ME: NodeId = NodeId(3);
const PEER: NodeId = NodeId(7);
const BARE: u8 = 0;
const BEHIND_THE_MAC: u8 = 1;

fn keys(secret: u8) -> Keys {
    Keys::new(&BTreeMap::from([(1, DatagramKey([secret; 32]))]))
}

/// Nothing sealed by somebody else is taken; a message comes back as it was sent.
pub fn run(bytes: &[u8]) -> bool {
    let (mode, rest) = choice(bytes);
    if mode & 1 == BARE {
        assert!(open(&keys(1), CLUSTER, ME, rest).is_err(), "sealed without the key and taken");
        return rest.starts_with(b"PKGD");
    }
    let Ok(message) = codec::decode::<Message>(rest) else { return false };
    let sealed = seal(&keys(1), CLUSTER, PEER, ME, &message);
    if sealed.len() <= MAX_BYTES {
        assert_eq!(open(&keys(1), CLUSTER, ME, &sealed), Ok((PEER, message)));
    }
    true
}

/// One of each kind.
pub fn messages() -> Vec<Message> {
    let (session, seq, ttl, nonce) = (SessionId(9), 4, Millis(1500), Nonce(5));
    vec![
        Message::Renew { session, seq, ttl, life: nonce },
        Message::Query { session, seq, life: nonce },
        Message::Ack { session, seq, promised: true, set: SetId(1), members: vec![NodeId(1), PEER] },
        Message::Refuse { session, seq, why: Refusal::Fenced },
        Message::Refuse { session, seq, why: Refusal::OtherLife { life: nonce } },
        Message::Ask { session, ttl },
        Message::Agreed { session, incarnation: Incarnation(2) },
        Message::AskSet { nonce },
        Message::KnowsSet { nonce, set: Some(SetId(1)) },
        Message::Ping { nonce },
        Message::Pong { nonce, ready: true },
    ]
}

pub fn seeds() -> Vec<Vec<u8>> {
    let bare = |message| chosen(BARE, &seal(&keys(2), CLUSTER, PEER, ME, message));
    let behind = |message| chosen(BEHIND_THE_MAC, &codec::encode(message));
    let messages = messages();
    messages.iter().take(3).map(bare).chain(messages.iter().map(behind)).collect()
}
