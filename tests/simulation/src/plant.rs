//! Bugs that can be planted, to show that the simulation finds them. Each is a switch of this test crate or of a value
//! that only tests make; the shipped program has none of them.

use std::fmt;
use std::str::FromStr;

use pkgctl::engine::lease::{Rule, Rules};

/// One planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// A rule of docs/leases.md is dropped everywhere.
    Rule(Rule),
    /// The disk says that it has synced, and has not.
    LostFsync,
    /// Leashes have no deadline of their own: a frozen keeper's programs live on.
    NoDeadline,
    /// Lease elements of addresses never run out by themselves.
    NoExpiry,
    /// Renewing an element begins with an add, which brings one back that has run out.
    BlindRenewal,
    /// A keeper's death does not end its programs.
    Orphans,
    /// A new keeper does not wait for programs that the one before has left.
    Unawaited,
    /// Both of them.
    OrphansUnawaited,
    /// A new keeper does not wait until nothing of the one before is left, and takes no address away.
    UncleanStart,
    /// The clocks run up to 5 % off, five times what is allowed for.
    WildClocks,
    /// Reads are answered from what is applied here, without asking the leader.
    StaleReads,
    /// An agent that starts ends what runs, and starts it again.
    RestartsAll,
    /// Keepers seal with a new key of the datagrams as soon as they have it.
    SealsAtOnce,
    /// Changes of keys lose their names: one that is repeated is carried out again.
    Nameless,
    /// Changes of keys lose their guard: whoever owned the package once may write.
    Unguarded,
}

impl Plant {
    /// Every one.
    pub fn all() -> Vec<Self> {
        let others = [
            Self::LostFsync,
            Self::NoDeadline,
            Self::NoExpiry,
            Self::BlindRenewal,
            Self::Orphans,
            Self::Unawaited,
            Self::OrphansUnawaited,
            Self::UncleanStart,
            Self::WildClocks,
            Self::StaleReads,
            Self::RestartsAll,
            Self::SealsAtOnce,
            Self::Nameless,
            Self::Unguarded,
        ];
        Rule::ALL.into_iter().map(Self::Rule).chain(others).collect()
    }

    /// Whether planting this plants that one too.
    pub fn includes(self, other: Self) -> bool {
        self == other || (self == Self::OrphansUnawaited && matches!(other, Self::Orphans | Self::Unawaited))
    }

    /// The lease rules in force with that bug planted, or with none.
    pub fn rules(of: Option<Self>) -> Rules {
        match of {
            Some(Self::Rule(rule)) => Rules::without(rule),
            _ => Rules::ALL,
        }
    }
}

impl fmt::Display for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rule) => write!(f, "{rule:?}"),
            other => write!(f, "{other:?}"),
        }
    }
}

impl FromStr for Plant {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = Self::all();
        let names: Vec<String> = all.iter().map(ToString::to_string).collect();
        let found = all.into_iter().find(|plant| plant.to_string() == name);
        found.ok_or_else(|| format!("no such bug; there are {}", names.join(", ")))
    }
}
