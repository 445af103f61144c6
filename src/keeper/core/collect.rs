//! The asking side of an expiry: questions to voters, repeated until the log has decided or the question is moot.
//!
//! A voter that has agreed is asked on: it may begin a new incarnation before the others agree, and what it said in the
//! old one counts no more (rule 12). One that has not heard the last of a fenced session does just that (rule 11).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::limits::{ASK_REPEAT_MIN, ASKED_MAX, COLLECTIONS_MAX};
use crate::engine::lease::{Knowledge, Message};
use crate::engine::{Incarnation, NodeId, SessionId, VoterTime};
use crate::keeper::protocol::FromKeeper;
use crate::package::Millis;

/// Every expiry being collected.
#[derive(Clone, Debug, Default)]
pub struct Collections(BTreeMap<SessionId, Collection>);

#[derive(Clone, Debug)]
struct Collection {
    ttl: Millis,
    voters: BTreeSet<NodeId>,
    agreed: BTreeMap<NodeId, Incarnation>,
    since: VoterTime,
    ask_at: VoterTime,
}

impl Collections {
    /// Begins to ask these voters. Asking again for the same session starts over: another agent is to be told.
    ///
    /// # Errors
    /// The sentence that says which limit was met.
    pub fn begin(
        &mut self,
        session: SessionId,
        ttl: Millis,
        voters: Vec<NodeId>,
        now: VoterTime,
    ) -> Result<(), String> {
        if voters.len() > ASKED_MAX {
            return Err(format!("session {session}: {} voters to ask, at most {ASKED_MAX} allowed", voters.len()));
        }
        if !self.0.contains_key(&session) && self.0.len() >= COLLECTIONS_MAX {
            return Err(format!("session {session}: {COLLECTIONS_MAX} expiries are being collected already"));
        }
        let since = self.0.get(&session).map_or(now, |old| old.since);
        let voters = voters.into_iter().collect();
        self.0.insert(session, Collection { ttl, voters, agreed: BTreeMap::new(), since, ask_at: now });
        Ok(())
    }

    /// Stops asking.
    pub fn abandon(&mut self, session: SessionId) {
        self.0.remove(&session);
    }

    /// Drops what the log has decided.
    pub fn learn(&mut self, knowledge: &Knowledge) {
        self.0.retain(|session, _| !knowledge.has_ended(*session));
    }

    /// Nobody is there any more to be told.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes a voter's agreement; the word for the agent, if it is news.
    pub fn agreed(
        &mut self,
        session: SessionId,
        voter: NodeId,
        incarnation: Incarnation,
        now: VoterTime,
    ) -> Option<FromKeeper> {
        let collection = self.0.get_mut(&session)?;
        if !collection.voters.contains(&voter) || collection.agreed.insert(voter, incarnation) == Some(incarnation) {
            return None;
        }
        let after = Millis::from(now.since(collection.since));
        Some(FromKeeper::Agreed { session, voter, incarnation, after })
    }

    /// The questions due now.
    pub fn due(&mut self, now: VoterTime) -> Vec<(NodeId, Message)> {
        let mut questions = Vec::new();
        for (session, collection) in self.0.iter_mut().filter(|(_, c)| c.ask_at <= now) {
            collection.ask_at = now + collection.repeat();
            let ask = Message::Ask { session: *session, ttl: collection.ttl };
            questions.extend(collection.voters.iter().map(|voter| (*voter, ask.clone())));
        }
        questions
    }

    /// When questions are due next.
    pub fn wake(&self) -> Option<VoterTime> {
        self.0.values().map(|c| c.ask_at).min()
    }
}

impl Collection {
    fn repeat(&self) -> Duration {
        (self.ttl.duration() / 20).max(ASK_REPEAT_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: SessionId = SessionId(7);
    const TTL: Millis = Millis(1000);

    fn at(ms: u64) -> VoterTime {
        VoterTime::from_millis(ms)
    }

    fn asked(collections: &mut Collections, ms: u64) -> Vec<u64> {
        collections.due(at(ms)).into_iter().map(|(to, _)| to.0).collect()
    }

    #[test]
    fn voters_are_asked_every_twentieth_of_the_ttl_whether_they_have_agreed_or_not() {
        let mut c = Collections::default();
        c.begin(S, TTL, vec![NodeId(1), NodeId(2)], at(0)).unwrap();
        assert_eq!(asked(&mut c, 0), [1, 2]);
        assert_eq!(asked(&mut c, 49), [0; 0]);
        assert_eq!(asked(&mut c, 50), [1, 2]);
        let word = c.agreed(S, NodeId(1), Incarnation(3), at(60));
        assert!(matches!(word, Some(FromKeeper::Agreed { after: Millis(60), .. })), "{word:?}");
        assert_eq!(asked(&mut c, 100), [1, 2], "it may begin a new incarnation, in which it has not agreed");
        assert!(c.agreed(S, NodeId(1), Incarnation(3), at(110)).is_none(), "a duplicate is no news");
        assert!(c.agreed(S, NodeId(1), Incarnation(4), at(110)).is_some(), "a newer incarnation is");
        assert!(c.agreed(S, NodeId(2), Incarnation(1), at(120)).is_some());
        assert_eq!(c.wake(), Some(at(150)));
    }

    #[test]
    fn nobody_is_asked_after_abandon_or_once_the_log_has_decided() {
        let mut c = Collections::default();
        c.begin(S, TTL, vec![NodeId(1)], at(0)).unwrap();
        c.abandon(S);
        assert_eq!(c.wake(), None);
        c.begin(S, TTL, vec![NodeId(1)], at(0)).unwrap();
        c.learn(&Knowledge { index: crate::engine::LogIndex(9), ..Knowledge::default() });
        assert_eq!(c.wake(), None);
    }

    #[test]
    fn agreements_of_strangers_and_of_other_sessions_are_ignored() {
        let mut c = Collections::default();
        c.begin(S, TTL, vec![NodeId(1)], at(0)).unwrap();
        assert!(c.agreed(S, NodeId(9), Incarnation(1), at(1)).is_none());
        assert!(c.agreed(SessionId(8), NodeId(1), Incarnation(1), at(1)).is_none());
    }

    #[test]
    fn collecting_again_keeps_the_time_of_the_first_question_and_asks_everybody_again() {
        let mut c = Collections::default();
        c.begin(S, TTL, vec![NodeId(1)], at(0)).unwrap();
        c.agreed(S, NodeId(1), Incarnation(1), at(10)).unwrap();
        c.begin(S, TTL, vec![NodeId(1)], at(20)).unwrap();
        assert_eq!(asked(&mut c, 20), [1]);
        let word = c.agreed(S, NodeId(1), Incarnation(1), at(30));
        assert!(matches!(word, Some(FromKeeper::Agreed { after: Millis(30), .. })));
    }
}
