//! A join token: what an operator carries from a member to a node that joins.
//!
//! It names the cluster's authority (SHA-256 of its certificate), so that the joiner knows whom it talks to, a
//! one-time secret, so that the member knows the joiner was invited, and the address of the member that issued it.
//! Only the secret's digest is stored. Text: `pkgctl1_` and base64url of version, fingerprint (32), secret (16),
//! address (7 or 19) and a checksum (4), so that a token that was cut or mistyped is told from one that is unknown.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

use super::random;

/// What every token begins with.
pub const TOKEN_PREFIX: &str = "pkgctl1_";
const CHECKSUM_BYTES: usize = 4;
const FIXED_BYTES: usize = 32 + 16;
/// Longest text looked at.
const TEXT_MAX_BYTES: usize = 200;

/// The 128-bit secret in a token. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 16]);

impl Secret {
    /// The secret as it is sent to a member, in hex.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// What is stored: the SHA-256 of a secret in hex form, in hex (`Command::IssueToken`, `Command::AddNode`).
    pub fn digest_of(secret_hex: &str) -> String {
        hex(digest(&SHA256, secret_hex.as_bytes()).as_ref())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A join token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the authority's certificate.
    pub authority: [u8; 32],
    /// Shown once.
    pub secret: Secret,
    /// A member that can let the node in.
    pub address: SocketAddr,
}

/// Why a text is not a join token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// It does not begin like one.
    #[error(
        "this is not a join token: a token begins with {TOKEN_PREFIX}; `pkgctl cluster token` on a member prints one"
    )]
    NotAToken,
    /// A character that cannot be in one.
    #[error("the join token has the character '{character}' in it, which no token has: copy it again, whole")]
    Character {
        /// Which.
        character: char,
    },
    /// Too short, or bytes are missing or altered.
    #[error("the join token is cut off or altered: copy it again, whole, from `pkgctl cluster token` on a member")]
    Damaged,
}

impl JoinToken {
    /// A new token for nodes that join through the member at `address`.
    pub fn issue(authority: [u8; 32], address: SocketAddr) -> Self {
        Self { authority, secret: Secret(random::bytes()), address }
    }

    /// What is stored of it.
    pub fn digest(&self) -> String {
        Secret::digest_of(&self.secret.hex())
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(FIXED_BYTES + 19 + CHECKSUM_BYTES);
        bytes.extend_from_slice(&self.authority);
        bytes.extend_from_slice(&self.secret.0);
        match self.address.ip() {
            IpAddr::V4(ip) => {
                bytes.push(4);
                bytes.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                bytes.push(6);
                bytes.extend_from_slice(&ip.octets());
            }
        }
        bytes.extend_from_slice(&self.address.port().to_be_bytes());
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        write!(f, "{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&digest(&SHA256, bytes).as_ref()[..CHECKSUM_BYTES]);
    sum
}

impl FromStr for JoinToken {
    type Err = BadToken;

    /// Reads a token; white space in it (a wrapped line) is ignored.
    fn from_str(text: &str) -> Result<Self, BadToken> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).take(TEXT_MAX_BYTES).collect();
        let encoded = text.strip_prefix(TOKEN_PREFIX).ok_or(BadToken::NotAToken)?;
        let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if let Some(character) = encoded.chars().find(|c| !allowed(c)) {
            return Err(BadToken::Character { character });
        }
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| BadToken::Damaged)?;
        parse(&bytes).ok_or(BadToken::Damaged)
    }
}

fn parse(bytes: &[u8]) -> Option<JoinToken> {
    let (bytes, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    if checksum(bytes) != *sum {
        return None;
    }
    let (authority, rest) = bytes.split_first_chunk::<32>()?;
    let (secret, rest) = rest.split_first_chunk::<16>()?;
    let (family, rest) = rest.split_first()?;
    let (ip, port) = rest.split_last_chunk::<2>()?;
    let ip = match family {
        4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        6 => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
        _ => return None,
    };
    let address = SocketAddr::new(ip, u16::from_be_bytes(*port));
    Some(JoinToken { authority: *authority, secret: Secret(*secret), address })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    fn token(address: &str) -> JoinToken {
        JoinToken { authority: [0x5a; 32], secret: Secret([0xc3; 16]), address: address.parse().unwrap() }
    }

    #[test]
    fn tokens_come_back_and_hide_their_secret() {
        for address in ["10.0.0.1:7447", "[fd00::1]:7447"] {
            let token = token(address);
            assert_eq!(token.to_string().parse(), Ok(token.clone()));
            assert!(!format!("{token:?}").contains("c3"));
        }
    }

    #[test]
    fn a_wrapped_token_is_read_all_the_same() {
        let text = token("10.0.0.1:7447").to_string();
        let (a, b) = text.split_at(40);
        assert_eq!(format!("  {a}\n  {b}\n").parse(), Ok(token("10.0.0.1:7447")));
    }

    #[test]
    fn every_cut_token_is_refused_as_cut() {
        let text = token("10.0.0.1:7447").to_string();
        for end in TOKEN_PREFIX.len()..text.len() {
            assert_eq!(text[..end].parse::<JoinToken>(), Err(BadToken::Damaged), "{end}");
        }
    }

    #[test]
    fn every_altered_character_is_refused() {
        let text = token("[fd00::1]:7447").to_string();
        for at in TOKEN_PREFIX.len()..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(String::from_utf8(bytes).unwrap().parse::<JoinToken>().is_err(), "{at}");
        }
    }

    #[test]
    fn something_else_is_told_apart() {
        assert_eq!("hunter2".parse::<JoinToken>(), Err(BadToken::NotAToken));
        assert_eq!("".parse::<JoinToken>(), Err(BadToken::NotAToken));
        let character = '…';
        assert_eq!(format!("{TOKEN_PREFIX}abc…").parse::<JoinToken>(), Err(BadToken::Character { character }));
    }

    #[test]
    fn what_is_stored_is_the_digest_of_what_is_sent() {
        let token = JoinToken::issue([1; 32], "10.0.0.1:7447".parse().unwrap());
        assert_eq!(token.digest(), Secret::digest_of(&token.secret.hex()));
        assert_eq!(token.digest().len(), 64);
        assert_ne!(JoinToken::issue([1; 32], token.address).digest(), token.digest());
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn arbitrary_text_is_refused_without_panic(text in "\\PC{0,120}", ours in any::<bool>()) {
            let text = if ours { format!("{TOKEN_PREFIX}{text}") } else { text };
            prop_assert!(text.parse::<JoinToken>().is_err());
        }

        #[test]
        fn arbitrary_bytes_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..90)) {
            let text = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(&bytes));
            prop_assert!(text.parse::<JoinToken>().is_err());
        }
    }
}
