//! The prefix of the log that a keeper knows (rule 7): lease sets, live sessions, its own incarnation.
//!
//! It only grows: whatever a restarted agent replays at or below the known index is ignored.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::engine::{Incarnation, LogIndex, NodeId, Nonce, SessionId, SetId, State};
use crate::package::Millis;

/// One thing a log entry says that keepers must know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// A session began.
    Registered {
        /// Its id.
        session: SessionId,
        /// Whose.
        node: NodeId,
        /// Which keeper life.
        nonce: Nonce,
        /// Its lease time.
        ttl: Millis,
    },
    /// A session ended.
    Expired {
        /// Its id.
        session: SessionId,
    },
    /// A lease set began.
    SetAdded {
        /// Its id.
        set: SetId,
        /// Its members.
        members: BTreeSet<NodeId>,
    },
    /// A lease set ended.
    SetRetired {
        /// Its id.
        set: SetId,
    },
    /// A voter's keeper is up.
    VoterUp {
        /// Which voter.
        voter: NodeId,
        /// Which keeper life.
        nonce: Nonce,
        /// Its new incarnation.
        incarnation: Incarnation,
    },
}

/// A step from the agent to its keeper: everything up to and including `index` that was not said before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Learn {
    /// The whole prefix, after attach or a snapshot.
    Whole(Knowledge),
    /// One entry's facts.
    Step {
        /// The entry.
        index: LogIndex,
        /// What it says; may be empty.
        facts: Vec<Fact>,
    },
}

/// What a keeper knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knowledge {
    /// The prefix's length.
    pub index: LogIndex,
    /// Unretired lease sets.
    pub sets: BTreeMap<SetId, BTreeSet<NodeId>>,
    /// Live sessions and their lease times.
    pub sessions: BTreeMap<SessionId, KnownSession>,
    /// Current life of each voter's keeper.
    pub voters: BTreeMap<NodeId, (Nonce, Incarnation)>,
}

/// A live session as a keeper knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownSession {
    /// Whose.
    pub node: NodeId,
    /// Which keeper life.
    pub nonce: Nonce,
    /// Its lease time.
    pub ttl: Millis,
}

impl Knowledge {
    /// The knowledge that a whole state amounts to.
    pub fn of(state: &State) -> Self {
        let sessions = state.sessions.iter();
        Self {
            index: state.applied,
            sets: state.lease_sets.clone(),
            sessions: sessions
                .map(|(id, s)| (*id, KnownSession { node: s.node, nonce: s.nonce, ttl: s.ttl }))
                .collect(),
            voters: state.voter_lives.iter().map(|(id, l)| (*id, (l.nonce, l.incarnation))).collect(),
        }
    }

    /// Takes a step in log order; whatever is not newer than what is known is ignored, and so is an entry that does not
    /// follow the last one known: what is known must be a prefix of the log (rule 7), and the whole of it follows.
    /// Returns whether anything was taken.
    pub fn learn(&mut self, step: Learn) -> bool {
        match step {
            Learn::Whole(whole) if whole.index > self.index => {
                *self = whole;
                true
            }
            Learn::Step { index, facts } if index.0 == self.index.0 + 1 => {
                self.index = index;
                facts.into_iter().for_each(|fact| self.take(fact));
                true
            }
            Learn::Whole(_) | Learn::Step { .. } => false,
        }
    }

    fn take(&mut self, fact: Fact) {
        match fact {
            Fact::Registered { session, node, nonce, ttl } => {
                self.sessions.insert(session, KnownSession { node, nonce, ttl });
            }
            Fact::Expired { session } => {
                self.sessions.remove(&session);
            }
            Fact::SetAdded { set, members } => {
                self.sets.insert(set, members);
            }
            Fact::SetRetired { set } => {
                self.sets.remove(&set);
            }
            Fact::VoterUp { voter, nonce, incarnation } => {
                self.voters.insert(voter, (nonce, incarnation));
            }
        }
    }

    /// The newest lease set.
    pub fn newest_set(&self) -> Option<(SetId, &BTreeSet<NodeId>)> {
        self.sets.last_key_value().map(|(id, members)| (*id, members))
    }

    /// Whether the log, as far as known, says that this session has ended (rule 6: a newer one has not).
    pub fn has_ended(&self, session: SessionId) -> bool {
        session.0 <= self.index.0 && !self.sessions.contains_key(&session)
    }

    /// The incarnation of this life of this voter's keeper, if the log has told of it (rule 9).
    pub fn incarnation_of(&self, voter: NodeId, nonce: Nonce) -> Option<Incarnation> {
        self.voters.get(&voter).filter(|(known, _)| *known == nonce).map(|(_, incarnation)| *incarnation)
    }
}

#[cfg(test)]
impl Knowledge {
    /// Learns entries that say nothing, up to one that says this.
    pub fn learn_at(&mut self, index: LogIndex, fact: Fact) {
        for silent in self.index.0 + 1..index.0 {
            assert!(self.learn(Learn::Step { index: LogIndex(silent), facts: Vec::new() }));
        }
        assert!(self.learn(Learn::Step { index, facts: vec![fact] }), "entry {index} is no news");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A keeper that begins while its agent applies entries hears of one of them before it is told the whole.
    #[test]
    fn an_entry_that_does_not_follow_is_not_taken_and_the_whole_that_comes_after_it_is() {
        let mut known = Knowledge::default();
        let members: BTreeSet<NodeId> = [NodeId(1)].into();
        let added = |set| Fact::SetAdded { set: SetId(set), members: [NodeId(1)].into() };
        assert!(
            !known.learn(Learn::Step { index: LogIndex(9), facts: vec![added(9)] }),
            "what lies before is not known"
        );
        let sets = BTreeMap::from([(SetId(4), members)]);
        let whole = Knowledge { index: LogIndex(8), sets, ..Knowledge::default() };
        assert!(known.learn(Learn::Whole(whole.clone())));
        assert!(!known.learn(Learn::Step { index: LogIndex(8), facts: vec![added(8)] }), "known already");
        assert_eq!(known, whole);
        assert!(known.learn(Learn::Step { index: LogIndex(9), facts: vec![added(9)] }));
        assert_eq!(known.newest_set().map(|(set, _)| set), Some(SetId(9)));
    }
}
