//! The cluster itself, its join tokens and its nodes.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::keys;
use super::step::{Line, Step};
use crate::engine::command::{JOIN_TOKENS_MAX, NewNode};
use crate::engine::lease::majority;
use crate::engine::placement::{eligible, place};
use crate::engine::state::{Cluster, Desired, Node, PackageEntry, REMOVED_MAX};
use crate::engine::{FOUNDER, NodeId, Nonce, Rejected, Reply, SessionId, State, WallMillis};
use crate::package::{NodeName, PackageName};

/// Length of a SHA-256 digest in hex.
const DIGEST_CHARS: usize = 64;

/// First entry of a cluster's log. The founder's id is fixed, because Raft must name it before any entry exists.
pub(super) fn create(step: &mut Step, cluster: &Cluster, node: &NewNode) -> Result<Reply, Rejected> {
    if step.state.cluster.is_some() {
        return Err(Rejected::ClusterExists);
    }
    addresses_differ(node)?;
    step.state.cluster = Some(cluster.clone());
    step.state.nodes.insert(FOUNDER, member(node, Nonce(0)));
    let why = format!("cluster '{}' begins on {} at {}", cluster.name, node.name, node.address);
    step.record(Line::new("created", why).node(Some(node.name.clone())));
    Ok(Reply::Node(FOUNDER))
}

/// Makes a join token usable. Expired ones make room; the stamps compared are the proposers', and nothing rests on them
/// but how long a token works.
pub(super) fn issue_token(step: &mut Step, digest: &str, expires: WallMillis) -> Result<Reply, Rejected> {
    if digest.len() != DIGEST_CHARS || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Rejected::Invalid(format!("a token's digest is {DIGEST_CHARS} hexadecimal characters")));
    }
    let wall = step.wall;
    let fresh = |until: &WallMillis| *until >= wall;
    if step.state.tokens_unexpired(wall) >= JOIN_TOKENS_MAX && !step.state.join_tokens.contains_key(digest) {
        let why = format!("{JOIN_TOKENS_MAX} join tokens are unused; use one of them or wait until they expire");
        return Err(Rejected::Invalid(why));
    }
    step.state.join_tokens.retain(|_, until| fresh(until));
    step.state.join_tokens.insert(digest.to_owned(), expires);
    step.record(Line::new("token", "a join token was made; it works once, until it expires"));
    Ok(Reply::Done)
}

/// Takes a node in. A repeated request finds the id it was given, though its token is used up; the founder came by no
/// request, and none may claim to have been its.
pub(super) fn add_node(step: &mut Step, node: &NewNode, token: &str, request: Nonce) -> Result<Reply, Rejected> {
    let mut joined = step.state.nodes.iter().filter(|(id, _)| **id != FOUNDER);
    if let Some((id, _)) = joined.find(|(_, n)| n.request == request && n.name == node.name) {
        return Ok(Reply::Node(*id));
    }
    let until = *step.state.join_tokens.get(token).ok_or(Rejected::TokenUnknown)?;
    if step.wall > until {
        return Err(Rejected::TokenExpired);
    }
    addresses_differ(node)?;
    super::fallback::check_no_former(step, &node.name)?;
    is_new(step, node)?;
    let id = NodeId(step.index.0);
    step.state.join_tokens.remove(token);
    step.state.nodes.insert(id, member(node, request));
    let why = format!("{} joined at {} as node {id}", node.name, node.address);
    step.record(Line::new("joined", why).node(Some(node.name.clone())));
    Ok(Reply::Node(id))
}

