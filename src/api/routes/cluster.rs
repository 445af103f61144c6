//! The cluster and this node in it: join tokens, and leaving in good order.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::body::{Body, By};
use super::packages::{change, choose};
use crate::api::door::Door;
use crate::api::failure::Refusal;
use crate::api::types::{Changed, IssuedToken, Moving, RemoveRequest};
use crate::engine::Command;
use crate::package::PackageName;

/// `POST /v1/cluster/token`.
pub async fn token<D: Door>(State(door): State<D>, by: By) -> Result<Json<IssuedToken>, Refusal> {
    let offer = door.new_token()?;
    let Json(_) = change(&door, Command::IssueToken { digest: offer.digest, expires: offer.expires }, by).await?;
    Ok(Json(IssuedToken { token: offer.token, valid_s: offer.valid_s }))
}

/// `POST /v1/cluster/remove`: takes a node out. Answers as soon as that has begun; `status` shows how far it is.
pub async fn remove<D: Door>(
    State(door): State<D>,
    by: By,
    Body(request): Body<RemoveRequest>,
) -> Result<Json<Changed>, Refusal> {
    change(&door, Command::RemoveNode { node: request.node }, by).await
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
