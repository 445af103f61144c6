//! What only root on the node itself may ask for: to go on alone, to leave the cluster, and words about the old one. What
//! needs the node's own files is served on the local socket and nowhere else.

use std::future::Future;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};

use super::body::{Body, By, Root};
use super::kv::saved;
use super::off;
use super::packages::change;
use crate::api::door::{Door, DoorError};
use crate::api::failure::Refusal;
use crate::api::types::Changed;
use crate::api::types::raft::{LeavePlan, LeaveRequest, Left, StandaloneBegun, StandalonePlan, StandaloneRequest};
use crate::engine::kv::Range;
use crate::engine::{Command, State as ClusterState};

/// What this node can do with its own files.
pub trait LocalDoor: Clone + Send + Sync + 'static {
    /// What it would give up by going on alone, and whether it may.
    fn standalone_plan(&self) -> impl Future<Output = Result<StandalonePlan, DoorError>> + Send;

    /// Prepares to go on alone; the agent then begins again.
    fn go_alone(
        &self,
        request: StandaloneRequest,
        by: String,
    ) -> impl Future<Output = Result<StandaloneBegun, DoorError>> + Send;

    /// What its whole log adds up to, with entries at its end of which it does not know whether they are committed.
    fn whole_log(&self) -> Result<Arc<ClusterState>, DoorError>;

    /// Whether it may leave the cluster, and what it knows.
    fn leave_plan(&self) -> impl Future<Output = Result<LeavePlan, DoorError>> + Send;

    /// Leaves the cluster; the agent then begins again.
    fn leave(&self, request: LeaveRequest, by: String) -> impl Future<Output = Result<Left, DoorError>> + Send;
}

/// The routes of the local socket alone.
pub fn local_routes<L: LocalDoor>(door: L) -> Router {
    Router::new()
        .route("/v1/raft/force-standalone", get(plan::<L>).post(go_alone::<L>))
        .route("/v1/cluster/leave/keys", get(keys::<L>))
        .route("/v1/cluster/leave", get(leave_plan::<L>).post(leave::<L>))
        .method_not_allowed_fallback(super::no_such_method)
        .with_state(door)
}

/// `GET /v1/raft/force-standalone`: nothing is changed.
async fn plan<L: LocalDoor>(State(door): State<L>, _root: Root) -> Result<Json<StandalonePlan>, Refusal> {
    Ok(Json(door.standalone_plan().await?))
}

/// `POST /v1/raft/force-standalone`.
async fn go_alone<L: LocalDoor>(
    State(door): State<L>,
    Root(by): Root,
    Body(request): Body<StandaloneRequest>,
) -> Result<Json<StandaloneBegun>, Refusal> {
    Ok(Json(door.go_alone(request, by).await?))
}

/// `GET /v1/cluster/leave`: nothing is changed.
async fn leave_plan<L: LocalDoor>(State(door): State<L>, _root: Root) -> Result<Json<LeavePlan>, Refusal> {
    Ok(Json(door.leave_plan().await?))
}

/// `GET /v1/cluster/leave/keys`: every key that this node knows, in the form of `GET /v1/save/`.
async fn keys<L: LocalDoor>(State(door): State<L>, _root: Root) -> Result<Response, Refusal> {
    Ok(saved(&*door.whole_log()?, Range::All))
}

/// `POST /v1/cluster/leave`.
async fn leave<L: LocalDoor>(
    State(door): State<L>,
    Root(by): Root,
    Body(request): Body<LeaveRequest>,
) -> Result<Json<Left>, Refusal> {
    Ok(Json(door.leave(request, by).await?))
}

/// `POST /v1/raft/unlisted-off`: an operator answers for nobody else acting under the old cluster.
pub async fn confirm_unlisted<D: Door>(State(door): State<D>, Root(by): Root) -> Result<Json<Changed>, Refusal> {
    let changed = change(&door, Command::ConfirmUnlisted, By(by.clone())).await?;
    tracing::warn!("{by} answers for no machine acting for the old cluster beyond those listed");
    Ok(changed)
}

/// `POST /v1/raft/whole`: an operator answers for the old cluster never coming back.
pub async fn say_whole<D: Door>(State(door): State<D>, Root(by): Root) -> Result<Json<Changed>, Refusal> {
    off::check_formers(&door).await?;
    change(&door, Command::SayWhole, By(by)).await
}
