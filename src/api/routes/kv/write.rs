//! Changing: single changes with their conditions, and transactions. Each is one entry of the log.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;

use super::ask::{Named, Terms, Which};
use crate::api::door::Door;
use crate::api::failure::Refusal;
use crate::api::routes::body::{Asked, Body, By, Raw};
use crate::api::types::kv::{KvDeleted, KvFound, KvOutcome, KvPut, KvTxn, Meant};
use crate::engine::kv::{Change, Changed, Compare, Condition, Kept, Key, Outcome, RequestId, Test, Txn};
use crate::engine::{Command, LogIndex, Reply};

/// `PUT /v1/kv/KEY`: stores the body as it is.
pub(super) async fn put<D: Door>(
    State(door): State<D>,
    Which(meant): Which,
    Asked(terms): Asked<Terms>,
    Named(request): Named,
    by: By,
    Raw(value): Raw,
) -> Result<Json<KvPut>, Refusal> {
    let Meant::Key(key) = meant else {
        return Err(Refusal::bad_request("a directory has no value: leave the / at the end away"));
    };
    store(&door, key, value, &terms, request, by).await.map(Json)
}

/// Gives a key a value under these terms.
pub(super) async fn store<D: Door>(
    door: &D,
    key: Key,
    value: Bytes,
    terms: &Terms,
    request: Option<RequestId>,
    by: By,
) -> Result<KvPut, Refusal> {
    let when = terms.when(&key)?;
    let then = vec![Change::Put { key, value: value.into() }];
    let outcome = single(door, Txn { when, then, guard: terms.guard()?, request, ..Txn::default() }, by).await?;
    let replaced = outcome.changed.first().and_then(|changed| match changed {
        Changed::Put { replaced } => *replaced,
        Changed::Deleted { .. } => None,
    });
    Ok(KvPut { revision: outcome.revision, replaced })
}

/// `DELETE /v1/kv/KEY`, `DELETE /v1/kv/DIR/`.
pub(super) async fn delete<D: Door>(
    State(door): State<D>,
    Which(meant): Which,
    Asked(terms): Asked<Terms>,
    Named(request): Named,
    by: By,
) -> Result<Json<KvDeleted>, Refusal> {
    let (when, change) = match meant {
        Meant::Key(key) => (terms.when(&key)?, Change::Delete { key }),
        Meant::Below(range) if terms.are_none() => (Vec::new(), Change::DeleteRange { range }),
        Meant::Below(_) => return Err(Refusal::bad_request("conditions are on a key, and this is a directory")),
    };
    take_away(&door, Txn { when, then: vec![change], guard: terms.guard()?, request, ..Txn::default() }, by)
        .await
        .map(Json)
}

/// Carries out a deletion.
pub(super) async fn take_away<D: Door>(door: &D, txn: Txn, by: By) -> Result<KvDeleted, Refusal> {
    let outcome = single(door, txn, by).await?;
    let keys = |changed: &Changed| match changed {
        Changed::Deleted { keys } => *keys,
        Changed::Put { .. } => 0,
    };
    Ok(KvDeleted { revision: outcome.revision, deleted: outcome.changed.iter().map(keys).sum() })
}

/// `POST /v1/kv`: a transaction; that a condition does not hold is an answer like any other.
pub(super) async fn txn<D: Door>(
    State(door): State<D>,
    Asked(NoQuery {}): Asked<NoQuery>,
    Named(request): Named,
    by: By,
    Body(given): Body<KvTxn>,
) -> Result<Json<KvOutcome>, Refusal> {
    let mut txn = given.read().map_err(Refusal::bad_request)?;
    txn.request = txn.request.or(request);
    Ok(Json(carry_out(&door, txn, by).await?.into()))
}

/// A query that must be empty.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoQuery {}

/// Puts a transaction into the log.
pub(super) async fn carry_out<D: Door>(door: &D, txn: Txn, by: By) -> Result<Outcome, Refusal> {
    let (_, reply) = door.submit(Command::Kv(txn), by.0).await?;
    let reply = reply.accepted()?;
    let Reply::Kv(outcome) = reply else {
        let text = format!("the log answered {reply:?} to a change of keys; this is a defect of pkgctl");
        return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", text));
    };
    Ok(outcome)
}

/// The same for a single change, which has failed where its condition does not hold.
async fn single<D: Door>(door: &D, txn: Txn, by: By) -> Result<Outcome, Refusal> {
    let when = txn.when.clone();
    let outcome = carry_out(door, txn, by).await?;
    match outcome.unmet {
        Some(unmet) => Err(failed(when.get(unmet.at), &unmet.key, unmet.found)),
        None => Ok(outcome),
    }
}

fn failed(condition: Option<&Condition>, key: &Key, found: Option<Kept>) -> Refusal {
    let new = Test::Revision(Compare::Equal, LogIndex(0));
    let (code, what) = match &found {
        None => ("no_such_key", format!("'{key}' has no value")),
        Some(kept) if condition.is_some_and(|condition| condition.test == new) => {
            ("exists", format!("'{key}' has a value already, of revision {}", kept.revision))
        }
        Some(kept) => {
            ("mismatch", format!("the condition does not hold of '{key}', whose revision is {}", kept.revision))
        }
    };
    let text = format!("{what}; nothing was changed");
    Refusal::new(StatusCode::PRECONDITION_FAILED, code, text).found(found.map(KvFound::from))
}
