//! The key/value tree (docs/kv.md): `/v1/kv…`, and changes as they come: `/v1/watch…`.
//!
//! - `ask`: what a request says: which keys, at which level, under which conditions.
//! - `read`: one key, or a list of them. `write`: single changes and transactions.

mod ask;
mod read;
mod write;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use crate::api::door::Door;
use crate::engine::kv::{TXN_MAX_BYTES, VALUE_MAX_BYTES};

pub use read::{APPLIED, CREATED, REVISION};

/// Longest transaction as JSON, in bytes: any value is at most six times as long there.
const TXN_TEXT_MAX_BYTES: usize = 8 * TXN_MAX_BYTES;

/// The routes of the tree.
pub(super) fn routes<D: Door>() -> Router<D> {
    let one = get(read::read::<D>).put(write::put::<D>).delete(write::delete::<D>);
    Router::new()
        .route("/v1/kv", post(write::txn::<D>).layer(DefaultBodyLimit::max(TXN_TEXT_MAX_BYTES)))
        .route("/v1/kv/", get(read::read::<D>))
        .route("/v1/kv/{*key}", one.layer(DefaultBodyLimit::max(VALUE_MAX_BYTES)))
}
