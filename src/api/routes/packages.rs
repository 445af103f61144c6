//! Packages: definitions, `run`, `stop`, `move`, `clear`, and who owns what.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;

use super::body::{Asked, Body, By, Called, name};
use crate::api::door::Door;
use crate::api::failure::Refusal;
use crate::api::types::{
    Changed, DefineRequest, MoveRequest, Moving, NodeRequest, Owner, PackageDetail, StopRequest, Stopped,
};
use crate::engine::command::StopScope;
use crate::engine::placement::{Placement, place};
use crate::engine::state::{PackageEntry, State as ClusterState};
use crate::engine::view::package_view;
use crate::engine::{Command, LogIndex, NodeId, Rejected, SessionId};
use crate::package::{NodeName, PackageName};

type Answer<T> = Result<Json<T>, Refusal>;

/// Submits a command; a rejection becomes a refusal.
pub(super) async fn change<D: Door>(door: &D, command: Command, by: By) -> Answer<Changed> {
    let (index, reply) = door.submit(command, by.0).await?;
    Ok(Json(Changed { index, reply: reply.accepted()? }))
}

/// `PUT /v1/packages/P`.
pub async fn define<D: Door>(
    State(door): State<D>,
    Called(given): Called,
    by: By,
    Body(request): Body<DefineRequest>,
) -> Answer<Changed> {
    let package = name(&given)?;
    if request.definition.name != package {
        let text = format!("the definition is named '{}', the path says '{package}'", request.definition.name);
        return Err(Refusal::bad_request(text));
    }
    let problems = crate::package::check(&request.definition);
    if !problems.is_empty() {
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", problems.join("\n")));
    }
    let command = Command::DefinePackage { definition: request.definition, replaces: request.replaces };
    change(&door, command, by).await
}

/// `GET /v1/packages/P`.
pub async fn show<D: Door>(State(door): State<D>, Called(given): Called) -> Answer<PackageDetail> {
    let package = name(&given)?;
    door.linearize().await?;
    let detail = door.read(|state| {
        let entry = state.packages.get(&package)?;
        let events = state.events.iter().filter(|e| e.package.as_ref() == Some(&package)).cloned().collect();
        Some(PackageDetail { view: package_view(state, &package)?, definition: entry.definition.clone(), events })
    });
    detail.map(Json).ok_or_else(|| Rejected::NoSuchPackage { package }.into())
}

/// `GET /v1/packages/P/owner`.
pub async fn owner<D: Door>(State(door): State<D>, Called(given): Called) -> Answer<Owner> {
    let package = name(&given)?;
    door.linearize().await?;
    let owner = door.read(|state| state.packages.get(&package).map(|entry| owner_of(state, entry)));
    owner.map(Json).ok_or_else(|| Rejected::NoSuchPackage { package }.into())
}

fn owner_of(state: &ClusterState, entry: &PackageEntry) -> Owner {
    let owner = entry.owner.as_ref();
    Owner {
        node: owner.and_then(|o| state.nodes.get(&o.node)).map(|n| n.name.clone()),
        token: owner.map_or(entry.last_token, |o| o.token),
        session: owner.map(|o| o.session),
    }
}

/// `DELETE /v1/packages/P?revision=N`.
#[derive(Deserialize)]
pub struct Deletion {
    revision: u64,
}

/// `DELETE /v1/packages/P?revision=N`.
pub async fn delete<D: Door>(
    State(door): State<D>,
    Called(given): Called,
    Asked(deletion): Asked<Deletion>,
    by: By,
) -> Answer<Changed> {
    let command = Command::DeletePackage { package: name(&given)?, revision: LogIndex(deletion.revision) };
    change(&door, command, by).await
}

/// `POST /v1/packages/P/run`.
pub async fn run<D: Door>(
    State(door): State<D>,
    Called(given): Called,
    by: By,
    Body(request): Body<NodeRequest>,
) -> Answer<Changed> {
    change(&door, Command::RunPackage { package: name(&given)?, node: request.node }, by).await
}

/// `POST /v1/packages/P/stop`.
pub async fn stop<D: Door>(
    State(door): State<D>,
    Called(given): Called,
    by: By,
    Body(request): Body<StopRequest>,
) -> Answer<Stopped> {
    let package = name(&given)?;
    let command = Command::StopPackage { package: package.clone(), scope: request.scope.clone() };
    let Json(Changed { index, .. }) = change(&door, command, by).await?;
    let node = match request.scope {
        StopScope::Node(node) => Some(node),
        StopScope::Owner => door.read(|state| withdrawn_by(state, index).or_else(|| owner_name(state, &package))),
        StopScope::Everywhere => None,
    };
    Ok(Json(Stopped { index, node }))
}

fn owner_name(state: &ClusterState, package: &PackageName) -> Option<NodeName> {
    state.packages.get(package).and_then(|entry| owner_of(state, entry).node)
}

/// Which node an entry has withdrawn from a package, by the ledger; none when it was withdrawn before.
fn withdrawn_by(state: &ClusterState, index: LogIndex) -> Option<NodeName> {
    state.events.iter().rev().find(|event| event.index == index && event.what == "stopped")?.node.clone()
}

