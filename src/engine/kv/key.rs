//! A key: a path of names.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Bytes of a key at most.
pub const KEY_MAX_BYTES: usize = 1024;

/// A path: names with `/` between them, such as `app/db/url`. Ordered as its bytes are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(Arc<str>);

/// Why a key was refused; the text says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{given}' is not a key: {why}")]
pub struct BadKey {
    /// What was written, cut where it gets long.
    pub given: String,
    /// What to write instead.
    pub why: String,
}

impl Key {
    /// Checks and takes a key. One `/` at its beginning is taken away.
    ///
    /// # Errors
    /// [`BadKey`] says what a key may be.
    pub fn new(given: &str) -> Result<Self, BadKey> {
        let path = given.strip_prefix('/').unwrap_or(given);
        check(path).map_err(|why| BadKey { given: given.chars().take(80).collect(), why })?;
        Ok(Self(path.into()))
    }

    /// Where the keys after this one begin: a space is the least that may follow. It may be a byte longer than a key.
    pub(super) fn next(&self) -> Self {
        Self(format!("{self} ").into())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("write at least one name, such as app/url".to_owned());
    }
    if path.len() > KEY_MAX_BYTES {
        return Err(format!("it has {} bytes; at most {KEY_MAX_BYTES} are taken", path.len()));
    }
    if path.chars().any(char::is_control) {
        return Err("leave away line breaks and other control characters".to_owned());
    }
    if path.split('/').any(str::is_empty) {
        return Err("write one / between two names and none at the end".to_owned());
    }
    if path.split('/').any(|name| name == "." || name == "..") {
        return Err("'.' and '..' are no names: HTTP clients take them out of an address".to_owned());
    }
    Ok(())
}

impl TryFrom<String> for Key {
    type Error = BadKey;

    fn try_from(given: String) -> Result<Self, BadKey> {
        Self::new(&given)
    }
}

impl std::str::FromStr for Key {
    type Err = BadKey;

    fn from_str(given: &str) -> Result<Self, BadKey> {
        Self::new(given)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0.as_ref().to_owned()
    }
}

impl std::borrow::Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
