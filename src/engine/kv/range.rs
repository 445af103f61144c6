//! Which keys are meant: one, a directory, an interval, all.

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::Key;

/// A set of keys that lie side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Range {
    /// Every key.
    All,
    /// What is below a path, and not the path itself.
    Below(Key),
    /// From the first on (itself included), up to the second (itself excluded).
    Between {
        /// The first; from the beginning when absent.
        from: Option<Key>,
        /// Where it ends; at the end when absent.
        to: Option<Key>,
    },
}

impl Range {
    /// One key alone.
    pub fn only(key: Key) -> Self {
        let to = Some(key.next());
        Range::Between { from: Some(key), to }
    }

    /// Whether a key is in it.
    pub fn contains(&self, key: &Key) -> bool {
        match self {
            Range::All => true,
            Range::Below(dir) => {
                key.as_str().strip_prefix(dir.as_str()).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
            }
            Range::Between { from, to } => {
                from.as_ref().is_none_or(|from| key >= from) && to.as_ref().is_none_or(|to| key < to)
            }
        }
    }

    /// Its bounds as text: keys are ordered as their bytes.
    pub(super) fn bounds(&self) -> (Bound<String>, Bound<String>) {
        let text = |key: &Key| key.as_str().to_owned();
        match self {
            Range::All => (Bound::Unbounded, Bound::Unbounded),
            // '0' follows '/'.
            Range::Below(dir) => (Bound::Excluded(format!("{dir}/")), Bound::Excluded(format!("{dir}0"))),
            Range::Between { from, to } => (
                from.as_ref().map_or(Bound::Unbounded, |from| Bound::Included(text(from))),
                to.as_ref().map_or(Bound::Unbounded, |to| Bound::Excluded(text(to))),
            ),
        }
    }
}
