//! The key/value tree as commands see it: guards, repetition, and what a keeper never hears of.

use super::*;
use crate::engine::kv::{Change, Changed, Guard, Key, Outcome, RequestId, Txn};

fn key() -> Key {
    Key::new("app/url").unwrap()
}

fn put(value: &str) -> Txn {
    Txn { then: vec![Change::Put { key: key(), value: value.into() }], ..Txn::default() }
}

fn value(log: &Log) -> Option<&str> {
    log.state.kv.get(&key()).and_then(|item| item.value.text())
}

#[test]
fn a_transaction_touches_its_keys_and_tells_keepers_and_ledger_nothing() {
    let mut log = Log::three();
    let events = log.state.events.len();
    let applied = log.apply(Command::Kv(put("1")));
    let changed = vec![Changed::Put { replaced: None }];
    let revision = log.state.applied;
    assert_eq!(applied.reply, Reply::Kv(Outcome { unmet: None, changed, revision }));
    assert_eq!((applied.touched, applied.facts), (vec![key()], Vec::new()));
    assert_eq!((log.state.events.len(), value(&log)), (events, Some("1")));
}

#[test]
fn a_repeated_request_changes_nothing_and_is_answered_as_before() {
    let mut log = Log::three();
    let once = Txn { request: Some(RequestId(9)), ..put("1") };
    let first = log.apply(Command::Kv(once.clone())).reply;
    log.apply(Command::Kv(put("2")));
    let again = log.apply(Command::Kv(once));
    assert_eq!((again.reply, again.touched), (first, Vec::new()));
    assert_eq!(value(&log), Some("2"));
}

#[test]
fn a_guarded_change_is_made_under_the_current_ownership_only() {
    let mut log = Log::three();
    log.run();
    let token = log.assign(0);
    let guarded = |token: u64, value| {
        let guard = Some(Guard { package: p1(), token: Token(token) });
        Command::Kv(Txn { guard, ..put(value) })
    };
    for wrong in [token.0 - 1, token.0 + 1, 0] {
        let refused = log.apply(guarded(wrong, "no")).reply;
        assert_eq!(
            refused,
            Reply::Rejected(Rejected::TokenMoved { package: p1(), current: token, given: Token(wrong) })
        );
    }
    log.apply(guarded(token.0, "mine"));
    assert_eq!(value(&log), Some("mine"));
    log.release(0, token, ReleaseOutcome::Stopped);
    let late = log.apply(guarded(token.0, "late")).reply;
    assert!(matches!(late, Reply::Rejected(Rejected::TokenMoved { .. })), "{late:?}");
    assert_eq!(value(&log), Some("mine"));
}
