//! Names people give: packages, resources, nodes, clusters. One rule for all of them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest name accepted, in bytes: a name is part of file, chain and namespace names.
pub const NAME_MAX_BYTES: usize = 63;

/// Why a name was refused; the text says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{given}' is not a name: {}", BadName::RULE)]
pub struct BadName {
    /// What was written, cut where it gets long.
    pub given: String,
}

impl BadName {
    /// What a name may be.
    pub const RULE: &str = "use 1 to 63 of a-z A-Z 0-9 . _ - and begin with a letter or digit";
}

fn check(given: &str) -> Result<(), BadName> {
    let bad = || BadName { given: given.chars().take(80).collect() };
    let first = given.bytes().next().ok_or_else(bad)?;
    let ok = given.len() <= NAME_MAX_BYTES
        && first.is_ascii_alphanumeric()
        && given.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if ok { Ok(()) } else { Err(bad()) }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and takes a name.
            ///
            /// # Errors
            /// [`BadName`] says which characters are allowed.
            pub fn new(given: impl Into<String>) -> Result<Self, BadName> {
                let given = given.into();
                check(&given)?;
                Ok(Self(given))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(given: String) -> Result<Self, BadName> {
                Self::new(given)
            }
        }

        impl std::str::FromStr for $name {
            type Err = BadName;
            fn from_str(given: &str) -> Result<Self, BadName> {
                Self::new(given)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// A package's name; unique in the cluster.
    PackageName
);
name!(
    /// A resource's name; unique in its package.
    ResourceName
);
name!(
    /// A node's name, for people; the log gives it its [`crate::engine::NodeId`].
    NodeName
);
name!(
    /// A cluster's name, for people, who type it where they must mean it; its id is what counts.
    ClusterName
);

/// The name of a cluster that nobody named.
impl Default for ClusterName {
    fn default() -> Self {
        Self("cluster".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_fit_for_files_chains_and_namespaces() {
        for good in ["a", "n1", "0", "testpkg1", "web.prod-1_a", &"x".repeat(NAME_MAX_BYTES)] {
            assert!(PackageName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-a", "_a", "a/b", "a b", "ä", "a\0", "a\n", &"x".repeat(NAME_MAX_BYTES + 1)] {
            assert!(PackageName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_rule_tells_the_limit_that_holds() {
        assert!(BadName::RULE.contains(&format!("1 to {NAME_MAX_BYTES} of")));
    }
}
