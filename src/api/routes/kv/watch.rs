//! Changes as they come, as server-sent events (docs/kv.md).

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::ask::{Level, Which};
use crate::api::door::Door;
use crate::api::failure::Refusal;
use crate::api::routes::body::Asked;
use crate::api::types::Failure;
use crate::api::types::kv::{KvGone, KvItem, Meant};
use crate::engine::LogIndex;
use crate::engine::kv::Range;
use crate::raft::{KvChange, Watch, WatchEnd};

/// Watches open at once, of each of a node's listeners.
const WATCHES_MAX: usize = 128;
/// A watch that has nothing to say says so this often: the client knows that it is alive, and from where to go on.
const ALIVE_EVERY: Duration = Duration::from_secs(10);
/// The header by which a client goes on after the last event it got.
const LAST_EVENT_ID: &str = "last-event-id";

/// Room for watches.
#[derive(Clone)]
pub(super) struct Watches(Arc<Semaphore>);

impl Default for Watches {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WATCHES_MAX)))
    }
}

/// The query of a watch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    #[serde(default)]
    level: Level,
    after: Option<u64>,
}

/// `GET /v1/watch/KEY`, `GET /v1/watch/DIR/`, `GET /v1/watch/`.
pub(super) async fn watch<D: Door>(
    State(door): State<D>,
    Extension(watches): Extension<Watches>,
    Which(meant): Which,
    Asked(query): Asked<Query>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Ok(place) = watches.0.try_acquire_owned() else {
        let text = format!("{WATCHES_MAX} watches are open on this node; end one, or watch on another node");
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_watches", text));
    };
    let after = match last_heard(&headers)?.or(query.after) {
        Some(after) => reached(&door, query.level, LogIndex(after)).await?,
        None => {
            query.level.reached(&door).await?;
            door.read(|state| state.applied)
        }
    };
    let range = match meant {
        Meant::Key(key) => Range::only(key),
        Meant::Below(range) => range,
    };
    let mut watch = door.watch(range, after);
    let first = watch.take().map_err(ended)?;
    let mut said = format!(": watching\nid: {after}\n\n");
    write(first, &mut said);
    let talk = Talk { watch, first: Some(said), over: false, _place: place };
    let body = Body::from_stream(stream::unfold(talk, Talk::next));
    Ok(([(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")], body).into_response())
}

/// The entry that a watch goes on after. One that this log has not come to is of another cluster, or of a log that was lost:
/// what changes until then would be passed over.
async fn reached<D: Door>(door: &D, level: Level, after: LogIndex) -> Result<LogIndex, Refusal> {
    let applied = || door.read(|state| state.applied);
    // A stale watch may begin on a node that is behind the one that told the client.
    if after <= applied() || matches!(level, Level::Stale) {
        return Ok(after);
    }
    level.reached(door).await?;
    let last = applied();
    if after <= last {
        return Ok(after);
    }
    let text = format!(
        "entry {after} is not of this cluster's log, which ends with {last}; read again, and watch from the revision of what was \
         read"
    );
    Err(Refusal::new(StatusCode::GONE, "behind", text))
}

fn last_heard(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(given) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let number = given.to_str().ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| Refusal::bad_request("Last-Event-ID: write the id of the last event, a number"))
}

fn ended(end: WatchEnd) -> Refusal {
    let status = match end {
        WatchEnd::Behind { .. } => StatusCode::GONE,
        WatchEnd::Closed => StatusCode::SERVICE_UNAVAILABLE,
    };
    Refusal::new(status, word(end), end.to_string())
}

fn word(end: WatchEnd) -> &'static str {
    match end {
        WatchEnd::Behind { .. } => "behind",
        WatchEnd::Closed => "unavailable",
    }
}

/// One open watch; dropped with the connection.
struct Talk {
    watch: Watch,
    first: Option<String>,
    over: bool,
    _place: OwnedSemaphorePermit,
}

impl Talk {
    async fn next(mut self) -> Option<(Result<String, Infallible>, Self)> {
        if self.over {
            return None;
        }
        let said = match self.first.take() {
            Some(first) => first,
            None => self.more().await,
        };
        Some((Ok(said), self))
    }

    async fn more(&mut self) -> String {
        let mut said = String::new();
        match timeout(ALIVE_EVERY, self.watch.next()).await {
            Ok(Ok(changes)) => write(changes, &mut said),
            Ok(Err(end)) => {
                self.over = true;
                let failure = Failure { code: word(end).to_owned(), message: end.to_string(), found: None };
                event(&mut said, "end", &failure);
                said.push('\n');
            }
            Err(_elapsed) => {
                // Without data it is no event; the id is remembered all the same.
                let _ = write!(said, ": alive\nid: {}\n\n", self.watch.seen());
            }
        }
        said
    }
}

/// Writes changes of whole entries. Only the last change of an entry carries its id: a client that was cut off within an
/// entry goes on before it, and misses none.
fn write(changes: Vec<KvChange>, into: &mut String) {
    let mut left = changes.into_iter().peekable();
    while let Some(KvChange { revision, key, item }) = left.next() {
        match item {
            Some(item) => event(into, "put", &KvItem::new(key, item)),
            None => event(into, "delete", &KvGone { key, revision }),
        }
        if left.peek().is_none_or(|next| next.revision != revision) {
            let _ = writeln!(into, "id: {revision}");
        }
        into.push('\n');
    }
}

/// An event without the empty line at its end. JSON has no line breaks.
fn event(into: &mut String, name: &str, data: &impl Serialize) {
    let data = serde_json::to_string(data).expect("these types are JSON");
    let _ = writeln!(into, "event: {name}\ndata: {data}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kv::{Item, Key};

    #[test]
    fn only_the_last_event_of_an_entry_carries_its_id() {
        let change = |revision: u64, key: &str, value: Option<&str>| KvChange {
            revision: LogIndex(revision),
            key: Key::new(key).unwrap(),
            item: value.map(|v| Item { value: v.into(), created: LogIndex(1), revision: LogIndex(revision) }),
        };
        let all = [change(5, "a", Some("line\nbreak")), change(5, "b", None), change(6, "a", None)];
        let mut said = String::new();
        write(all.into(), &mut said);
        assert_eq!(
            said,
            "event: put\ndata: {\"key\":\"a\",\"value\":\"line\\nbreak\",\"created\":1,\"revision\":5}\n\n\
             event: delete\ndata: {\"key\":\"b\",\"revision\":5}\nid: 5\n\n\
             event: delete\ndata: {\"key\":\"a\",\"revision\":6}\nid: 6\n\n"
        );
    }
}
