//! When an address is announced: at once, repeatedly over the first minute, and again whenever someone may have
//! missed it. Pure.

use std::time::Duration;

use crate::engine::HolderTime;

/// After the address opened; clients and switches may lose any of them.
const SCHEDULE: [Duration; 7] = [
    Duration::ZERO,
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(20),
    Duration::from_mins(1),
];

/// One run through the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Announcing {
    began: HolderTime,
    done: usize,
}

impl Announcing {
    /// Begins now.
    pub fn begin(now: HolderTime) -> Self {
        Self { began: now, done: 0 }
    }

    /// When the next announcement is due, if one is left.
    pub fn due(&self) -> Option<HolderTime> {
        SCHEDULE.get(self.done).map(|after| self.began + *after)
    }

    /// True if one is due; counts all that are as done, since one announcement serves for them.
    pub fn take_due(&mut self, now: HolderTime) -> bool {
        let due = SCHEDULE[self.done..].iter().take_while(|after| self.began + **after <= now).count();
        self.done += due;
        due > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_thin_out_over_a_minute_and_a_late_look_makes_one() {
        let at = HolderTime::from_millis;
        let mut announcing = Announcing::begin(at(1000));
        assert!(announcing.take_due(at(1000)) && !announcing.take_due(at(1049)));
        assert_eq!(announcing.due(), Some(at(1050)));
        assert!(announcing.take_due(at(7000)) && !announcing.take_due(at(7000)));
        assert_eq!(announcing.due(), Some(at(21_000)));
        assert!(announcing.take_due(at(90_000)));
        assert_eq!(announcing.due(), None);
        assert!(!announcing.take_due(at(99_000)));
    }
}
