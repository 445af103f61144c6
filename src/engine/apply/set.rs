//! Lease sets (rules 14 and 15). The waits before an entry are the proposer's (rules 14 and 17); what can be checked
//! at a place of the log is checked here.

use std::collections::BTreeSet;

use super::step::{Line, Step};
use crate::engine::command::LEASE_SET_MAX;
use crate::engine::lease::Fact;
use crate::engine::{NodeId, Rejected, Reply, SetId};

/// A new lease set: of Raft's voters (rule 14: adding goes Raft first), each of which has been up, beside at most one
/// other (rule 15).
pub(super) fn add(step: &mut Step, members: &BTreeSet<NodeId>, after: Option<SetId>) -> Result<Reply, Rejected> {
    let newest = step.state.lease_sets.last_key_value().map(|(id, of)| (*id, of.clone()));
    if let Some((id, of)) = &newest
        && of == members
    {
        return Ok(Reply::Set(*id));
    }
    let newest = newest.map(|(id, _)| id);
    if newest != after {
        return Err(Rejected::SetMoved { newest, given: after });
    }
    if step.state.lease_sets.len() >= 2 {
        return Err(Rejected::TooManySets);
    }
    check_members(step, members)?;
    let set = SetId::from(step.index);
    step.state.lease_sets.insert(set, members.clone());
    step.fact(Fact::SetAdded { set, members: members.clone() });
    let why = format!("leases are now promised by {}; they follow Raft's voters", names(step, members));
    step.record(Line::new("lease_set", why));
    Ok(Reply::Set(set))
}

fn check_members(step: &Step, members: &BTreeSet<NodeId>) -> Result<(), Rejected> {
    if members.is_empty() || members.len() > LEASE_SET_MAX {
        let why = format!("a lease set has 1 to {LEASE_SET_MAX} members, not {}", members.len());
        return Err(Rejected::Invalid(why));
    }
    for member in members {
        let name = step.member(*member)?;
        if !step.state.raft_voters.contains(member) {
            return Err(Rejected::Invalid(format!("{name} is no Raft voter yet; a lease set follows Raft's voters")));
        }
        if !step.state.voter_lives.contains_key(member) {
            return Err(Rejected::Invalid(format!("the keeper of {name} has never been up as voter")));
        }
    }
    Ok(())
}

/// Ends an old lease set; the newest one never ends.
pub(super) fn retire(step: &mut Step, set: SetId) -> Result<Reply, Rejected> {
    let newest = step.state.lease_sets.last_key_value().map(|(id, _)| *id);
    if newest.is_none_or(|newest| set >= newest) {
        return Err(Rejected::SetMoved { newest, given: Some(set) });
    }
    let Some(members) = step.state.lease_sets.remove(&set) else { return Ok(Reply::Already) };
    step.fact(Fact::SetRetired { set });
    let why = format!("the lease set of {} is retired; a majority of it knows the newer one", names(step, &members));
    step.record(Line::new("lease_set", why));
    Ok(Reply::Done)
}

fn names(step: &Step, members: &BTreeSet<NodeId>) -> String {
    let each = members.iter().map(|id| step.state.name_of(*id));
    each.collect::<Vec<_>>().join(", ")
}
