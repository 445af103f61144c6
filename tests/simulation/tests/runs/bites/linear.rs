//! The check of definitions finds what it is for.

use std::collections::BTreeMap;

use simulation::check::linear::{Answer, History};

fn write(history: &History, at: (u64, u64), value: u64, replaces: u64, answer: Answer) {
    let id = history.invoke(0, Some((value, replaces)), at.0);
    history.answer(id, answer, at.1);
}

fn read(history: &History, at: (u64, u64), revision: u64, value: u64) {
    let id = history.invoke(0, None, at.0);
    history.answer(id, Answer::Seen { revision, value }, at.1);
}

fn check(history: &History, revision: u64, value: u64) -> Result<(), String> {
    history.check(&BTreeMap::from([(0, (revision, value))]), 1000)
}

#[test]
fn writes_and_reads_that_fit_an_order_are_linearizable() {
    let history = History::default();
    write(&history, (0, 10), 1, 5, Answer::Written { revision: 7 });
    read(&history, (5, 30), 5, 0);
    write(&history, (20, 40), 2, 7, Answer::Unknown);
    read(&history, (41, 50), 7, 1);
    read(&history, (51, 60), 9, 2);
    assert_eq!(check(&history, 9, 2), Ok(()));
}

#[test]
fn a_stale_read_is_found() {
    let history = History::default();
    write(&history, (0, 10), 1, 5, Answer::Written { revision: 7 });
    read(&history, (11, 12), 5, 0);
    assert!(check(&history, 7, 1).unwrap_err().contains("acknowledged before"));
}

#[test]
fn a_lost_write_is_found() {
    let history = History::default();
    write(&history, (0, 10), 1, 5, Answer::Written { revision: 7 });
    assert!(check(&history, 5, 0).is_err());
    write(&history, (11, 20), 2, 5, Answer::Written { revision: 8 });
    assert!(check(&history, 8, 2).unwrap_err().contains("lay between"));
}

#[test]
fn a_value_from_nowhere_is_found() {
    let history = History::default();
    read(&history, (0, 1), 7, 99);
    assert!(check(&history, 7, 99).is_err());
}
