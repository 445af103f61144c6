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
fn a_request_under_the_name_of_another_one_is_refused_and_changes_nothing() {
    let mut log = Log::three();
    let named = |change| Txn { request: Some(RequestId(1)), ..change };
    let first = log.apply(Command::Kv(named(put("1")))).reply;
    let kv = log.state.kv.clone();
    let other = Key::new("app/other").unwrap();
    let elsewhere = Txn { then: vec![Change::Put { key: other.clone(), value: "1".into() }], ..Txn::default() };
    for another in [elsewhere, put("2")] {
        let refused = log.apply(Command::Kv(named(another)));
        assert_eq!(refused.reply, Reply::Rejected(Rejected::RequestNameTaken { request: RequestId(1) }));
        assert_eq!((refused.touched, &log.state.kv), (Vec::new(), &kv));
    }
    assert_eq!(log.apply(Command::Kv(named(put("1")))).reply, first);
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
    let Reply::Rejected(moved @ Rejected::TokenMoved { .. }) = late else { panic!("{late:?}") };
    assert!(moved.to_string().starts_with(&format!("nobody owns package '{}' now (its last token was {token})", p1())));
    assert_eq!(value(&log), Some("mine"));
}
