//! Everything of a range at one moment, as lines of JSON: what `pkgctl kv save` writes down.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;

use super::ask::{Level, Which};
use crate::api::door::Door;
use crate::api::failure::Refusal;
use crate::api::routes::body::Asked;
use crate::api::types::kv::{KvItem, KvSaved, Meant};
use crate::engine::State as ClusterState;
use crate::engine::kv::{Key, Range, Tree};

/// Bytes that are made at once; more when the client has taken these.
const PIECE_BYTES: usize = 64 << 10;

/// The query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    #[serde(default)]
    level: Level,
}

/// `GET /v1/save/DIR/`, `GET /v1/save/`: a [`KvSaved`], then a [`KvItem`] for each key. The tree is copied before the
/// first line, which costs nothing, so later changes are not in it; what they replace is kept until the answer ends.
pub(super) async fn save<D: Door>(
    State(door): State<D>,
    Which(meant): Which,
    Asked(query): Asked<Query>,
) -> Result<Response, Refusal> {
    let Meant::Below(range) = meant else {
        return Err(Refusal::bad_request("write the directory with a / at its end: everything below it is saved"));
    };
    query.level.reached(&door).await?;
    Ok(door.read(|state| saved(state, range)))
}

/// The keys of a range in that state.
pub(in crate::api::routes) fn saved(state: &ClusterState, range: Range) -> Response {
    let tree = state.kv.clone();
    let cluster = state.cluster.as_ref().map(|cluster| cluster.id).unwrap_or_default();
    let head = KvSaved { cluster, revision: state.applied, keys: tree.range(&range).count() as u64 };
    let rest = Rest { tree, range: Some(range), head: Some(head) };
    let body = Body::from_stream(stream::unfold(rest, async |rest| rest.next()));
    ([(CONTENT_TYPE, "application/x-ndjson"), (CACHE_CONTROL, "no-store")], body).into_response()
}

/// What is still to be said.
struct Rest {
    tree: Tree,
    /// None when all has been.
    range: Option<Range>,
    head: Option<KvSaved>,
}

impl Rest {
    fn next(mut self) -> Option<(Result<Vec<u8>, Infallible>, Self)> {
        let range = self.range.take()?;
        let mut out = Vec::new();
        if let Some(head) = self.head.take() {
            line(&mut out, &head);
        }
        let within = |key: &Key| range.contains(key);
        let items = self.tree.range(&range).take_while(|(key, _)| within(key));
        let mut last = None;
        for (key, item) in items {
            if out.len() >= PIECE_BYTES {
                last = Some(key.clone());
                break;
            }
            line(&mut out, &KvItem::new(key.clone(), item.clone()));
        }
        self.range = last.map(|from| rest_of(&range, from));
        Some((Ok(out), self))
    }
}

/// What is left of a range from a key of it on.
fn rest_of(range: &Range, from: Key) -> Range {
    let to = match range {
        Range::All => None,
        // '0' follows '/'.
        Range::Below(dir) => Key::new(&format!("{dir}0")).ok(),
        Range::Between { to, .. } => to.clone(),
    };
    Range::Between { from: Some(from), to }
}

fn line(out: &mut Vec<u8>, value: &impl serde::Serialize) {
    // Our own types always serialize into memory.
    let _ = serde_json::to_writer(&mut *out, value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kv::{Change, Txn};
    use crate::engine::{ClusterId, LogIndex};

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    #[test]
    fn pieces_hold_every_key_of_the_range_once_and_in_order() {
        let mut tree = Tree::default();
        let names = ["a", "a/b", "a/c/d", "a/e", "a0", "b"];
        for (index, name) in (1..).zip(names) {
            let put = Change::Put { key: key(name), value: "x".repeat(PIECE_BYTES / 2 + 1).as_bytes().into() };
            tree.carry_out(&Txn { then: vec![put], ..Txn::default() }, LogIndex(index)).unwrap();
        }
        for (range, wanted) in [(Range::Below(key("a")), &names[1..4]), (Range::All, &names[..])] {
            let head = KvSaved { cluster: ClusterId(1), revision: LogIndex(9), keys: wanted.len() as u64 };
            let mut rest = Rest { tree: tree.clone(), range: Some(range), head: Some(head.clone()) };
            let (mut said, mut pieces) = (Vec::new(), 0);
            while let Some((Ok(piece), next)) = rest.next() {
                said.extend(piece);
                (rest, pieces) = (next, pieces + 1);
            }
            assert!(pieces > 1);
            let mut lines = std::str::from_utf8(&said).unwrap().lines();
            assert_eq!(serde_json::from_str::<KvSaved>(lines.next().unwrap()).unwrap(), head);
            let keys: Vec<String> =
                lines.map(|line| serde_json::from_str::<KvItem>(line).unwrap().key.to_string()).collect();
            assert_eq!(keys, wanted);
        }
    }
}
