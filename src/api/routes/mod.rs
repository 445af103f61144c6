//! The routes of a member node, a file per subject. Every change is a command through the door.

mod body;
mod clients;
mod cluster;
mod description;
mod fence;
mod kv;
mod local;
mod log;
mod off;
mod packages;
mod plain;
mod raft;
mod status;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post, put};

use super::door::Door;
use super::failure::Refusal;

pub use body::{Body, By};
pub use cluster::Leaving;
pub use description::describe;
pub use kv::{APPLIED, CREATED, REVISION};
pub use local::{LocalDoor, local_routes};
pub use log::NEXT_OFFSET;
pub use plain::plain_routes;

/// Longest body accepted, in bytes.
const BODY_MAX_BYTES: usize = 1 << 20;

/// The routes over a door. The listener adds a [`Caller`] to every request.
pub fn routes<D: Door>(door: D) -> Router {
    let routes = Router::new()
        .route("/v1/openapi.json", get(description::describe))
        .route("/v1/status", get(status::status::<D>))
        .route("/v1/changes", get(status::changes::<D>))
        .route("/v1/packages/{name}", put(packages::define::<D>).get(packages::show::<D>).delete(packages::delete::<D>))
        .route("/v1/packages/{name}/owner", get(packages::owner::<D>))
        .route("/v1/packages/{name}/run", post(packages::run::<D>))
        .route("/v1/packages/{name}/stop", post(packages::stop::<D>))
        .route("/v1/packages/{name}/move", post(packages::switch::<D>))
        .route("/v1/packages/{name}/clear", post(packages::clear::<D>))
        .route("/v1/packages/{name}/log", get(log::log::<D>))
        .route("/v1/cluster/init", post(cluster::member_already))
        .route("/v1/cluster/join", post(cluster::member_already))
        .route("/v1/cluster/token", post(cluster::token::<D>))
        .route("/v1/cluster/remove", post(cluster::remove::<D>))
        .route("/v1/cluster/keep", post(cluster::keep::<D>))
        .route("/v1/cluster/rotate-key", post(cluster::rotate_key::<D>))
        .route("/v1/cluster/clients", get(clients::list::<D>))
        .route("/v1/cluster/clients/{name}", put(clients::issue::<D>).delete(clients::revoke::<D>))
        .route("/v1/raft", get(raft::show::<D>))
        .route("/v1/raft/step-down", post(raft::step_down::<D>))
        .route("/v1/raft/start-election", post(raft::stand::<D>))
        .route("/v1/raft/unlisted-off", post(local::confirm_unlisted::<D>))
        .route("/v1/raft/whole", post(local::say_whole::<D>))
        .route("/v1/fences", get(fence::list::<D>))
        .route("/v1/fences/{name}", put(fence::set::<D>).delete(fence::delete::<D>))
        .route("/v1/fences/{name}/test", post(fence::test::<D>))
        .route("/v1/fences/{name}/on", post(fence::on::<D>))
        .route("/v1/fences/{name}/order", post(fence::order::<D>))
        .route("/v1/fences/{name}/confirm", post(fence::confirm::<D>))
        .route("/v1/node/leave", post(cluster::leave::<D>))
        .merge(kv::routes())
        .merge(kv::seeds());
    closed(routes).with_state(door)
}

/// What a route answers to a method that it does not take.
pub async fn no_such_method() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "no_such_method", "this route does not take that method")
}

/// With an answer to everything that is no route, and a limit on bodies where a route has none of its own.
fn closed<D: Door>(routes: Router<D>) -> Router<D> {
    routes
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "no_such_route", "there is no such route"))
        .method_not_allowed_fallback(no_such_method)
        .layer(axum::extract::DefaultBodyLimit::max(BODY_MAX_BYTES))
}
