//! Who collects agreements to an expiry: the leader, in practice; anyone may (rule 12).
//!
//! The asking itself is its keeper's. What counts is decided by `apply`; [`Collector::ready`] only says when a proposal
//! would pass, by the same function.

use std::collections::BTreeMap;

use super::{Rules, majority};
use crate::engine::event::Timeline;
use crate::engine::{Incarnation, NodeId, SessionId, State, VoterTime};
use crate::package::Millis;

/// Agreements to one session's expiry.
#[derive(Clone, Debug)]
pub struct Collector {
    session: SessionId,
    noticed: Millis,
    begun: VoterTime,
    latest: VoterTime,
    agreed: BTreeMap<NodeId, Incarnation>,
    rules: Rules,
}

impl Collector {
    /// The voters are asked from now on; the session's last renewal was heard at `last_heard`.
    pub fn new(session: SessionId, last_heard: VoterTime, now: VoterTime) -> Self {
        let noticed = Millis::from(now.since(last_heard));
        Self { session, noticed, begun: now, latest: now, agreed: BTreeMap::new(), rules: Rules::ALL }
    }

    /// The same under other rules; for tests.
    pub fn under(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    /// Which session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// A voter agreed. Only its newest incarnation is kept: an older one can no longer become current.
    pub fn agreed(&mut self, voter: NodeId, incarnation: Incarnation, now: VoterTime) {
        let newer = self.agreed.get(&voter).is_none_or(|known| incarnation > *known);
        if newer {
            self.agreed.insert(voter, incarnation);
            self.latest = self.latest.max(now);
        }
    }

    /// The agreements to propose, once those that are current make a majority of every unretired lease set.
    pub fn ready(&self, state: &State) -> Option<Vec<(NodeId, Incarnation)>> {
        let agreed: Vec<(NodeId, Incarnation)> = self.agreed.iter().map(|(voter, life)| (*voter, *life)).collect();
        let current = majority::current(state, &agreed, &self.rules);
        majority::of_every_set(state, &current, &self.rules).ok()?;
        Some(agreed.into_iter().filter(|(voter, _)| current.contains(voter)).collect())
    }

    /// Where the time went until the last agreement.
    pub fn timeline(&self) -> Timeline {
        Timeline { noticed: self.noticed, agreed: Millis::from(self.latest.since(self.begun)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::state::VoterLife;
    use crate::engine::{Nonce, SetId};
    use std::collections::BTreeSet;

    fn state(lives: &[(u64, u64)], sets: &[&[u64]]) -> State {
        let life = |at: u64| VoterLife { nonce: Nonce(at), incarnation: Incarnation(at) };
        let set = |of: &[u64]| of.iter().map(|id| NodeId(*id)).collect::<BTreeSet<_>>();
        State {
            voter_lives: lives.iter().map(|(voter, at)| (NodeId(*voter), life(*at))).collect(),
            lease_sets: sets.iter().enumerate().map(|(at, of)| (SetId(at as u64), set(of))).collect(),
            ..State::default()
        }
    }

    fn collector(agreed: &[(u64, u64)]) -> Collector {
        let mut collector = Collector::new(SessionId(9), VoterTime::from_millis(100), VoterTime::from_millis(475));
        for (at, (voter, life)) in agreed.iter().enumerate() {
            collector.agreed(NodeId(*voter), Incarnation(*life), VoterTime::from_millis(500 + at as u64));
        }
        collector
    }

    #[test]
    fn a_majority_of_every_unretired_set_in_current_incarnations_is_ready() {
        let lives = [(1, 11), (2, 12), (3, 13), (4, 14)];
        let two = state(&lives, &[&[1, 2, 3], &[2, 3, 4]]);
        assert_eq!(collector(&[(1, 11), (2, 12)]).ready(&two), None, "no majority of the newer set");
        assert_eq!(collector(&[(1, 11), (2, 9), (3, 13)]).ready(&two), None, "an older incarnation");
        let all = collector(&[(1, 11), (2, 9), (3, 13), (2, 12)]).ready(&two).unwrap();
        assert_eq!(all, [(1, 11), (2, 12), (3, 13)].map(|(v, l)| (NodeId(v), Incarnation(l))));
    }

    #[test]
    fn an_older_incarnation_does_not_replace_a_newer_one() {
        let one = state(&[(1, 11)], &[&[1]]);
        assert!(collector(&[(1, 11), (1, 5)]).ready(&one).is_some());
    }

    #[test]
    fn the_timeline_says_how_long_noticing_and_agreeing_took() {
        let timeline = collector(&[(1, 11), (2, 12), (2, 12)]).timeline();
        assert_eq!(timeline, Timeline { noticed: Millis(375), agreed: Millis(26) });
    }
}
