//! Orderly ends: the agent retires, or the process is asked to end; and connections that go wrong.

use super::*;

/// A package with a program over an address, both up.
fn two_up(b: &mut Bench, session: SessionId) -> (Place, Place) {
    let (i, p) = (place("p", "ip", 9, session), place("p", "program", 9, session));
    b.start_ip(&i);
    b.address(&i, AddressEvent::Up);
    b.running(&p, 100);
    (i, p)
}

#[test]
fn a_retired_agents_packages_are_stopped_in_reverse_order_and_the_lease_is_not_renewed() {
    let (mut b, session) = Bench::leased();
    let (i, p) = two_up(&mut b, session);
    b.sent_to(2);
    b.frame(ToKeeper::Retire { why: "the disk failed".to_owned() });
    assert_eq!(b.done(), ["signal program 15"]);
    b.program(&p, ProgramEvent::Exited { exit: Exit::Code(0) });
    b.gone(&p);
    assert_eq!(b.done(), ["kill program", "down ip"]);
    b.address(&i, AddressEvent::Down);
    b.run(200);
    assert!(!b.sent_to(2).iter().any(is_renewal));
    assert!(is_refused(&b.start(&p)));
    b.run(2000);
    assert!(b.last_view().unwrap().over);
    let next = b.register();
    assert!(b.sent_to(2).iter().any(|m| matches!(m, Message::Renew { session, .. } if *session == next)));
}

#[test]
fn a_retirement_before_the_lease_began_ends_the_session_at_once() {
    let mut b = Bench::attached();
    b.register();
    b.frame(ToKeeper::Retire { why: "full disk".to_owned() });
    assert!(b.last_view().unwrap().over);
}

#[test]
fn a_keeper_that_is_to_end_waits_for_its_agent_to_stop_and_release() {
    let (mut b, session) = Bench::leased();
    let (i, p) = two_up(&mut b, session);
    b.input(Input::Terminate);
    assert!(b.told().iter().any(|f| matches!(f, FromKeeper::Leaving { .. })));
    b.live(500);
    assert!(b.done().iter().all(|d| d.starts_with("lease") || d.starts_with("arm")), "it goes on renewing");
    assert!(is_refused(&b.start(&place("q", "program", 10, session))));
    b.op(Op::StopProgram { place: p.clone(), signal: 15, grace: Millis(1000) });
    b.gone(&p);
    b.op(Op::StopIp { place: i.clone() });
    b.address(&i, AddressEvent::Down);
    let package = p.package.clone();
    assert_eq!(b.ask(Op::Release { package, token: Token(9) }), Some(Outcome::Ok));
    assert!(!b.done().contains(&"exit".to_owned()), "the agent may still have a release to put into the log");
    b.frame(ToKeeper::Retire { why: "stopped".to_owned() });
    assert_eq!(b.done(), ["exit"]);
}

#[test]
fn a_keeper_whose_node_is_no_member_any_more_stops_everything_and_ends() {
    let (mut b, session) = Bench::leased();
    let (i, p) = two_up(&mut b, session);
    b.frame(ToKeeper::End { why: "removed".to_owned() });
    assert_eq!(b.done(), ["signal program 15"]);
    b.gone(&p);
    assert_eq!(b.done(), ["down ip"]);
    assert!(is_refused(&b.start(&p)));
    b.address(&i, AddressEvent::Down);
    assert_eq!(b.done(), ["exit"]);
    let mut idle = Bench::attached();
    idle.frame(ToKeeper::End { why: "removed".to_owned() });
    assert_eq!(idle.done(), ["exit"]);
}

#[test]
fn a_keeper_without_an_agent_stops_everything_itself_and_ends() {
    let (mut b, session) = Bench::leased();
    let (i, p) = two_up(&mut b, session);
    b.input(Input::AgentGone);
    b.input(Input::Terminate);
    assert_eq!(b.done(), ["signal program 15"]);
    b.gone(&p);
    assert_eq!(b.done(), ["down ip"]);
    b.address(&i, AddressEvent::Down);
    assert_eq!(b.done(), ["exit"]);
}

#[test]
fn an_agent_that_does_not_finish_is_not_waited_for_longer_than_promised() {
    let (mut b, session) = Bench::leased();
    let (i, p) = two_up(&mut b, session);
    b.input(Input::Terminate);
    b.live(limits::LEAVE_WAIT.as_millis() as u64 + 100);
    assert!(b.done().contains(&"signal program 15".to_owned()));
    b.gone(&p);
    b.address(&i, AddressEvent::Down);
    assert!(b.done().contains(&"exit".to_owned()));
}

#[test]
fn an_agent_that_does_not_begin_with_hello_or_says_it_twice_is_sent_away() {
    let mut b = Bench::attached();
    b.input(Input::AgentConnected);
    b.frame(ToKeeper::Alive);
    assert_eq!(b.done(), ["disconnect"]);
    b.attach();
    b.frame(ToKeeper::Hello { version: VERSION, program: String::new() });
    assert_eq!(b.done(), ["disconnect"]);
    b.input(Input::AgentConnected);
    b.frame(ToKeeper::Hello { version: 0, program: "old".to_owned() });
    assert_eq!(b.done(), ["disconnect"]);
    b.input(Input::AgentConnected);
    b.frame(ToKeeper::Hello { version: VERSION + 1, program: "new".to_owned() });
    assert!(matches!(&b.told()[..], [FromKeeper::Welcome(w), ..] if w.version == VERSION), "a newer agent adapts");
}

/// An address that its agent gave up and that could not be deleted; then the link breaks.
fn stuck_and_detached(b: &mut Bench, session: SessionId) -> Place {
    let i = place("p", "ip", 9, session);
    b.start_ip(&i);
    b.address(&i, AddressEvent::Up);
    b.op(Op::StopIp { place: i.clone() });
    b.address(&i, AddressEvent::Stuck { why: "busy".to_owned() });
    b.input(Input::AgentGone);
    b.done();
    i
}

#[test]
fn a_keeper_that_ends_alone_deletes_what_its_agent_could_not() {
    let (mut b, session) = Bench::leased();
    let i = stuck_and_detached(&mut b, session);
    b.input(Input::Terminate);
    b.live(3_000);
    assert!(b.done().contains(&"down ip".to_owned()), "tried again");
    b.address(&i, AddressEvent::Down);
    assert!(b.done().contains(&"exit".to_owned()));
}

#[test]
fn an_agent_that_comes_back_while_its_keeper_ends_alone_keeps_it_from_nothing() {
    let (mut b, session) = Bench::leased();
    let i = stuck_and_detached(&mut b, session);
    b.input(Input::Terminate);
    b.attach();
    assert!(is_refused(&b.start(&place("p", "program", 9, session))));
    b.live(3_000);
    assert!(b.done().contains(&"down ip".to_owned()), "tried again, although nobody asks");
    b.address(&i, AddressEvent::Down);
    assert!(b.done().contains(&"exit".to_owned()));
}

#[test]
fn a_lapsed_session_ends_although_its_agent_could_not_delete_an_address_and_is_gone() {
    let (mut b, session) = Bench::leased();
    let i = stuck_and_detached(&mut b, session);
    b.run(30_000);
    assert!(b.done().contains(&"down ip".to_owned()), "tried again");
    b.address(&i, AddressEvent::Down);
    b.attach();
    assert!(b.last_view().is_none_or(|view| view.over));
    b.register();
}
