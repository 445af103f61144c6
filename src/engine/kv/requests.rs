//! Requests that were carried out, the newest of them: a client that did not hear the answer may ask again.

use imbl::{OrdMap, Vector};
use serde::{Deserialize, Serialize};

use super::{Changed, Outcome, RequestId};

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
    outcomes: OrdMap<RequestId, Outcome>,
    oldest_first: Vector<RequestId>,
    #[serde(skip)]
    bytes: u64,
}

/// As it lies in a snapshot.
#[derive(Deserialize)]
struct Stored {
    outcomes: OrdMap<RequestId, Outcome>,
    oldest_first: Vector<RequestId>,
}

impl From<Stored> for Requests {
    fn from(Stored { outcomes, oldest_first }: Stored) -> Self {
        let bytes = outcomes.values().map(cost).sum();
        Self { outcomes, oldest_first, bytes }
    }
}

impl Requests {
    /// What came of a request that was carried out.
    pub fn outcome(&self, request: RequestId) -> Option<&Outcome> {
        self.outcomes.get(&request)
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
    pub fn remember(&mut self, request: RequestId, outcome: Outcome) {
        self.bytes += cost(&outcome);
        match self.outcomes.insert(request, outcome) {
            Some(before) => self.bytes -= cost(&before),
            None => self.oldest_first.push_back(request),
        }
        while self.oldest_first.len() > REQUESTS_MAX || (self.bytes > REQUESTS_MAX_BYTES && self.len() > 1) {
            let Some(oldest) = self.oldest_first.pop_front() else { return };
            self.bytes -= self.outcomes.remove(&oldest).as_ref().map_or(0, cost);
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
    use crate::engine::kv::{Kept, Key, Unmet, VALUE_MAX_BYTES};
    use crate::engine::{LogIndex, codec};

    #[test]
    fn long_answers_are_forgotten_sooner_and_a_copy_from_a_snapshot_forgets_the_same() {
        let value = vec![b'x'; VALUE_MAX_BYTES];
        let found = |n: u64| Kept { value: value.as_slice().into(), revision: LogIndex(n) };
        let unmet = |n| Unmet { at: 0, key: Key::new("k").unwrap(), found: Some(found(n)) };
        let outcome = |n| Outcome { unmet: Some(unmet(n)), changed: Vec::new(), revision: LogIndex(n) };
        let mut requests = Requests::default();
        (0..300).for_each(|n| requests.remember(RequestId(n.into()), outcome(n)));
        assert_eq!(requests.len(), 255, "each counts a bit more than its 128 KiB");
        let mut copy: Requests = codec::decode(&codec::encode(&requests)).unwrap();
        assert_eq!(copy, requests);
        for both in [&mut requests, &mut copy] {
            both.remember(RequestId(7), outcome(7));
            both.remember(RequestId(299), outcome(300));
            assert_eq!((both.outcome(RequestId(45)), both.len()), (None, 255));
            assert_eq!(both.outcome(RequestId(299)), Some(&outcome(300)));
        }
        assert_eq!(copy, requests);
    }
}
