//! Restarts in place: a sliding window, so that old ones are forgotten, and pauses, so that a program that ends again
//! and again does not keep the node and the log busy with it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::VoterTime;

/// A program that has run for less had no good run; nor had one that ran no longer than the last pause.
const GOOD_RUN: Duration = Duration::from_secs(1);
/// The pause before the second restart in a row without a good run between; doubled before each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Times of recent restarts; never more than the limit it is asked about.
#[derive(Clone, Debug, Default)]
pub(super) struct Restarts {
    at: VecDeque<VoterTime>,
    /// When it came up last; none while that is not known, as of one that was found running.
    up_since: Option<VoterTime>,
    /// The last pause, zero included; none after a good run.
    pause: Option<Duration>,
    /// No restart before that.
    not_before: Option<VoterTime>,
}

impl Restarts {
    /// The resource is up.
    pub(super) fn is_up(&mut self, now: VoterTime) {
        self.up_since = Some(now);
    }

    /// It ended by itself. Answers the pause before the restart that is counted now, zero as a rule; none if no more are
    /// allowed.
    pub(super) fn allow(&mut self, limit: u32, window: Duration, now: VoterTime) -> Option<Duration> {
        while self.at.front().is_some_and(|t| now.since(*t) > window) {
            self.at.pop_front();
        }
        if self.at.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
            return None;
        }
        self.at.push_back(now);
        let long_enough = GOOD_RUN.max(self.pause.unwrap_or_default());
        let ran_well = self.up_since.take().is_none_or(|since| now.since(since) >= long_enough);
        let pause = match self.pause {
            Some(last) if !ran_well => (last * 2).clamp(PAUSE_FIRST, PAUSE_MAX),
            Some(_) | None => Duration::ZERO,
        };
        self.pause = Some(pause);
        self.not_before = (!pause.is_zero()).then(|| now + pause);
        Some(pause)
    }

    /// Until when it is not restarted.
    pub(super) fn pause_ends(&self) -> Option<VoterTime> {
        self.not_before
    }

    /// Forgets a pause that is over.
    pub(super) fn end_pause(&mut self, now: VoterTime) {
        self.not_before.take_if(|at| *at <= now);
    }

    /// How many are within the window.
    pub(super) fn count(&self) -> usize {
        self.at.len()
    }
}
