//! Proposals and steps under way, by key: one at a time each, and a short hold after one that came to nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::VoterTime;

/// How long a key is held back after a flight that came to nothing.
const HOLD: Duration = Duration::from_millis(50);

/// Flights by key.
#[derive(Debug, Default)]
pub(super) struct Flights {
    under_way: BTreeMap<String, Option<VoterTime>>,
}

impl Flights {
    /// Whether this key may take off now; if so it is under way.
    pub(super) fn take_off(&mut self, key: &str, now: VoterTime) -> bool {
        let free = match self.under_way.get(key) {
            None => true,
            Some(None) => false,
            Some(Some(held_until)) => *held_until <= now,
        };
        if free {
            self.under_way.insert(key.to_owned(), None);
        }
        free
    }

    /// Whether it is under way.
    pub(super) fn is_under_way(&self, key: &str) -> bool {
        self.under_way.get(key).is_some_and(Option::is_none)
    }

    /// A flight has ended, well or not.
    pub(super) fn landed(&mut self, key: &str, well: bool, now: VoterTime) {
        if well {
            self.under_way.remove(key);
        } else {
            self.under_way.insert(key.to_owned(), Some(now + HOLD));
        }
        self.under_way.retain(|_, held| held.is_none_or(|until| until + HOLD * 20 > now));
    }

    /// When the next held key is free.
    pub(super) fn wake(&self) -> Option<VoterTime> {
        self.under_way.values().filter_map(|held| *held).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_flies_once_at_a_time_and_is_held_after_a_failure() {
        let (mut flights, start) = (Flights::default(), VoterTime::from_millis(1000));
        assert!(flights.take_off("a", start));
        assert!(!flights.take_off("a", start));
        flights.landed("a", false, start);
        assert!(!flights.take_off("a", start));
        assert_eq!(flights.wake(), Some(start + HOLD));
        assert!(flights.take_off("a", start + HOLD));
        flights.landed("a", true, start + HOLD);
        assert!(flights.take_off("a", start + HOLD));
    }
}
