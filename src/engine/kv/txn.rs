//! A transaction: conditions, and what is changed if all of them hold and if not. It is one entry of the log.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Compare, Key, Range, Value};
use crate::engine::{LogIndex, Token};
use crate::package::PackageName;

/// Conditions and changes, all at one place in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Txn {
    /// All of these must hold; evaluated inside the entry.
    pub when: Vec<Condition>,
    /// Changes if they do, one after another.
    pub then: Vec<Change>,
    /// Changes if they do not.
    #[serde(rename = "else")]
    pub otherwise: Vec<Change>,
    /// Refuse everything unless this is the current owner's word.
    pub guard: Option<Guard>,
    /// Names this request, so that a repeated one is not carried out again.
    pub request: Option<RequestId>,
}

/// The fencing token of who asks: with an older one nothing is changed (I2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// Whose.
    pub package: PackageName,
    /// `PKG_TOKEN` of the program that asks.
    pub token: Token,
}

/// A client's name for one request; random, so that no two are alike. In hex for people and JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId(pub u128);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl From<RequestId> for String {
    fn from(id: RequestId) -> Self {
        id.to_string()
    }
}

impl std::str::FromStr for RequestId {
    type Err = String;

    /// 1 to 32 hexadecimal digits; hyphens, as in a UUID, are passed over.
    fn from_str(given: &str) -> Result<Self, String> {
        let digits: String = given.chars().filter(|c| *c != '-').collect();
        let bad = || format!("'{given}' names no request: write 1 to 32 hexadecimal digits, such as a UUID");
        // The reader of numbers takes a sign too.
        let read = digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u128::from_str_radix(&digits, 16).ok());
        read.flatten().map(Self).ok_or_else(bad)
    }
}

impl TryFrom<String> for RequestId {
    type Error = String;

    fn try_from(given: String) -> Result<Self, String> {
        given.parse()
    }
}

/// Something that must hold of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Which key.
    pub key: Key,
    /// What of it.
    pub test: Test,
}

/// What must hold of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// It has a value.
    Exists,
    /// It has none.
    Absent,
    /// Its value compares so with this one. Of a key without a value nothing holds.
    Value(Compare, Value),
    /// The entry that wrote it last; 0 where there is no value.
    Revision(Compare, LogIndex),
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Gives a key a value.
    Put {
        /// Which key.
        key: Key,
        /// Its new value.
        value: Value,
    },
    /// Takes a key away; nothing happens where there is none.
    Delete {
        /// Which key.
        key: Key,
    },
    /// Takes all keys of a range away.
    DeleteRange {
        /// Which keys.
        range: Range,
    },
}

/// What came of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The first condition that did not hold; none if all did.
    pub unmet: Option<Unmet>,
    /// What came of each change that was made, in order.
    pub changed: Vec<Changed>,
    /// The entry that carried it out: an earlier one if the request was repeated. It is the revision of what was put.
    pub revision: LogIndex,
}

/// A condition that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmet {
    /// Its place among the conditions, from 0.
    pub at: usize,
    /// Its key.
    pub key: Key,
    /// What the key had.
    pub found: Option<Kept>,
}

/// A value with the entry that wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The value.
    pub value: Value,
    /// The entry that wrote it last.
    pub revision: LogIndex,
}

/// What came of one change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Changed {
    /// The key has the value.
    Put {
        /// The entry that had written the value before; none where the key is new.
        replaced: Option<LogIndex>,
    },
    /// That many keys are gone.
    Deleted {
        /// How many there were.
        keys: u64,
    },
}
