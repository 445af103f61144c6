//! The cluster, join tokens, nodes.

use super::*;
use crate::engine::command::JOIN_TOKENS_MAX;
use crate::engine::event::{Event, LEDGER_MAX, TEXT_MAX_BYTES};
use crate::engine::operator::ClientName;

fn join(at: usize, token: String, request: u64) -> Command {
    Command::AddNode { node: new_node(at), token, request: Nonce(request) }
}

#[test]
fn a_log_holds_one_cluster_and_nothing_comes_before_it() {
    let mut log = Log::empty();
    assert_eq!(log.refused(Command::VoterUp { voter: FOUNDER, nonce: Nonce(1) }), Rejected::NoCluster);
    log.say(Command::CreateCluster { cluster: cluster(), node: new_node(0) });
    let again = Command::CreateCluster { cluster: cluster(), node: new_node(1) };
    assert_eq!(log.refused(again), Rejected::ClusterExists);
}

#[test]
fn an_entry_at_or_below_the_applied_index_changes_nothing() {
    let mut log = Log::three();
    let before = log.state.clone();
    let entry =
        Entry { wall: WallMillis(1), by: "x".into(), command: Command::RunPackage { package: p1(), node: None } };
    let applied = apply(&mut log.state, before.applied, &entry);
    assert!(matches!(applied.reply, Reply::Rejected(Rejected::Invalid(_))));
    assert_eq!(log.state, before);
}

#[test]
fn a_token_lets_one_node_in_and_a_repeated_request_finds_its_id() {
    let mut log = Log::three();
    log.say(Command::IssueToken { digest: digest(2), expires: WallMillis(10_000_000) });
    let first = log.say(join(3, digest(2), 9));
    assert!(matches!(first, Reply::Node(_)), "{first:?}");
    assert_eq!(log.say(join(3, digest(2), 9)), first);
    assert_eq!(log.refused(join(4, digest(2), 10)), Rejected::TokenUnknown);
}

#[test]
fn a_token_past_its_time_is_refused() {
    let mut log = Log::three();
    log.say(Command::IssueToken { digest: digest(2), expires: WallMillis(log.next().0 * 1000 + 1) });
    assert_eq!(log.refused(join(3, digest(2), 9)), Rejected::TokenExpired);
}

#[test]
fn nobody_joins_as_the_founder_by_guessing_its_request() {
    let mut log = Log::three();
    assert_eq!(log.refused(join(0, digest(2), 0)), Rejected::TokenUnknown);
}

#[test]
fn names_and_addresses_are_unique() {
    let mut log = Log::three();
    log.say(Command::IssueToken { digest: digest(2), expires: WallMillis(10_000_000) });
    assert_eq!(log.refused(join(1, digest(2), 9)), Rejected::NameTaken { name: node_name(1) });
    let mut node = new_node(3);
    node.links = vec![new_node(2).address];
    let command = Command::AddNode { node: node.clone(), token: digest(2), request: Nonce(9) };
    let taken = Rejected::AddressTaken { name: node_name(2), address: new_node(2).address };
    assert_eq!(log.refused(command), taken);
    node.links = vec![node.address];
    let command = Command::AddNode { node, token: digest(2), request: Nonce(9) };
    assert!(log.refused(command).to_string().contains("twice"));
}

#[test]
fn unused_tokens_are_limited_and_expired_ones_make_room() {
    let mut log = Log::three();
    let soon = WallMillis(log.next().0 * 1000 + 200_000);
    for of in 0..JOIN_TOKENS_MAX {
        let digest = format!("{of:064x}");
        assert_eq!(log.say(Command::IssueToken { digest, expires: soon }), Reply::Done);
    }
    let one_more = Command::IssueToken { digest: digest(255), expires: WallMillis(u64::MAX) };
    assert!(log.refused(one_more.clone()).to_string().contains("unused"));
    while log.next().0 * 1000 <= soon.0 {
        log.up(0);
    }
    assert_eq!(log.say(one_more), Reply::Done);
    assert_eq!(log.state.join_tokens.len(), 1);
}

#[test]
fn the_ledger_and_its_texts_are_bounded() {
    let mut log = Log::three();
    log.run();
    for _ in 0..LEDGER_MAX {
        log.up(0);
    }
    let why = "ä".repeat(TEXT_MAX_BYTES);
    let session = log.sessions[0];
    log.say(Command::Assign { package: p1(), last: Token(0), session, why });
    assert_eq!(log.state.events.len(), LEDGER_MAX);
    assert!(log.state.events.back().unwrap().why.len() <= TEXT_MAX_BYTES);
}

