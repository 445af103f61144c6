//! The keeper's own session, and its part as voter.

use super::*;
use crate::engine::state::DatagramKey;

#[test]
fn a_session_of_this_node_and_nonce_is_renewed_at_once_and_of_another_nonce_never() {
    let mut b = Bench::attached();
    let (node, ttl) = (ME, TTL);
    b.learn(Fact::Registered { session: SessionId(3), node, nonce: Nonce(5), ttl });
    b.run(400);
    assert!(!b.sent_to(2).iter().any(is_renewal), "another keeper life's session (rule 4)");
    b.learn(Fact::Registered { session: SessionId(4), node, nonce: NONCE, ttl });
    assert!(b.sent_to(2).iter().any(|m| matches!(m, Message::Renew { session: SessionId(4), .. })));
    assert!(b.sent_to(3).iter().any(is_renewal));
    assert!(b.sent_to(1).is_empty(), "its own vote needs no datagram");
}

#[test]
fn the_lease_runs_from_the_renewal_that_a_majority_acked_and_is_passed_on_as_it_advances() {
    let (mut b, session) = Bench::leased();
    let done = b.done();
    assert_eq!(done, [format!("lease Some({})", 10_000 + LEASE_MS)]);
    let t0 = b.renewed();
    assert_eq!(b.done(), [format!("lease Some({})", at_ms(t0) + LEASE_MS)]);
    let view = b.last_view().unwrap();
    assert_eq!((view.session, view.over), (Some(session), false));
}

#[test]
fn without_acks_from_a_majority_it_only_queries_and_once_t_has_passed_it_sends_nothing() {
    let (mut b, _) = Bench::leased();
    b.run(600);
    let sent = b.sent_to(2);
    assert!(sent.iter().any(is_query), "rule 8a: {sent:?}");
    b.run(LEASE_MS);
    b.sent_to(2);
    b.run(3000);
    assert!(!b.sent_to(2).iter().any(|m| is_renewal(m) || is_query(m)));
}

#[test]
fn when_the_lease_runs_out_the_session_is_over_only_once_everything_of_it_is_gone() {
    let (mut b, session) = Bench::leased();
    let (p, i) = (place("p", "program", 9, session), place("p", "ip", 9, session));
    b.running(&p, 100);
    b.start_ip(&i);
    b.address(&i, AddressEvent::Up);
    b.run(2000);
    let done = b.done();
    assert!(done.contains(&"kill program".to_owned()) && done.contains(&"down ip".to_owned()), "{done:?}");
    assert!(done.contains(&"lease None".to_owned()));
    assert!(b.told().iter().all(|f| !matches!(f, FromKeeper::Lease(LeaseView { over: true, .. }))));
    b.gone(&p);
    b.address(&i, AddressEvent::Down);
    let told = b.told();
    assert!(told.iter().any(|f| matches!(f, FromKeeper::Lapsed { place, .. } if *place == p)), "{told:?}");
    assert!(told.iter().any(|f| matches!(f, FromKeeper::Lapsed { place, .. } if *place == i)), "{told:?}");
    let keys_at = Some(LogIndex(0));
    let over = LeaseView { session: Some(session), left: Millis(0), over: true, keys_at, ..LeaseView::default() };
    assert!(told.iter().any(|f| matches!(f, FromKeeper::Lease(view) if *view == over)), "{told:?}");
}

#[test]
fn a_session_that_is_over_is_never_held_again_and_the_next_one_is() {
    let (mut b, first) = Bench::leased();
    b.run(2000);
    assert!(b.last_view().unwrap().over);
    b.sent_to(2);
    b.ack(2, first, 10_000 * 1_000_000);
    b.run(500);
    assert!(!b.sent_to(2).iter().any(is_renewal), "a late ack changes nothing");
    let next = b.register();
    assert!(b.sent_to(2).iter().any(|m| matches!(m, Message::Renew { session, .. } if *session == next)));
}

#[test]
fn a_voters_word_that_the_log_ended_the_session_ends_it_at_once() {
    let (mut b, session) = Bench::leased();
    let p = place("p", "program", 9, session);
    b.running(&p, 100);
    let why = crate::engine::lease::Refusal::Expired;
    b.input(Input::Datagram { from: NodeId(3), message: Message::Refuse { session, seq: 1, why } });
    assert_eq!(b.done(), ["lease None", "kill program"]);
}

