//! What plain HTTP serves (`http_listen`): keys, watches, and reads of status. Never packages, membership or commands.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{LOCATION, ORIGIN};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::{description, kv, status};
use crate::api::door::Door;
use crate::api::failure::Refusal;
use crate::engine::NodeId;
use crate::engine::state::State as ClusterState;

/// The routes of the plain listener over a door.
pub fn plain_routes<D: Door>(door: D) -> Router {
    let seeds = kv::seeds().layer(middleware::from_fn_with_state(door.clone(), to_leader::<D>));
    let routes = Router::new()
        .route("/v1/openapi.json", get(description::describe))
        .route("/v1/status", get(status::status::<D>))
        .route("/v1/changes", get(status::changes::<D>))
        .merge(kv::routes())
        .merge(seeds);
    super::closed(routes).layer(middleware::from_fn(no_browser)).with_state(door)
}

/// Sends a client on to the leader, as the programs before did, unless any node may answer or the client could not reach
/// the leader there: then this node asks the leader itself.
async fn to_leader<D: Door>(State(door): State<D>, request: Request, next: Next) -> Response {
    let stale = request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "level=stale"));
    let raft = door.raft();
    let leader = raft.leader.map(|(id, _)| id).filter(|id| *id != raft.node && !stale);
    let address = leader.and_then(|leader| door.read(|state| reachable(state, raft.node, leader)));
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let location = address.and_then(|address| HeaderValue::try_from(format!("http://{address}{target}")).ok());
    match location {
        Some(location) => (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location)]).into_response(),
        None => next.run(request).await,
    }
}

/// Where the leader answers plain HTTP, as long as that is not only on a machine of its own.
fn reachable(state: &ClusterState, me: NodeId, leader: NodeId) -> Option<SocketAddr> {
    let address = *state.http.get(&leader)?;
    let machine = |id| state.nodes.get(&id).map(|node| node.address.ip());
    (!address.ip().is_loopback() || machine(me) == machine(leader)).then_some(address)
}

/// A page that some browser on this machine shows must not use the node behind its user's back. Browsers say `Origin` with
/// every request that changes something, or that asks another site.
async fn no_browser(request: Request, next: Next) -> Response {
    if request.headers().contains_key(ORIGIN) {
        let text = "requests of web pages (with the header Origin) are not taken here";
        return Refusal::new(StatusCode::FORBIDDEN, "from_a_page", text).into_response();
    }
    next.run(request).await
}
