//! Before an old lease set is retired (rule 17): the proposer's wait, which no place in the log can check.

use std::collections::BTreeMap;

use super::{Rule, Rules, majority};
use crate::engine::{NodeId, SetId, State, VoterTime};
use crate::package::Millis;

/// The wait before an old lease set is retired (rule 17): a majority of its keepers have confirmed a newer one to this
/// leader itself, and then the longest lease time has passed. A new leader starts over with a new value.
#[derive(Clone, Debug)]
pub struct Retirement {
    old: SetId,
    newer: SetId,
    /// Who knows the newer set, and when it first said so.
    confirmed: BTreeMap<NodeId, VoterTime>,
    /// Since when sessions have been watched.
    watched: Option<VoterTime>,
    /// The largest lease time of any session seen live since then.
    ttl_max: Millis,
    rules: Rules,
}

impl Retirement {
    /// Nothing has been confirmed yet.
    pub fn new(old: SetId, newer: SetId) -> Self {
        let (confirmed, watched, ttl_max) = (BTreeMap::new(), None, Millis(0));
        Self { old, newer, confirmed, watched, ttl_max, rules: Rules::ALL }
    }

    /// The same under other rules; for tests.
    pub fn under(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    /// The set to be retired.
    pub fn old(&self) -> SetId {
        self.old
    }

    /// The set that must be known.
    pub fn newer(&self) -> SetId {
        self.newer
    }

    /// A keeper said which newest lease set it knows (rule 16).
    pub fn confirm(&mut self, keeper: NodeId, knows: SetId, now: VoterTime) {
        if knows >= self.newer {
            self.confirmed.entry(keeper).or_insert(now);
        }
    }

    /// Whether the old set may be retired now. Call it at every turn: it watches which sessions are live, and the wait
    /// is never counted from before its first call.
    pub fn due(&mut self, state: &State, now: VoterTime) -> bool {
        let watched = *self.watched.get_or_insert(now);
        let longest = state.sessions.values().map(|session| session.ttl).max().unwrap_or_default();
        self.ttl_max = self.ttl_max.max(longest);
        let Some(keepers) = state.lease_sets.get(&self.old) else { return false };
        if !self.rules.hold(Rule::RetireWait) {
            return true;
        }
        let mut times: Vec<VoterTime> =
            keepers.iter().filter_map(|keeper| self.confirmed.get(keeper)).copied().collect();
        times.sort_unstable();
        let complete = times.get(majority(keepers.len()) - 1);
        complete.is_some_and(|complete| now.since(watched.max(*complete)) >= self.ttl_max.duration())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::engine::state::{Session, VoterLife};
    use crate::engine::{Incarnation, Nonce, SessionId};

    fn nodes(of: &[u64]) -> BTreeSet<NodeId> {
        of.iter().map(|id| NodeId(*id)).collect()
    }

    fn state(ttls: &[u64]) -> State {
        let session = |(at, ttl): (usize, &u64)| {
            let node = NodeId(at as u64 + 1);
            (SessionId(10 + at as u64), Session { node, nonce: Nonce(0), ttl: Millis(*ttl) })
        };
        State {
            sessions: ttls.iter().enumerate().map(session).collect(),
            lease_sets: BTreeMap::from([(SetId(5), nodes(&[1, 2, 3])), (SetId(8), nodes(&[2, 3, 4]))]),
            voter_lives: (1..5)
                .map(|id| (NodeId(id), VoterLife { nonce: Nonce(0), incarnation: Incarnation(1) }))
                .collect(),
            ..State::default()
        }
    }

    fn at(ms: u64) -> VoterTime {
        VoterTime::from_millis(ms)
    }

    fn retirement() -> Retirement {
        Retirement::new(SetId(5), SetId(8))
    }

    #[test]
    fn a_set_is_retired_the_longest_lease_time_after_a_majority_of_the_old_keepers_knew_the_newer_one() {
        let (mut r, state) = (retirement(), state(&[400, 1500]));
        r.confirm(NodeId(1), SetId(8), at(10));
        r.confirm(NodeId(4), SetId(8), at(10));
        r.confirm(NodeId(2), SetId(5), at(10));
        assert!(!r.due(&state, at(9000)), "4 is no keeper of the old set, and 2 knows only the old one");
        r.confirm(NodeId(3), SetId(9), at(10_000));
        r.confirm(NodeId(3), SetId(9), at(11_000));
        assert!(!r.due(&state, at(11_499)));
        assert!(r.due(&state, at(11_500)));
    }

    #[test]
    fn a_longer_session_that_begins_during_the_wait_prolongs_it() {
        let mut r = retirement();
        [1, 2].into_iter().for_each(|id| r.confirm(NodeId(id), SetId(8), at(0)));
        assert!(!r.due(&state(&[400]), at(0)));
        assert!(!r.due(&state(&[400, 1500]), at(400)));
        assert!(!r.due(&state(&[400]), at(1499)), "it counts although it has ended again");
        assert!(r.due(&state(&[400]), at(1500)));
    }

    #[test]
    fn a_set_that_is_gone_is_not_due() {
        let mut r = retirement();
        [1, 2].into_iter().for_each(|id| r.confirm(NodeId(id), SetId(8), at(0)));
        assert!(!r.due(&State::default(), at(9000)));
    }
}
