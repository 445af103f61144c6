//! Reading: one key as it is, or the keys of a directory in their order.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::ask::{Level, Which, flag};
use crate::api::door::Door;
use crate::api::failure::Refusal;
use crate::api::routes::body::Asked;
use crate::api::types::kv::{KvItem, KvList, KvOne, Meant};
use crate::engine::LogIndex;
use crate::engine::kv::{Item, Key, Range, Tree, Value};

/// The header with the entry that wrote the value last.
pub const REVISION: HeaderName = HeaderName::from_static("x-pkgctl-revision");
/// The header with the entry that made the key.
pub const CREATED: HeaderName = HeaderName::from_static("x-pkgctl-created");
/// The header with the newest entry that the answer takes into account.
pub const APPLIED: HeaderName = HeaderName::from_static("x-pkgctl-applied");

/// Items of a list where the query names no number.
const LIMIT_DEFAULT: usize = 1000;
/// Items of a list at most.
const LIMIT_MAX: usize = 10_000;
/// Bytes of keys and values in a list, about: the next item is left to the next answer. At most six times as long in JSON.
const LIST_MAX_BYTES: usize = 2 << 20;

/// The query of a read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    #[serde(default)]
    level: Level,
    #[serde(default, deserialize_with = "flag")]
    json: bool,
    limit: Option<usize>,
    from: Option<Key>,
    to: Option<Key>,
    #[serde(default, deserialize_with = "flag")]
    keys: bool,
    depth: Option<u8>,
}

/// `GET /v1/kv/KEY`, `GET /v1/kv/DIR/`, `GET /v1/kv/`.
pub(super) async fn read<D: Door>(
    State(door): State<D>,
    Which(meant): Which,
    Asked(query): Asked<Query>,
) -> Result<Response, Refusal> {
    match meant {
        Meant::Key(key) => {
            if query.limit.is_some()
                || query.from.is_some()
                || query.to.is_some()
                || query.keys
                || query.depth.is_some()
            {
                let why = format!("'{key}' is one key; a list is asked for with a / at its end: '{key}/'");
                return Err(Refusal::bad_request(why));
            }
            query.level.reached(&door).await?;
            Ok(one(&door, key, query.json))
        }
        Meant::Below(range) => {
            let window = Window::new(range, &query)?;
            query.level.reached(&door).await?;
            // A copy of the tree costs nothing; nobody waits for this list.
            let (applied, tree) = door.read(|state| (state.applied, state.kv.clone()));
            Ok(Json(window.list(applied, &tree)).into_response())
        }
    }
}

/// One key's item with how far this node had applied when it was looked at.
pub(super) fn look<D: Door>(door: &D, key: &Key) -> (LogIndex, Option<Item>) {
    door.read(|state| (state.applied, state.kv.get(key).cloned()))
}

fn one<D: Door>(door: &D, key: Key, json: bool) -> Response {
    let (applied, item) = look(door, &key);
    let at = (APPLIED, HeaderValue::from(applied.0));
    match item {
        None => ([at], no_such_key(&key)).into_response(),
        Some(item) => {
            let headers =
                [at, (REVISION, HeaderValue::from(item.revision.0)), (CREATED, HeaderValue::from(item.created.0))];
            if json {
                (headers, Json(KvOne { applied, item: KvItem::new(key, item) })).into_response()
            } else {
                (headers, raw(item.value)).into_response()
            }
        }
    }
}

/// That a key has no value.
pub(super) fn no_such_key(key: &Key) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "no_such_key", format!("'{key}' has no value"))
}

