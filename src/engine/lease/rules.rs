//! Which rules of docs/leases.md are in force: all of them. Tests drop one at a time to show that it is needed.
//!
//! Nothing outside tests may name [`Rules::without`]; `tests/lease_sim.rs` reads the sources and holds that.

/// A rule that a test can drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Rule 1: a lease is shorter than its promise by the error of both clocks. Dropped: by one clock's error only.
    TwoClocksErr,
    /// Rule 3: t0 is read before the send. Dropped: it is the time at which the ack arrives.
    SendTime,
    /// Rule 6: a voter refuses a session that the log has ended. Dropped: only its own fences make it refuse.
    LogRefuse,
    /// Rule 6a: a voter takes only seqs larger than any it has taken of the session. Dropped: it takes each again and again.
    TakenOnce,
    /// Rule 6a: a voter takes only what was sent to this life of its keeper. Dropped: to any.
    ThisLife,
    /// Rule 8: the newest lease set in any ack counts. Dropped: the first one does.
    NewestSet,
    /// Rule 8a: without a majority's acks for ttl/4 a holder only queries, and once T has passed it never renews again.
    /// Dropped: it renews for ever.
    QueryMode,
    /// Rule 9: a voter acks only after its own `VoterUp`. Dropped: from its start (it cannot agree without an incarnation).
    VoterUpFirst,
    /// Rule 10: a voter agrees once its promise has run out. Dropped: at once.
    PromiseLapsed,
    /// Rule 10: a voter agrees once it has been up for the session's ttl. Dropped: at once.
    UpForTtl,
    /// Rule 10: a voter refuses what it agreed to expire. Dropped: it goes on acking.
    Fence,
    /// Rule 12: only agreements of current incarnations count. Dropped: all count.
    CurrentIncarnation,
    /// Rule 12: a majority of every unretired lease set must agree. Dropped: of the newest.
    EverySet,
    /// Rule 17: an old lease set is retired ttl_max after a majority of its keepers knew a newer one. Dropped: at once.
    RetireWait,
    /// Rule 20: the keeper refuses a released token. Dropped: it forgets.
    ReleasedToken,
}

impl Rule {
    /// Every rule that a test can drop.
    pub const ALL: [Self; 15] = [
        Self::TwoClocksErr,
        Self::SendTime,
        Self::LogRefuse,
        Self::TakenOnce,
        Self::ThisLife,
        Self::NewestSet,
        Self::QueryMode,
        Self::VoterUpFirst,
        Self::PromiseLapsed,
        Self::UpForTtl,
        Self::Fence,
        Self::CurrentIncarnation,
        Self::EverySet,
        Self::RetireWait,
        Self::ReleasedToken,
    ];

    /// The rule of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| format!("{rule:?}") == name)
    }
}

/// The rules in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    dropped: Option<Rule>,
}

impl Rules {
    /// Every rule.
    pub const ALL: Self = Self { dropped: None };

    /// Every rule but one. For tests only.
    pub const fn without(rule: Rule) -> Self {
        Self { dropped: Some(rule) }
    }

    /// Whether a rule is in force.
    pub fn hold(&self, rule: Rule) -> bool {
        self.dropped != Some(rule)
    }
}
