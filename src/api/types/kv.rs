//! The key/value tree as JSON: items and lists, transactions and what came of them, changes that are watched.
//!
//! A value that is UTF-8 text is `"value"`, any other is `"base64"`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::engine::kv::{Change, Changed, Compare, Condition, Guard, Item, Kept, Key, Range, RequestId};
use crate::engine::kv::{Outcome, TXN_MAX_BYTES, Test, Txn, Unmet, Value};
use crate::engine::{ClusterId, LogIndex};

/// Longest transaction as JSON, in bytes: any value is at most six times as long there.
pub const TXN_TEXT_MAX_BYTES: usize = 8 * TXN_MAX_BYTES;

/// A value within a JSON object: a field `value` or `base64`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Shown(pub Value);

impl From<Value> for Shown {
    fn from(value: Value) -> Self {
        Self(value)
    }
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match self.0.text() {
            Some(text) => map.serialize_entry("value", text)?,
            None => map.serialize_entry("base64", &BASE64.encode(self.0.bytes()))?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Shown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = Given::deserialize(deserializer)?;
        let value = given.take().map_err(D::Error::custom)?;
        value.map(Self).ok_or_else(|| D::Error::custom("a field `value` (text) or `base64` is missing"))
    }
}

/// A value in the JSON of `/key`: text, or `{"base64":…}` where it is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedValue(pub Value);

impl Serialize for SeedValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.text() {
            Some(text) => serializer.serialize_str(text),
            None => Shown(self.0.clone()).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for SeedValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a value must be text, or {\"base64\": …}")]
        enum Either {
            Text(String),
            Bytes(Shown),
        }
        Either::deserialize(deserializer).map(|given| match given {
            Either::Text(text) => Self(text.into()),
            Either::Bytes(shown) => Self(shown.0),
        })
    }
}

/// A value as it is sent: as text, in base64, or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Given {
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    base64: Option<String>,
}

impl Given {
    fn take(self) -> Result<Option<Value>, String> {
        match (self.value, self.base64) {
            (Some(text), None) => Ok(Some(text.into())),
            (None, Some(given)) => match BASE64.decode(given) {
                Ok(bytes) => Ok(Some(bytes.into())),
                Err(e) => Err(format!("`base64` holds no base64: {e}")),
            },
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err("write `value` or `base64`, not both".to_owned()),
        }
    }
}

/// One key, in lists and in watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvItem {
    /// Which key.
    pub key: Key,
    /// Its value; none where only keys were asked for.
    #[serde(flatten)]
    pub value: Option<Shown>,
    /// The entry that made it.
    pub created: LogIndex,
    /// The entry that wrote it last.
    pub revision: LogIndex,
}

impl KvItem {
    /// A key with its value.
    pub fn new(key: Key, item: Item) -> Self {
        Self { key, value: Some(Shown(item.value)), created: item.created, revision: item.revision }
    }
}

/// `GET /v1/kv/KEY?json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvOne {
    /// The newest entry this answer takes into account.
    pub applied: LogIndex,
    /// The key.
    #[serde(flatten)]
    pub item: KvItem,
}

/// `GET /v1/kv/DIR/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvList {
    /// The newest entry this answer takes into account; all items are as they were then.
    pub applied: LogIndex,
    /// Keys in their order.
    pub items: Vec<KvItem>,
    /// Directories that lie directly below, with `/` at their end; only with `?depth=1`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dirs: Vec<String>,
    /// Whether there are more than this answer holds.
    pub more: bool,
    /// The first key that is not in this answer, for `?from=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Key>,
}

/// The first line of `GET /v1/save/DIR/`; a [`KvItem`] for each key follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvSaved {
    /// Whose keys.
    pub cluster: ClusterId,
    /// The newest entry that is taken into account: all keys are as they were then.
    pub revision: LogIndex,
    /// How many follow.
    pub keys: u64,
}

/// `PUT /v1/kv/KEY`, and the seeds' `POST /db/K`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvPut {
    /// The entry that wrote it.
    pub revision: LogIndex,
    /// The entry that had written the value before; none where the key is new.
    pub replaced: Option<LogIndex>,
}

/// `DELETE /v1/kv/KEY` and `/v1/kv/DIR/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvDeleted {
    /// The entry that did it.
    pub revision: LogIndex,
    /// How many keys are gone.
    pub deleted: u64,
}

