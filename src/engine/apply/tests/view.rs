//! What `status` says of a package as its log goes on.

use super::*;
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
fn a_lost_owner_shows_as_failing_over_with_the_reason() {
    let mut log = Log::three();
    log.run();
    log.assign(0);
    log.say(log.expire(0, &[1, 2], vec![]));
    let headline = view(&log).headline();
    assert!(headline.starts_with("failing over: session"), "{headline}");
}
