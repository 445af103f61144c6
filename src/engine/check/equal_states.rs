//! I6: equal logs, equal states.

use super::{Violation, violated};
use crate::engine::{State, codec};

/// Checks I6 for two nodes' states; states of different prefixes of the log are not compared.
///
/// # Errors
/// The first field that differs.
pub fn equal_states(one: &State, two: &State) -> Result<(), Violation> {
    if one.applied != two.applied {
        return Ok(());
    }
    let fields = [
        ("cluster", one.cluster == two.cluster),
        ("nodes", one.nodes == two.nodes),
        ("raft_voters", one.raft_voters == two.raft_voters),
        ("join_tokens", one.join_tokens == two.join_tokens),
        ("voter_lives", one.voter_lives == two.voter_lives),
        ("lease_sets", one.lease_sets == two.lease_sets),
        ("sessions", one.sessions == two.sessions),
        ("packages", one.packages == two.packages),
        ("events", one.events == two.events),
        ("bytes", codec::encode(one) == codec::encode(two)),
    ];
    match fields.iter().find(|(_, equal)| !equal) {
        Some((field, _)) => violated("I6", format!("two states at entry {} differ in {field}", one.applied)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::apply::tests::Log;

    #[test]
    fn equal_prefixes_with_different_states_are_found() {
        let (one, mut two) = (Log::three().state, Log::three().state);
        assert_eq!(equal_states(&one, &two), Ok(()));
        two.sessions.clear();
        let error = equal_states(&one, &two).unwrap_err();
        assert!(error.what.ends_with("differ in sessions"), "{error}");
        two.applied.0 += 1;
        assert_eq!(equal_states(&one, &two), Ok(()), "different prefixes may differ");
    }
}
