//! Operators elsewhere: people and programs that use the API from machines that are no members.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::WallMillis;

/// Longest operator name, so that `client-<name>` is one DNS label.
pub const CLIENT_NAME_MAX_BYTES: usize = 63 - "client-".len();
/// Operators that are remembered, revoked ones included: their names are never given again.
pub const OPERATORS_MAX: usize = 4096;

/// An operator's name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClientName(String);

impl ClientName {
    /// Checks and takes a name: 1 to [`CLIENT_NAME_MAX_BYTES`] of a-z, 0-9 and `-`, a letter or digit first and last.
    ///
    /// # Errors
    /// The sentence that says what to write instead.
    pub fn new(given: impl Into<String>) -> Result<Self, String> {
        let given = given.into();
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let ok = (1..=CLIENT_NAME_MAX_BYTES).contains(&given.len())
            && given.bytes().all(inner)
            && !given.starts_with('-')
            && !given.ends_with('-');
        if ok {
            Ok(Self(given))
        } else {
            let shown: String = given.chars().take(80).collect();
            Err(format!("'{shown}' is not an operator's name: use 1 to {CLIENT_NAME_MAX_BYTES} of a-z 0-9 -"))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ClientName {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        Self::new(given)
    }
}

impl TryFrom<String> for ClientName {
    type Error = String;

    fn try_from(given: String) -> Result<Self, String> {
        Self::new(given)
    }
}

impl From<ClientName> for String {
    fn from(name: ClientName) -> Self {
        name.0
    }
}

/// An operator that was given a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// When it got its first one, by the proposer's clock.
    pub since: WallMillis,
    /// When its certificates became void; none while they are good.
    pub revoked: Option<WallMillis>,
}
