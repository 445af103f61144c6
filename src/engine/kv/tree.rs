//! The items by key. Copies share what is the same, so a snapshot of the state costs nothing.

use std::ops::Bound;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::requests::{NameTaken, Requests};
use super::txn::{Change, Changed, Condition, Kept, Outcome, Test, Txn, Unmet};
use super::{
    ITEM_COST_BYTES, Key, Range, TREE_MAX_BYTES, TXN_MAX_BYTES, TXN_STEPS_MAX, VALUE_MAX_BYTES, Value, compare,
};
use crate::engine::LogIndex;

/// A key's value and history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its value.
    pub value: Value,
    /// The entry that made it.
    pub created: LogIndex,
    /// The entry that wrote it last: its revision.
    pub revision: LogIndex,
}

/// All items.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    items: OrdMap<Key, Item>,
    /// Of keys and values alone: it is in every snapshot, and the cost of an item is not.
    bytes: u64,
    requests: Requests,
}

impl Tree {
    /// A key's item.
    pub fn get(&self, key: &Key) -> Option<&Item> {
        self.items.get(key)
    }

    /// The items of a range, in the keys' order.
    pub fn range<'a>(&'a self, range: &Range) -> impl Iterator<Item = (&'a Key, &'a Item)> + use<'a> {
        let (from, to) = range.bounds();
        // A range that ends before it begins holds nothing.
        let some = match (&from, &to) {
            (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => from < to,
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
        };
        some.then(|| self.items.range::<_, str>((by_ref(&from), by_ref(&to)))).into_iter().flatten()
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes that all items are counted as: their keys and values, and a cost for each.
    pub fn bytes(&self) -> u64 {
        self.bytes + ITEM_COST_BYTES * self.items.len() as u64
    }

    /// How many named requests are remembered.
    pub fn requests_remembered(&self) -> usize {
        self.requests.len()
    }

    /// What came of the request before, if it was carried out.
    ///
    /// # Errors
    /// [`NameTaken`] where another request was carried out under its name.
    pub fn repeated(&self, txn: &Txn) -> Result<Option<&Outcome>, NameTaken> {
        txn.request.map_or(Ok(None), |request| self.requests.outcome(request, txn))
    }

    /// Carries a transaction out, all of it or nothing.
    ///
    /// # Errors
    /// What makes it too large, for people.
    pub fn carry_out(&mut self, txn: &Txn, index: LogIndex) -> Result<(Outcome, Vec<Key>), String> {
        let put_bytes = check_size(txn)?;
        let unmet = txn.when.iter().enumerate().find_map(|(at, condition)| self.unmet(at, condition));
        let changes = if unmet.is_none() { &txn.then } else { &txn.otherwise };
        // Only a full tree can refuse. Where it cannot get full nothing is kept to go back to: every node that a copy
        // shares would be copied when it is changed.
        let before = (self.bytes() + put_bytes > TREE_MAX_BYTES).then(|| self.clone());
        let mut touched = Vec::new();
        let changed: Vec<Changed> = changes.iter().map(|change| self.change(change, index, &mut touched)).collect();
        if let Some(before) = before.filter(|before| self.bytes() > TREE_MAX_BYTES && self.bytes() > before.bytes()) {
            let bytes = std::mem::replace(self, before).bytes();
            return Err(format!(
                "the tree would hold {bytes} bytes, {ITEM_COST_BYTES} beside key and value for each key; at most \
                 {TREE_MAX_BYTES} are taken. Nothing was changed; `pkgctl kv unset` makes room"
            ));
        }
        let outcome = Outcome { unmet, changed, revision: index };
        // Where nothing was changed there is nothing that could be done twice.
        if let Some(request) = txn.request.filter(|_| !changes.is_empty()) {
            self.requests.remember(request, txn, outcome.clone());
        }
        Ok((outcome, touched))
    }

    fn unmet(&self, at: usize, condition: &Condition) -> Option<Unmet> {
        let item = self.items.get(&condition.key);
        let holds = match &condition.test {
            Test::Exists => item.is_some(),
            Test::Absent => item.is_none(),
            Test::Value(sign, value) => {
                item.is_some_and(|item| sign.holds(compare::order(item.value.bytes(), value.bytes())))
            }
            Test::Revision(sign, revision) => sign.holds(item.map_or(LogIndex(0), |item| item.revision).cmp(revision)),
        };
        let kept = |item: &Item| Kept { value: item.value.clone(), revision: item.revision };
        (!holds).then(|| Unmet { at, key: condition.key.clone(), found: item.map(kept) })
    }

    fn change(&mut self, change: &Change, index: LogIndex, touched: &mut Vec<Key>) -> Changed {
        match change {
            Change::Put { key, value } => {
                touched.push(key.clone());
                Changed::Put { replaced: self.put(key, value, index) }
            }
            Change::Delete { key } => Changed::Deleted { keys: u64::from(self.delete(key, touched)) },
            Change::DeleteRange { range } => {
                let keys: Vec<Key> = self.range(range).map(|(key, _)| key.clone()).collect();
                Changed::Deleted { keys: keys.iter().map(|key| u64::from(self.delete(key, touched))).sum() }
            }
        }
    }

    fn put(&mut self, key: &Key, value: &Value, index: LogIndex) -> Option<LogIndex> {
        self.bytes += size(key, value);
        let Some(item) = self.items.get_mut(key) else {
            self.items.insert(key.clone(), Item { value: value.clone(), created: index, revision: index });
            return None;
        };
        self.bytes -= size(key, &item.value);
        item.value = value.clone();
        Some(std::mem::replace(&mut item.revision, index))
    }

    fn delete(&mut self, key: &Key, touched: &mut Vec<Key>) -> bool {
        let Some(item) = self.items.remove(key) else { return false };
        self.bytes -= size(key, &item.value);
        touched.push(key.clone());
        true
    }
}

fn size(key: &Key, value: &Value) -> u64 {
    (key.as_str().len() + value.bytes().len()) as u64
}

fn by_ref(bound: &Bound<String>) -> Bound<&str> {
    match bound {
        Bound::Included(text) => Bound::Included(text),
        Bound::Excluded(text) => Bound::Excluded(text),
        Bound::Unbounded => Bound::Unbounded,
    }
}

/// Checks a transaction by itself and says by how many bytes it lets the tree grow at most, in either case.
///
/// # Errors
/// What makes it too large, for people.
pub fn check_size(txn: &Txn) -> Result<u64, String> {
    let steps = txn.when.len() + txn.then.len() + txn.otherwise.len();
    if steps > TXN_STEPS_MAX {
        return Err(format!("the transaction has {steps} conditions and changes; at most {TXN_STEPS_MAX} are taken"));
    }
    let puts = txn.then.iter().chain(&txn.otherwise).filter_map(|change| match change {
        Change::Put { key, value } => Some((key, value)),
        Change::Delete { .. } | Change::DeleteRange { .. } => None,
    });
    let mut bytes = 0;
    for (key, value) in puts {
        let length = value.bytes().len();
        if length > VALUE_MAX_BYTES {
            return Err(format!("the value of '{key}' has {length} bytes; at most {VALUE_MAX_BYTES} are taken"));
        }
        bytes += size(key, value);
    }
    if bytes > TXN_MAX_BYTES as u64 {
        return Err(format!("the transaction puts {bytes} bytes; at most {TXN_MAX_BYTES} are taken at once"));
    }
    Ok(bytes + ITEM_COST_BYTES * steps as u64)
}
