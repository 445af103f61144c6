//! Voters' lives, sessions, lease sets, expiries: rules 4, 5, 9, 11, 12, 14, 15.

use super::*;
use crate::engine::lease::{Fact, Knowledge, Learn};

#[test]
fn every_voter_up_gives_a_new_incarnation() {
    let mut log = Log::three();
    let (first, second) = (log.up(0), log.up(0));
    assert!(second > first);
    assert_eq!(log.state.voter_lives[&FOUNDER].incarnation, second);
}

#[test]
fn a_repeated_register_finds_the_session_of_its_nonce() {
    let mut log = Log::three();
    let live = log.sessions[0];
    assert_eq!(log.register(0, None), live);
    assert_eq!(log.state.sessions.len(), 3);
}

#[test]
fn a_new_keeper_gets_no_session_beside_the_old_one_unless_it_supersedes_it() {
    let mut log = Log::three();
    log.run();
    let (old, token) = (log.sessions[0], log.assign(0));
    let register = |supersedes| Command::Register { node: FOUNDER, nonce: Nonce(77), ttl: Millis(1500), supersedes };
    let in_the_way = Rejected::SessionInTheWay { node: FOUNDER, live: old };
    assert_eq!(log.refused(register(None)), in_the_way);
    assert_eq!(log.refused(register(Some(log.sessions[1]))), in_the_way);
    let applied = log.apply(register(Some(old)));
    let Reply::Session(new) = applied.reply else { panic!("{applied:?}") };
    let registered = Fact::Registered { session: new, node: FOUNDER, nonce: Nonce(77), ttl: Millis(1500) };
    assert_eq!(applied.facts, [Fact::Expired { session: old }, registered]);
    assert_eq!((log.owner(), log.state.packages[&p1()].last_token), (None, token));
    assert_eq!(log.whats(LogIndex(new.0 - 1)), ["expired", "unowned", "session"]);
}

#[test]
fn a_lapsed_session_is_superseded_by_one_of_the_same_keeper_life() {
    let mut log = Log::three();
    let new = log.register(0, Some(log.sessions[0]));
    assert!(new > log.sessions[0]);
    assert_eq!(log.register(0, Some(log.sessions[0])), new, "a repeated request finds it");
}

#[test]
fn a_lease_time_out_of_bounds_is_refused() {
    let mut log = Log::three();
    for ttl in [Millis(0), Millis(49), Millis(60_001), Millis(u64::MAX)] {
        let command = Command::Register { node: FOUNDER, nonce: Nonce(0), ttl, supersedes: None };
        assert!(matches!(log.refused(command), Rejected::Invalid(_)));
    }
}

#[test]
fn a_majority_of_current_incarnations_ends_a_session_and_its_packages_move() {
    let mut log = Log::three();
    log.run();
    let token = log.assign(0);
    let moves = vec![log.takeover(token, 1)];
    let before = log.state.applied;
    let applied = log.apply(log.expire(0, &[1, 2], moves));
    assert_eq!((applied.reply, applied.facts), (Reply::Done, vec![Fact::Expired { session: log.sessions[0] }]));
    let (owner, new) = log.owner().unwrap();
    assert_eq!(owner, log.nodes[1]);
    assert!(new > token);
    assert_eq!(log.whats(before), ["expired", "taken_over"]);
}

#[test]
fn agreements_of_an_older_incarnation_or_of_too_few_voters_end_nothing() {
    let mut log = Log::three();
    let command = log.expire(0, &[1, 2], vec![]);
    log.up(2);
    let short = Rejected::NoMajority { set: log.set, have: 1, needed: 2 };
    assert_eq!(log.refused(command), short);
    assert_eq!(log.refused(log.expire(0, &[1, 1, 1], vec![])), short, "a voter counts once");
}

#[test]
fn every_unretired_lease_set_must_have_a_majority() {
    let mut log = Log::three();
    let founder = BTreeSet::from([FOUNDER]);
    let reply = log.say(Command::AddLeaseSet { members: founder, after: Some(log.set) });
    let Reply::Set(second) = reply else { panic!("{reply:?}") };
    assert_eq!(log.refused(log.expire(0, &[1, 2], vec![])), Rejected::NoMajority { set: second, have: 0, needed: 1 });
    assert_eq!(log.refused(log.expire(1, &[0], vec![])), Rejected::NoMajority { set: log.set, have: 1, needed: 2 });
    assert_eq!(log.say(log.expire(1, &[0, 2], vec![])), Reply::Done);
}

#[test]
fn a_takeover_that_does_not_fit_refuses_the_whole_entry() {
    let mut log = Log::three();
    log.run();
    let token = log.assign(0);
    let dead = log.takeover(token, 0);
    assert_eq!(log.refused(log.expire(0, &[1, 2], vec![dead])), Rejected::SessionNotLive { session: log.sessions[0] });
    let old = Takeover { token: Token(1), ..log.takeover(token, 1) };
    assert!(matches!(log.refused(log.expire(0, &[1, 2], vec![old])), Rejected::TokenMoved { .. }));
    let of_another = log.expire(2, &[0, 1], vec![log.takeover(token, 1)]);
    assert_eq!(log.refused(of_another), Rejected::NotOwner { package: p1(), session: log.sessions[2] });
    let twice = vec![log.takeover(token, 1), log.takeover(token, 1)];
    assert!(matches!(log.refused(log.expire(0, &[1, 2], twice)), Rejected::Invalid(_)));
    log.stop(StopScope::Node(node_name(1)));
    let barred = log.expire(0, &[1, 2], vec![log.takeover(token, 1)]);
    assert!(matches!(log.refused(barred), Rejected::NotEligible { .. }));
    assert!(log.state.sessions.contains_key(&log.sessions[0]));
}

