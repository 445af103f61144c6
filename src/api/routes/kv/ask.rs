//! What a request about keys says: which of them, at which level, under which conditions, in whose name.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use serde::{Deserialize, Deserializer};

use crate::api::door::Door;
use crate::api::failure::Refusal;
use crate::api::types::kv::Meant;
use crate::engine::kv::{Compare, Condition, Guard, Key, RequestId, Test};
use crate::engine::{LogIndex, Token};
use crate::package::PackageName;

/// The header that names a request.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The key or directory in the path, decoded once: `%2F` is a `/` like any other.
pub(super) struct Which(pub(super) Meant);

impl<S: Send + Sync> FromRequestParts<S> for Which {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let bad = |why: String| Refusal::bad_request(format!("the address names no key: {why}"));
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|e| bad(e.to_string()))?;
        let path = params.iter().next().map_or("", |(_, path)| path);
        Meant::read(path).map(Self).map_err(Refusal::bad_request)
    }
}

/// How much a read must show (docs/kv.md).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Whatever this node has.
    Stale,
    /// What the leader has.
    #[default]
    Default,
    /// What a majority knows that the leader has.
    Consistent,
}

impl Level {
    /// Waits until this node may answer.
    pub(super) async fn reached<D: Door>(self, door: &D) -> Result<(), Refusal> {
        match self {
            Level::Stale => {}
            Level::Default => drop(door.catch_up().await?),
            Level::Consistent => drop(door.linearize().await?),
        }
        Ok(())
    }
}

/// The conditions and the guard of a single change, as its query says them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Terms {
    if_revision: Option<u64>,
    if_value: Option<String>,
    op: Option<Compare>,
    package: Option<String>,
    token: Option<u64>,
}

impl Terms {
    /// Conditions on that key.
    pub(super) fn when(&self, key: &Key) -> Result<Vec<Condition>, Refusal> {
        if self.op.is_some() && self.if_value.is_none() {
            return Err(Refusal::bad_request("'op' says how 'if_value' compares, and there is none"));
        }
        let revision = self.if_revision.map(|revision| Test::Revision(Compare::Equal, LogIndex(revision)));
        let sign = self.op.unwrap_or(Compare::Equal);
        let value = self.if_value.as_ref().map(|value| Test::Value(sign, value.into()));
        Ok(revision.into_iter().chain(value).map(|test| Condition { key: key.clone(), test }).collect())
    }

    /// Whether there is a condition.
    pub(super) fn are_none(&self) -> bool {
        self.if_revision.is_none() && self.if_value.is_none() && self.op.is_none()
    }

    /// On behalf of which owner.
    pub(super) fn guard(&self) -> Result<Option<Guard>, Refusal> {
        match (&self.package, self.token) {
            (Some(package), Some(token)) => {
                let package = PackageName::new(package.clone()).map_err(|e| Refusal::bad_request(e.to_string()))?;
                Ok(Some(Guard { package, token: Token(token) }))
            }
            (None, None) => Ok(None),
            (Some(_), None) | (None, Some(_)) => {
                Err(Refusal::bad_request("'package' and 'token' guard a change together; give both or none"))
            }
        }
    }
}

/// The name of the request, if it has one.
pub(super) struct Named(pub(super) Option<RequestId>);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        let Some(given) = parts.headers.get(IDEMPOTENCY_KEY) else { return Ok(Self(None)) };
        let text = given.to_str().map_err(|e| Refusal::bad_request(format!("Idempotency-Key: {e}")))?;
        text.parse()
            .map(|id| Self(Some(id)))
            .map_err(|why: String| Refusal::bad_request(format!("Idempotency-Key: {why}")))
    }
}

/// `?json`, `?json=true`: whether something is wanted.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "" | "true" => Ok(true),
        "false" => Ok(false),
        other => Err(serde::de::Error::custom(format!("'{other}' is neither true nor false"))),
    }
}
