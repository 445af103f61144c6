//! Before a lease set is added (rule 14) and before an old one is retired (rule 17): the proposer's waits, which no
//! place in the log can check.

use std::collections::{BTreeMap, BTreeSet};

use super::{Rule, Rules, majority};
use crate::engine::{NodeId, SetId, State, VoterTime};
use crate::package::Millis;

/// Rule 14: a new lease set is proposed only when its members are ready and every host with a live session says that
/// it reaches a majority of it.
///
/// # Errors
/// The sentence that says what is missing.
pub fn may_add(
    state: &State,
    members: &BTreeSet<NodeId>,
    ready: &BTreeSet<NodeId>,
    reach: &BTreeMap<NodeId, BTreeSet<NodeId>>,
) -> Result<(), String> {
    if let Some(member) = members.iter().find(|id| !state.voter_lives.contains_key(id) || !ready.contains(id)) {
        return Err(format!("the keeper of {} is not ready to promise leases", state.name_of(*member)));
    }
    let needed = majority(members.len());
    for host in state.sessions.values().map(|session| session.node).collect::<BTreeSet<_>>() {
        let reached = reach.get(&host).map_or(0, |of| of.intersection(members).count());
        if reached < needed {
            return Err(format!("{} reaches {reached} of the members, and needs {needed}", state.name_of(host)));
        }
    }
    Ok(())
}

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

    #[test]
    fn a_lease_set_is_added_when_its_members_are_ready_and_every_host_reaches_a_majority() {
        let state = state(&[400, 400]);
        let members = nodes(&[2, 3, 4]);
        let reach = |one: &[u64]| BTreeMap::from([(NodeId(1), nodes(one)), (NodeId(2), nodes(&[2, 3]))]);
        let ready = nodes(&[2, 3, 4]);
        assert_eq!(may_add(&state, &members, &ready, &reach(&[3, 4])), Ok(()));
        let why = may_add(&state, &members, &nodes(&[2, 3]), &reach(&[3, 4])).unwrap_err();
        assert_eq!(why, "the keeper of node 4 is not ready to promise leases");
        let why = may_add(&state, &members, &ready, &reach(&[1, 4])).unwrap_err();
        assert_eq!(why, "node 1 reaches 1 of the members, and needs 2");
        assert!(may_add(&state, &members, &ready, &BTreeMap::new()).is_err());
    }
}