#[test]
fn one_voter_that_has_fenced_the_session_does_not_end_it() {
    let (mut b, session) = Bench::leased();
    let why = crate::engine::lease::Refusal::Fenced;
    b.input(Input::Datagram { from: NodeId(3), message: Message::Refuse { session, seq: 1, why } });
    assert_eq!(b.last_view().map(|v| v.over), Some(false));
    b.renewed();
}

#[test]
fn a_thawed_keeper_whose_lease_has_passed_starts_nothing() {
    let (mut b, session) = Bench::leased();
    b.frozen(LEASE_MS);
    let p = place("p", "program", 9, session);
    assert!(is_refused(&b.start(&p)));
    assert!(b.done().iter().all(|d| !d.starts_with("spawn")));
}

#[test]
fn without_a_word_of_a_fit_agent_renewals_stop_and_go_on_with_the_next_one() {
    let (mut b, _) = Bench::leased();
    let until = b.ms + GRACE.as_millis() as u64 + 100;
    while b.ms < until && b.core.tenure.held().is_some() {
        let message = b.sent_to(2).into_iter().find(|m| is_renewal(m) || is_query(m));
        if let Some(Message::Renew { session, seq, .. } | Message::Query { session, seq, .. }) = message {
            b.ack(2, session, seq);
        }
        b.run(10);
    }
    b.sent_to(2);
    b.run(300);
    assert!(b.sent_to(2).is_empty());
    let told = b.told();
    assert!(
        told.iter().any(|f| matches!(f, FromKeeper::Note { text, .. } if text.contains("not renewed"))),
        "{told:?}"
    );
    b.frame(ToKeeper::Alive);
    b.run(1);
    assert!(b.sent_to(2).iter().any(|m| is_renewal(m) || is_query(m)));
}

#[test]
fn what_is_known_of_the_log_never_goes_back_for_a_restarted_agent() {
    let (mut b, session) = Bench::leased();
    b.attach();
    let before = b.core.knowledge().clone();
    let facts = vec![Fact::Expired { session }];
    b.frame(ToKeeper::Learn(Learn::Step { index: LogIndex(1), facts }));
    b.frame(ToKeeper::Learn(Learn::Whole(Knowledge::default())));
    assert_eq!(*b.core.knowledge(), before, "rule 7");
}

#[test]
fn it_neither_acks_nor_says_it_is_ready_before_its_own_voter_up_is_known() {
    let mut b = Bench::attached();
    let ping = |b: &mut Bench| {
        b.input(Input::Datagram { from: NodeId(2), message: Message::Ping { nonce: Nonce(1) } });
        b.sent_to(2)
    };
    assert_eq!(ping(&mut b), [Message::Pong { nonce: Nonce(1), ready: true }]);
    b.learn(Fact::VoterUp { voter: ME, nonce: Nonce(123), incarnation: Incarnation(3) });
    assert_eq!(ping(&mut b), [Message::Pong { nonce: Nonce(1), ready: false }], "another life of its keeper (rule 9)");
}

#[test]
fn it_promises_to_others_and_agrees_when_the_promise_has_run_out() {
    let mut b = Bench::attached();
    let session = SessionId(b.index + 1);
    b.learn(Fact::Registered { session, node: NodeId(2), nonce: Nonce(5), ttl: TTL });
    b.run(3000);
    b.input(Input::Datagram { from: NodeId(2), message: Message::Renew { session, seq: 4, ttl: TTL, life: NONCE } });
    assert!(matches!(b.sent_to(2)[..], [Message::Ack { promised: true, .. }]));
    b.told();
    b.run(400);
    assert!(b.told().iter().any(|f| matches!(f, FromKeeper::Silent { session: s, .. } if *s == session)));
    for _ in 0..12 {
        b.input(Input::Datagram { from: NodeId(3), message: Message::Ask { session, ttl: TTL } });
        assert!(b.sent_to(3).is_empty(), "the promise still runs");
        b.run(90);
    }
    b.input(Input::Datagram { from: NodeId(3), message: Message::Ask { session, ttl: TTL } });
    b.run(100);
    assert_eq!(b.sent_to(3), [Message::Agreed { session, incarnation: Incarnation(2) }]);
}

