//! The check of keys finds what it is for.

use pkgctl::engine::kv::{Change, Changed, Guard, Outcome, Txn};
use pkgctl::engine::{LogIndex, Token};
use pkgctl::package::PackageName;
use simulation::check::keys::{History, Tokens, Told};
use simulation::keys::key;

fn put(history: &History, at: (u64, u64), number: usize, guard: Option<u64>, told: Option<(u64, u64)>) -> usize {
    let value = history.next_value();
    let then = vec![Change::Put { key: key(number), value: value.to_string().into() }];
    let package = PackageName::new("p1").unwrap();
    let guard = guard.map(|token| Guard { package, token: Token(token) });
    let id = history.begin(Txn { then, guard, ..Txn::default() }, at.0);
    if let Some((revision, replaced)) = told {
        history.answer(id, carried_out(revision, replaced), at.1);
    }
    id
}

fn carried_out(revision: u64, replaced: u64) -> Told {
    let replaced = (replaced != 0).then_some(LogIndex(replaced));
    let changed = vec![Changed::Put { replaced }];
    Told::CarriedOut(Outcome { unmet: None, changed, revision: LogIndex(revision) })
}

fn check(history: &History, revision: u64, value: u64) -> Result<(), String> {
    let given = [3, 9].map(Token).into();
    let tokens = Tokens::from([(PackageName::new("p1").unwrap(), given)]);
    history.check(&[(revision, value), (0, 0), (0, 0)], &tokens, 1000)
}

#[test]
fn one_chain_of_writes_holds() {
    let history = History::default();
    put(&history, (0, 9), 0, None, Some((5, 0)));
    put(&history, (1, 7), 0, Some(3), Some((7, 5)));
    history.seen(0, (5, 1), 2, 8);
    let id = put(&history, (10, 11), 0, Some(3), None);
    history.answer(id, Told::Refused, 12);
    assert_eq!(check(&history, 7, 2), Ok(()));
    assert!(check(&history, 5, 1).unwrap_err().contains("entry 7 wrote it last"), "it was lost");
}

#[test]
fn a_request_that_was_carried_out_twice_is_found() {
    let twice = History::default();
    let id = put(&twice, (0, 9), 0, None, Some((5, 0)));
    twice.answer(id, carried_out(6, 5), 10);
    assert!(check(&twice, 6, 1).unwrap_err().contains("when it was repeated"));
    let unseen = History::default();
    put(&unseen, (0, 9), 0, None, Some((5, 0)));
    put(&unseen, (10, 19), 0, None, Some((8, 6)));
    assert!(check(&unseen, 8, 2).unwrap_err().contains("replaced entry 6"));
    assert!(check(&unseen, 9, 1).is_err());
}

#[test]
fn a_stale_read_and_an_acknowledged_write_that_is_overtaken_are_found() {
    let history = History::default();
    put(&history, (0, 9), 0, None, Some((5, 0)));
    history.seen(0, (0, 0), 10, 11);
    assert!(check(&history, 5, 1).unwrap_err().contains("acknowledged before"));
}

#[test]
fn a_write_under_a_token_that_is_over_is_found() {
    let history = History::default();
    put(&history, (0, 9), 0, Some(3), Some((10, 0)));
    assert!(check(&history, 10, 1).unwrap_err().contains("after token 9"));
}