/// A value's bytes as they are, shared with the tree. No browser is to take them for a page.
pub(super) fn raw(value: Value) -> Response {
    struct Owned(Value);
    impl AsRef<[u8]> for Owned {
        fn as_ref(&self) -> &[u8] {
            self.0.bytes()
        }
    }
    let headers = [(CONTENT_TYPE, "application/octet-stream"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, Body::from(Bytes::from_owner(Owned(value)))).into_response()
}

/// What a list is to hold.
struct Window {
    range: Range,
    from: Option<Key>,
    to: Option<Key>,
    limit: usize,
    with_values: bool,
    /// Directories directly below are named, and not entered.
    flat: bool,
}

impl Window {
    fn new(range: Range, query: &Query) -> Result<Self, Refusal> {
        let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Refusal::bad_request(format!("'limit' is {limit}; it may be 1 to {LIMIT_MAX}")));
        }
        if query.depth.is_some_and(|depth| depth != 1) {
            return Err(Refusal::bad_request("'depth' can only be 1: what lies directly below"));
        }
        let (from, to) = (query.from.clone(), query.to.clone());
        Ok(Self { range, from, to, limit, with_values: !query.keys, flat: query.depth.is_some() })
    }

    /// The items from a key on; all of the range without one.
    fn walk<'a>(&'a self, tree: &'a Tree, from: Option<&Key>) -> impl Iterator<Item = (&'a Key, &'a Item)> + use<'a> {
        let inside = |from: &Key| match &self.range {
            Range::Below(dir) => from > dir && *from.as_str() > *format!("{dir}/"),
            Range::All | Range::Between { .. } => true,
        };
        let start = match from {
            Some(from) if inside(from) => Range::Between { from: Some(from.clone()), to: None },
            Some(_) | None => self.range.clone(),
        };
        let wanted = |key: &Key| self.range.contains(key) && self.to.as_ref().is_none_or(|to| key < to);
        tree.range(&start).take_while(move |(key, _)| wanted(key))
    }

    fn list(&self, applied: LogIndex, tree: &Tree) -> KvList {
        let mut list = KvList { applied, items: Vec::new(), dirs: Vec::new(), more: false, next: None };
        let (mut bytes, mut from) = (0, self.from.clone());
        'jumped: loop {
            for (key, item) in self.walk(tree, from.as_ref()) {
                let length = key.as_str().len() + if self.with_values { item.value.bytes().len() } else { 0 };
                let held = list.items.len() + list.dirs.len();
                if held >= self.limit || (held > 0 && bytes + length > LIST_MAX_BYTES) {
                    (list.more, list.next) = (true, Some(key.clone()));
                    return list;
                }
                bytes += length;
                if let Some((dir, after)) = self.subdirectory(key) {
                    list.dirs.push(dir);
                    from = Some(after);
                    continue 'jumped;
                }
                let value = self.with_values.then(|| item.value.clone().into());
                let (created, revision) = (item.created, item.revision);
                list.items.push(KvItem { key: key.clone(), value, created, revision });
            }
            return list;
        }
    }

    /// The directory directly below that holds the key, and a key that follows all in it; none where the key itself lies
    /// directly below, or directories are entered.
    fn subdirectory(&self, key: &Key) -> Option<(String, Key)> {
        let skip = match &self.range {
            Range::Below(dir) => dir.as_str().len() + 1,
            Range::All | Range::Between { .. } => 0,
        };
        let end = skip + key.as_str().get(skip..)?.find('/').filter(|_| self.flat)?;
        let dir = &key.as_str()[..end];
        // '0' follows '/'.
        Some((format!("{dir}/"), Key::new(&format!("{dir}0")).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kv::{Change, Txn, VALUE_MAX_BYTES};

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    fn tree(keys: &[&str], value: &str) -> Tree {
        let mut tree = Tree::default();
        for (index, name) in (1..).zip(keys) {
            let put = Change::Put { key: key(name), value: value.into() };
            tree.carry_out(&Txn { then: vec![put], ..Txn::default() }, LogIndex(index)).unwrap();
        }
        tree
    }

    fn window(range: Range) -> Window {
        Window { range, from: None, to: None, limit: LIMIT_DEFAULT, with_values: true, flat: false }
    }

    fn names(list: &KvList) -> Vec<&str> {
        list.items.iter().map(|item| item.key.as_str()).collect()
    }

    /// Every page of a list, one after another.
    fn paged(mut window: Window, tree: &Tree) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let page = window.list(LogIndex(9), tree);
            assert_eq!(page.more, page.next.is_some());
            all.extend(page.items.iter().map(|item| item.key.to_string()).chain(page.dirs));
            match page.next {
                None => return all,
                next => window.from = next,
            }
        }
    }

    #[test]
    fn a_list_holds_what_lies_between_and_its_pages_hold_everything_once() {
        let tree = tree(&["a", "a-b", "a/b", "a/b-c", "a/b/c", "a/b/d/e", "a/b0", "a/c", "b"], "v");
        let below = || window(Range::Below(key("a")));
        assert_eq!(names(&below().list(LogIndex(9), &tree)), ["a/b", "a/b-c", "a/b/c", "a/b/d/e", "a/b0", "a/c"]);
        let from = |from: &str| Window { from: Some(key(from)), ..below() };
        assert_eq!(names(&from("a/b0").list(LogIndex(9), &tree)), ["a/b0", "a/c"]);
        assert_eq!(names(&from("a").list(LogIndex(9), &tree)).len(), 6);
        assert_eq!(names(&from("b").list(LogIndex(9), &tree)), [""; 0]);
        let until = Window { to: Some(key("a/b/d")), ..below() };
        assert_eq!(names(&until.list(LogIndex(9), &tree)), ["a/b", "a/b-c", "a/b/c"]);
        for limit in 1..8 {
            assert_eq!(paged(Window { limit, ..below() }, &tree).len(), 6, "limit {limit}");
            assert_eq!(paged(Window { limit, ..window(Range::All) }, &tree).len(), 9, "limit {limit}");
            let flat = Window { limit, flat: true, ..below() };
            let mut seen = paged(flat, &tree);
            seen.sort();
            assert_eq!(seen, ["a/b", "a/b-c", "a/b/", "a/b0", "a/c"], "limit {limit}");
        }
        let top = Window { flat: true, ..window(Range::All) }.list(LogIndex(9), &tree);
        assert_eq!((names(&top), top.dirs.clone()), (vec!["a", "a-b", "b"], vec!["a/".to_owned()]));
    }

    #[test]
    fn a_list_of_large_values_is_cut() {
        let keys: Vec<String> = (10..30).map(|at| format!("k{at}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let tree = tree(&keys, &"x".repeat(VALUE_MAX_BYTES));
        let list = window(Range::All).list(LogIndex(9), &tree);
        assert_eq!((names(&list).len(), list.next.clone()), (LIST_MAX_BYTES / VALUE_MAX_BYTES - 1, Some(key("k25"))));
        assert_eq!(paged(window(Range::All), &tree), keys);
        let keys_only = Window { with_values: false, ..window(Range::All) };
        assert_eq!(names(&keys_only.list(LogIndex(9), &tree)).len(), 20);
    }
}