#[test]
fn an_agent_that_attaches_later_is_told_which_sessions_are_silent() {
    let mut b = Bench::attached();
    let session = SessionId(b.index + 1);
    b.learn(Fact::Registered { session, node: NodeId(2), nonce: Nonce(5), ttl: TTL });
    b.run(1000);
    b.input(Input::AgentConnected);
    b.told();
    b.frame(ToKeeper::Hello { version: VERSION, program: "test".to_owned() });
    let told = b.told();
    assert!(matches!(&told[..], [FromKeeper::Welcome(_), FromKeeper::Silent { session: s, .. }, ..] if *s == session));
}

#[test]
fn a_collection_asks_this_node_too_and_reports_each_agreement_once() {
    let mut b = Bench::attached();
    let session = SessionId(b.index + 1);
    b.learn(Fact::Registered { session, node: NodeId(2), nonce: Nonce(5), ttl: TTL });
    b.run(2000);
    b.told();
    b.frame(ToKeeper::Collect { session, ttl: TTL, voters: vec![ME, NodeId(3)] });
    b.run(300);
    let asked = b.sent_to(3);
    assert!(asked.len() >= 4 && asked.iter().all(|m| matches!(m, Message::Ask { .. })), "{asked:?}");
    b.input(Input::Datagram { from: NodeId(3), message: Message::Agreed { session, incarnation: Incarnation(8) } });
    let told = b.told();
    let voters: Vec<u64> = told
        .iter()
        .filter_map(|f| if let FromKeeper::Agreed { voter, .. } = f { Some(voter.0) } else { None })
        .collect();
    assert_eq!(voters, [1, 3]);
    b.run(300);
    assert!(!b.told().iter().any(|f| matches!(f, FromKeeper::Agreed { .. })), "nothing has changed");
}

#[test]
fn a_voter_that_begins_a_new_incarnation_after_it_agreed_is_asked_again() {
    let mut b = Bench::attached();
    let session = SessionId(b.index + 1);
    b.learn(Fact::Registered { session, node: NodeId(2), nonce: Nonce(5), ttl: TTL });
    b.run(2000);
    b.frame(ToKeeper::Collect { session, ttl: TTL, voters: vec![ME, NodeId(3)] });
    b.told();
    // The session's owner cannot hear, and goes on asking: this voter forgets the fence (rule 11).
    let incarnation = Incarnation(b.index + 1);
    b.learn(Fact::VoterUp { voter: ME, nonce: NONCE, incarnation });
    b.run(300);
    let again = b
        .told()
        .into_iter()
        .any(|f| matches!(f, FromKeeper::Agreed { voter: ME, incarnation: i, .. } if i == incarnation));
    assert!(again, "what it said in the old incarnation counts no more");
}

#[test]
fn a_joining_nodes_ping_is_answered_and_nothing_else_of_it() {
    let mut b = Bench::attached();
    let joiner = crate::net::datagram::JOINER;
    b.input(Input::Datagram { from: joiner, message: Message::Ping { nonce: Nonce(6) } });
    b.input(Input::Datagram { from: joiner, message: Message::AskSet { nonce: Nonce(6) } });
    assert_eq!(b.sent_to(joiner.0), [Message::Pong { nonce: Nonce(6), ready: true }]);
}

#[test]
fn before_it_knows_which_node_it_is_it_answers_nobody() {
    let settings = Bench::attached().core.settings;
    let mut core = Core::new(settings, now(0));
    let message = Message::Ping { nonce: Nonce(1) };
    assert!(core.handle(now(1), Input::Datagram { from: NodeId(2), message }).is_empty());
}

#[test]
fn reach_and_lease_sets_are_asked_of_other_keepers_and_of_this_one() {
    let mut b = Bench::attached();
    let id = b.op(Op::AskSets { nodes: vec![ME, NodeId(2), NodeId(3)] });
    let Message::AskSet { nonce } = b.sent_to(2).remove(0) else { panic!("a question") };
    b.input(Input::Datagram { from: NodeId(2), message: Message::KnowsSet { nonce, set: None } });
    b.run(1100);
    let sets = BTreeMap::from([(ME, Some(SetId(1))), (NodeId(2), None)]);
    assert_eq!(b.outcome(id), Some(Outcome::Sets(sets)), "node 3 did not answer");
}

