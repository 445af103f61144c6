//! Restarts in place: a sliding window, so that old ones are forgotten.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::VoterTime;

/// Times of recent restarts; never more than the limit it is asked about.
#[derive(Clone, Debug, Default)]
pub(super) struct Restarts {
    at: VecDeque<VoterTime>,
}

impl Restarts {
    /// Whether one more restart is allowed now, which is then counted.
    pub(super) fn allow(&mut self, limit: u32, window: Duration, now: VoterTime) -> bool {
        while self.at.front().is_some_and(|t| now.since(*t) > window) {
            self.at.pop_front();
        }
        let room = self.at.len() < usize::try_from(limit).unwrap_or(usize::MAX);
        if room {
            self.at.push_back(now);
        }
        room
    }

    /// How many are within the window.
    pub(super) fn count(&self) -> usize {
        self.at.len()
    }
}
