//! What a node that joins sends and is sent: tokens, messages, probes, certificates and requests for them.

use std::net::SocketAddr;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pkgctl::engine::{NodeId, Nonce, codec};
use pkgctl::net::frame;
use pkgctl::net::identity::{Authority, Bearer};
use pkgctl::net::join::{JoinRequest, JoinService, KeeperPort, ToJoiner, ToMember, VERSION, Welcome, answer_to, serve};
use pkgctl::net::token::JoinToken;
use pkgctl::package::NodeName;
use rustls::pki_types::CertificateDer;

use super::http::in_time;
use super::{choice, chosen, scene};

/// Lets everybody pass the token's check and has no keeper, which ends the talk before any port is probed.
struct Gate;

impl JoinService for Gate {
    async fn check(&self, token_digest: &str, _: &JoinRequest) -> Result<(), String> {
        assert_eq!(token_digest.len(), 64);
        Ok(())
    }

    fn keeper(&self) -> Result<KeeperPort, String> {
        Err("no keeper".to_owned())
    }

    async fn admit(&self, _: String, _: JoinRequest) -> Result<Welcome, String> {
        panic!("nobody is let in without a proof of its ports")
    }
}

const TO_MEMBER: u8 = 0;

/// A stranger's connection, a member's word to a joiner, and a probe of a joiner's port.
pub fn run(bytes: &[u8]) -> bool {
    let (which, rest) = choice(bytes);
    match which % 3 {
        TO_MEMBER => {
            let (here, there) = (SocketAddr::from(([10, 0, 0, 1], 7420)), SocketAddr::from(([10, 0, 0, 9], 50_000)));
            let mut said = Vec::new();
            let mut stream = tokio::io::join(rest, &mut said);
            let served = in_time(serve(&mut stream, here, there, &Gate));
            assert!(said.len() < 4 << 10, "a stranger gets a sentence");
            matches!(served, Some(Ok(())))
        }
        1 => codec::decode::<ToJoiner>(rest).is_ok(),
        _ => answer_to(rest, Nonce(1)).is_some_and(|answer| {
            assert_eq!(answer.len(), rest.len(), "it amplifies");
            true
        }),
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let ask = JoinRequest {
        version: VERSION,
        secret: "00".repeat(16),
        name: NodeName::new("n9").expect("it is a name"),
        address: ([10, 0, 0, 9], 7420).into(),
        links: vec![([10, 1, 0, 9], 7420).into()],
        csr: "-----BEGIN CERTIFICATE REQUEST-----".to_owned(),
        request: Nonce(1),
        proof: Nonce(2),
    };
    let framed = |message: &ToMember| {
        let mut out = Vec::new();
        in_time(frame::write(&mut out, 0, &codec::encode(message))).expect("memory takes it").expect("it fits");
        chosen(TO_MEMBER, &out)
    };
    let probe = ToJoiner::Probe { keeper: ask.address, ping: vec![1, 2, 3] };
    vec![
        framed(&ToMember::Ask(ask)),
        framed(&ToMember::Seen { pong: Some(vec![1]) }),
        chosen(1, &codec::encode(&probe)),
        chosen(1, &codec::encode(&ToJoiner::Refused { why: "no".to_owned() })),
        chosen(2, b"PKGJ\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0"),
    ]
}

/// A token that was read prints as one that reads the same.
pub fn token(bytes: &[u8]) -> bool {
    let Ok(token) = String::from_utf8_lossy(bytes).parse::<JoinToken>() else { return false };
    assert_eq!(token.to_string().parse(), Ok(token));
    true
}

pub fn token_seeds() -> Vec<Vec<u8>> {
    let texts = ["10.0.0.1:7420", "[fd00::1]:7420"].map(|at| at.parse().expect("it is an address"));
    texts.map(|at| JoinToken::issue([7; 32], at).to_string().into_bytes()).to_vec()
}

/// Certificates that are shown, and requests for one: as text, or as the bytes that the text stands for.
pub fn certificate(bytes: &[u8]) -> bool {
    static AUTHORITY: LazyLock<Authority> =
        LazyLock::new(|| Authority::create(scene::CLUSTER, "test").expect("a key can be made"));
    let (which, rest) = choice(bytes);
    let request = match which % 3 {
        0 => {
            let bearer = Bearer::of(&CertificateDer::from(rest));
            return bearer.is_ok_and(|bearer| !bearer.dns_name().is_empty());
        }
        1 => String::from_utf8_lossy(rest).into_owned(),
        _ => format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            STANDARD.encode(rest)
        ),
    };
    let name = NodeName::new("n9").expect("it is a name");
    AUTHORITY.sign(&request, NodeId(9), &name).is_ok_and(|signed| {
        assert!(signed.contains("BEGIN CERTIFICATE"));
        true
    })
}