/// Has a node leave for good. From here on it is given nothing; what it owns moves away before any vote of it goes.
pub(super) fn remove_node(step: &mut Step, name: &NodeName) -> Result<Reply, Rejected> {
    let id = named(step, name)?;
    if step.state.leaving.contains(&id) {
        return Ok(Reply::Already);
    }
    let waiting: Vec<&str> = step.state.waiting_for(id).into_iter().map(PackageName::as_str).collect();
    if !waiting.is_empty() {
        return Err(Rejected::FenceFirst { node: name.clone(), packages: waiting.join(", ") });
    }
    if voters_beside(step.state, id).next().is_none() {
        return Err(Rejected::LastVoter { name: name.clone() });
    }
    // One that is down owns nothing, and no majority gets smaller by its going.
    if step.state.sessions.values().any(|session| session.node == id) {
        others_take_what_it_owns(step.state, id, name)?;
        others_make_a_majority(step.state, id, name, &BTreeSet::new())?;
    }
    step.state.leaving.insert(id);
    let why = format!("{name} (node {id}) is being removed by {}", step.by);
    step.record(Line::new("removing", why).node(Some(name.clone())));
    Ok(Reply::Node(id))
}

/// Ends a removal that has not come to its end: the node is a member like any other again. What it has lost of votes is
/// given back by what gives them to a node that has joined; its store and its id were its own all the time (rule 18).
pub(super) fn keep_node(step: &mut Step, name: &NodeName) -> Result<Reply, Rejected> {
    let id = named(step, name)?;
    if !step.state.leaving.remove(&id) {
        return Ok(Reply::Already);
    }
    let why = format!("{name} (node {id}) stays: {} took its removal back", step.by);
    step.record(Line::new("kept", why).node(Some(name.clone())));
    Ok(Reply::Node(id))
}

fn named(step: &Step, name: &NodeName) -> Result<NodeId, Rejected> {
    let found = step.state.nodes.iter().find(|(_, node)| node.name == *name).map(|(id, _)| *id);
    found.ok_or_else(|| Rejected::NoSuchNode { node: name.to_string() })
}

/// By the state alone: who is silent or fails to start is known later, and the removal waits for it.
fn others_take_what_it_owns(state: &State, id: NodeId, name: &NodeName) -> Result<(), Rejected> {
    let keeps = |entry: &PackageEntry| {
        let owns = entry.owner.as_ref().is_some_and(|owner| owner.node == id);
        owns && matches!(entry.desired, Desired::Running) && eligible(entry, name).is_ok()
    };
    let stuck = |(package, entry): (&PackageName, &PackageEntry)| {
        let placement = place(state, entry, &BTreeSet::new());
        let taken = placement.candidates.iter().any(|candidate| candidate.node != id);
        let why =
            if placement.ruled_out.is_empty() { "no other is in its list".to_owned() } else { placement.reasons() };
        (keeps(entry) && !taken).then(|| format!("no other node can take {package} ({why})"))
    };
    let stuck: Vec<String> = state.packages.iter().filter_map(stuck).collect();
    if stuck.is_empty() { Ok(()) } else { Err(Rejected::NodeOwns { name: name.clone(), packages: stuck.join("; ") }) }
}

/// Whether a removal would have to wait for voters whose sessions are silent. No entry can know who is silent, so whoever
/// does asks this before there is one.
///
/// # Errors
/// [`Rejected::NodeNeeded`], which names the silent ones.
pub fn removal_waits_for_nobody(state: &State, name: &NodeName, silent: &BTreeSet<SessionId>) -> Result<(), Rejected> {
    let named = state.nodes.iter().find(|(_, node)| node.name == *name).map(|(id, _)| *id);
    // What else is wrong with it is for the log to say.
    let waits = |id: &NodeId| {
        !state.leaving.contains(id) && state.present(silent).contains(id) && voters_beside(state, *id).next().is_some()
    };
    match named.filter(waits) {
        Some(id) => others_make_a_majority(state, id, name, silent),
        None => Ok(()),
    }
}

/// The voters that stay once that node is gone.
fn voters_beside(state: &State, id: NodeId) -> impl Iterator<Item = NodeId> {
    state.raft_voters.iter().copied().filter(move |voter| *voter != id && !state.leaving.contains(voter))
}

