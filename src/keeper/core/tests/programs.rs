//! Programs and addresses from start to end, across agents.

use super::*;
use crate::keeper::protocol::{Running, RunningKind};

fn stop(place: &Place) -> Op {
    Op::StopProgram { place: place.clone(), signal: 15, grace: Millis(200) }
}

/// What the agent was told of ends.
fn ends(b: &mut Bench) -> Vec<String> {
    let told = b.told().into_iter();
    told.filter_map(|frame| match frame {
        FromKeeper::Exited { place, exit } => Some(format!("{} {exit:?}", place.resource)),
        FromKeeper::Lapsed { place, .. } => Some(format!("{} lapsed", place.resource)),
        _ => None,
    })
    .collect()
}

#[test]
fn a_program_is_spawned_under_the_leases_deadline_which_moves_on_with_the_lease() {
    let (mut b, session) = Bench::leased();
    let p = place("p", "program", 9, session);
    let id = b.op(Op::StartProgram { place: p.clone(), program: program() });
    let spawned =
        b.said.iter().find_map(|e| if let Effect::Spawn { deadline, .. } = e { Some(*deadline) } else { None });
    assert_eq!(spawned.map(at_ms), Some(10_000 + LEASE_MS - MARGIN_MS), "rule 22");
    b.program(&p, ProgramEvent::Started { pid: 4711 });
    assert_eq!(b.outcome(id), Some(Outcome::Started { pid: 4711 }));
    b.done();
    let t0 = at_ms(b.renewed());
    let until = t0 + LEASE_MS;
    assert_eq!(b.done(), [format!("lease Some({until})"), format!("arm program {}", until - MARGIN_MS)]);
}

#[test]
fn a_program_that_runs_is_found_and_not_started_twice() {
    let (mut b, session) = Bench::leased();
    let p = place("p", "program", 9, session);
    b.running(&p, 4711);
    let welcome = b.attach();
    let what = RunningKind::Program { pid: 4711, exited: None };
    assert_eq!(welcome.running, [Running { place: p.clone(), what }]);
    assert_eq!(b.start(&p), Some(Outcome::Started { pid: 4711 }));
    assert!(b.done().is_empty(), "L18");
}

#[test]
fn a_start_under_way_when_the_agent_changes_is_joined_by_the_next_one() {
    let (mut b, session) = Bench::leased();
    let p = place("p", "program", 9, session);
    assert_eq!(b.start(&p), None);
    assert_eq!(b.attach().running, []);
    let id = b.op(Op::StartProgram { place: p.clone(), program: program() });
    b.program(&p, ProgramEvent::Started { pid: 5 });
    assert_eq!(b.outcome(id), Some(Outcome::Started { pid: 5 }));
    assert_eq!(b.done().iter().filter(|d| d.starts_with("spawn")).count(), 1);
}

#[test]
fn an_exit_is_reported_only_when_the_whole_namespace_is_gone() {
    let (mut b, session) = Bench::leased();
    let p = place("p", "program", 9, session);
    b.running(&p, 100);
    b.program(&p, ProgramEvent::Exited { exit: Exit::Code(3) });
    assert_eq!(b.done(), ["kill program"], "leftovers of it end with it");
    assert_eq!(ends(&mut b), [""; 0]);
    assert!(matches!(b.start(&p), Some(Outcome::Failed { .. })), "a restart never shares a namespace with leftovers");
    b.gone(&p);
    assert_eq!(ends(&mut b), ["program Code(3)"]);
    assert_eq!(b.start(&p), None);
    assert_eq!(b.done(), ["spawn program"]);
}

#[test]
fn an_exit_that_no_agent_was_there_for_is_handed_over_once() {
    let (mut b, session) = Bench::leased();
    let p = place("p", "program", 9, session);
    b.running(&p, 100);
    b.input(Input::AgentGone);
    b.program(&p, ProgramEvent::Exited { exit: Exit::Signal(11) });
    b.gone(&p);
    let what = RunningKind::Program { pid: 100, exited: Some(Exit::Signal(11)) };
    assert_eq!(b.attach().running, [Running { place: p.clone(), what }]);
    assert_eq!(b.attach().running, []);
}

#[test]
fn a_stop_signals_waits_its_grace_kills_and_is_done_when_init_is_gone() {
    let (mut b, session) = Bench::leased();
    let p = place("p", "program", 9, session);
    b.running(&p, 100);
    let id = b.op(stop(&p));
    assert_eq!(b.done(), ["signal program 15"]);
    b.run(199);
    assert!(!b.done().contains(&"kill program".to_owned()));
    b.run(2);
    assert!(b.done().contains(&"kill program".to_owned()));
    assert_eq!(b.outcome(id), None);
    b.gone(&p);
    assert_eq!(b.outcome(id), Some(Outcome::Ok));
    assert_eq!(ends(&mut b), [""; 0], "a stop is no exit");
    assert_eq!(b.ask(stop(&p)), Some(Outcome::Ok), "what is not here is stopped");
}

