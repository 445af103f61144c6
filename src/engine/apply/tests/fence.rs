//! External fencing in the log: who must wait, and what ends the wait.

use super::*;
use crate::engine::fence::{Awaiting, FenceAction, FenceDevice, FenceOutcome, TIMEOUT_DEFAULT};
use crate::package::FilesystemResource;

fn device() -> FenceDevice {
    let options = [("passwd".to_owned(), "hunter2".to_owned())].into();
    let agent = "/usr/sbin/fence_x".to_owned();
    FenceDevice { agent, options, action: FenceAction::Off, timeout: TIMEOUT_DEFAULT, delay: Millis(0) }
}

/// Node 0 has a device, and package p1 of its ended session waits.
fn waiting() -> (Log, SessionId) {
    let mut log = Log::three();
    log.run();
    log.say(Command::SetFence { node: node_name(0), device: device() });
    let session = log.sessions[0];
    log.assign(0);
    let expiry = log.expire(0, &[1, 2], vec![]);
    assert_eq!(log.say(expiry), Reply::Done);
    let awaiting = Awaiting { node: log.nodes[0], session, since: WallMillis(0) };
    log.state.awaiting.insert(p1(), awaiting);
    (log, session)
}

/// Package p1 gets a filesystem whose end nothing enforces, or loses it again.
fn redefine(log: &mut Log, unenforced: bool) {
    let mut definition = package("p1", "10.0.0.100", &[0, 1]);
    if unenforced {
        let (device, mount, filesystem) = ("/dev/sdz".to_owned(), "/srv/z".to_owned(), "ext4".to_owned());
        let kind = FilesystemResource { device, mount, filesystem, options: vec![], fsck: false, unfenced: true };
        let resource = Resource {
            name: ResourceName::new("filesystem").unwrap(),
            kind: Kind::Filesystem(kind),
            ..definition.resources[0].clone()
        };
        definition.resources.push(resource);
    }
    let replaces = Some(log.state.packages[&p1()].revision);
    let reply = log.say(Command::DefinePackage { definition, replaces });
    assert!(matches!(reply, Reply::Revision(_)), "{reply:?}");
}

/// Node 0 has a device and owns p1, which has such a filesystem.
fn unenforced() -> (Log, Token) {
    let mut log = Log::three();
    redefine(&mut log, true);
    log.run();
    log.say(Command::SetFence { node: node_name(0), device: device() });
    let token = log.assign(0);
    (log, token)
}

#[test]
fn the_entry_that_ends_the_session_begins_the_wait_and_moves_nothing_that_must_wait() {
    let (mut log, token) = unenforced();
    let moving = log.expire(0, &[1, 2], vec![log.takeover(token, 1)]);
    assert!(matches!(log.refused(moving), Rejected::AwaitsFencing { .. }));
    let plain = log.expire(0, &[1, 2], vec![]);
    assert_eq!(log.say(plain), Reply::Done);
    let awaiting = log.state.awaiting[&p1()];
    assert_eq!((awaiting.node, awaiting.session), (log.nodes[0], log.sessions[0]));
    assert!(matches!(log.refused(assign(&log)), Rejected::AwaitsFencing { .. }));
}

#[test]
fn without_a_device_and_for_what_is_enforced_nobody_waits() {
    let (mut log, token) = unenforced();
    log.say(Command::DeleteFence { node: node_name(0) });
    let moving = log.expire(0, &[1, 2], vec![log.takeover(token, 1)]);
    assert_eq!(log.say(moving), Reply::Done);
    let mut log = Log::three();
    log.run();
    log.say(Command::SetFence { node: node_name(0), device: device() });
    let token = log.assign(0);
    let moving = log.expire(0, &[1, 2], vec![log.takeover(token, 1)]);
    assert_eq!(log.say(moving), Reply::Done);
}

#[test]
fn a_definition_that_becomes_enforced_does_not_free_what_runs_under_the_older_one() {
    let (mut log, token) = unenforced();
    redefine(&mut log, false);
    let moving = log.expire(0, &[1, 2], vec![log.takeover(token, 1)]);
    assert!(matches!(log.refused(moving), Rejected::AwaitsFencing { .. }));
    // The next ownership knows nothing but the new one.
    log.release(0, token, ReleaseOutcome::Stopped);
    let token = log.assign(0);
    let moving = log.expire(0, &[1, 2], vec![log.takeover(token, 1)]);
    assert_eq!(log.say(moving), Reply::Done);
}

