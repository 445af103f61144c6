//! The routes of the programs that pkgctl follows, as their users type them: raftdb's `/key` and raftd's `/db`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::ask::{Level, Named, Terms, Which};
use super::read::{look, no_such_key, raw};
use super::write::{NoQuery, carry_out, store, take_away};
use crate::api::door::Door;
use crate::api::failure::Refusal;
use crate::api::routes::body::{Asked, Body, By, Raw};
use crate::api::types::kv::{KvDeleted, KvOutcome, KvPut, Meant, SeedValue};
use crate::engine::kv::{Change, Item, Key, Txn};

/// The query of a read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct At {
    #[serde(default)]
    level: Level,
}

fn key(meant: Meant) -> Result<Key, Refusal> {
    match meant {
        Meant::Key(key) => Ok(key),
        Meant::Below(_) => Err(Refusal::bad_request("write one key; directories are read at /v1/kv")),
    }
}

async fn item<D: Door>(door: &D, key: &Key, level: Level) -> Result<Item, Refusal> {
    level.reached(door).await?;
    look(door, key).1.ok_or_else(|| no_such_key(key))
}

/// `POST /key`: several keys with their values in a JSON object, all at once.
pub(super) async fn set<D: Door>(
    State(door): State<D>,
    Asked(NoQuery {}): Asked<NoQuery>,
    Named(request): Named,
    by: By,
    Body(given): Body<BTreeMap<Key, SeedValue>>,
) -> Result<Json<KvOutcome>, Refusal> {
    let then = given.into_iter().map(|(key, value)| Change::Put { key, value: value.0 }).collect();
    Ok(Json(carry_out(&door, Txn { then, request, ..Txn::default() }, by).await?.into()))
}

/// `GET /key/K`: `{"K":"its value"}`.
pub(super) async fn get<D: Door>(
    State(door): State<D>,
    Which(meant): Which,
    Asked(at): Asked<At>,
) -> Result<Json<BTreeMap<Key, SeedValue>>, Refusal> {
    let key = key(meant)?;
    let value = item(&door, &key, at.level).await?.value;
    Ok(Json([(key, SeedValue(value))].into()))
}

/// `DELETE /key/K`.
pub(super) async fn delete<D: Door>(
    State(door): State<D>,
    Which(meant): Which,
    Asked(NoQuery {}): Asked<NoQuery>,
    Named(request): Named,
    by: By,
) -> Result<Json<KvDeleted>, Refusal> {
    let then = vec![Change::Delete { key: key(meant)? }];
    take_away(&door, Txn { then, request, ..Txn::default() }, by).await.map(Json)
}

/// `GET /db/K`: the value as it is.
pub(super) async fn read<D: Door>(
    State(door): State<D>,
    Which(meant): Which,
    Asked(at): Asked<At>,
) -> Result<Response, Refusal> {
    Ok(raw(item(&door, &key(meant)?, at.level).await?.value))
}

/// `POST /db/K`: stores the body as it is.
pub(super) async fn write<D: Door>(
    State(door): State<D>,
    Which(meant): Which,
    Asked(NoQuery {}): Asked<NoQuery>,
    Named(request): Named,
    by: By,
    Raw(value): Raw,
) -> Result<Json<KvPut>, Refusal> {
    store(&door, key(meant)?, value, &Terms::default(), request, by).await.map(Json)
}

/// `POST /join`: raftd and raftdb let anybody in who asks here.
pub(super) async fn join() -> Refusal {
    let text = "nobody joins over plain HTTP, and nothing was changed: on the new node `pkgctl cluster join ADDRESS`, where both \
                nodes have the same secret (`pkgctl cluster secret`); or `pkgctl cluster token` on a member, which prints a \
                token, and `pkgctl cluster join TOKEN` on the new node";
    Refusal::new(StatusCode::FORBIDDEN, "join_by_token", text)
}
