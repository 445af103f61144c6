//! Requests that were carried out, the newest of them: a client that did not hear the answer may ask again.

use imbl::{OrdMap, Vector};
use serde::{Deserialize, Serialize};

use super::{Outcome, RequestId};

/// Named requests that are remembered. A request repeated after so many others is carried out again.
pub const REQUESTS_MAX: usize = 65_536;

/// What came of the newest named requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    outcomes: OrdMap<RequestId, Outcome>,
    oldest_first: Vector<RequestId>,
}

impl Requests {
    /// What came of a request that was carried out.
    pub fn outcome(&self, request: RequestId) -> Option<&Outcome> {
        self.outcomes.get(&request)
    }

    /// A request was carried out.
    pub fn remember(&mut self, request: RequestId, outcome: Outcome) {
        if self.outcomes.insert(request, outcome).is_none() {
            self.oldest_first.push_back(request);
        }
        while self.oldest_first.len() > REQUESTS_MAX {
            if let Some(oldest) = self.oldest_first.pop_front() {
                self.outcomes.remove(&oldest);
            }
        }
    }
}
