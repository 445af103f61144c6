//! What `status` says of a package as its log goes on.

use super::*;
use crate::engine::codec;
use crate::engine::view::{PackageView, package_view};

fn view(log: &Log) -> PackageView {
    package_view(&log.state, &p1()).unwrap()
}

#[test]
fn a_package_is_halted_until_run_and_says_what_to_do() {
    let log = Log::three();
    assert_eq!(view(&log).headline(), "halted: not run yet; `pkgctl run p1` starts it");
    assert_eq!(view(&log).nodes[0].why, "has not been told to run it");
    assert_eq!(package_view(&log.state, &PackageName::new("nope").unwrap()), None);
}

#[test]
fn the_words_follow_the_owner() {
    let mut log = Log::three();
    log.run();
    assert_eq!(view(&log).headline(), "starting: waiting for an eligible node with a live session");
    let token = log.assign(0);
    assert_eq!(view(&log).headline(), "starting: first");
    log.report(token, Phase::Starting);
    assert_eq!(view(&log).headline(), "starting: first");
    log.report(token, Phase::Running);
    let running = view(&log);
    assert_eq!((running.headline().as_str(), running.owner), ("running: first", Some(node_name(0))));
    assert_eq!((running.token, running.since), (Some(token), Some(WallMillis(log.state.applied.0 * 1000))));
    log.report(token, Phase::Held);
    assert_eq!(view(&log).headline(), "held: Held");
}

#[test]
fn a_stop_shows_as_stopping_then_as_failing_over_then_on_the_standby() {
    let mut log = Log::three();
    log.run();
    let token = log.assign(0);
    log.stop(StopScope::Owner);
    assert_eq!(view(&log).headline(), "stopping: n1 was stopped by root@n1");
    log.release(0, token, ReleaseOutcome::Stopped);
    assert_eq!(view(&log).headline(), "failing over: n1 has stopped it in good order");
    log.assign(1);
    assert_eq!(view(&log).owner, Some(node_name(1)));
}

#[test]
fn a_planned_move_shows_as_moving() {
    let mut log = Log::three();
    log.run();
    let token = log.assign(0);
    log.say(Command::MovePackage { package: p1(), token, to: log.nodes[1], why: "asked by root".into() });
    assert_eq!(view(&log).headline(), "moving: asked by root");
}

#[test]
fn with_nobody_left_it_is_halted_and_says_why() {
    let mut log = Log::three();
    log.run();
    for at in 0..2 {
        let token = log.assign(at);
        log.release(at, token, ReleaseOutcome::Failed { reason: format!("exit code {at}") });
    }
    assert_eq!(view(&log).headline(), "halted: failed on n1 (exit code 0), n2 (exit code 1)");
    log.run();
    log.stop(StopScope::Node(node_name(0)));
    log.stop(StopScope::Node(node_name(1)));
    assert_eq!(view(&log).headline(), "halted: no eligible node");
    log.stop(StopScope::Everywhere);
    assert_eq!(view(&log).headline(), "halted: stopped everywhere by root@n1");
}

#[test]
fn a_node_that_is_down_removed_or_kept_out_is_not_eligible_and_says_why() {
    let mut log = Log::three();
    log.run();
    let told = |log: &Log, at: usize| {
        let node = view(log).nodes.swap_remove(at);
        (node.eligible, node.why, node.since)
    };
    assert_eq!(told(&log, 0), (true, "eligible".into(), None));
    log.say(log.expire(0, &[1, 2], vec![]));
    let since = Some(WallMillis(log.state.applied.0 * 1000));
    assert_eq!(told(&log, 0), (false, "is down: its keeper has no session".into(), since));
    assert!(told(&log, 1).0, "the other is there");
    log.say(Command::RemoveNode { node: node_name(0) });
    assert_eq!(told(&log, 0), (false, "is being removed from the cluster".into(), since));
    log.stop(StopScope::Node(node_name(0)));
    let since = Some(WallMillis(log.state.applied.0 * 1000));
    let why = "was stopped by root@n1; is being removed from the cluster".to_owned();
    assert_eq!(told(&log, 0), (false, why, since));
    log.run();
    log.state.nodes.retain(|_, node| node.name != node_name(0));
    let why = "is no member of the cluster: it was removed or has never joined".to_owned();
    assert_eq!(told(&log, 0), (false, why, None));
}