/// What a key had whose condition did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvFound {
    /// The value.
    #[serde(flatten)]
    pub value: Shown,
    /// The entry that wrote it last.
    pub revision: LogIndex,
}

impl From<Kept> for KvFound {
    fn from(kept: Kept) -> Self {
        Self { value: Shown(kept.value), revision: kept.revision }
    }
}

/// A condition that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvUnmet {
    /// Its place among the conditions, from 0.
    pub at: usize,
    /// Its key.
    pub key: Key,
    /// What the key had; none where it has no value.
    pub found: Option<KvFound>,
}

impl From<Unmet> for KvUnmet {
    fn from(unmet: Unmet) -> Self {
        Self { at: unmet.at, key: unmet.key, found: unmet.found.map(KvFound::from) }
    }
}

/// `POST /v1/kv` answers this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvOutcome {
    /// Whether all conditions held, so that `then` was carried out and not `else`.
    pub met: bool,
    /// The first condition that did not hold.
    pub unmet: Option<KvUnmet>,
    /// What came of each change that was made, in order.
    pub changed: Vec<Changed>,
    /// The entry that carried it out.
    pub revision: LogIndex,
}

impl From<Outcome> for KvOutcome {
    fn from(outcome: Outcome) -> Self {
        let unmet = outcome.unmet.map(KvUnmet::from);
        Self { met: unmet.is_none(), unmet, changed: outcome.changed, revision: outcome.revision }
    }
}

/// A watch's event `delete`; its event `put` is a [`KvItem`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvGone {
    /// Which key.
    pub key: Key,
    /// The entry that took it away.
    pub revision: LogIndex,
}

/// `POST /v1/kv`: a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KvTxn {
    /// All of these must hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<KvCondition>,
    /// Changes if they do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<KvChange>,
    /// Changes if they do not.
    #[serde(rename = "else", skip_serializing_if = "Vec::is_empty")]
    pub otherwise: Vec<KvChange>,
    /// Refuse everything unless this is the current owner's word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
    /// Names this request; the header `Idempotency-Key` says the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
}

/// A condition: `exists`, or `op` (`=` when absent) with `value`, `base64` or `revision`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvCondition {
    /// Which key.
    pub key: Key,
    /// Whether it has a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exists: Option<bool>,
    /// How it compares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    op: Option<Compare>,
    /// With this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// With these bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    /// Its revision, with this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<LogIndex>,
}

/// A change: `put` with `value` or `base64`, or `delete` of a key (`app/url`), a directory (`app/`) or an interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KvChange {
    /// Gives this key a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    put: Option<Key>,
    /// This text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// These bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    /// Takes this away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delete: Option<KvWhich>,
}

/// What is deleted: a key, a directory by the `/` at its end (`/` alone: everything), or an interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum KvWhich {
    Path(String),
    Interval(KvInterval),
}

