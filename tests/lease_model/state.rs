//! What a state of the model is: clocks as what is left or has passed, so that time has no bound and states do.

use pkgctl::engine::lease::{Rule, Rules, majority};

/// Voters at most.
pub const VOTERS: usize = 4;
/// Facts of the log that a voter can learn: further lease sets, and the session's end.
pub const FACTS: usize = 3;

/// A rule that the shipped machines cannot drop, because it is in how they are driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driven {
    /// Rule 5: a keeper takes everything of an earlier life down before it supersedes that life's session.
    CleanFirst,
    /// Rule 7: what a keeper knows is one prefix of the log. Dropped: lease sets are learned ahead of what precedes them.
    OnePrefix,
    /// Rule 12: a move needs the package's owner. Dropped: it moves whoever owns it.
    OwnerCheck,
    /// Rule 12: agreements count at the entry's place in the log. Dropped: where they were collected.
    CheckedInApply,
}

impl Driven {
    pub const ALL: [Self; 4] = [Self::CleanFirst, Self::OnePrefix, Self::OwnerCheck, Self::CheckedInApply];
}

/// Which rules are in force.
#[derive(Clone, Copy, Debug, Default)]
pub struct Law {
    pub rules: Rules,
    pub dropped: Option<Driven>,
}

impl Law {
    pub fn holds(&self, rule: Rule) -> bool {
        self.rules.hold(rule)
    }

    pub fn drives(&self, rule: Driven) -> bool {
        self.dropped != Some(rule)
    }
}

/// What is checked, and how far.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// The lease sets, one after another, as bits of voters.
    pub sets: Vec<u8>,
    /// A promise, in voters' ticks.
    pub ttl: u8,
    /// A lease, in the holder's ticks.
    pub lease: u8,
    /// Each clock runs at one or two ticks, whichever it likes at each step.
    pub drift: bool,
    /// Restarts of voters; none: without bound.
    pub restarts: Option<u8>,
    /// `VoterUp`s of voters that did not restart (rule 11); none: without bound.
    pub renewals_of_life: Option<u8>,
    /// Renewals arrive at any age, instead of as soon as they are sent.
    pub late_renewals: bool,
    /// A voter takes every renewal again and again, in any life: safety does not rest on rule 6a.
    pub replays: bool,
    /// Acks arrive at any age, instead of as soon as they are sent.
    pub late_acks: bool,
    /// The owner may release the package, and its keeper may die.
    pub owner_acts: bool,
    /// Voters keep their places, instead of being sorted.
    pub named: bool,
    pub law: Law,
}

impl Bounds {
    /// One lease set of three voters, everything late, no bound on anything.
    pub fn three() -> Self {
        Self {
            sets: vec![0b111],
            ttl: 2,
            lease: 2,
            drift: false,
            restarts: None,
            renewals_of_life: None,
            late_renewals: true,
            replays: true,
            late_acks: true,
            owner_acts: false,
            named: false,
            law: Law::default(),
        }
    }

    pub fn sets(self, sets: &[u8]) -> Self {
        Self { sets: sets.to_vec(), ..self }
    }

    /// Nothing restarts, and what is sent arrives at once or never.
    pub fn lean(self) -> Self {
        Self { restarts: Some(0), renewals_of_life: Some(0), late_renewals: false, late_acks: false, ..self }
    }

    /// A third of error on every clock, and a lease that allows for the errors of two clocks (or, without rule 1, one).
    pub fn drifting(self) -> Self {
        let lease = if self.law.holds(Rule::TwoClocksErr) { 3 } else { 4 };
        Self { ttl: 6, lease, drift: true, ..self }
    }

    pub fn without(self, rule: Rule) -> Self {
        Self { law: Law { rules: Rules::without(rule), dropped: None }, ..self }
    }

    pub fn undriven(self, rule: Driven) -> Self {
        Self { law: Law { rules: Rules::ALL, dropped: Some(rule) }, ..self }
    }

    pub fn voters(&self) -> usize {
        let all = self.sets.iter().fold(0, |all, set| all | set);
        (u8::BITS - u8::leading_zeros(all)) as usize
    }

    pub fn is_majority(&self, voters: u8, set: u8) -> bool {
        let members = self.sets[usize::from(set)];
        (voters & members).count_ones() as usize >= majority(members.count_ones() as usize)
    }

    /// A bit of `Voter::acks`.
    pub fn ack(&self, set: u8, age: u8) -> u32 {
        1 << (u32::from(set) * u32::from(self.lease) + u32::from(age))
    }
}

/// Something in the log that a voter learns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fact {
    #[default]
    Nothing,
    /// The next lease set.
    Set,
    /// The session has ended.
    End,
}

