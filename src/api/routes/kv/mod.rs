//! The key/value tree (docs/kv.md): `/v1/kv…`, and changes as they come: `/v1/watch…`.
//!
//! - `ask`: what a request says: which keys, at which level, under which conditions.
//! - `seeds`: the same under the routes of raftdb and raftd.
//! - `read`: one key, or a list of them. `write`: single changes and transactions. `watch`: changes as they come.
//! - `save`: everything of a range at one moment.

mod ask;
mod read;
mod save;
mod seeds;
mod watch;
mod write;

use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post};
use axum::{Extension, Router};

use crate::api::door::Door;
use crate::api::types::kv::TXN_TEXT_MAX_BYTES;
use crate::engine::kv::VALUE_MAX_BYTES;

pub use read::{APPLIED, CREATED, REVISION};
pub(super) use save::saved;

/// The routes of the tree.
pub(super) fn routes<D: Door>() -> Router<D> {
    let one = get(read::read::<D>).put(write::put::<D>).delete(write::delete::<D>);
    Router::new()
        .route("/v1/watch/", get(watch::watch::<D>))
        .route("/v1/watch/{*key}", get(watch::watch::<D>))
        .layer(Extension(watch::Watches::default()))
        .route("/v1/kv", post(write::txn::<D>).layer(DefaultBodyLimit::max(TXN_TEXT_MAX_BYTES)))
        .route("/v1/save/", get(save::save::<D>))
        .route("/v1/save/{*key}", get(save::save::<D>))
        .route("/v1/kv/", get(read::read::<D>))
        .route("/v1/kv/{*key}", one.layer(DefaultBodyLimit::max(VALUE_MAX_BYTES)))
}

/// The routes that users of raftdb and raftd know.
pub(super) fn seeds<D: Door>() -> Router<D> {
    let raw = get(seeds::read::<D>).post(seeds::write::<D>).layer(DefaultBodyLimit::max(VALUE_MAX_BYTES));
    Router::new()
        .route("/key", post(seeds::set::<D>).layer(DefaultBodyLimit::max(TXN_TEXT_MAX_BYTES)))
        .route("/key/{*key}", delete(seeds::delete::<D>).get(seeds::get::<D>))
        .route("/db/{*key}", raw)
        .route("/join", post(seeds::join))
}
