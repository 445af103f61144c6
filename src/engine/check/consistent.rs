//! What any reachable state must be like: the properties that the lease rules and I2 lean on.

use std::collections::BTreeSet;

use super::{Violation, violated};
use crate::engine::event::LEDGER_MAX;
use crate::engine::state::{Ownership, PackageEntry};
use crate::engine::{NodeId, State};
use crate::package::PackageName;

type Check = Result<(), Violation>;

/// Checks a state by itself.
///
/// # Errors
/// The first thing that is not as it must be.
pub fn consistent(state: &State) -> Check {
    lease_sets(state)?;
    sessions(state)?;
    voters(state)?;
    state.packages.iter().try_for_each(|(name, entry)| package(state, name, entry))?;
    fencing(state)?;
    fallback(state)?;
    keys(state)?;
    ledger(state)
}

fn must(holds: bool, what: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { violated("consistency", what()) }
}

/// Rule 15, and every member is a node.
fn lease_sets(state: &State) -> Check {
    must(state.lease_sets.len() <= 2, || format!("{} lease sets are unretired (rule 15)", state.lease_sets.len()))?;
    for (set, members) in &state.lease_sets {
        must(!members.is_empty(), || format!("lease set {set} is empty"))?;
        must(set.0 <= state.applied.0, || format!("lease set {set} comes from beyond the log"))?;
        for member in members {
            must(state.nodes.contains_key(member), || format!("lease set {set} has the stranger {member}"))?;
        }
    }
    Ok(())
}

/// A node has at most one live session, and is down only without one.
fn sessions(state: &State) -> Check {
    let mut nodes = BTreeSet::new();
    for (id, session) in &state.sessions {
        must(id.0 <= state.applied.0, || format!("session {id} comes from beyond the log"))?;
        must(state.nodes.contains_key(&session.node), || format!("session {id} is of a stranger"))?;
        must(nodes.insert(session.node), || format!("node {} has two live sessions", session.node))?;
    }
    for node in state.down.keys() {
        let without = state.nodes.contains_key(node) && !nodes.contains(node);
        must(without, || format!("node {node} is down, and is a stranger or has a live session"))?;
    }
    Ok(())
}

fn voters(state: &State) -> Check {
    let known = |node: &NodeId| state.nodes.contains_key(node);
    for (voter, life) in &state.voter_lives {
        must(known(voter), || format!("the stranger {voter} is up as voter"))?;
        let within = life.incarnation.0 <= state.applied.0;
        must(within, || format!("the incarnation of {voter} comes from beyond the log"))?;
    }
    Ok(())
}

fn package(state: &State, name: &PackageName, entry: &PackageEntry) -> Check {
    must(*name == entry.definition.name, || format!("'{name}' is stored under another name"))?;
    must(entry.last_token.0 <= state.applied.0, || format!("'{name}' has a token from beyond the log"))?;
    let listed: BTreeSet<_> = entry.definition.nodes.iter().collect();
    let judged: BTreeSet<_> = entry.eligibility.keys().collect();
    must(listed == judged, || format!("'{name}' judges other nodes than it lists"))?;
    match &entry.owner {
        Some(owner) => owned(state, name, entry, owner),
        None => must(entry.report.is_none(), || format!("'{name}' has no owner and a report")),
    }
}

fn owned(state: &State, name: &PackageName, entry: &PackageEntry, owner: &Ownership) -> Check {
    let session = state.sessions.get(&owner.session);
    must(session.is_some(), || format!("'{name}' is owned by session {}, which is not live", owner.session))?;
    let of_node = session.is_some_and(|session| session.node == owner.node);
    must(of_node, || format!("'{name}' is owned by node {} through another's session", owner.node))?;
    must(owner.token == entry.last_token, || format!("'{name}' is owned under a token that is not its last"))?;
    let listed = state.nodes.get(&owner.node).is_some_and(|node| entry.definition.nodes.contains(&node.name));
    must(listed, || format!("'{name}' is owned by node {}, which it does not list", owner.node))?;
    let reported = entry.report.as_ref().is_none_or(|report| report.token == owner.token);
    must(reported, || format!("'{name}' shows the report of another ownership"))?;
    must(entry.unowned.is_none(), || format!("'{name}' is owned and says why it is not"))
}