#[test]
fn a_stop_asked_for_by_an_agent_that_is_gone_ends_in_an_exit_for_the_next_one() {
    let (mut b, session) = Bench::leased();
    let p = place("p", "program", 9, session);
    b.running(&p, 100);
    b.op(stop(&p));
    b.attach();
    b.program(&p, ProgramEvent::Exited { exit: Exit::Code(0) });
    b.gone(&p);
    assert_eq!(ends(&mut b), ["program Code(0)"]);
}

#[test]
fn a_stop_during_the_start_kills_and_answers_both() {
    let (mut b, session) = Bench::leased();
    let p = place("p", "program", 9, session);
    let start = b.op(Op::StartProgram { place: p.clone(), program: program() });
    let stop = b.op(stop(&p));
    b.gone(&p);
    let told = b.told();
    let outcome = |wanted: u64| {
        told.iter().find_map(|f| match f {
            FromKeeper::Done { id, outcome } if *id == wanted => Some(outcome.clone()),
            _ => None,
        })
    };
    assert!(matches!(outcome(start), Some(Outcome::Failed { .. })));
    assert_eq!(outcome(stop), Some(Outcome::Ok));
}

#[test]
fn a_start_that_failed_is_answered_when_nothing_of_it_is_left() {
    let (mut b, session) = Bench::leased();
    let p = place("p", "program", 9, session);
    let id = b.op(Op::StartProgram { place: p.clone(), program: program() });
    b.program(&p, ProgramEvent::Failed { why: "no such file".to_owned() });
    assert_eq!(b.outcome(id), None);
    b.gone(&p);
    assert_eq!(b.outcome(id), Some(Outcome::Failed { why: "no such file".to_owned() }));
    assert_eq!(b.start(&p), None, "it may be tried again");
}

#[test]
fn a_leash_killed_by_its_deadline_is_a_lapse_and_by_somebody_else_an_exit() {
    let (mut b, session) = Bench::leased();
    let p = place("p", "program", 9, session);
    b.running(&p, 100);
    b.program(&p, ProgramEvent::Gone { by_deadline: true });
    assert_eq!(ends(&mut b), ["program lapsed"]);
    b.running(&p, 101);
    b.gone(&p);
    assert_eq!(ends(&mut b), ["program Signal(9)"]);
}

#[test]
fn a_program_of_another_ownership_is_neither_started_over_nor_stopped() {
    let (mut b, session) = Bench::leased();
    let (old, new) = (place("p", "program", 9, session), place("p", "program", 12, session));
    b.running(&old, 100);
    assert!(is_refused(&b.start(&new)));
    assert!(is_refused(&b.ask(stop(&new))));
    assert!(b.done().is_empty());
}

#[test]
fn an_address_comes_up_is_found_again_and_is_given_up() {
    let (mut b, session) = Bench::leased();
    let i = place("p", "ip", 9, session);
    let id = b.op(Op::StartIp { place: i.clone(), ip: ip() });
    b.address(&i, AddressEvent::Up);
    assert_eq!(b.outcome(id), Some(Outcome::Ok));
    assert_eq!(b.start_ip(&i), Some(Outcome::Ok), "L18");
    let id = b.op(Op::StopIp { place: i.clone() });
    b.address(&i, AddressEvent::Down);
    assert_eq!(b.outcome(id), Some(Outcome::Ok));
    assert_eq!(b.done().iter().filter(|d| d.ends_with(" ip")).collect::<Vec<_>>(), ["up ip", "down ip"]);
}

#[test]
fn an_address_whose_guard_closed_by_itself_is_told_and_gone() {
    let (mut b, session) = Bench::leased();
    let i = place("p", "ip", 9, session);
    b.start_ip(&i);
    b.address(&i, AddressEvent::Up);
    b.address(&i, AddressEvent::Lapsed { why: "late".to_owned() });
    assert_eq!(ends(&mut b), ["ip lapsed"]);
    let package = i.package.clone();
    assert_eq!(b.ask(Op::Release { package, token: Token(9) }), Some(Outcome::Ok));
}

#[test]
fn an_address_that_cannot_be_deleted_fails_the_stop_and_holds_the_release_back() {
    let (mut b, session) = Bench::leased();
    let i = place("p", "ip", 9, session);
    b.start_ip(&i);
    b.address(&i, AddressEvent::Up);
    let id = b.op(Op::StopIp { place: i.clone() });
    b.address(&i, AddressEvent::Stuck { why: "busy".to_owned() });
    assert_eq!(b.outcome(id), Some(Outcome::Failed { why: "busy".to_owned() }));
    assert!(is_refused(&b.ask(Op::Release { package: i.package.clone(), token: Token(9) })));
    b.done();
    b.op(Op::StopIp { place: i.clone() });
    assert_eq!(b.done(), ["down ip"], "the agent may try again");
}

#[test]
fn an_operation_of_an_earlier_connection_is_not_answered_to_the_next() {
    let (mut b, session) = Bench::leased();
    let p = place("p", "program", 9, session);
    let id = b.op(Op::StartProgram { place: p.clone(), program: program() });
    b.attach();
    b.program(&p, ProgramEvent::Started { pid: 5 });
    assert_eq!(b.outcome(id), None);
}
