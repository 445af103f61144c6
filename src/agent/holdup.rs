//! What a change of the cluster waits for, told only when it lasts: most waits are over before anybody could read of them.
//! Pure.

use std::time::Duration;

use crate::engine::VoterTime;
use crate::engine::planner::{ChangeStep, Waits};

/// How long a change waits in one step before it is told.
const TOLD_AFTER: Duration = Duration::from_secs(2);
/// Time between two lines of the log about one wait.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// The wait under way, if any.
#[derive(Debug, Default)]
pub(super) struct Holdup {
    wait: Option<Wait>,
}

#[derive(Debug)]
struct Wait {
    step: ChangeStep,
    since: VoterTime,
    told: Option<VoterTime>,
    why: String,
}

impl Holdup {
    /// Takes the planner's newest word; answers the line that is due in the log.
    pub(super) fn take(&mut self, waits: Option<Waits>, now: VoterTime) -> Option<&str> {
        let Some(Waits { step, why }) = waits else {
            self.wait = None;
            return None;
        };
        let since = self.wait.take().filter(|wait| wait.step == step).map(|wait| (wait.since, wait.told));
        let (since, told) = since.unwrap_or((now, None));
        let wait = self.wait.insert(Wait { step, since, told, why });
        let due = now.since(since) >= TOLD_AFTER && told.is_none_or(|told| now.since(told) >= TOLD_EVERY);
        due.then(|| {
            wait.told = Some(now);
            wait.why.as_str()
        })
    }

    /// What an operator is shown.
    pub(super) fn shown(&self) -> Option<String> {
        self.wait.as_ref().filter(|wait| wait.told.is_some()).map(|wait| wait.why.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(step: ChangeStep, why: &str) -> Option<Waits> {
        Some(Waits { step, why: why.to_owned() })
    }

    #[test]
    fn a_wait_is_told_once_it_has_lasted_and_then_once_a_minute() {
        let (mut holdup, at) = (Holdup::default(), VoterTime::from_millis);
        assert_eq!(holdup.take(waits(ChangeStep::Add, "n3"), at(1000)), None);
        assert_eq!(holdup.take(waits(ChangeStep::Add, "n3, n4"), at(2999)), None);
        assert_eq!(holdup.shown(), None);
        assert_eq!(holdup.take(waits(ChangeStep::Add, "n4"), at(3000)), Some("n4"));
        assert_eq!(holdup.take(waits(ChangeStep::Add, "n5"), at(62_999)), None);
        assert_eq!(holdup.shown().as_deref(), Some("n5"), "what is shown is always the newest word");
        assert_eq!(holdup.take(waits(ChangeStep::Add, "n5"), at(63_000)), Some("n5"));
    }

    #[test]
    fn another_step_is_another_wait() {
        let (mut holdup, at) = (Holdup::default(), VoterTime::from_millis);
        holdup.take(waits(ChangeStep::Add, "n3"), at(0));
        assert!(holdup.take(waits(ChangeStep::Add, "n3"), at(2000)).is_some());
        assert_eq!(holdup.take(waits(ChangeStep::Retire, "n1"), at(2001)), None);
        assert_eq!(holdup.shown(), None);
        assert!(holdup.take(waits(ChangeStep::Retire, "n1"), at(4001)).is_some());
        assert_eq!(holdup.take(None, at(4002)), None);
        assert_eq!(holdup.shown(), None);
    }
}