#[test]
fn what_an_order_has_ended_needs_no_second_fencing() {
    let (mut log, token) = unenforced();
    log.say(Command::OrderFence { node: node_name(0), action: FenceAction::Off, force: true });
    log.say(begin(&log));
    let done = end(&log, fenced(&log));
    assert_eq!(log.say(done), Reply::Done);
    let moving = log.expire(0, &[1, 2], vec![log.takeover(token, 1)]);
    assert_eq!(log.say(moving), Reply::Done);
}

#[test]
fn a_keeper_that_comes_back_under_a_live_session_leaves_nobody_waiting() {
    let (mut log, _) = unenforced();
    let old = log.sessions[0];
    log.register(0, Some(old));
    assert!(log.state.awaiting.is_empty());
    assert!(matches!(log.say(assign(&log)), Reply::Token(_)));
}

fn begin(log: &Log) -> Command {
    let node = log.nodes[0];
    let after = log.state.fencing.get(&node).map(|f| f.begun).unwrap_or_default();
    Command::BeginFence { node, after, why: "p1 waits".to_owned() }
}

fn end(log: &Log, outcome: FenceOutcome) -> Command {
    let node = log.nodes[0];
    Command::EndFence { node, begun: log.state.fencing.get(&node).map(|f| f.begun).unwrap_or_default(), outcome }
}

fn fenced(log: &Log) -> FenceOutcome {
    FenceOutcome::Fenced { action: FenceAction::Off, by: log.nodes[1] }
}

fn assign(log: &Log) -> Command {
    let last = log.state.packages[&p1()].last_token;
    Command::Assign { package: p1(), last, session: log.sessions[1], why: "why".to_owned() }
}

#[test]
fn a_package_that_waits_is_given_to_nobody_until_its_old_node_is_fenced() {
    let (mut log, _) = waiting();
    let before = log.next();
    assert!(matches!(log.refused(assign(&log)), Rejected::AwaitsFencing { .. }));
    assert_eq!(log.say(begin(&log)), Reply::Done);
    assert!(matches!(log.refused(assign(&log)), Rejected::AwaitsFencing { .. }));
    let failed = end(&log, FenceOutcome::Failed { why: "no route".to_owned() });
    assert_eq!(log.say(failed), Reply::Done);
    assert!(matches!(log.refused(assign(&log)), Rejected::AwaitsFencing { .. }));
    assert!(log.state.fence_wait(&p1()).unwrap().contains("no route"));
    log.say(begin(&log));
    let done = end(&log, fenced(&log));
    assert_eq!(log.say(done), Reply::Done);
    assert!(matches!(log.say(assign(&log)), Reply::Token(_)));
    assert_eq!(log.whats(before), ["fencing", "fence_failed", "fencing", "fenced", "unowned", "assigned"]);
}

#[test]
fn an_attempt_that_was_overtaken_says_nothing() {
    let (mut log, _) = waiting();
    log.say(begin(&log));
    let (first, old) = (end(&log, fenced(&log)), begin(&log));
    log.say(begin(&log));
    assert!(matches!(log.refused(first), Rejected::Invalid(_)));
    assert!(matches!(log.refused(old), Rejected::Invalid(_)), "two leaders do not both begin");
    assert!(log.state.awaiting.contains_key(&p1()));
}

#[test]
fn a_confirmation_ends_the_wait_and_is_refused_where_nobody_waits() {
    let (mut log, _) = waiting();
    let confirm = || Command::ConfirmFence { node: node_name(0) };
    assert_eq!(log.say(confirm()), Reply::Done);
    assert!(matches!(log.say(assign(&log)), Reply::Token(_)));
    assert!(matches!(log.refused(confirm()), Rejected::NobodyWaits { .. }));
}

#[test]
fn a_new_session_of_the_node_itself_ends_the_wait() {
    let (mut log, _) = waiting();
    log.say(begin(&log));
    log.register(0, None);
    assert!(log.state.awaiting.is_empty());
    assert!(log.state.fencing.is_empty(), "nobody waits for the attempt");
    assert!(matches!(log.say(assign(&log)), Reply::Token(_)));
}