/// By hand, because an array would be read as an interval, and one of two nulls as everything there is.
impl<'de> Deserialize<'de> for KvWhich {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = KvWhich;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key, a directory, or an interval as an object with `from` and `to`")
            }

            fn visit_str<E: serde::de::Error>(self, path: &str) -> Result<KvWhich, E> {
                Ok(KvWhich::Path(path.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<KvWhich, A::Error> {
                KvInterval::deserialize(MapAccessDeserializer::new(map)).map(KvWhich::Interval)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// From the first key on (itself included) up to the second (itself excluded).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KvInterval {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<Key>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<Key>,
}

impl KvInterval {
    /// One that has no bound, or holds no key, was meant otherwise.
    fn read(self) -> Result<Range, String> {
        match (&self.from, &self.to) {
            (None, None) => Err("`delete` has neither `from` nor `to`; write / for everything".to_owned()),
            (Some(from), Some(to)) if from >= to => Err(format!("no key lies from '{from}' up to '{to}'")),
            _ => Ok(Range::Between { from: self.from, to: self.to }),
        }
    }
}

/// What a path in an address or a transaction means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meant {
    /// One key.
    Key(Key),
    /// What is below a directory, or everything.
    Below(Range),
}

impl Meant {
    /// A path with `/` at its end is a directory, an empty one or `/` is everything.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn read(path: &str) -> Result<Self, String> {
        let key = |path| Key::new(path).map_err(|e| e.to_string());
        match path.strip_suffix('/') {
            None if path.is_empty() => Ok(Self::Below(Range::All)),
            Some("") => Ok(Self::Below(Range::All)),
            Some(dir) => Ok(Self::Below(Range::Below(key(dir)?))),
            None => Ok(Self::Key(key(path)?)),
        }
    }
}

impl KvTxn {
    /// As the log takes it.
    ///
    /// # Errors
    /// The first thing that is wrong with it, and where.
    pub fn read(self) -> Result<Txn, String> {
        fn all<T, U>(part: &str, given: Vec<T>, read: fn(T) -> Result<U, String>) -> Result<Vec<U>, String> {
            let one = |(at, one): (usize, T)| read(one).map_err(|why| format!("{part}[{at}]: {why}"));
            given.into_iter().enumerate().map(one).collect()
        }
        Ok(Txn {
            when: all("when", self.when, KvCondition::read)?,
            then: all("then", self.then, KvChange::read)?,
            otherwise: all("else", self.otherwise, KvChange::read)?,
            guard: self.guard,
            request: self.request,
        })
    }
}

impl KvCondition {
    fn read(self) -> Result<Condition, String> {
        let Self { key, exists, op, value, base64, revision } = self;
        let value = Given { value, base64 }.take()?;
        let sign = op.unwrap_or(Compare::Equal);
        let test = match (exists, value, revision) {
            (Some(exists), None, None) if op.is_none() => {
                if exists {
                    Test::Exists
                } else {
                    Test::Absent
                }
            }
            (None, Some(value), None) => Test::Value(sign, value),
            (None, None, Some(revision)) => Test::Revision(sign, revision),
            _ => return Err("write `exists` alone, or `op` with one of `value`, `base64` and `revision`".to_owned()),
        };
        Ok(Condition { key, test })
    }
}

impl KvChange {
    fn read(self) -> Result<Change, String> {
        let Self { put, value, base64, delete } = self;
        let value = Given { value, base64 }.take()?;
        match (put, value, delete) {
            (Some(key), Some(value), None) => Ok(Change::Put { key, value }),
            (None, None, Some(KvWhich::Path(path))) if path.is_empty() => {
                Err("`delete` is empty; write a key, a directory, or / for everything".to_owned())
            }
            (None, None, Some(KvWhich::Path(path))) => Ok(match Meant::read(&path)? {
                Meant::Key(key) => Change::Delete { key },
                Meant::Below(range) => Change::DeleteRange { range },
            }),
            (None, None, Some(KvWhich::Interval(interval))) => Ok(Change::DeleteRange { range: interval.read()? }),
            _ => Err("write `put` with `value` or `base64`, or `delete` alone".to_owned()),
        }
    }
}

impl From<Txn> for KvTxn {
    fn from(txn: Txn) -> Self {
        let changes = |all: Vec<Change>| all.into_iter().map(KvChange::from).collect();
        Self {
            when: txn.when.into_iter().map(KvCondition::from).collect(),
            then: changes(txn.then),
            otherwise: changes(txn.otherwise),
            guard: txn.guard,
            request: txn.request,
        }
    }
}

fn sent(value: &Value) -> Given {
    match value.text() {
        Some(text) => Given { value: Some(text.to_owned()), base64: None },
        None => Given { value: None, base64: Some(BASE64.encode(value.bytes())) },
    }
}

impl From<Condition> for KvCondition {
    fn from(condition: Condition) -> Self {
        let key = condition.key;
        let none = Self { key, exists: None, op: None, value: None, base64: None, revision: None };
        match condition.test {
            Test::Exists => Self { exists: Some(true), ..none },
            Test::Absent => Self { exists: Some(false), ..none },
            Test::Value(op, value) => {
                let Given { value, base64 } = sent(&value);
                Self { op: Some(op), value, base64, ..none }
            }
            Test::Revision(op, revision) => Self { op: Some(op), revision: Some(revision), ..none },
        }
    }
}

impl From<Change> for KvChange {
    fn from(change: Change) -> Self {
        let delete = |which| Self { put: None, value: None, base64: None, delete: Some(which) };
        match change {
            Change::Put { key, value } => {
                let Given { value, base64 } = sent(&value);
                Self { put: Some(key), value, base64, delete: None }
            }
            Change::Delete { key } => delete(KvWhich::Path(key.to_string())),
            Change::DeleteRange { range: Range::All } => delete(KvWhich::Path("/".to_owned())),
            Change::DeleteRange { range: Range::Below(dir) } => delete(KvWhich::Path(format!("{dir}/"))),
            Change::DeleteRange { range: Range::Between { from, to } } => {
                delete(KvWhich::Interval(KvInterval { from, to }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    #[test]
    fn a_transaction_is_read_as_it_is_written_and_written_as_it_is_read() {
        let text = r#"{
            "when": [
                {"key":"a","exists":true}, {"key":"b","exists":false}, {"key":"c","op":">=","value":"5"},
                {"key":"d","op":"=","base64":"/w=="}, {"key":"e","op":"<","revision":7}
            ],
            "then": [
                {"put":"a","value":"x"}, {"put":"a","base64":"/w=="}, {"delete":"b"}, {"delete":"dir/"},
                {"delete":{"from":"a","to":"b"}}
            ],
            "else": [{"delete":"/"}],
            "guard": {"package":"p","token":4},
            "request": "000000000000000000000000000000ff"
        }"#;
        let txn = serde_json::from_str::<KvTxn>(text).unwrap().read().unwrap();
        assert_eq!(txn.when[3].test, Test::Value(Compare::Equal, [0xff_u8].into()));
        assert_eq!(txn.when[4].test, Test::Revision(Compare::Less, LogIndex(7)));
        assert_eq!(txn.then[1], Change::Put { key: key("a"), value: [0xff_u8].into() });
        assert_eq!(txn.then[3], Change::DeleteRange { range: Range::Below(key("dir")) });
        assert_eq!(txn.otherwise, [Change::DeleteRange { range: Range::All }]);
        assert_eq!((txn.request, txn.guard.is_some()), (Some(RequestId(255)), true));
        let written: serde_json::Value = serde_json::to_value(KvTxn::from(txn)).unwrap();
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(text).unwrap());
    }

    #[test]
    fn what_is_wrong_with_a_transaction_is_said_with_its_place() {
        for (text, why) in [
            (r#"{"then":[{"put":"a"}]}"#, "then[0]: write `put` with `value`"),
            (r#"{"then":[{"delete":"a","value":"x"}]}"#, "then[0]"),
            (r#"{"then":[{"delete":""}]}"#, "then[0]: `delete` is empty"),
            (r#"{"else":[{"delete":"a//b"}]}"#, "else[0]: 'a//b' is not a key"),
            (r#"{"when":[{"key":"a"}]}"#, "when[0]: write `exists` alone"),
            (r#"{"when":[{"key":"a","exists":true,"op":"="}]}"#, "when[0]"),
            (r#"{"when":[{"key":"a","value":"1","base64":"MQ=="}]}"#, "not both"),
            (r#"{"then":[{"put":"a","base64":"%"}]}"#, "holds no base64"),
        ] {
            let said = serde_json::from_str::<KvTxn>(text).unwrap().read().unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn an_interval_is_an_object_and_never_an_array() {
        for given in
            [r#"{"then":[{"delete":[null,null]}]}"#, r#"{"then":[{"delete":["a"]}]}"#, r#"{"then":[{"delete":7}]}"#]
        {
            let said = serde_json::from_str::<KvTxn>(given).unwrap_err().to_string();
            assert!(said.contains("as an object with `from` and `to`"), "{said}");
        }
        assert!(serde_json::from_str::<KvTxn>(r#"{"then":[{"delete":{"form":"a"}}]}"#).is_err());
    }

    #[test]
    fn values_are_text_where_they_are_some_and_base64_elsewhere() {
        let item = |value: Option<Value>| KvItem {
            key: key("k"),
            value: value.map(Shown),
            created: LogIndex(1),
            revision: LogIndex(2),
        };
        for (value, text) in [
            (Some("é\n".into()), r#"{"key":"k","value":"é\n","created":1,"revision":2}"#),
            (Some([0xff_u8, 0].into()), r#"{"key":"k","base64":"/wA=","created":1,"revision":2}"#),
            (None, r#"{"key":"k","created":1,"revision":2}"#),
        ] {
            assert_eq!(serde_json::to_string(&item(value.clone())).unwrap(), text);
            assert_eq!(serde_json::from_str::<KvItem>(text).unwrap(), item(value));
        }
    }
}
