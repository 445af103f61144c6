//! A node that went on alone: nothing is granted before everybody else is known to be off, by whatever word.

use super::*;
use crate::engine::check;
use crate::engine::fallback::{Alone, go_alone};
use crate::engine::fence::{FenceAction, FenceDevice, FenceOutcome, TIMEOUT_DEFAULT};

/// What chance and an operator add.
pub(crate) fn alone() -> Alone {
    Alone {
        cluster: ClusterId(0x0700),
        ca_certificate: "another authority".into(),
        ca_key: String::new(),
        datagram_key: DatagramKey([9; 32]),
        wall: WallMillis(77),
        by: "root@n1".into(),
        fence: false,
    }
}

/// The first node of that log after it went on alone, with a session and a lease set of its own.
pub(super) fn gone_alone(of: &Log) -> Log {
    let state = go_alone(&of.state, of.nodes[0], alone()).unwrap();
    assert_eq!(check::consistent(&state), Ok(()));
    let nodes = of.nodes.clone();
    let mut log = Log { state, nodes, sessions: Vec::new(), lives: Vec::new(), set: SetId(0) };
    let (life, session) = (log.up(0), log.register(0, None));
    log.lives.push(life);
    log.sessions.push(session);
    let Reply::Set(set) = log.say(Command::AddLeaseSet { members: [log.nodes[0]].into(), after: None }) else {
        panic!("no lease set")
    };
    log.set = set;
    log
}

/// Of three nodes, of which the second owned p1 and had a device.
fn one_of_three() -> Log {
    let mut log = Log::three();
    log.run();
    log.assign(1);
    log.say(Command::SetFence { node: node_name(1), device: device() });
    gone_alone(&log)
}

fn device() -> FenceDevice {
    let agent = "/usr/sbin/fence_x".to_owned();
    FenceDevice {
        agent,
        options: BTreeMap::new(),
        action: FenceAction::Off,
        timeout: TIMEOUT_DEFAULT,
        delay: Millis(0),
    }
}

fn assign(log: &Log) -> Command {
    let last = log.state.packages[&p1()].last_token;
    Command::Assign { package: p1(), last, session: log.sessions[0], why: "why".into() }
}

fn confirm(at: usize) -> Command {
    Command::ConfirmFence { node: node_name(at) }
}

fn why_not(log: &mut Log) -> String {
    match log.refused(assign(log)) {
        Rejected::AwaitsFormers { why, .. } => why,
        other => panic!("{other}"),
    }
}

#[test]
fn nothing_is_granted_before_every_former_member_and_all_others_are_known_to_be_off() {
    let mut log = one_of_three();
    let old_token = log.state.packages[&p1()].last_token;
    assert!(why_not(&mut log).contains("n2, n3"));
    assert_eq!(log.say(confirm(1)), Reply::Done);
    let why = why_not(&mut log);
    assert!(why.contains("on n3:") && why.contains("--unlisted"), "{why}");
    assert!(matches!(log.refused(confirm(1)), Rejected::NobodyWaits { .. } | Rejected::NoSuchNode { .. }));
    assert_eq!(log.say(confirm(2)), Reply::Done);
    assert!(why_not(&mut log).contains("--unlisted"));
    assert!(matches!(log.refused(Command::SayWhole), Rejected::FormersLeft { .. }));
    assert_eq!(log.say(Command::ConfirmUnlisted), Reply::Done);
    assert_eq!(log.say(Command::ConfirmUnlisted), Reply::Already);
    let Reply::Token(token) = log.say(assign(&log)) else { panic!("not given") };
    assert!(token.0 > old_token.0 + (1 << 32), "the old cluster may have given many since");
}

#[test]
fn no_other_way_to_a_grant_is_open_before_that() {
    let mut log = one_of_three();
    log.say(Command::RunPackage { package: p1(), node: None });
    assert!(why_not(&mut log).contains("n2, n3"));
    // A second member, which joins after it was confirmed; moves, releases and expiries give nothing either.
    log.say(confirm(1));
    log.say(Command::IssueToken { digest: digest(3), expires: WallMillis(u64::MAX) });
    let join = Command::AddNode { node: new_node(1), token: digest(3), request: Nonce(9) };
    let Reply::Node(id) = log.say(join) else { panic!("not taken in") };
    log.nodes[1] = id;
    log.register(1, None);
    assert!(why_not(&mut log).contains("n3"));
    let moved = Command::MovePackage { package: p1(), token: Token(1), to: id, why: String::new() };
    assert!(matches!(log.refused(moved), Rejected::TokenMoved { .. }));
    assert_eq!(log.owner(), None);
}

#[test]
fn a_node_of_the_old_cluster_is_not_taken_in_by_its_name_before_it_is_known_to_have_left_it() {
    let mut log = one_of_three();
    log.say(Command::IssueToken { digest: digest(3), expires: WallMillis(u64::MAX) });
    let join = || Command::AddNode { node: new_node(1), token: digest(3), request: Nonce(9) };
    assert!(matches!(log.refused(join()), Rejected::FormerNode { .. }));
    log.say(confirm(1));
    let Reply::Node(id) = log.say(join()) else { panic!("not taken in") };
    assert!(id.0 > 1 << 32, "no id of the old cluster's is given again");
}

#[test]
fn a_fence_agent_proves_that_a_former_member_is_off_and_a_restart_proves_nothing() {
    let mut log = one_of_three();
    let (id, order) = (log.nodes[1], |action| Command::OrderFence { node: node_name(1), action, force: false });
    assert!(matches!(log.refused(order(FenceAction::Reboot)), Rejected::Invalid(_)));
    assert_eq!(log.say(order(FenceAction::Off)), Reply::Done);
    let why = String::new();
    let begun = log.next();
    assert_eq!(log.say(Command::BeginFence { node: id, after: LogIndex(0), why }), Reply::Done);
    let failed = FenceOutcome::Failed { why: "no answer".into() };
    assert_eq!(log.say(Command::EndFence { node: id, begun, outcome: failed }), Reply::Done);
    assert!(why_not(&mut log).contains("n2, n3"));
    log.say(order(FenceAction::Off));
    let (after, begun) = (begun, log.next());
    log.say(Command::BeginFence { node: id, after, why: String::new() });
    let outcome = FenceOutcome::Fenced { action: FenceAction::Off, by: log.nodes[0] };
    assert_eq!(log.say(Command::EndFence { node: id, begun, outcome }), Reply::Done);
    assert!(why_not(&mut log).contains("on n3:"));
    let fallback = log.state.fallback.clone().unwrap();
    assert!(fallback.formers[&id].off.as_ref().unwrap().how.contains("was fenced (off)"));
}

#[test]
fn it_is_whole_by_an_operators_word_and_then_nothing_of_the_old_cluster_is_left() {
    let mut log = one_of_three();
    [1, 2].into_iter().for_each(|at| drop(log.say(confirm(at))));
    log.say(Command::ConfirmUnlisted);
    assert_eq!(log.say(Command::SayWhole), Reply::Done);
    assert_eq!((&log.state.fallback, log.state.fence_devices.len()), (&None, 0));
    assert_eq!(log.refused(Command::SayWhole), Rejected::NotAlone);
    assert_eq!(log.refused(Command::ConfirmUnlisted), Rejected::NotAlone);
}