#[test]
fn what_one_package_keeps_saying_costs_nobody_else_its_history() {
    let mut log = Log::three();
    log.say(Command::DefinePackage { definition: package("p2", "10.0.0.200", &[0, 1]), replaces: None });
    log.run();
    let token = log.assign(0);
    let others = |log: &Log| log.state.events.iter().filter(|e| e.package != Some(p1())).cloned().collect::<Vec<_>>();
    let before = others(&log);
    assert!(before.iter().any(|e| e.package.is_some()) && before.iter().any(|e| e.package.is_none()));
    for turn in 0..LEDGER_MAX {
        log.report(token, if turn % 2 == 0 { Phase::Starting } else { Phase::Running });
        log.report(token, Phase::Stopping);
    }
    assert_eq!(log.state.events.len(), LEDGER_MAX);
    assert_eq!(others(&log), before);
    let newest = log.state.events.back().unwrap();
    assert_eq!((&newest.package, newest.index), (&Some(p1()), log.state.applied), "it loses its own oldest ones");
}

#[test]
fn of_subjects_with_as_many_events_the_one_with_the_oldest_loses_it() {
    let mut log = Log::three();
    log.run();
    let event = log.state.events.back().unwrap().clone();
    let of = |at: usize, package: Option<PackageName>| Event { index: LogIndex(at as u64), package, ..event.clone() };
    let subject = |at: usize| at.is_multiple_of(2).then(p1);
    log.state.events = (0..LEDGER_MAX).map(|at| of(at, subject(at))).collect();
    log.state.applied = LogIndex(LEDGER_MAX as u64);
    log.up(0);
    log.stop(StopScope::Everywhere);
    let indexes: Vec<u64> = log.state.events.iter().take(2).map(|e| e.index.0).collect();
    assert_eq!(indexes, [2, 3], "the cluster lost 1 as it had one more, then the package 0, which was the oldest");
}

#[test]
fn raft_voters_are_copied_and_noted_once() {
    let mut log = Log::three();
    let before = log.state.applied;
    for _ in 0..2 {
        let index = log.next();
        apply_membership(&mut log.state, index, BTreeSet::from([FOUNDER]));
    }
    assert_eq!(log.state.raft_voters, BTreeSet::from([FOUNDER]));
    assert_eq!(log.whats(before), ["voters"]);
    assert_eq!(log.state.events.back().unwrap().why, "Raft's voters are now n1");
}

#[test]
fn a_node_that_is_down_can_be_given_up_and_its_name_comes_back_as_a_new_node() {
    let mut log = Log::three();
    let remove = |at: usize| Command::RemoveNode { node: node_name(at) };
    assert_eq!(log.refused(remove(7)), Rejected::NoSuchNode { node: "n8".to_owned() });
    log.state.sessions.retain(|_, session| session.node != log.nodes[2]);
    let gone = log.nodes[2];
    assert_eq!(log.say(remove(2)), Reply::Node(gone));
    assert_eq!(log.say(remove(2)), Reply::Already);
    let register = Command::Register { node: gone, nonce: Nonce(77), ttl: Millis(1500), supersedes: None };
    assert!(log.refused(register).to_string().contains("being removed"));
    assert!(log.refused(Command::ForgetNode { node: gone }).to_string().contains("still has a vote"));
    log.say(Command::IssueToken { digest: digest(2), expires: WallMillis(10_000_000) });
    assert!(log.refused(join(2, digest(2), 9)).to_string().contains("still being removed"));
    log.state.raft_voters.remove(&gone);
    log.state.lease_sets.values_mut().for_each(|set| set.retain(|member| *member != gone));
    assert_eq!(log.state.removed(gone), None, "it is a member until then");
    assert_eq!(log.say(Command::ForgetNode { node: gone }), Reply::Done);
    let at = log.state.applied;
    assert_eq!(log.say(Command::ForgetNode { node: gone }), Reply::Already);
    let Reply::Node(back) = log.say(join(2, digest(2), 9)) else { panic!("it may join again") };
    assert!(back > gone, "under an id that was never used");
    assert_eq!((log.state.removed(gone), log.state.removed(back)), (Some(at), None));
}

