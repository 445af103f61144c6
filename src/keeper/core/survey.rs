//! Questions to other keepers on the agent's behalf: who answers (rule 14), and which lease set does each know
//! (rules 16 and 17).

use std::collections::{BTreeMap, BTreeSet};

use super::limits::{ASKED_MAX, SURVEY_REPEAT, SURVEY_WAIT, SURVEYS_MAX};
use super::waiter::Waiter;
use crate::engine::lease::Message;
use crate::engine::{NodeId, Nonce, SetId, VoterTime};
use crate::keeper::protocol::Outcome;

/// Every survey under way, by the nonce of its questions.
#[derive(Clone, Debug, Default)]
pub struct Surveys {
    under_way: BTreeMap<Nonce, Survey>,
    last_nonce: u64,
}

#[derive(Clone, Debug)]
struct Survey {
    waiter: Waiter,
    /// Who has not answered yet.
    waiting: BTreeSet<NodeId>,
    answers: Answers,
    ask_at: VoterTime,
    until: VoterTime,
}

#[derive(Clone, Debug)]
enum Answers {
    Reached(BTreeMap<NodeId, bool>),
    Sets(BTreeMap<NodeId, Option<SetId>>),
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Are you there?
    Reach,
    /// Which lease set do you know?
    Sets,
}

impl Surveys {
    /// Nonces count up from this; a keeper life's own nonce keeps its questions apart from those of earlier lives.
    pub fn new(nonce: Nonce) -> Self {
        Self { under_way: BTreeMap::new(), last_nonce: nonce.0 }
    }

    /// Begins a survey.
    ///
    /// # Errors
    /// The sentence that says which limit was met.
    pub fn begin(
        &mut self,
        subject: Subject,
        waiter: Waiter,
        nodes: Vec<NodeId>,
        now: VoterTime,
    ) -> Result<(), String> {
        if nodes.len() > ASKED_MAX {
            return Err(format!("{} nodes to ask, at most {ASKED_MAX} allowed", nodes.len()));
        }
        if self.under_way.len() >= SURVEYS_MAX {
            return Err(format!("{SURVEYS_MAX} surveys are under way already; ask again when one has ended"));
        }
        self.last_nonce = self.last_nonce.wrapping_add(1);
        let answers = match subject {
            Subject::Reach => Answers::Reached(BTreeMap::new()),
            Subject::Sets => Answers::Sets(BTreeMap::new()),
        };
        let waiting = nodes.into_iter().collect();
        let survey = Survey { waiter, waiting, answers, ask_at: now, until: now + SURVEY_WAIT };
        self.under_way.insert(Nonce(self.last_nonce), survey);
        Ok(())
    }

    /// A keeper is there.
    pub fn pong(&mut self, nonce: Nonce, from: NodeId, ready: bool) {
        self.answer(nonce, from, |answers| match answers {
            Answers::Reached(reached) => reached.insert(from, ready).is_none(),
            Answers::Sets(_) => false,
        });
    }

    /// A keeper knows a lease set.
    pub fn knows_set(&mut self, nonce: Nonce, from: NodeId, set: Option<SetId>) {
        self.answer(nonce, from, |answers| match answers {
            Answers::Sets(sets) => sets.insert(from, set).is_none(),
            Answers::Reached(_) => false,
        });
    }

    fn answer(&mut self, nonce: Nonce, from: NodeId, take: impl FnOnce(&mut Answers) -> bool) {
        if let Some(survey) = self.under_way.get_mut(&nonce).filter(|s| s.waiting.contains(&from))
            && take(&mut survey.answers)
        {
            survey.waiting.remove(&from);
        }
    }

    /// The questions due now.
    pub fn due(&mut self, now: VoterTime) -> Vec<(NodeId, Message)> {
        let mut questions = Vec::new();
        for (nonce, survey) in self.under_way.iter_mut().filter(|(_, s)| s.ask_at <= now) {
            survey.ask_at = now + SURVEY_REPEAT;
            let question = match survey.answers {
                Answers::Reached(_) => Message::Ping { nonce: *nonce },
                Answers::Sets(_) => Message::AskSet { nonce: *nonce },
            };
            questions.extend(survey.waiting.iter().map(|node| (*node, question.clone())));
        }
        questions
    }

    /// The surveys that have ended, with what they found: every answer is in, or the wait is over.
    pub fn ended(&mut self, now: VoterTime) -> Vec<(Waiter, Outcome)> {
        let over = self.under_way.extract_if(.., |_, s| s.waiting.is_empty() || s.until <= now);
        over.map(|(_, survey)| (survey.waiter, survey.answers.into())).collect()
    }

    /// When to be called next.
    pub fn wake(&self) -> Option<VoterTime> {
        self.under_way.values().map(|s| s.ask_at.min(s.until)).min()
    }
}

impl From<Answers> for Outcome {
    fn from(answers: Answers) -> Self {
        match answers {
            Answers::Reached(reached) => Outcome::Reached(reached),
            Answers::Sets(sets) => Outcome::Sets(sets),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITER: Waiter = Waiter { connection: 1, id: 4 };

    fn at(ms: u64) -> VoterTime {
        VoterTime::from_millis(ms)
    }

    #[test]
    fn a_survey_ends_early_once_everybody_has_answered() {
        let mut s = Surveys::new(Nonce(10));
        s.begin(Subject::Reach, WAITER, vec![NodeId(1), NodeId(2)], at(0)).unwrap();
        assert_eq!(s.due(at(0)).len(), 2);
        s.pong(Nonce(11), NodeId(1), true);
        assert!(s.ended(at(10)).is_empty());
        s.pong(Nonce(11), NodeId(2), false);
        let ended = s.ended(at(10));
        assert_eq!(ended, [(WAITER, Outcome::Reached([(NodeId(1), true), (NodeId(2), false)].into()))]);
        assert_eq!(s.wake(), None);
    }

    #[test]
    fn a_survey_ends_after_its_wait_with_the_answers_it_has() {
        let mut s = Surveys::new(Nonce(10));
        s.begin(Subject::Sets, WAITER, vec![NodeId(1), NodeId(2)], at(0)).unwrap();
        s.due(at(0));
        s.knows_set(Nonce(11), NodeId(1), Some(SetId(3)));
        assert_eq!(s.due(at(100)), [(NodeId(2), Message::AskSet { nonce: Nonce(11) })], "only who has not answered");
        assert!(s.ended(at(999)).is_empty());
        assert_eq!(s.ended(at(1000)).len(), 1);
    }

    #[test]
    fn answers_of_strangers_of_the_wrong_kind_and_under_unknown_nonces_are_ignored() {
        let mut s = Surveys::new(Nonce(10));
        s.begin(Subject::Reach, WAITER, vec![NodeId(1)], at(0)).unwrap();
        s.pong(Nonce(11), NodeId(9), true);
        s.pong(Nonce(99), NodeId(1), true);
        s.knows_set(Nonce(11), NodeId(1), None);
        assert!(s.ended(at(10)).is_empty());
    }
}
