//! What the log must say about this node's keeper: that its voter is up, and that it has a session. Pure.

use crate::engine::state::PackageEntry;
use crate::engine::{Command, NodeId, Nonce, State};
use crate::keeper::protocol::LeaseView;

/// How this node is, in one line for the service manager; no lease when there is no keeper.
pub(super) fn sentence(state: &State, me: NodeId, leader: Option<NodeId>, lease: Option<&LeaseView>) -> String {
    let leader = match leader {
        Some(id) if id == me => "leads".to_owned(),
        Some(id) => format!("follows {}", state.name_of(id)),
        None => "knows no leader".to_owned(),
    };
    let lease = match lease {
        None => "keeper not connected",
        Some(lease) if lease.is_live() => "lease held",
        Some(_) => "no lease",
    };
    let owns = |entry: &&PackageEntry| entry.owner.as_ref().is_some_and(|owner| owner.node == me);
    let owned = state.packages.values().filter(owns).count();
    let plural = if owned == 1 { "" } else { "s" };
    format!("{leader}, {lease}, owns {owned} package{plural}")
}

/// The `VoterUp` that is due, if any (rules 9 and 11).
pub(super) fn voter_up(state: &State, me: NodeId, nonce: Nonce, wanted: bool) -> Option<Command> {
    let votes = state.raft_voters.contains(&me) || state.lease_sets.values().any(|set| set.contains(&me));
    let told = state.voter_lives.get(&me).is_some_and(|life| life.nonce == nonce);
    (votes && (!told || wanted)).then_some(Command::VoterUp { voter: me, nonce })
}

/// The `Register` that is due, if any: the keeper has no session, or the one it had is over (rules 4, 5 and 8a).
pub(super) fn register(state: &State, me: NodeId, nonce: Nonce, lease: &LeaseView) -> Option<Command> {
    let profile = state.cluster.as_ref()?.profile;
    let mine = state.sessions.iter().rev().find(|(_, session)| session.node == me);
    let usable =
        mine.is_some_and(|(id, session)| session.nonce == nonce && !(lease.over && lease.session == Some(*id)));
    let member = state.nodes.contains_key(&me);
    (member && !usable).then(|| Command::Register {
        node: me,
        nonce,
        ttl: profile.ttl(),
        supersedes: mine.map(|(id, _)| *id),
    })
}
