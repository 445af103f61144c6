//! Consensus: how it stands, and who is to lead.

use axum::Json;
use axum::extract::State;

use super::body::Body;
use crate::api::door::Door;
use crate::api::failure::Refusal;
use crate::api::types::raft::{Leading, RaftMember, RaftView, StepDownRequest};
use crate::engine::{NodeId, Rejected, State as ClusterState};
use crate::raft::RaftStatus;

/// `GET /v1/raft`: this node, and every member as the leader sees it.
pub async fn show<D: Door>(State(door): State<D>) -> Json<RaftView> {
    let (here, leader) = (door.raft(), door.leaders_raft().await);
    Json(door.read(|state| view(state, &here, leader.as_ref())))
}

/// `POST /v1/raft/step-down`: the leader, whoever that is, hands over. Answers who leads then.
pub async fn step_down<D: Door>(
    State(door): State<D>,
    Body(request): Body<StepDownRequest>,
) -> Result<Json<Leading>, Refusal> {
    let to = match request.to {
        None => None,
        Some(name) => {
            let id = door.read(|state| state.nodes.iter().find(|(_, node)| node.name == name).map(|(id, _)| *id));
            Some(id.ok_or_else(|| Refusal::from(Rejected::NoSuchNode { node: name.to_string() }))?)
        }
    };
    door.step_down(to).await?;
    Ok(leading(&door).await)
}

/// `POST /v1/raft/start-election`: this node is to lead.
pub async fn stand<D: Door>(State(door): State<D>) -> Result<Json<Leading>, Refusal> {
    door.stand().await?;
    Ok(leading(&door).await)
}

/// Who leads, once somebody has proved it.
async fn leading<D: Door>(door: &D) -> Json<Leading> {
    // Without a proof in time, whoever is known.
    let _ = door.linearize().await;
    let raft = door.raft();
    Json(Leading { leader: raft.leader.map(|(id, _)| door.read(|state| state.name_of(id))), term: raft.term })
}

fn view(state: &ClusterState, here: &RaftStatus, leader: Option<&RaftStatus>) -> RaftView {
    let seen = leader.unwrap_or(here);
    let members = seen.addresses.iter().map(|(id, address)| {
        let progress = leader.and_then(|leader| leader.peers.get(id));
        let leads = leader.is_some_and(|leader| leader.node == *id);
        RaftMember {
            id: *id,
            name: state.name_of(*id),
            address: *address,
            voter: seen.voters.contains(id),
            leader: leads,
            matched: if leads { seen.last_log } else { progress.and_then(|progress| progress.matched) },
            heard: progress.and_then(|progress| progress.heard),
        }
    });
    let name = |id: NodeId| state.name_of(id);
    RaftView {
        cluster: state.cluster.as_ref().map(|cluster| cluster.id),
        profile: state.cluster.as_ref().map(|cluster| cluster.profile),
        node: name(here.node),
        id: here.node,
        role: here.role,
        term: here.term,
        leader: here.leader.map(|(id, _)| name(id)),
        changing: here.changing,
        last_log: here.last_log,
        committed: here.committed,
        applied: here.applied,
        snapshot: here.snapshot,
        majority_heard: leader.and_then(|leader| leader.majority_heard),
        by_the_leader: leader.is_some(),
        members: members.collect(),
    }
}
