//! A value: bytes that are shared by the tree, its older copies and answers under way.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value's bytes. Cloning shares them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Value(Arc<[u8]>);

impl Value {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// As text, where it is some.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl<T: AsRef<[u8]>> From<T> for Value {
    fn from(bytes: T) -> Self {
        Self(bytes.as_ref().into())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Some(text) => write!(f, "{text:?}"),
            None => write!(f, "{} bytes", self.0.len()),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_bytes::serialize(&*self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_bytes::deserialize::<Vec<u8>, D>(deserializer).map(Self::from)
    }
}
