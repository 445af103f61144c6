//! The cluster and this node in it: join tokens, and leaving in good order.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::body::{Body, By};
use super::packages::{change, choose};
use crate::api::door::{Door, TOKEN_VALID_S};
use crate::api::failure::Refusal;
use crate::api::types::{Changed, IssuedToken, Moving, RemoveRequest};
use crate::engine::apply::removal_waits_for_nobody;
use crate::engine::state::State as ClusterState;
use crate::engine::{Command, NodeId, SessionId};
use crate::package::{Millis, PackageName};
use crate::raft::PeerProgress;

/// `POST /v1/cluster/token`.
pub async fn token<D: Door>(State(door): State<D>, by: By) -> Result<Json<IssuedToken>, Refusal> {
    let offer = door.new_token(TOKEN_VALID_S)?;
    let Json(_) = change(&door, Command::IssueToken { digest: offer.digest, expires: offer.expires }, by).await?;
    Ok(Json(IssuedToken { token: offer.token, valid_s: offer.valid_s }))
}

/// `POST /v1/cluster/remove`: takes a node out. Answers as soon as that has begun; `status` shows how far it is.
pub async fn remove<D: Door>(
    State(door): State<D>,
    by: By,
    Body(request): Body<RemoveRequest>,
) -> Result<Json<Changed>, Refusal> {
    let silent = unheard(&door).await;
    door.read(|state| removal_waits_for_nobody(state, &request.node, &silent))?;
    change(&door, Command::RemoveNode { node: request.node }, by).await
}

/// Sessions that this node's keeper does not hear and whose node's agent the leader does not hear: one of the two alone may be
/// deaf itself, and what needs a majority would succeed without it.
async fn unheard<D: Door>(door: &D) -> BTreeSet<SessionId> {
    let silent = door.local().silent;
    if silent.is_empty() {
        return silent;
    }
    match door.leaders_raft().await {
        Some(leader) => door.read(|state| unheard_by_both(state, &silent, &leader.peers)),
        None => BTreeSet::new(),
    }
}

fn unheard_by_both(
    state: &ClusterState,
    silent: &BTreeSet<SessionId>,
    peers: &BTreeMap<NodeId, PeerProgress>,
) -> BTreeSet<SessionId> {
    let unheard = |id: &&SessionId| {
        let Some(session) = state.sessions.get(id) else { return false };
        // After so long a keeper calls a session silent too.
        let quiet = Millis(session.ttl.0 / 4);
        peers.get(&session.node).is_some_and(|peer| peer.heard.is_none_or(|ago| ago >= quiet))
    };
    silent.iter().filter(unheard).copied().collect()
}

/// `POST /v1/cluster/keep`: takes the removal of a node back that has not ended.
pub async fn keep<D: Door>(
    State(door): State<D>,
    by: By,
    Body(request): Body<RemoveRequest>,
) -> Result<Json<Changed>, Refusal> {
    change(&door, Command::KeepNode { node: request.node }, by).await
}

/// `POST /v1/cluster/rotate-key`: has the key of the datagrams replaced, step by step.
pub async fn rotate_key<D: Door>(State(door): State<D>, by: By) -> Result<Json<Changed>, Refusal> {
    change(&door, Command::RotateKey, by).await
}

/// `POST /v1/cluster/init` and `…/join` on a node that is in a cluster.
pub async fn member_already() -> Refusal {
    let text = "this node is in a cluster already; nothing was changed: `pkgctl cluster status` shows it";
    Refusal::new(StatusCode::CONFLICT, "in_a_cluster", text)
}

/// `POST /v1/node/leave` answers what happens to each package that was here.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Leaving {
    /// Packages that move, each with where.
    pub moving: Vec<Moving>,
    /// Packages that no other node can take, each with why; they end with this node.
    pub staying: Vec<(PackageName, String)>,
}

/// `POST /v1/node/leave`: planned moves of everything this node owns, before it goes down. It bans nothing.
pub async fn leave<D: Door>(State(door): State<D>, by: By) -> Result<Json<Leaving>, Refusal> {
    door.linearize().await?;
    let (me, silent) = (door.local().node, door.local().silent);
    let mine: Vec<PackageName> = door.read(|state| {
        let owned = state.packages.iter().filter(|(_, p)| p.owner.as_ref().is_some_and(|o| o.node == me));
        owned.map(|(name, _)| name.clone()).collect()
    });
    let mut leaving = Leaving::default();
    for package in mine {
        let chosen = door.read(|state| choose(state, &package, None, &silent, &by.0));
        match chosen {
            Ok(choice) => {
                let Json(changed) = change(&door, choice.command, by.clone()).await?;
                leaving.moving.push(Moving { package, index: changed.index, from: choice.from, to: choice.to });
            }
            Err(refusal) => leaving.staying.push((package, refusal.message().to_owned())),
        }
    }
    Ok(Json(leaving))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Nonce;
    use crate::engine::state::Session;

    #[test]
    fn only_a_node_that_neither_a_keeper_nor_the_leader_hears_is_unheard() {
        let session = |node| Session { node: NodeId(node), nonce: Nonce(0), ttl: Millis(1500) };
        let sessions = (1..=4).map(|node| (SessionId(10 + node), session(node))).collect();
        let state = ClusterState { sessions, ..ClusterState::default() };
        let heard = |ago: Option<u64>| PeerProgress { matched: None, heard: ago.map(Millis) };
        let peers = [(2, heard(Some(374))), (3, heard(Some(375))), (4, heard(None))];
        let peers = peers.map(|(node, heard)| (NodeId(node), heard)).into();
        let sessions = |of: &[u64]| of.iter().map(|id| SessionId(*id)).collect::<BTreeSet<_>>();
        // A keeper that hears nobody does not hear the leader and itself either; the last is of an earlier life.
        let all = unheard_by_both(&state, &sessions(&[11, 12, 13, 14, 99]), &peers);
        assert_eq!(all, sessions(&[13, 14]));
        assert_eq!(unheard_by_both(&state, &sessions(&[12]), &peers), sessions(&[]));
    }
}