/// Who waits for a fencing is owned by nobody, and only members are waited for and fenced.
fn fencing(state: &State) -> Check {
    for (package, awaiting) in &state.awaiting {
        let owner = state.packages.get(package).map(|entry| entry.owner.is_some());
        must(owner == Some(false), || format!("'{package}' waits for a fencing, and is owned or unknown"))?;
        must(state.nodes.contains_key(&awaiting.node), || format!("'{package}' waits for a stranger"))?;
        let over = state.sessions.contains_key(&awaiting.session);
        must(!over, || format!("'{package}' waits because of session {}, which is live", awaiting.session))?;
    }
    let named = state.fence_devices.keys().chain(state.fencing.keys()).chain(state.fenced.keys());
    for node in named {
        must(state.member_or_former(*node).is_some(), || format!("the stranger {node} can be fenced"))?;
    }
    Ok(())
}

/// Rule 19: while somebody may act under the old cluster, nobody owns anything here.
fn fallback(state: &State) -> Check {
    let owned = state.packages.iter().find(|(_, entry)| entry.owner.is_some());
    let early = owned.filter(|_| state.fallback_wait().is_some());
    must(early.is_none(), || {
        format!("{:?} is owned before the old cluster is known to be off", early.map(|(name, _)| name))
    })
}

/// A key that is coming is the newest and not the only one, and only members go by the keys.
fn keys(state: &State) -> Check {
    let (rotation, all) = (&state.rotation, state.datagram_keys());
    let last = all.and_then(|keys| keys.last_key_value()).map(|(id, _)| *id);
    must(all.is_none_or(|keys| keys.len() <= 2), || "there are more than two datagram keys".to_owned())?;
    must(rotation.coming.is_none() || rotation.coming == last, || "the coming key is not the newest".to_owned())?;
    must(rotation.changed <= state.applied, || "the datagram keys come from beyond the log".to_owned())?;
    for node in rotation.confirmed.keys() {
        must(state.nodes.contains_key(node), || format!("the stranger {node} goes by the datagram keys"))?;
    }
    Ok(())
}

fn ledger(state: &State) -> Check {
    must(state.events.len() <= LEDGER_MAX, || format!("the ledger has {} events", state.events.len()))?;
    let indexes: Vec<_> = state.events.iter().map(|event| event.index).collect();
    must(indexes.is_sorted(), || "the ledger is out of order".to_owned())?;
    must(indexes.last().is_none_or(|last| *last <= state.applied), || "the ledger runs ahead of the log".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::apply::tests::{Log, p1};
    use crate::engine::state::Session;
    use crate::engine::{Nonce, SessionId, SetId, Token, WallMillis};
    use crate::package::Millis;

    fn spoiled(spoil: impl FnOnce(&mut State)) -> String {
        let mut log = Log::three();
        log.run();
        log.assign(0);
        assert_eq!(consistent(&log.state), Ok(()));
        spoil(&mut log.state);
        consistent(&log.state).unwrap_err().what
    }

    #[test]
    fn a_third_lease_set_is_found() {
        let what = spoiled(|s| {
            let members = s.raft_voters.clone();
            s.lease_sets.extend([(SetId(1), members.clone()), (SetId(2), members)]);
        });
        assert_eq!(what, "3 lease sets are unretired (rule 15)");
    }

    #[test]
    fn an_owner_without_a_live_session_is_found() {
        let what = spoiled(|s| s.sessions.retain(|_, session| session.node != NodeId(1)));
        assert!(what.contains("which is not live"), "{what}");
    }

    #[test]
    fn two_sessions_of_a_node_are_found() {
        let second = Session { node: NodeId(1), nonce: Nonce(0), ttl: Millis(400) };
        let what = spoiled(|s| s.sessions.extend([(SessionId(1), second)]));
        assert!(what.contains("two live sessions"), "{what}");
    }

    #[test]
    fn a_node_that_is_down_with_a_session_or_without_being_a_member_is_found() {
        for node in [NodeId(1), NodeId(99)] {
            let what = spoiled(|s| s.down.extend([(node, WallMillis(0))]));
            assert!(what.contains("is down"), "{what}");
        }
    }

    #[test]
    fn an_owner_whose_token_is_not_the_last_is_found() {
        let what = spoiled(|s| s.packages.get_mut(&p1()).unwrap().last_token = Token(1));
        assert!(what.contains("not its last"), "{what}");
    }

    #[test]
    fn a_coming_key_that_is_not_there_is_found() {
        assert_eq!(spoiled(|s| s.rotation.coming = Some(7)), "the coming key is not the newest");
    }

    #[test]
    fn a_ledger_out_of_order_is_found() {
        assert_eq!(spoiled(|s| s.events.swap(0, 3)), "the ledger is out of order");
    }
}
