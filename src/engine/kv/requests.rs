//! Requests that were carried out, the newest of them: a client that did not hear the answer may ask again.

use imbl::{OrdMap, Vector};
use serde::{Deserialize, Serialize};

use super::{Changed, Outcome, RequestId, Txn};
use crate::engine::codec;

/// Named requests that are remembered. A request repeated after so many others is carried out again.
pub const REQUESTS_MAX: usize = 65_536;
/// Bytes that what is remembered of them may take: fewer are remembered where answers are long.
pub const REQUESTS_MAX_BYTES: u64 = 32 << 20;
/// Bytes that are counted for a request beside the rest of its answer (`tests/kv_memory.rs` measures what it takes).
const REQUEST_COST_BYTES: u64 = 320;

/// What came of the newest named requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Requests {
    outcomes: OrdMap<RequestId, Remembered>,
    oldest_first: Vector<RequestId>,
    #[serde(skip)]
    bytes: u64,
}

/// As it lies in a snapshot.
#[derive(Deserialize)]
struct Stored {
    outcomes: OrdMap<RequestId, Remembered>,
    oldest_first: Vector<RequestId>,
}

/// What came of a request, and which one it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    #[serde(flatten)]
    outcome: Outcome,
    /// None where a program remembered it that asked for the name alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<Fingerprint>,
}

/// Tells requests apart that a client gave one name by mistake; it is no proof against one that looks for two alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Fingerprint {
    crc: u32,
    bytes: u64,
}

impl Fingerprint {
    /// Of all that a transaction asks for, its name left out: whatever node and route it comes by, it is the same.
    fn of(txn: &Txn) -> Self {
        let Txn { when, then, otherwise, guard, request: _ } = txn;
        let encoded = codec::encode(&(when, then, otherwise, guard));
        Self { crc: crc32fast::hash(&encoded), bytes: encoded.len() as u64 }
    }
}

/// The name was used for another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameTaken(pub RequestId);

impl From<Stored> for Requests {
    fn from(Stored { outcomes, oldest_first }: Stored) -> Self {
        let bytes = outcomes.values().map(|remembered| cost(&remembered.outcome)).sum();
        Self { outcomes, oldest_first, bytes }
    }
}

impl Requests {
    /// What came of this request, if it was carried out.
    ///
    /// # Errors
    /// [`NameTaken`] where another one was under its name.
    pub fn outcome(&self, request: RequestId, txn: &Txn) -> Result<Option<&Outcome>, NameTaken> {
        let Some(remembered) = self.outcomes.get(&request) else { return Ok(None) };
        if remembered.of.is_some_and(|of| of != Fingerprint::of(txn)) {
            return Err(NameTaken(request));
        }
        Ok(Some(&remembered.outcome))
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.oldest_first.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.oldest_first.is_empty()
    }

    /// A request was carried out. The newest is remembered whatever it takes.
    pub fn remember(&mut self, request: RequestId, txn: &Txn, outcome: Outcome) {
        self.bytes += cost(&outcome);
        match self.outcomes.insert(request, Remembered { outcome, of: Some(Fingerprint::of(txn)) }) {
            Some(before) => self.bytes -= cost(&before.outcome),
            None => self.oldest_first.push_back(request),
        }
        while self.oldest_first.len() > REQUESTS_MAX || (self.bytes > REQUESTS_MAX_BYTES && self.len() > 1) {
            let Some(oldest) = self.oldest_first.pop_front() else { return };
            self.bytes -= self.outcomes.remove(&oldest).map_or(0, |before| cost(&before.outcome));
        }
    }
}

/// What an outcome is counted as. A value that was found is shared with the tree only until another takes its place.
fn cost(outcome: &Outcome) -> u64 {
    let found = outcome
        .unmet
        .as_ref()
        .map_or(0, |unmet| unmet.key.as_str().len() + unmet.found.as_ref().map_or(0, |kept| kept.value.bytes().len()));
    REQUEST_COST_BYTES + (found + size_of::<Changed>() * outcome.changed.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::LogIndex;
    use crate::engine::kv::{Change, Kept, Key, Unmet, VALUE_MAX_BYTES};

    fn outcome_of(n: u64) -> Outcome {
        Outcome { unmet: None, changed: vec![Changed::Deleted { keys: n }], revision: LogIndex(n) }
    }

    fn deletes(key: &str) -> Txn {
        Txn { then: vec![Change::Delete { key: Key::new(key).unwrap() }], ..Txn::default() }
    }

    #[test]
    fn what_a_program_without_fingerprints_remembered_goes_by_the_name_alone_and_it_reads_what_is_remembered_now() {
        #[derive(Serialize, Deserialize, PartialEq, Debug)]
        struct Older {
            outcomes: OrdMap<RequestId, Outcome>,
            oldest_first: Vector<RequestId>,
        }
        let name = RequestId(9);
        let older = Older { outcomes: OrdMap::unit(name, outcome_of(3)), oldest_first: Vector::unit(name) };
        let read: Requests = codec::decode(&codec::encode(&older)).unwrap();
        for any in ["a", "b"] {
            assert_eq!(read.outcome(name, &deletes(any)), Ok(Some(&outcome_of(3))));
        }
        let mut now = Requests::default();
        now.remember(name, &deletes("a"), outcome_of(3));
        assert_eq!(codec::decode::<Older>(&codec::encode(&now)).unwrap(), older);
        let copy: Requests = codec::decode(&codec::encode(&now)).unwrap();
        for requests in [now, copy] {
            assert_eq!(requests.outcome(name, &deletes("a")), Ok(Some(&outcome_of(3))));
            assert_eq!(requests.outcome(name, &deletes("b")), Err(NameTaken(name)));
        }
    }

    #[test]
    fn long_answers_are_forgotten_sooner_and_a_copy_from_a_snapshot_forgets_the_same() {
        let value = vec![b'x'; VALUE_MAX_BYTES];
        let found = |n: u64| Kept { value: value.as_slice().into(), revision: LogIndex(n) };
        let unmet = |n| Unmet { at: 0, key: Key::new("k").unwrap(), found: Some(found(n)) };
        let outcome = |n| Outcome { unmet: Some(unmet(n)), changed: Vec::new(), revision: LogIndex(n) };
        let (mut requests, txn) = (Requests::default(), Txn::default());
        (0..300).for_each(|n| requests.remember(RequestId(n.into()), &txn, outcome(n)));
        assert_eq!(requests.len(), 255, "each counts a bit more than its 128 KiB");
        let mut copy: Requests = codec::decode(&codec::encode(&requests)).unwrap();
        assert_eq!(copy, requests);
        for both in [&mut requests, &mut copy] {
            both.remember(RequestId(7), &txn, outcome(7));
            both.remember(RequestId(299), &txn, outcome(300));
            assert_eq!((both.outcome(RequestId(45), &txn), both.len()), (Ok(None), 255));
            assert_eq!(both.outcome(RequestId(299), &txn), Ok(Some(&outcome(300))));
        }
        assert_eq!(copy, requests);
    }
}
