//! What operators were told about definitions is linearizable, and nothing acknowledged is lost (I3).
//!
//! A definition is a register with compare-and-set whose revisions are places in the log. Every answer names the revision
//! it took effect at or saw, so the order in which everything took effect is known, and it is enough to check that this
//! order respects real time and that each read fits what was written there; no search is needed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a request was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A read: that value at that revision.
    Seen {
        /// The revision.
        revision: u64,
        /// The value.
        value: u64,
    },
    /// A write: done, at that revision.
    Written {
        /// The revision.
        revision: u64,
    },
    /// A write: refused, because the register is at that revision already.
    Moved {
        /// The revision.
        current: u64,
    },
    /// Nothing, or that the outcome is not known.
    Unknown,
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) register: usize,
    /// For a write: its value, and the revision it replaces.
    pub(super) write: Option<(u64, u64)>,
    pub(super) invoked: u64,
    pub(super) answered: Option<(u64, Answer)>,
}

/// Every request of a run.
#[derive(Default)]
pub struct History(Mutex<Vec<Request>>);

impl History {
    fn lock(&self) -> MutexGuard<'_, Vec<Request>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A value that was never written before.
    pub fn next_value(&self) -> u64 {
        self.lock().len() as u64 + 1
    }

    /// A request begins.
    pub fn invoke(&self, register: usize, write: Option<(u64, u64)>, at: u64) -> usize {
        let mut all = self.lock();
        all.push(Request { register, write, invoked: at, answered: None });
        all.len() - 1
    }

    /// It was answered.
    pub fn answer(&self, id: usize, answer: Answer, at: u64) {
        self.lock()[id].answered = Some((at, answer));
    }

    /// Requests answered with a certain outcome.
    pub fn answered(&self) -> usize {
        self.lock().iter().filter(|r| r.answered.is_some_and(|(_, answer)| answer != Answer::Unknown)).count()
    }

    /// Checks everything; `last` is what each register holds in the end: revision and value.
    ///
    /// # Errors
    /// The first answer that fits no order.
    pub fn check(&self, last: &BTreeMap<usize, (u64, u64)>, now: u64) -> Result<(), String> {
        for (register, (revision, value)) in last {
            let mut mine: Vec<Request> = self.lock().iter().filter(|r| r.register == *register).cloned().collect();
            let end = Answer::Seen { revision: *revision, value: *value };
            mine.push(Request { register: *register, write: None, invoked: now, answered: Some((now, end)) });
            check_one(&mine).map_err(|what| format!("definition r{}: {what}", register + 1))?;
        }
        Ok(())
    }
}

/// The revision that an answer proves to have been there.
fn proved(answer: Answer) -> Option<u64> {
    match answer {
        Answer::Seen { revision, .. } | Answer::Written { revision } | Answer::Moved { current: revision } => {
            Some(revision)
        }
        Answer::Unknown => None,
    }
}

/// Checks the requests of one register.
pub(super) fn check_one(requests: &[Request]) -> Result<(), String> {
    in_real_time(requests)?;
    values_fit(requests)?;
    replaces_its_predecessor(requests)
}

/// Nothing that began after an answer is older than what that answer proved.
fn in_real_time(requests: &[Request]) -> Result<(), String> {
    let mut answers: Vec<(u64, u64)> =
        requests.iter().filter_map(|r| r.answered.and_then(|(at, answer)| Some((at, proved(answer)?)))).collect();
    answers.sort_unstable();
    let mut largest = 0;
    for (_, revision) in &mut answers {
        largest = largest.max(*revision);
        *revision = largest;
    }
    for request in requests {
        let Some((_, answer)) = request.answered else { continue };
        let Some(revision) = proved(answer) else { continue };
        let before = answers.partition_point(|(at, _)| *at < request.invoked);
        let Some((_, known)) = before.checked_sub(1).map(|at| answers[at]) else { continue };
        let new = matches!(answer, Answer::Written { .. });
        if revision < known || (new && revision == known) {
            return Err(format!("{answer:?} was answered although revision {known} had been acknowledged before"));
        }
    }
    Ok(())
}

/// A revision holds one value, and one that somebody had begun to write by then.
fn values_fit(requests: &[Request]) -> Result<(), String> {
    let mut values: BTreeMap<u64, u64> = BTreeMap::new();
    let begun: BTreeMap<u64, u64> = requests.iter().filter_map(|r| Some((r.write?.0, r.invoked))).collect();
    for request in requests {
        let Some((at, answer)) = request.answered else { continue };
        let (revision, value) = match (answer, request.write) {
            (Answer::Seen { revision, value }, _) => (revision, value),
            (Answer::Written { revision }, Some((value, _))) => (revision, value),
            _ => continue,
        };
        if value != 0 && begun.get(&value).is_none_or(|begun| *begun > at) {
            return Err(format!("value {value} was read before anybody wrote it"));
        }
        let there = *values.entry(revision).or_insert(value);
        if there != value {
            return Err(format!("revision {revision} holds {there} and {value}"));
        }
    }
    Ok(())
}

/// A write that took effect replaced the very revision before it.
fn replaces_its_predecessor(requests: &[Request]) -> Result<(), String> {
    let mut known: Vec<u64> = requests.iter().filter_map(|r| proved(r.answered?.1)).collect();
    known.sort_unstable();
    known.dedup();
    for request in requests {
        let (Some((value, replaces)), Some((_, Answer::Written { revision }))) = (request.write, request.answered)
        else {
            continue;
        };
        let between = known.iter().find(|at| **at > replaces && **at < revision);
        if let Some(between) = between {
            return Err(format!(
                "value {value} was written at {revision} over {replaces}, although {between} lay between"
            ));
        }
    }
    Ok(())
}