/// `POST /v1/packages/P/clear`.
pub async fn clear<D: Door>(
    State(door): State<D>,
    Called(given): Called,
    by: By,
    Body(request): Body<NodeRequest>,
) -> Answer<Changed> {
    let node = request.node.ok_or_else(|| Refusal::bad_request("say which node: {\"node\": \"n1\"}"))?;
    change(&door, Command::ClearFailure { package: name(&given)?, node }, by).await
}

/// `POST /v1/packages/P/move`: one act, never a hidden ban.
pub async fn switch<D: Door>(
    State(door): State<D>,
    Called(given): Called,
    by: By,
    Body(request): Body<MoveRequest>,
) -> Answer<Moving> {
    let package = name(&given)?;
    door.linearize().await?;
    let silent = door.local().silent;
    let chosen = door.read(|state| choose(state, &package, request.to.as_ref(), &silent, &by.0))?;
    let Json(changed) = change(&door, chosen.command, by).await?;
    Ok(Json(Moving { package, index: changed.index, from: chosen.from, to: chosen.to }))
}

/// A move that can be asked for.
pub(super) struct Choice {
    pub(super) command: Command,
    pub(super) from: NodeName,
    pub(super) to: NodeName,
}

/// Where a package can go from its owner: the node asked for, or the next of its list.
pub(super) fn choose(
    state: &ClusterState,
    package: &PackageName,
    to: Option<&NodeName>,
    silent: &BTreeSet<SessionId>,
    by: &str,
) -> Result<Choice, Refusal> {
    let entry = state.packages.get(package).ok_or_else(|| Rejected::NoSuchPackage { package: package.clone() })?;
    let conflict = |text: String| Refusal::new(StatusCode::CONFLICT, "rejected", text);
    let owner = entry.owner.as_ref().ok_or_else(|| {
        conflict(format!(
            "nobody owns package '{package}', so there is nothing to move; `pkgctl run {package}` starts it"
        ))
    })?;
    let from = node_name(state, owner.node);
    let placement = place(state, entry, silent);
    let found = placement.candidates.iter().find(|c| c.node != owner.node && to.is_none_or(|to| *to == c.name));
    let Some(target) = found else {
        let why = why_not(&from, to, &entry.definition.nodes, &placement);
        return Err(conflict(format!("package '{package}' {why}")));
    };
    let why = format!("moved from {from} to {} by {by}", target.name);
    let command = Command::MovePackage { package: package.clone(), token: owner.token, to: target.node, why };
    Ok(Choice { command, from, to: target.name.clone() })
}

/// Why it cannot be moved away from its owner, to a certain node or at all.
fn why_not(from: &NodeName, to: Option<&NodeName>, listed: &[NodeName], placement: &Placement) -> String {
    let ruled = |to: &NodeName| placement.ruled_out.iter().find(|ruled| ruled.name == *to);
    match to {
        Some(to) if to == from => format!("is on {to} already"),
        Some(to) => match ruled(to) {
            Some(ruled) => format!("stays on {from}: {to} {}", ruled.why),
            None => {
                let listed: Vec<&str> = listed.iter().map(NodeName::as_str).collect();
                format!("stays on {from}: {to} is not in its list of nodes: {}", listed.join(", "))
            }
        },
        None if listed.len() == 1 => format!("stays on {from}, the only node of its list"),
        None => format!("stays on {from}: no other node can take it ({})", placement.reasons()),
    }
}

fn node_name(state: &ClusterState, node: NodeId) -> NodeName {
    let known = state.nodes.get(&node).map(|n| n.name.clone());
    // An owner is always a member; a number reads better than a panic if that were ever untrue.
    known.unwrap_or_else(|| NodeName::new(format!("node-{node}")).expect("digits make a name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::placement::Ruled;

    #[test]
    fn a_move_that_cannot_be_is_refused_with_what_keeps_that_node_out() {
        let name = |text: &str| NodeName::new(text).unwrap();
        let (n1, listed) = (name("n1"), ["n1", "n2", "n3"].map(name));
        let ruled = |node: &str, why: &str| Ruled { name: name(node), why: why.to_owned() };
        let ruled_out = vec![ruled("n2", "is silent"), ruled("n3", "was stopped by root")];
        let placement = Placement { ruled_out, ..Placement::default() };
        let said = |to: Option<&str>| why_not(&n1, to.map(name).as_ref(), &listed, &placement);
        assert_eq!(said(Some("n1")), "is on n1 already");
        assert_eq!(said(Some("n2")), "stays on n1: n2 is silent");
        assert_eq!(said(Some("n9")), "stays on n1: n9 is not in its list of nodes: n1, n2, n3");
        assert_eq!(said(None), "stays on n1: no other node can take it (n2 is silent, n3 was stopped by root)");
        assert_eq!(why_not(&n1, None, &listed[..1], &placement), "stays on n1, the only node of its list");
    }
}