#[test]
fn what_no_takeover_names_becomes_unowned() {
    let mut log = Log::three();
    log.run();
    let token = log.assign(0);
    let before = log.state.applied;
    assert_eq!(log.say(log.expire(0, &[1, 2], vec![])), Reply::Done);
    assert_eq!((log.owner(), log.state.packages[&p1()].last_token), (None, token));
    assert_eq!(log.whats(before), ["expired", "unowned"]);
}

#[test]
fn a_session_ends_once() {
    let mut log = Log::three();
    log.say(log.expire(0, &[1, 2], vec![]));
    let again = log.expire(0, &[1, 2], vec![]);
    assert_eq!(log.refused(again), Rejected::SessionNotLive { session: log.sessions[0] });
}

#[test]
fn without_a_lease_set_no_agreement_counts() {
    let mut log = Log::three();
    log.state.lease_sets.clear();
    assert!(matches!(log.refused(log.expire(0, &[0, 1, 2], vec![])), Rejected::Invalid(_)));
}

#[test]
fn there_are_at_most_two_lease_sets_and_the_newest_is_never_retired() {
    let mut log = Log::three();
    let pair: BTreeSet<NodeId> = log.nodes[..2].iter().copied().collect();
    let add = |members: &BTreeSet<NodeId>, after| Command::AddLeaseSet { members: members.clone(), after };
    let moved = Rejected::SetMoved { newest: Some(log.set), given: None };
    assert_eq!(log.refused(add(&pair, None)), moved);
    let Reply::Set(second) = log.say(add(&pair, Some(log.set))) else { panic!() };
    assert_eq!(log.say(add(&pair, Some(log.set))), Reply::Set(second), "a repeated request finds it");
    assert_eq!(log.refused(add(&BTreeSet::from([FOUNDER]), Some(second))), Rejected::TooManySets);
    assert!(matches!(log.refused(Command::RetireLeaseSet { set: second }), Rejected::SetMoved { .. }));
    let applied = log.apply(Command::RetireLeaseSet { set: log.set });
    assert_eq!((applied.reply, applied.facts), (Reply::Done, vec![Fact::SetRetired { set: log.set }]));
    assert_eq!(log.say(Command::RetireLeaseSet { set: log.set }), Reply::Already);
}

#[test]
fn a_lease_set_follows_raft_and_its_members_have_been_up() {
    let mut log = Log::three();
    let add = |log: &Log, members: BTreeSet<NodeId>| Command::AddLeaseSet { members, after: Some(log.set) };
    assert!(matches!(log.refused(add(&log, BTreeSet::new())), Rejected::Invalid(_)));
    assert!(matches!(log.refused(add(&log, BTreeSet::from([NodeId(999)]))), Rejected::NoSuchNode { .. }));
    log.say(Command::IssueToken { digest: digest(2), expires: WallMillis(10_000_000) });
    let reply = log.say(Command::AddNode { node: new_node(3), token: digest(2), request: Nonce(9) });
    let Reply::Node(fourth) = reply else { panic!("{reply:?}") };
    let with = BTreeSet::from([FOUNDER, fourth]);
    assert!(log.refused(add(&log, with.clone())).to_string().contains("no Raft voter"));
    let index = log.next();
    apply_membership(&mut log.state, index, with.clone());
    assert!(log.refused(add(&log, with.clone())).to_string().contains("never been up"));
    log.say(Command::VoterUp { voter: fourth, nonce: Nonce(4) });
    assert!(matches!(log.say(add(&log, with)), Reply::Set(_)));
}

#[test]
fn a_keeper_that_learns_every_fact_knows_what_the_whole_state_amounts_to() {
    let mut log = Log::empty();
    let mut known = Knowledge::default();
    let nodes: BTreeSet<NodeId> = BTreeSet::from([FOUNDER]);
    let mut commands = vec![
        Command::CreateCluster { cluster: cluster(), node: new_node(0) },
        Command::VoterUp { voter: FOUNDER, nonce: Nonce(1) },
        Command::Register { node: FOUNDER, nonce: Nonce(1), ttl: Millis(400), supersedes: None },
        Command::AddLeaseSet { members: nodes.clone(), after: None },
        Command::Register { node: FOUNDER, nonce: Nonce(1), ttl: Millis(400), supersedes: Some(SessionId(3)) },
    ];
    log.state.raft_voters = nodes;
    for command in commands.drain(..) {
        let applied = log.apply(command);
        assert!(!matches!(applied.reply, Reply::Rejected(_)), "{applied:?}");
        known.learn(Learn::Step { index: log.state.applied, facts: applied.facts });
        assert_eq!(known, Knowledge::of(&log.state));
    }
}
