//! External fencing: devices, tests of them, orders, confirmations. Secrets of a device come in and never go out.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use futures::future::join_all;

use super::body::{Body, By, Called};
use super::off;
use super::packages::change;
use crate::api::door::Door;
use crate::api::failure::Refusal;
use crate::api::types::{Changed, FenceOrder, FenceRequest, FenceSet, FenceTest, FenceView};
use crate::engine::fence::call::{FenceAsk, FenceSaid, FenceVerb};
use crate::engine::fence::metadata::Metadata;
use crate::engine::state::State as ClusterState;
use crate::engine::{Command, NodeId, Rejected};
use crate::package::NodeName;

type Answer<T> = Result<Json<T>, Refusal>;

/// `GET /v1/fences`: of every node, without secrets.
pub async fn list<D: Door>(State(door): State<D>) -> Answer<Vec<FenceView>> {
    door.linearize().await?;
    Ok(Json(door.read(|state| {
        let formers =
            state.fallback.iter().flat_map(|fallback| &fallback.formers).map(|(id, former)| (id, &former.name));
        // Whoever is a member again is shown as that.
        let formers = formers.filter(|(_, name)| state.nodes.values().all(|node| node.name != **name));
        let all = state.nodes.iter().map(|(id, node)| (id, &node.name)).chain(formers);
        all.map(|(id, name)| view(state, *id, name)).collect()
    })))
}

fn view(state: &ClusterState, id: NodeId, node: &NodeName) -> FenceView {
    FenceView {
        node: node.clone(),
        device: state.fence_devices.get(&id).map(crate::engine::fence::FenceDevice::masked),
        fencing: state.fencing.get(&id).cloned(),
        fenced: state.fenced.get(&id).copied(),
        waiting: state.waiting_for(id).into_iter().cloned().collect(),
    }
}

/// `PUT /v1/fences/N`: checked against what the agent itself says it takes, on whichever member has it.
pub async fn set<D: Door>(
    State(door): State<D>,
    Called(given): Called,
    by: By,
    Body(request): Body<FenceRequest>,
) -> Answer<FenceSet> {
    let (node, _) = named(&door, &given)?;
    let device = request.device;
    let mut problems = device.problems();
    let mut missing = BTreeMap::new();
    // A path that is none is asked of nobody.
    if problems.is_empty() && !request.unchecked {
        let ask = FenceAsk::Metadata { agent: device.agent.clone() };
        let mut known = None;
        for (member, said) in everywhere(&door, &ask).await {
            match understood(&said) {
                Ok(metadata) => known = known.or(Some(metadata)),
                Err(why) => drop(missing.insert(member, why)),
            }
        }
        match known {
            Some(metadata) => problems.extend(metadata.problems(&device)),
            None => {
                let each: Vec<String> = missing.iter().map(|(member, why)| format!("{member}: {why}")).collect();
                problems.push(format!("no member can run {}: {}", device.agent, each.join("; ")));
            }
        }
    }
    if !problems.is_empty() {
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", problems.join("\n")));
    }
    let Json(changed) = change(&door, Command::SetFence { node, device }, by).await?;
    Ok(Json(FenceSet { index: changed.index, reply: changed.reply, missing }))
}

fn understood(said: &FenceSaid) -> Result<Metadata, String> {
    said.expect("metadata", 0)?;
    let FenceSaid::Ran { output, .. } = said else { return Err("it did not run".to_owned()) };
    Metadata::read(output).ok_or_else(|| "what it prints is no metadata of a fence agent".to_owned())
}

/// `DELETE /v1/fences/N`.
pub async fn delete<D: Door>(State(door): State<D>, Called(given): Called, by: By) -> Answer<Changed> {
    let (node, _) = named(&door, &given)?;
    change(&door, Command::DeleteFence { node }, by).await
}

/// `POST /v1/fences/N/test`: `monitor` and `status`, from every member that is there.
pub async fn test<D: Door>(State(door): State<D>, Called(given): Called) -> Answer<Vec<FenceTest>> {
    let (name, node) = named(&door, &given)?;
    has_device(&door, &name, node)?;
    let monitor = everywhere(&door, &FenceAsk::Run { node, verb: FenceVerb::Monitor }).await;
    let status = everywhere(&door, &FenceAsk::Run { node, verb: FenceVerb::Status }).await;
    let both = monitor.into_iter().zip(status);
    Ok(Json(both.map(|((from, monitor), (_, status))| FenceTest { from, monitor, status }).collect()))
}

/// `POST /v1/fences/N/on`: from the first member that has the agent.
pub async fn on<D: Door>(State(door): State<D>, Called(given): Called) -> Answer<FenceSaid> {
    let (name, node) = named(&door, &given)?;
    has_device(&door, &name, node)?;
    let mut said = FenceSaid::Absent;
    for (member, _) in members(&door) {
        said = door.fence_ask(member, FenceAsk::Run { node, verb: FenceVerb::On }).await;
        if said != FenceSaid::Absent {
            break;
        }
    }
    Ok(Json(said))
}

/// `POST /v1/fences/N/order`: the leader carries it out.
pub async fn order<D: Door>(
    State(door): State<D>,
    Called(given): Called,
    by: By,
    Body(order): Body<FenceOrder>,
) -> Answer<Changed> {
    let (node, _) = named(&door, &given)?;
    change(&door, Command::OrderFence { node, action: order.action, force: order.force }, by).await
}

/// `POST /v1/fences/N/confirm`: the operator answers for the node being off.
pub async fn confirm<D: Door>(State(door): State<D>, Called(given): Called, by: By) -> Answer<Changed> {
    let (node, id) = named(&door, &given)?;
    off::check(&door, id).await?;
    let who = by.0.clone();
    let changed = change(&door, Command::ConfirmFence { node: node.clone() }, by).await?;
    tracing::warn!("{who} answers for {node} being off");
    Ok(changed)
}

fn named<D: Door>(door: &D, given: &str) -> Result<(NodeName, NodeId), Refusal> {
    let name = NodeName::new(given).map_err(|e| Refusal::bad_request(e.to_string()))?;
    let found = door.read(|state| state.to_fence(&name));
    found.map(|id| (name, id)).ok_or_else(|| Rejected::NoSuchNode { node: given.to_owned() }.into())
}

fn has_device<D: Door>(door: &D, name: &NodeName, node: NodeId) -> Result<(), Refusal> {
    let has = door.read(|state| state.fence_devices.contains_key(&node));
    if has { Ok(()) } else { Err(Rejected::NoFenceDevice { node: name.clone() }.into()) }
}

/// Every member that is there, this one first.
fn members<D: Door>(door: &D) -> Vec<(NodeId, NodeName)> {
    let local = door.local();
    door.read(|state| {
        let mut there = state.present(&local.silent);
        there.remove(&local.node);
        let all = std::iter::once(local.node).chain(there);
        all.filter_map(|id| Some((id, state.nodes.get(&id)?.name.clone()))).collect()
    })
}

async fn everywhere<D: Door>(door: &D, ask: &FenceAsk) -> Vec<(NodeName, FenceSaid)> {
    let one = |(id, name): (NodeId, NodeName)| async move { (name, door.fence_ask(id, ask.clone()).await) };
    join_all(members(door).into_iter().map(one)).await
}