#[test]
fn a_node_that_comes_back_is_eligible_again_and_not_down() {
    let mut log = Log::three();
    log.run();
    log.say(log.expire(0, &[1, 2], vec![]));
    log.register(0, None);
    assert!(view(&log).nodes[0].eligible && log.state.down.is_empty());
    let old = log.sessions[0];
    log.register(0, Some(old));
    assert!(view(&log).nodes[0].eligible && log.state.down.is_empty());
}

#[test]
fn a_lost_owner_shows_as_failing_over_with_the_reason() {
    let mut log = Log::three();
    log.run();
    log.assign(0);
    log.say(log.expire(0, &[1, 2], vec![]));
    let headline = view(&log).headline();
    assert!(headline.starts_with("failing over: session"), "{headline}");
}

/// State, reason and since, with the ledger as it is and with one that has forgotten everything.
fn told(log: &Log) -> (String, Option<u64>) {
    let mut forgetful = log.state.clone();
    forgetful.events.clear();
    let view = package_view(&forgetful, &p1()).unwrap();
    assert_eq!(Some(&view), package_view(&log.state, &p1()).as_ref());
    (view.headline(), view.since.map(|wall| wall.0 / 1000))
}

#[test]
fn why_and_since_when_a_package_is_where_it_is_does_not_depend_on_the_ledger() {
    let mut log = Log::three();
    let now = |log: &Log| Some(log.state.applied.0);
    assert_eq!(told(&log), ("halted: not run yet; `pkgctl run p1` starts it".into(), now(&log)));
    log.run();
    assert_eq!(told(&log), ("starting: waiting for an eligible node with a live session".into(), now(&log)));
    let token = log.assign(0);
    log.stop(StopScope::Everywhere);
    log.release(0, token, ReleaseOutcome::Stopped);
    let stopped = ("halted: stopped everywhere by root@n1".to_owned(), now(&log));
    log.up(0);
    assert_eq!(told(&log), stopped);
    log.run();
    let headline = "failing over: should run; every node of its list may own it: n1, n2".to_owned();
    assert_eq!(told(&log), (headline, now(&log)));

    log.assign(0);
    log.say(log.expire(0, &[1, 2], vec![]));
    let (headline, since) = told(&log);
    assert!(headline.starts_with("failing over: session") && since == now(&log), "{headline}");
    for at in 0..2 {
        log.stop(StopScope::Node(node_name(at)));
    }
    let nobody = ("halted: no eligible node".to_owned(), now(&log));
    log.up(0);
    assert_eq!(told(&log), nobody);
    log.stop(StopScope::Everywhere);
    assert_eq!(told(&log), ("halted: stopped everywhere by root@n1".into(), now(&log)));
}

#[test]
fn a_package_of_a_snapshot_without_causes_opens_and_says_nothing_false() {
    let mut log = Log::three();
    let reopened = |log: &Log| {
        let mut value = serde_json::to_value(&log.state.packages[&p1()]).unwrap();
        let fields = value.as_object_mut().unwrap();
        assert!(fields.remove("halted").is_some() && fields.remove("unowned").is_some());
        let mut state = log.state.clone();
        state.packages.insert(p1(), codec::decode(&codec::encode(&value)).unwrap());
        package_view(&state, &p1()).unwrap().headline()
    };
    assert_eq!(reopened(&log), "halted: not run yet; `pkgctl run p1` starts it");
    log.run();
    log.stop(StopScope::Everywhere);
    assert_eq!(reopened(&log), "halted: stopped everywhere; who did it and when was not kept");
    log.run();
    let token = log.assign(0);
    log.release(0, token, ReleaseOutcome::Stopped);
    assert_eq!(reopened(&log), "failing over");
}
