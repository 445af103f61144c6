//! Before a lease set is added (rule 14): what hosts say of the keepers that they reach, how long that counts, and
//! whether the set to come could work. No place in the log can check this, and safety does not rest on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::majority;
use crate::engine::{NodeId, State, VoterTime};

/// How long a host's word counts, from the question on. Longer than the slowest answer, so that the words of all hosts
/// meet; short enough that a keeper which has died since is not taken for one that is ready.
pub const WORD_LASTS: Duration = Duration::from_secs(3);

/// Which keepers each host reached, and which of those said that they are ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    words: BTreeMap<NodeId, Word>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    asked: VoterTime,
    keepers: BTreeMap<NodeId, bool>,
}

impl Reach {
    /// A host answered a question that was put at that time: whom its keeper reached, and who of them is ready.
    pub fn heard(&mut self, host: NodeId, keepers: BTreeMap<NodeId, bool>, asked: VoterTime) {
        let newer = self.words.get(&host).is_none_or(|word| word.asked <= asked);
        if newer {
            self.words.insert(host, Word { asked, keepers });
        }
    }

    /// Forgets what is older than [`WORD_LASTS`].
    pub fn forget_old(&mut self, now: VoterTime) {
        self.words.retain(|_, word| now.since(word.asked) < WORD_LASTS);
    }

    /// Keepers that some host found ready.
    pub fn ready(&self) -> BTreeSet<NodeId> {
        let each = self.words.values().flat_map(|word| &word.keepers);
        each.filter(|(_, ready)| **ready).map(|(id, _)| *id).collect()
    }

    /// Whom each host reached.
    pub fn reached(&self) -> BTreeMap<NodeId, BTreeSet<NodeId>> {
        self.words.iter().map(|(host, word)| (*host, word.keepers.keys().copied().collect())).collect()
    }
}

/// What keeps a lease set from being added. Its text says what is missing and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A member that is in no lease set yet cannot promise.
    Newcomer {
        /// Its name.
        name: String,
    },
    /// Too few members can promise.
    Majority {
        /// How many can.
        ready: usize,
        /// How many must.
        needed: usize,
        /// Those that cannot.
        others: Vec<String>,
    },
    /// A host with a live session reaches too few members that can promise.
    Host {
        /// Its name.
        name: String,
        /// How many it reaches.
        reached: usize,
        /// How many it must.
        needed: usize,
        /// Ready members that it does not reach.
        others: Vec<String>,
    },
    /// A host with a live session has not said whom it reaches.
    Word {
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Newcomer { name } => write!(
                f,
                "the keeper of {name}, which is new in it, is not ready to promise leases: see that pkgctl runs on {name}, \
                 or give it up with `pkgctl cluster remove {name}`"
            ),
            Missing::Majority { ready, needed, others } => {
                let (short, others) = (needed - ready, others.join(", "));
                write!(
                    f,
                    "of its members {ready} are ready to promise leases, and {needed} must be: bring at least {short} of \
                     {others} back"
                )
            }
            Missing::Host { name, reached, needed, others } => write!(
                f,
                "{name} reaches {reached} of its members that are ready, and needs {needed}: see that udp is open between \
                 {name} and {}",
                others.join(", ")
            ),
            Missing::Word { name } => {
                write!(f, "{name} has not said which keepers it reaches: see that pkgctl-agent runs on {name}")
            }
        }
    }
}