/// A voter, with what is under way from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Voter {
    /// What is missing until it has been up for a ttl.
    pub until_up: u8,
    /// Facts of the log that its keeper knows.
    pub known: u8,
    /// Lease sets that it knows ahead of those facts (only without rule 7).
    pub ahead: u8,
    /// It has not applied the `VoterUp` of its life yet.
    pub fresh: bool,
    /// A `VoterUp` of its is in the log after so many facts, and not applied here.
    pub up_after: Option<u8>,
    /// Renewals of this age and older are not taken (rule 6a); a lease's length when all are.
    pub barred: u8,
    /// What is left of its promise.
    pub promise: u8,
    pub fenced: bool,
    /// It has agreed, and the incarnation it said is current.
    pub agreed: bool,
    /// It has told the leader that it knows the newest lease set.
    pub confirmed: bool,
    /// Acks on their way to the holder: which set they name, and the age of their t0.
    pub acks: u32,
    /// At the holder: the age of the latest t0 that this voter acked; a lease's length when none counts.
    pub heard: u8,
}

/// Everything at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub voters: [Voter; VOTERS],
    pub facts: [Fact; FACTS],
    pub length: u8,
    /// Lease sets retired so far.
    pub retired: u8,
    /// What is left of the wait before the next one is retired; none before it begins.
    pub wait: Option<u8>,
    /// What is left of the holder's lease.
    pub lease: u8,
    /// The newest set that an ack named.
    pub star: Option<u8>,
    /// Other hosts that were made owner, as bits.
    pub given: u8,
    /// The session still owns the package.
    pub owns: bool,
    /// Its keeper has recorded the release of its token.
    pub released: bool,
    /// Its keeper's life is over; what runs under it may be up until the lease's end.
    pub dead: bool,
    /// Nothing of it is left on its host.
    pub gone: bool,
    /// Agreements were counted by a collector (only without rule 12's check at the entry's place).
    pub counted: bool,
    pub restarts: u8,
    pub renewals_of_life: u8,
}

impl World {
    /// The session's owner may act; nobody has promised anything yet.
    pub fn new(bounds: &Bounds) -> Self {
        let voter = Voter { heard: bounds.lease, barred: bounds.lease, ..Voter::default() };
        Self {
            voters: [voter; VOTERS],
            facts: [Fact::Nothing; FACTS],
            length: 0,
            retired: 0,
            wait: None,
            lease: 0,
            star: None,
            given: 0,
            owns: true,
            released: false,
            dead: false,
            gone: false,
            counted: false,
            restarts: 0,
            renewals_of_life: 0,
        }
    }

    /// Whether what was started under the session may still do anything.
    pub fn acts(&self) -> bool {
        self.lease > 0 && !self.released && !self.gone
    }

    /// The newest lease set after so many facts.
    pub fn set_after(&self, facts: u8) -> u8 {
        let sets = self.facts[..usize::from(facts)].iter().filter(|fact| **fact == Fact::Set).count();
        u8::try_from(sets).expect("a few")
    }

    pub fn newest(&self) -> u8 {
        self.set_after(self.length)
    }

    pub fn ended(&self) -> bool {
        self.facts.contains(&Fact::End)
    }

    /// The newest lease set that a voter knows.
    pub fn set_of(&self, voter: usize) -> u8 {
        self.set_after(self.voters[voter].known).max(self.voters[voter].ahead)
    }

    pub fn knows_end(&self, voter: usize) -> bool {
        self.facts[..usize::from(self.voters[voter].known)].contains(&Fact::End)
    }

    pub fn write(&mut self, fact: Fact) -> Option<()> {
        *self.facts.get_mut(usize::from(self.length))? = fact;
        self.length += 1;
        Some(())
    }

    /// The voters for which something holds, as bits.
    pub fn who(&self, bounds: &Bounds, holds: impl Fn(&Voter) -> bool) -> u8 {
        (0..bounds.voters()).filter(|v| holds(&self.voters[*v])).fold(0, |bits, v| bits | 1 << v)
    }

    /// Voters that are in the same sets are interchangeable: puts them in order.
    pub fn canonical(mut self, bounds: &Bounds) -> Self {
        if bounds.named {
            return self;
        }
        let class = |v: usize| bounds.sets.iter().fold(0u8, |class, set| class << 1 | (set >> v & 1));
        for first in 0..bounds.voters() {
            for second in first + 1..bounds.voters() {
                if class(first) == class(second) && self.voters[second] < self.voters[first] {
                    self.voters.swap(first, second);
                }
            }
        }
        self
    }
}