#[test]
fn success_proves_nothing_of_a_session_that_began_after_the_attempt() {
    let (mut log, _) = waiting();
    log.say(begin(&log));
    let done = end(&log, fenced(&log));
    let node = log.nodes[0];
    let later = Awaiting { node, session: SessionId(log.next().0 + 1), since: WallMillis(0) };
    log.state.awaiting.insert(p1(), later);
    assert_eq!(log.say(done), Reply::Done);
    assert!(log.state.awaiting.contains_key(&p1()));
    assert!(log.state.fenced[&node].0 < later.session.0);
}

#[test]
fn a_package_that_waits_is_not_deleted_and_its_node_not_removed() {
    let (mut log, _) = waiting();
    log.stop(StopScope::Everywhere);
    let revision = log.state.packages[&p1()].revision;
    let delete = Command::DeletePackage { package: p1(), revision };
    assert!(matches!(log.refused(delete.clone()), Rejected::AwaitsFencing { .. }));
    let remove = Command::RemoveNode { node: node_name(0) };
    assert!(matches!(log.refused(remove.clone()), Rejected::FenceFirst { .. }));
    log.say(Command::ConfirmFence { node: node_name(0) });
    assert!(matches!(log.say(remove), Reply::Node(_)));
    assert_eq!(log.say(delete), Reply::Done);
}

#[test]
fn an_order_for_a_node_that_lives_needs_force_and_a_device() {
    let mut log = Log::three();
    let order = |force| Command::OrderFence { node: node_name(0), action: FenceAction::Reboot, force };
    assert!(matches!(log.refused(order(true)), Rejected::NoFenceDevice { .. }));
    assert!(matches!(log.refused(begin(&log)), Rejected::Invalid(_)), "nobody asked for it");
    log.say(Command::SetFence { node: node_name(0), device: device() });
    assert!(matches!(log.refused(order(false)), Rejected::FenceLives { .. }));
    assert_eq!(log.say(order(true)), Reply::Done);
    assert_eq!(log.state.fence_action(log.nodes[0]), Some(FenceAction::Reboot));
    log.say(begin(&log));
    let failed = end(&log, FenceOutcome::Failed { why: "x".to_owned() });
    log.say(failed);
    assert!(log.state.to_be_fenced().is_empty(), "an order is tried once");
}

#[test]
fn an_order_that_fails_is_no_attempt_of_those_made_by_themselves() {
    let (mut log, _) = waiting();
    let node = log.nodes[0];
    let order = || Command::OrderFence { node: node_name(0), action: FenceAction::Off, force: true };
    let fail = |log: &mut Log| {
        let failed = end(log, FenceOutcome::Failed { why: "no route".to_owned() });
        assert_eq!(log.say(failed), Reply::Done);
        log.state.fencing[&node].clone()
    };
    log.say(order());
    log.say(begin(&log));
    let ordered = fail(&mut log);
    assert_eq!((ordered.failures, ordered.ordered), (0, None));
    assert!(log.state.fence_wait(&p1()).unwrap().contains("attempts go on"));
    log.say(begin(&log));
    assert_eq!(fail(&mut log).failures, 1);
    assert!(log.state.fence_wait(&p1()).unwrap().contains("attempt 1 failed: no route"));
    // Ordered while another attempt is under way: what comes of that one is not the order's.
    log.say(begin(&log));
    log.say(order());
    let automatic = fail(&mut log);
    assert_eq!((automatic.failures, automatic.ordered), (2, Some(FenceAction::Off)));
    log.say(begin(&log));
    let ordered = fail(&mut log);
    assert_eq!((ordered.failures, ordered.ordered), (2, None));
}

#[test]
fn no_secret_of_a_device_is_in_the_ledger() {
    let (log, _) = waiting();
    assert!(log.state.events.iter().all(|event| !event.why.contains("hunter2")));
    assert!(!format!("{:?}", log.state).contains("hunter2"));
}

#[test]
fn bad_devices_are_refused_with_everything_that_is_wrong() {
    let mut log = Log::three();
    let bad = FenceDevice { agent: "x".to_owned(), timeout: Millis(0), ..device() };
    let Rejected::Invalid(why) = log.refused(Command::SetFence { node: node_name(0), device: bad }) else { panic!() };
    assert_eq!(why.lines().count(), 2, "{why}");
    let stranger = Command::SetFence { node: NodeName::new("zz").unwrap(), device: device() };
    assert!(matches!(log.refused(stranger), Rejected::NoSuchNode { .. }));
    assert_eq!(log.say(Command::DeleteFence { node: node_name(0) }), Reply::Already);
}