#[test]
fn a_keeper_belongs_to_one_node_of_one_cluster() {
    let mut b = Bench::attached();
    let mut other = b.core.configuration.clone().unwrap();
    other.node = NodeId(2);
    b.frame(ToKeeper::Configure(other));
    assert_eq!(b.core.node(), Some(ME));
    assert!(b.told().iter().any(|f| matches!(f, FromKeeper::Note { .. })));
}

#[test]
fn datagram_keys_never_go_back_during_a_keepers_life_and_it_says_at_once_which_it_has() {
    let mut b = Bench::attached();
    let with = |b: &Bench, at: u64, key: u8| {
        let mut configuration = b.core.configuration.clone().unwrap();
        configuration.keys = [(u32::from(key), DatagramKey([key; 32]))].into();
        (configuration.sealing_key, configuration.keys_at) = (Some(u32::from(key)), LogIndex(at));
        configuration
    };
    let said = |b: &mut Bench| {
        let leases =
            b.told().into_iter().filter_map(|f| if let FromKeeper::Lease(view) = f { view.keys_at } else { None });
        leases.collect::<Vec<_>>()
    };
    said(&mut b);
    let (newer, mut older) = (with(&b, 9, 2), with(&b, 4, 1));
    b.frame(ToKeeper::Configure(newer.clone()));
    assert_eq!(said(&mut b), [LogIndex(9)]);
    older.peers.insert(NodeId(8), Vec::new());
    b.frame(ToKeeper::Configure(older));
    let now = b.core.configuration.clone().unwrap();
    assert_eq!((&now.keys, now.sealing_key, now.keys_at), (&newer.keys, Some(2), LogIndex(9)));
    assert!(now.peers.contains_key(&NodeId(8)), "the rest is taken as it is said");
    assert_eq!(said(&mut b), []);
}

#[test]
fn with_enforcement_off_as_in_the_lab_the_end_of_a_lease_ends_nothing() {
    let ends_by_itself = |enforcement: Enforcement| {
        let (mut b, session) = Bench::leased_with(enforcement);
        let (p, i) = (place("p", "program", 9, session), place("p", "ip", 9, session));
        b.running(&p, 100);
        b.start_ip(&i);
        b.address(&i, AddressEvent::Up);
        b.done();
        // Longer than the lease, and than the agent's silence is borne.
        b.run(20_000);
        assert!(b.core.next_wake(now(b.ms)) > Duration::ZERO, "it does not turn for nothing");
        !b.done().is_empty()
    };
    assert!(ends_by_itself(Enforcement::Kernel), "or this test shows nothing");
    assert!(!ends_by_itself(Enforcement::Off));
}

#[test]
fn clocks_that_run_unevenly_are_told_at_once_with_every_view_and_noted_once_each_time() {
    let (mut b, _) = Bench::leased();
    b.told();
    let notes = |told: &[FromKeeper]| told.iter().filter(|f| matches!(f, FromKeeper::Note { .. })).count();
    let view = |told: &[FromKeeper]| {
        told.iter().rev().find_map(|f| if let FromKeeper::Lease(view) = f { Some(view.skew_ppm) } else { None })
    };
    b.input(Input::Skew { ppm: Some(100_000) });
    let told = b.told();
    assert_eq!((notes(&told), view(&told)), (1, Some(Some(100_000))), "{told:?}");
    b.input(Input::Skew { ppm: Some(90_000) });
    b.renewed();
    b.run(1100);
    let told = b.told();
    assert_eq!((notes(&told), view(&told)), (0, Some(Some(90_000))), "{told:?}");
    let again = b.attach();
    assert_eq!(again.lease.skew_ppm, Some(90_000), "another agent learns it with its welcome");
    b.input(Input::Skew { ppm: None });
    let told = b.told();
    assert_eq!((notes(&told), view(&told)), (1, Some(None)), "{told:?}");
}
