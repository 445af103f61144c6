//! Which node a package should go to: filters that explain themselves, then the operator's order of preference.

use std::collections::BTreeSet;

use super::state::{Eligibility, PackageEntry, State};
use super::{NodeId, SessionId};
use crate::package::NodeName;

/// A node that may take a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: NodeName,
    /// The live session it would own under.
    pub session: SessionId,
}

/// Why a node of the package's list may not take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruled {
    /// The node.
    pub name: NodeName,
    /// The sentence.
    pub why: String,
}

/// The outcome of the filters over a package's list, in its order of preference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Those that may take it, the preferred first.
    pub candidates: Vec<Candidate>,
    /// Those that may not, each with its reason.
    pub ruled_out: Vec<Ruled>,
}

impl Placement {
    /// `n1 failed here (…), n2 is silent`: why nobody can take it.
    pub fn reasons(&self) -> String {
        let each: Vec<String> = self.ruled_out.iter().map(|r| format!("{} {}", r.name, r.why)).collect();
        if each.is_empty() { "every node of its list may".to_owned() } else { each.join(", ") }
    }
}

/// Passes every node of the package's list through the filters.
pub fn place(state: &State, entry: &PackageEntry, silent: &BTreeSet<SessionId>) -> Placement {
    let mut placement = Placement::default();
    for name in &entry.definition.nodes {
        match judge(state, entry, silent, name) {
            Ok(candidate) => placement.candidates.push(candidate),
            Err(why) => placement.ruled_out.push(Ruled { name: name.clone(), why }),
        }
    }
    placement
}

fn judge(
    state: &State,
    entry: &PackageEntry,
    silent: &BTreeSet<SessionId>,
    name: &NodeName,
) -> Result<Candidate, String> {
    eligible(entry, name)?;
    let node = member(state, name)?;
    stays(state, node)?;
    let session = live_session(state, node)?;
    if silent.contains(&session) {
        return Err("is silent".to_owned());
    }
    Ok(Candidate { node, name: name.clone(), session })
}

/// Whether the package may run on that node at all; the error says why not.
///
/// # Errors
/// The node's eligibility in words.
pub fn eligible(entry: &PackageEntry, name: &NodeName) -> Result<(), String> {
    match entry.eligibility.get(name) {
        Some(Eligibility::Eligible) => Ok(()),
        Some(Eligibility::NotRun) => Err("was never told to run it".to_owned()),
        Some(Eligibility::Withdrawn { by, .. }) => Err(format!("was stopped by {by}")),
        Some(Eligibility::Failed { reason, .. }) => Err(format!("failed ({reason})")),
        None => Err("is not in its node list".to_owned()),
    }
}

fn member(state: &State, name: &NodeName) -> Result<NodeId, String> {
    let found = state.nodes.iter().find(|(_, node)| node.name == *name);
    found.map(|(id, _)| *id).ok_or_else(|| "is not a member of the cluster".to_owned())
}

/// Whether the node is not being removed; one that is may finish what it has, and is given nothing.
///
/// # Errors
/// That it is, in words.
pub fn stays(state: &State, node: NodeId) -> Result<(), String> {
    if state.leaving.contains(&node) { Err("is being removed".to_owned()) } else { Ok(()) }
}

fn live_session(state: &State, node: NodeId) -> Result<SessionId, String> {
    // A node has at most one live session; the newest would win if that were ever untrue.
    let found = state.sessions.iter().rev().find(|(_, session)| session.node == node);
    found.map(|(id, _)| *id).ok_or_else(|| "has no live session (its keeper is not up)".to_owned())
}