#[test]
fn a_node_that_is_up_is_given_nothing_once_it_is_being_removed_and_is_forgotten_when_it_owns_nothing() {
    let mut log = Log::three();
    log.run();
    let remove = |at: usize| Command::RemoveNode { node: node_name(at) };
    let token = log.assign(0);
    let leaves = log.nodes[0];
    log.stop(StopScope::Node(node_name(1)));
    let stuck = log.refused(remove(0)).to_string();
    assert!(stuck.contains("no other node can take p1") && stuck.contains("pkgctl halt"), "{stuck}");
    log.run();
    assert_eq!(log.say(remove(0)), Reply::Node(leaves));
    let without_votes = |log: &mut Log| {
        log.state.raft_voters.remove(&leaves);
        log.state.lease_sets.values_mut().for_each(|set| set.retain(|member| *member != leaves));
        log.say(Command::ForgetNode { node: leaves })
    };
    assert!(matches!(without_votes(&mut log), Reply::Rejected(_)), "it owns a package");
    let keep = Command::KeepNode { node: node_name(0) };
    assert_eq!((log.say(keep.clone()), log.say(keep)), (Reply::Node(leaves), Reply::Already));
    assert!(log.state.leaving.is_empty() && log.state.packages[&p1()].owner.is_some());
    assert_eq!(log.say(remove(0)), Reply::Node(leaves));
    let to = log.nodes[1];
    log.say(Command::MovePackage { package: p1(), token, to, why: "x".into() });
    log.release(0, token, ReleaseOutcome::Stopped);
    assert_eq!(log.state.packages[&p1()].owner.as_ref().map(|owner| owner.node), Some(to));
    let token = log.state.packages[&p1()].last_token;
    let back = log.refused(Command::MovePackage { package: p1(), token, to: leaves, why: "x".into() }).to_string();
    assert!(back.contains("it is being removed"), "{back}");
    let session = log.sessions[0];
    assert!(log.state.sessions.contains_key(&session));
    assert_eq!(without_votes(&mut log), Reply::Done);
    assert!(!log.state.sessions.contains_key(&session) && !log.state.down.contains_key(&leaves));
}

#[test]
fn a_node_that_is_up_stays_while_the_others_make_no_majority_without_it() {
    let mut log = Log::three();
    log.state.raft_voters = log.nodes.iter().copied().collect();
    log.state.sessions.retain(|_, session| session.node != log.nodes[2]);
    let needed = log.refused(Command::RemoveNode { node: node_name(1) });
    assert!(matches!(&needed, Rejected::NodeNeeded { voters: 2, there: 1, absent, .. } if absent == "n3"), "{needed}");
    assert!(matches!(log.say(Command::RemoveNode { node: node_name(2) }), Reply::Node(_)), "it is down");
    assert!(matches!(log.say(Command::RemoveNode { node: node_name(1) }), Reply::Node(_)));
}

#[test]
fn a_removal_that_would_wait_for_a_silent_voter_is_known_before_its_session_has_ended() {
    let mut log = Log::three();
    log.state.raft_voters = log.nodes.iter().copied().collect();
    let (second, third) = (log.sessions[1], log.sessions[2]);
    let ask = |state: &State, at: usize, silent: &[SessionId]| {
        removal_waits_for_nobody(state, &node_name(at), &silent.iter().copied().collect())
    };
    assert_eq!(ask(&log.state, 1, &[]), Ok(()));
    let needed = ask(&log.state, 1, &[third]).unwrap_err();
    assert!(matches!(&needed, Rejected::NodeNeeded { voters: 2, there: 1, absent, .. } if absent == "n3"), "{needed}");
    assert_eq!(ask(&log.state, 2, &[third]), Ok(()), "it is the silent one that goes");
    assert_eq!(ask(&log.state, 1, &[second, third]), Ok(()), "it makes no majority smaller");
    assert_eq!(ask(&log.state, 3, &[third]), Ok(()), "that there is no such node is for the log to say");
    log.state.raft_voters.remove(&log.nodes[2]);
    assert_eq!(ask(&log.state, 1, &[third]), Ok(()), "it has no vote");
    log.state.raft_voters = [log.nodes[0]].into();
    assert_eq!(ask(&log.state, 1, &[]), Ok(()), "that it is the last voter is for the log to say");
}

#[test]
fn the_last_voter_cannot_be_given_up() {
    let mut log = Log::three();
    log.state.sessions.clear();
    log.state.raft_voters = [log.nodes[0]].into();
    let why = log.refused(Command::RemoveNode { node: node_name(0) }).to_string();
    assert!(why.contains("last voter"), "{why}");
}

#[test]
fn an_operator_is_admitted_until_revoked_and_its_name_is_never_given_again() {
    let mut log = Log::three();
    let name = ClientName::new("alice").unwrap();
    assert!(!log.state.admits_operator(&name), "nobody signed for it here");
    assert_eq!(log.say(Command::AdmitOperator { name: name.clone() }), Reply::Done);
    assert_eq!(log.say(Command::AdmitOperator { name: name.clone() }), Reply::Already);
    assert!(log.state.admits_operator(&name));
    assert_eq!(log.say(Command::RevokeOperator { name: name.clone() }), Reply::Done);
    assert_eq!(log.say(Command::RevokeOperator { name: name.clone() }), Reply::Already);
    assert!(!log.state.admits_operator(&name));
    let again = log.say(Command::AdmitOperator { name });
    assert!(matches!(again, Reply::Rejected(Rejected::OperatorRevoked { .. })), "{again:?}");
    let stranger = log.say(Command::RevokeOperator { name: ClientName::new("bob").unwrap() });
    assert!(matches!(stranger, Reply::Rejected(Rejected::NoSuchOperator { .. })), "{stranger:?}");
}