/// What takes its votes away needs a majority of the voters that stay; without that it would be in vain.
fn others_make_a_majority(
    state: &State,
    id: NodeId,
    name: &NodeName,
    silent: &BTreeSet<SessionId>,
) -> Result<(), Rejected> {
    let present = state.present(silent);
    let (there, absent): (Vec<NodeId>, Vec<NodeId>) =
        voters_beside(state, id).partition(|voter| present.contains(voter));
    let voters = there.len() + absent.len();
    if there.len() >= majority(voters) {
        return Ok(());
    }
    let absent: Vec<String> = absent.into_iter().map(|id| state.name_of(id)).collect();
    Err(Rejected::NodeNeeded { name: name.clone(), voters, there: there.len(), absent: absent.join(", ") })
}

/// The last step of a removal: nothing of it counts any more.
pub(super) fn forget_node(step: &mut Step, node: NodeId) -> Result<Reply, Rejected> {
    if !step.state.leaving.contains(&node) {
        return Ok(Reply::Already);
    }
    let name = step.member(node)?;
    let votes = step.state.raft_voters.contains(&node) || step.state.lease_sets.values().any(|set| set.contains(&node));
    if votes || !step.state.is_idle(node) {
        return Err(Rejected::Invalid(format!("{name} still has a vote or a package")));
    }
    // Rule 21a: nothing is held under it, and nothing can be any more.
    let live = step.state.sessions.iter().filter(|(_, session)| session.node == node).map(|(id, _)| *id);
    for session in live.collect::<Vec<_>>() {
        step.end_session(session, "its node is removed");
    }
    step.state.leaving.remove(&node);
    step.state.nodes.remove(&node);
    step.state.removed.insert(node, step.index);
    // Whoever is forgotten here is still told that it was removed, only not by which entry.
    while step.state.removed.len() > REMOVED_MAX {
        let oldest = step.state.removed.iter().min_by_key(|(_, index)| **index).map(|(id, _)| *id);
        oldest.map(|id| step.state.removed.remove(&id));
    }
    step.state.voter_lives.remove(&node);
    step.state.down.remove(&node);
    step.state.watchdogs.remove(&node);
    step.state.http.remove(&node);
    step.state.fence_devices.remove(&node);
    step.state.fencing.remove(&node);
    step.state.fenced.remove(&node);
    step.state.rotation.confirmed.remove(&node);
    keys::want(step, &format!("{name} was removed, and knows the one before"));
    let why = format!("{name} (node {node}) is removed; it can come back as a new node only");
    step.record(Line::new("removed", why).node(Some(name)));
    Ok(Reply::Done)
}

fn is_new(step: &Step, node: &NewNode) -> Result<(), Rejected> {
    for (id, member) in &step.state.nodes {
        if member.name == node.name {
            let name = node.name.clone();
            let leaving = step.state.leaving.contains(id);
            return Err(if leaving { Rejected::NodeLeaving { name } } else { Rejected::NameTaken { name } });
        }
        let taken = |address: &&SocketAddr| member.address == **address || member.links.contains(address);
        if let Some(address) = addresses(node).find(taken) {
            return Err(Rejected::AddressTaken { name: member.name.clone(), address: *address });
        }
    }
    Ok(())
}

fn addresses_differ(node: &NewNode) -> Result<(), Rejected> {
    for (at, address) in addresses(node).enumerate() {
        if addresses(node).skip(at + 1).any(|other| other == address) {
            return Err(Rejected::Invalid(format!("node '{}' names the address {address} twice", node.name)));
        }
    }
    Ok(())
}

fn addresses(node: &NewNode) -> impl Iterator<Item = &SocketAddr> {
    std::iter::once(&node.address).chain(&node.links)
}

fn member(node: &NewNode, request: Nonce) -> Node {
    Node { name: node.name.clone(), address: node.address, links: node.links.clone(), request }
}
