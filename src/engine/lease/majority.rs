//! What a majority is, in one place: of a lease set's members, and of every unretired lease set (rule 12).

use std::collections::BTreeSet;

use super::rules::{Rule, Rules};
use crate::engine::{Incarnation, NodeId, SetId, State};

/// The smallest number of members that is more than half of them.
pub fn majority(members: usize) -> usize {
    members / 2 + 1
}

/// The first lease set whose majority is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The set; none when the state has no lease set at all.
    pub set: Option<SetId>,
    /// Members that agreed in their current incarnation.
    pub have: usize,
    /// A majority of it.
    pub needed: usize,
}

/// The agreements that count at this point of the log: those of current incarnations (rule 12), each voter once.
pub fn current(state: &State, agreed: &[(NodeId, Incarnation)], rules: &Rules) -> BTreeSet<NodeId> {
    let is_current = |voter: &NodeId, incarnation: &Incarnation| {
        !rules.hold(Rule::CurrentIncarnation)
            || state.voter_lives.get(voter).is_some_and(|life| life.incarnation == *incarnation)
    };
    agreed.iter().filter(|(voter, incarnation)| is_current(voter, incarnation)).map(|(voter, _)| *voter).collect()
}

/// Checks that these voters are a majority of every unretired lease set (rule 12).
///
/// # Errors
/// The first set of which they are none. A state without lease sets has no majorities.
pub fn of_every_set(state: &State, voters: &BTreeSet<NodeId>, rules: &Rules) -> Result<(), Missing> {
    let newest = state.lease_sets.last_key_value().ok_or(Missing { set: None, have: 0, needed: 1 })?.0;
    let counted = state.lease_sets.iter().filter(|(set, _)| rules.hold(Rule::EverySet) || *set == newest);
    for (set, members) in counted {
        let (have, needed) = (members.intersection(voters).count(), majority(members.len()));
        if have < needed {
            return Err(Missing { set: Some(*set), have, needed });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_more_than_half() {
        assert_eq!([1, 2, 3, 4, 5].map(majority), [1, 2, 2, 3, 3]);
    }

    #[test]
    fn a_state_without_lease_sets_has_no_majorities() {
        let missing = Missing { set: None, have: 0, needed: 1 };
        assert_eq!(of_every_set(&State::default(), &BTreeSet::from([NodeId(1)]), &Rules::ALL), Err(missing));
    }
}
