//! What somebody says who wants to be introduced without having the secret: to a member, to a node that may be invited, and
//! back to either who called; and a file that should hold the secret.

use std::net::SocketAddr;

use pkgctl::engine::{ClusterId, NodeId, codec};
use pkgctl::net::frame;
use pkgctl::net::introduction::{
    Invitation, Invited, Newcomer, Purpose, SharedSecret, Side, ToCaller, ToListener, Tokens, Transcript, VERSION,
    serve_asker, serve_inviter,
};
use pkgctl::package::NodeName;

use super::http::in_time;
use super::{choice, chosen};

const SECRET: [u8; 32] = [7; 32];
const CHANNEL: [u8; 32] = [1; 32];

/// Has a secret, and gives nothing to anybody who has not proved it: its nonces are new each time, so nobody has here.
struct Gate;

impl Tokens for Gate {
    fn secret(&self) -> Result<Option<SharedSecret>, String> {
        Ok(Some(SharedSecret::of(SECRET)))
    }

    async fn token(&self, _: SocketAddr) -> Result<String, String> {
        panic!("a token for somebody who cannot have proved the secret")
    }
}

/// A connection to either kind of listener, a listener's word, and a secret's text.
pub fn run(bytes: &[u8]) -> bool {
    let (which, rest) = choice(bytes);
    let mut said = Vec::new();
    let answered = match which % 4 {
        0 => {
            let mut stream = tokio::io::join(rest, &mut said);
            let there = SocketAddr::from(([10, 0, 0, 9], 50_000));
            matches!(in_time(serve_asker(&mut stream, CHANNEL, there, &Gate)), Some(Ok(Some(_))))
        }
        1 => {
            let mut stream = tokio::io::join(rest, &mut said);
            match in_time(serve_inviter(&mut stream, CHANNEL, Gate.secret())) {
                Some(Ok(Invited::Here(invitation))) => panic!("taken without a proof: {invitation:?}"),
                Some(Ok(Invited::Not(_))) => true,
                Some(Err(_)) | None => false,
            }
        }
        2 => codec::decode::<ToCaller>(rest).is_ok(),
        _ => String::from_utf8_lossy(rest).parse::<SharedSecret>().is_ok_and(|secret| {
            assert_eq!(secret.text().parse(), Ok(secret));
            true
        }),
    };
    assert!(said.len() < 1 << 10, "a stranger gets a nonce and a sentence");
    answered
}

fn framed(messages: &[ToListener]) -> Vec<u8> {
    let mut out = Vec::new();
    for message in messages {
        in_time(frame::write(&mut out, 0, &codec::encode(message))).expect("memory takes it").expect("it fits");
    }
    out
}

pub fn seeds() -> Vec<Vec<u8>> {
    let nonce = [2; 32];
    let proof = |purpose| {
        let transcript = Transcript { purpose, channel: CHANNEL, caller: nonce, listener: [3; 32] };
        ToListener::Proof { mac: transcript.prove(&SharedSecret::of(SECRET), Side::Caller) }
    };
    let hello = |version, purpose| ToListener::Hello { version, purpose, nonce };
    let invitation = || {
        let name = NodeName::new("n9").expect("it is a name");
        ToListener::Invitation(Invitation { name, token: "pkgctl1_".to_owned() })
    };
    let to_member = framed(&[hello(VERSION, Purpose::Join), proof(Purpose::Join)]);
    let to_guest = framed(&[hello(VERSION, Purpose::Invite), proof(Purpose::Invite), invitation()]);
    let joined = Newcomer { cluster: ClusterId(7), node: NodeId(9) };
    vec![
        chosen(0, &to_member),
        chosen(0, &framed(&[hello(VERSION + 1, Purpose::Join)])),
        chosen(0, &to_guest),
        chosen(1, &to_guest),
        chosen(1, &framed(&[invitation()])),
        chosen(2, &codec::encode(&ToCaller::Challenge { nonce })),
        chosen(2, &codec::encode(&ToCaller::Token { token: "pkgctl1_".to_owned() })),
        chosen(2, &codec::encode(&ToCaller::Joined(joined))),
        chosen(3, SharedSecret::of(SECRET).text().as_bytes()),
    ]
}