/// Rule 14: a new lease set is proposed only when it could work. Each member that is in no lease set yet is ready, since
/// one that is dead would only raise the majority that the others must make; a majority of the members are ready; and
/// every host with a live session reaches a majority of the members, all of them ready. That a member of the set before
/// is dead does not matter: it was counted there too, and waiting for it would keep a cluster from giving up another.
///
/// # Errors
/// What is missing, the first of these.
pub fn may_add(
    state: &State,
    members: &BTreeSet<NodeId>,
    ready: &BTreeSet<NodeId>,
    reach: &BTreeMap<NodeId, BTreeSet<NodeId>>,
) -> Result<(), Missing> {
    let name = |id: &NodeId| state.name_of(*id);
    let can = |id: &&NodeId| state.voter_lives.contains_key(id) && ready.contains(id);
    let old = |id: &&NodeId| state.lease_sets.values().next_back().is_some_and(|set| set.contains(id));
    if let Some(newcomer) = members.iter().find(|id| !old(id) && !can(id)) {
        return Err(Missing::Newcomer { name: name(newcomer) });
    }
    let needed = majority(members.len());
    let able: BTreeSet<NodeId> = members.iter().filter(can).copied().collect();
    if able.len() < needed {
        let others = members.difference(&able).map(name).collect();
        return Err(Missing::Majority { ready: able.len(), needed, others });
    }
    for host in state.sessions.values().map(|session| session.node).collect::<BTreeSet<_>>() {
        let Some(of) = reach.get(&host) else { return Err(Missing::Word { name: name(&host) }) };
        let reached = of.intersection(&able).count();
        if reached < needed {
            let others = able.difference(of).map(name).collect();
            return Err(Missing::Host { name: name(&host), reached, needed, others });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::state::{Session, VoterLife};
    use crate::engine::{Incarnation, Nonce, SessionId, SetId};
    use crate::package::Millis;

    fn nodes(of: &[u64]) -> BTreeSet<NodeId> {
        of.iter().map(|id| NodeId(*id)).collect()
    }

    /// A cluster whose newest lease set has these members, with a live session on each of these hosts.
    fn state(set: &[u64], hosts: &[u64]) -> State {
        let session = |id: &u64| {
            let session = Session { node: NodeId(*id), nonce: Nonce(0), ttl: Millis(1500) };
            (SessionId(10 + id), session)
        };
        let life = VoterLife { nonce: Nonce(0), incarnation: Incarnation(1) };
        State {
            sessions: hosts.iter().map(session).collect(),
            lease_sets: BTreeMap::from([(SetId(5), nodes(set))]),
            voter_lives: (1..9).map(|id| (NodeId(id), life)).collect(),
            ..State::default()
        }
    }

    /// Every host reaches every keeper that is ready, and nobody else.
    fn ask(state: &State, members: &[u64], ready: &[u64]) -> Result<(), Missing> {
        let ready = nodes(ready);
        let reach = state.sessions.values().map(|session| (session.node, ready.clone())).collect();
        may_add(state, &nodes(members), &ready, &reach)
    }

    #[test]
    fn one_of_two_dead_nodes_can_be_given_up_without_the_other() {
        let state = state(&[1, 2, 3, 4, 5], &[1, 2, 3]);
        assert_eq!(ask(&state, &[1, 2, 3, 4], &[1, 2, 3]), Ok(()));
        let missing = ask(&state, &[1, 2, 3, 4], &[1, 2]).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "of its members 2 are ready to promise leases, and 3 must be: bring at least 1 of node 3, node 4 back"
        );
    }

    #[test]
    fn a_newcomer_must_be_ready_however_many_others_are() {
        let state = state(&[1, 2, 3], &[1, 2, 3]);
        assert_eq!(ask(&state, &[1, 2, 3, 4], &[1, 2, 3, 4]), Ok(()));
        assert_eq!(ask(&state, &[1, 2, 3, 4], &[1, 2, 4]), Ok(()), "3 was a member before");
        let missing = ask(&state, &[1, 2, 3, 4], &[1, 2, 3]);
        assert_eq!(missing, Err(Missing::Newcomer { name: "node 4".to_owned() }));
        let mut unborn = state.clone();
        unborn.voter_lives.remove(&NodeId(4));
        assert_eq!(ask(&unborn, &[1, 2, 3, 4], &[1, 2, 3, 4]), Err(Missing::Newcomer { name: "node 4".to_owned() }));
    }

    #[test]
    fn the_first_lease_set_has_newcomers_only() {
        let first = State { lease_sets: BTreeMap::new(), ..state(&[], &[]) };
        assert_eq!(ask(&first, &[1], &[1]), Ok(()));
        assert!(ask(&first, &[1], &[]).is_err());
    }

    #[test]
    fn every_host_with_a_session_must_reach_a_majority_that_is_ready() {
        let state = state(&[1, 2, 3, 4, 5], &[1, 2]);
        let (members, ready) = (nodes(&[1, 2, 3, 4]), nodes(&[1, 2, 3]));
        let reach = |second: &[u64]| BTreeMap::from([(NodeId(1), nodes(&[1, 2, 3])), (NodeId(2), nodes(second))]);
        assert_eq!(may_add(&state, &members, &ready, &reach(&[1, 2, 3])), Ok(()));
        let missing = may_add(&state, &members, &ready, &reach(&[1, 2, 4])).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "node 2 reaches 2 of its members that are ready, and needs 3: see that udp is open between node 2 and node 3"
        );
        let one = BTreeMap::from([(NodeId(1), nodes(&[1, 2, 3]))]);
        assert_eq!(may_add(&state, &members, &ready, &one), Err(Missing::Word { name: "node 2".to_owned() }));
    }

    #[test]
    fn a_word_counts_for_a_while_and_an_older_one_does_not_replace_it() {
        let at = VoterTime::from_millis;
        let mut reach = Reach::default();
        let says = |keepers: &[(u64, bool)]| keepers.iter().map(|(id, ready)| (NodeId(*id), *ready)).collect();
        reach.heard(NodeId(1), says(&[(1, true), (2, false), (3, true)]), at(1000));
        reach.heard(NodeId(2), says(&[(2, true)]), at(2000));
        reach.heard(NodeId(1), says(&[]), at(900));
        assert_eq!((reach.ready(), reach.reached()[&NodeId(1)].len()), (nodes(&[1, 2, 3]), 3));
        let last = at(1000) + WORD_LASTS;
        reach.forget_old(at(3999));
        assert_eq!(reach.ready(), nodes(&[1, 2, 3]));
        reach.forget_old(last);
        assert_eq!(reach.ready(), nodes(&[2]), "1 has not said again that 3 is ready: it may have died since");
        reach.heard(NodeId(1), says(&[(1, true)]), last);
        assert_eq!((reach.ready(), reach.reached()[&NodeId(1)].clone()), (nodes(&[1, 2]), nodes(&[1])));
    }
}
