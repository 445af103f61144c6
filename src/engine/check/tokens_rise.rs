//! I2: a package's fencing token strictly increases with each new ownership.

use super::{Violation, violated};
use crate::engine::State;

/// Checks I2 between a state and a later one of the same log.
///
/// # Errors
/// The first package whose token did not rise.
pub fn tokens_rise(before: &State, after: &State) -> Result<(), Violation> {
    for (name, now) in &after.packages {
        let earlier = before.packages.get(name);
        let held = earlier.and_then(|entry| entry.owner.as_ref()).map(|owner| (owner.token, owner.session));
        if let Some(owner) = &now.owner {
            let same = held == Some((owner.token, owner.session));
            // Tokens are log indexes: a new one lies beyond every entry before it, also if the package was deleted and
            // defined again in between.
            if !same && owner.token.0 <= before.applied.0 {
                let what = format!("'{name}' got token {} although the log was at {}", owner.token, before.applied);
                return violated("I2", what);
            }
        }
        let deleted = earlier.is_some_and(|entry| entry.owner.is_none() && now.revision > entry.revision);
        if let Some(entry) = earlier.filter(|entry| now.last_token < entry.last_token && !deleted) {
            let what = format!("'{name}' went back from token {} to {}", entry.last_token, now.last_token);
            return violated("I2", what);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::apply::tests::{Log, p1};
    use crate::engine::{SessionId, Token};

    #[test]
    fn a_new_ownership_has_a_larger_token() {
        let mut log = Log::three();
        log.run();
        let before = log.state.clone();
        log.assign(0);
        assert_eq!(tokens_rise(&before, &log.state), Ok(()));
        assert_eq!(tokens_rise(&log.state, &log.state), Ok(()));
    }

    #[test]
    fn a_token_used_twice_or_taken_back_is_found() {
        let mut log = Log::three();
        log.run();
        log.assign(0);
        let mut after = log.state.clone();
        after.packages.get_mut(&p1()).unwrap().owner.as_mut().unwrap().session = SessionId(999);
        assert_eq!(tokens_rise(&log.state, &after).unwrap_err().invariant, "I2");
        let mut after = log.state.clone();
        after.packages.get_mut(&p1()).unwrap().last_token = Token(0);
        assert_eq!(tokens_rise(&log.state, &after).unwrap_err().invariant, "I2");
    }
}
