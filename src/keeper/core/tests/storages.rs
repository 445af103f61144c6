//! LUNs and filesystems: a start that fails is undone, a stop that is stuck is held, and at the lease's end everything
//! goes down from the top.

use super::*;
use crate::keeper::protocol::{Running, RunningKind};

fn three_up(b: &mut Bench, session: SessionId) -> (Place, Place, Place) {
    let (l, f, p) =
        (place("p", "lun", 9, session), place("p", "filesystem", 9, session), place("p", "program", 9, session));
    for storage in [&l, &f] {
        assert_eq!(b.start_storage(storage), None);
        b.storage(storage, StorageEvent::Up);
    }
    b.running(&p, 100);
    b.done();
    (l, f, p)
}

fn failed(outcome: Option<Outcome>) -> String {
    match outcome {
        Some(Outcome::Failed { why }) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_start_is_armed_with_the_lease_and_moved_with_it_and_finds_itself_done() {
    let (mut b, session) = Bench::leased();
    let l = place("p", "lun", 9, session);
    let id = b.op(Op::StartStorage { place: l.clone(), storage: lun() });
    let deadline = b.said.iter().find_map(|effect| match effect {
        Effect::StartStorage { task: crate::keeper::storage::Task::Lun { key, .. }, deadline, .. } => {
            assert_eq!(key.meaning().map(|m| (m.node, m.token)), Some((1, Token(9))));
            Some(*deadline)
        }
        _ => None,
    });
    assert!(deadline.is_some_and(|at| at_ms(at) <= b.ms + LEASE_MS - MARGIN_MS));
    b.live(300);
    assert!(b.done().iter().any(|done| done.starts_with("arm lun")), "a long start lives on with the lease");
    b.storage(&l, StorageEvent::Up);
    assert_eq!(b.outcome(id), Some(Outcome::Ok));
    b.live(300);
    assert!(!b.done().iter().any(|done| done.starts_with("arm lun")));
    assert_eq!(b.start_storage(&l), Some(Outcome::Ok), "L18");
    assert_eq!(b.attach().running, [Running { place: l, what: RunningKind::Storage(lun()) }]);
}

#[test]
fn a_start_that_failed_is_undone_before_that_is_said() {
    let (mut b, session) = Bench::leased();
    let f = place("p", "filesystem", 9, session);
    let id = b.op(Op::StartStorage { place: f.clone(), storage: filesystem() });
    b.storage(&f, StorageEvent::Failed { why: "no ext4 is on it".to_owned() });
    assert_eq!(b.done()[1..], ["take filesystem /srv/x", "undo filesystem"]);
    assert_eq!(b.outcome(id), None);
    b.storage(&f, StorageEvent::Down);
    assert_eq!(failed(b.outcome(id)), "no ext4 is on it");
    assert_eq!(b.ask(Op::Release { package: f.package, token: Token(9) }), Some(Outcome::Ok));
}

#[test]
fn a_start_that_was_never_begun_fails_at_once_and_leaves_nothing_to_undo_or_hold() {
    let (mut b, session) = Bench::leased();
    let f = place("p", "filesystem", 9, session);
    let id = b.op(Op::StartStorage { place: f.clone(), storage: filesystem() });
    b.done();
    b.storage(&f, StorageEvent::Unbegun { why: "no room".to_owned() });
    assert_eq!(b.done(), [""; 0]);
    assert_eq!(failed(b.outcome(id)), "no room");
    assert_eq!(b.ask(Op::Release { package: f.package, token: Token(9) }), Some(Outcome::Ok));
}

#[test]
fn a_stop_that_is_stuck_names_the_reason_is_tried_again_and_nothing_is_released_or_started_meanwhile() {
    let (mut b, session) = Bench::leased();
    let (l, f, p) = three_up(&mut b, session);
    b.op(Op::StopProgram { place: p.clone(), signal: 15, grace: Millis(100) });
    b.gone(&p);
    b.done();
    let id = b.op(Op::StopStorage { place: f.clone(), within: Millis(60_000) });
    assert_eq!(b.done(), ["undo filesystem"]);
    b.storage(&f, StorageEvent::Stuck { why: "process 7 (bash)".to_owned() });
    assert!(failed(b.outcome(id)).contains("process 7"));
    let package = p.package.clone();
    assert!(is_refused(&b.ask(Op::Release { package, token: Token(9) })));
    let refused = b.start(&p);
    assert!(is_refused(&refused), "it would find an empty directory: {refused:?}");
    b.live(1100);
    assert!(b.done().contains(&"undo filesystem".to_owned()));
    b.storage(&f, StorageEvent::Down);
    assert!(b.told().iter().any(|f| matches!(f, FromKeeper::Lapsed { .. })), "nobody waited for it any more");
    b.op(Op::StopStorage { place: l.clone(), within: Millis(1000) });
    assert_eq!(b.done().last().map(String::as_str), Some("undo lun"));
}

#[test]
fn a_stop_that_hangs_is_answered_in_time_and_is_never_taken_for_done() {
    let (mut b, session) = Bench::leased();
    let (_, f, p) = three_up(&mut b, session);
    b.op(Op::StopProgram { place: p.clone(), signal: 15, grace: Millis(100) });
    b.gone(&p);
    let id = b.op(Op::StopStorage { place: f.clone(), within: Millis(500) });
    b.live(600);
    assert!(failed(b.outcome(id)).contains("Nothing is released"));
    let again = b.op(Op::StopStorage { place: f.clone(), within: Millis(60_000) });
    assert_eq!(b.done().iter().filter(|done| *done == "undo filesystem").count(), 1, "one operation at a time");
    b.storage(&f, StorageEvent::Down);
    assert_eq!(b.outcome(again), Some(Outcome::Ok));
}

#[test]
fn at_the_leases_end_everything_goes_down_from_the_top_and_only_then_the_session_is_over() {
    let (mut b, session) = Bench::leased();
    let (l, f, p) = three_up(&mut b, session);
    b.run(2000);
    let done = b.done();
    assert!(done.contains(&"kill program".to_owned()), "{done:?}");
    assert!(!done.iter().any(|done| done.starts_with("undo")), "not under a program that is not gone: {done:?}");
    b.gone(&p);
    assert_eq!(b.done(), ["undo filesystem"]);
    let notes = |b: &mut Bench| b.told().iter().filter(|f| matches!(f, FromKeeper::Note { .. })).count();
    notes(&mut b);
    for (why, news) in [("process 7", 1), ("process 7", 0), ("process 8", 1)] {
        b.storage(&f, StorageEvent::Stuck { why: why.to_owned() });
        assert_eq!(notes(&mut b), news, "who keeps it is told once");
        b.run(1100);
        assert_eq!(b.done(), ["undo filesystem"], "again");
        b.told();
    }
    b.run(1100);
    assert!(!b.last_view().unwrap().over);
    b.storage(&f, StorageEvent::Down);
    assert_eq!(b.done(), ["undo lun"]);
    b.storage(&l, StorageEvent::Down);
    assert!(b.last_view().unwrap().over);
}

#[test]
fn a_start_that_the_leases_end_finds_on_its_way_is_killed_and_undone() {
    let (mut b, session) = Bench::leased();
    let f = place("p", "filesystem", 9, session);
    b.op(Op::StartStorage { place: f.clone(), storage: filesystem() });
    b.done();
    b.run(2000);
    assert!(b.done().contains(&"kill filesystem".to_owned()));
    // The mount was done in the moment before.
    b.storage(&f, StorageEvent::Up);
    assert_eq!(b.done(), ["undo filesystem"]);
    assert!(b.last_view().is_none_or(|view| !view.over));
    b.storage(&f, StorageEvent::Down);
    assert!(b.last_view().unwrap().over);
}
