//! Assignments, planned moves, releases, reports: I2, rules 20 and 21.

use super::*;
use crate::engine::state::Eligibility;

fn switch(log: &Log, token: Token, to: usize) -> Command {
    Command::MovePackage { package: p1(), token, to: log.nodes[to], why: "asked by root".into() }
}

fn failed() -> ReleaseOutcome {
    ReleaseOutcome::Failed { reason: "exit code 1".into() }
}

#[test]
fn an_unowned_package_goes_to_a_live_eligible_session_with_a_larger_token() {
    let mut log = Log::three();
    let assign = |log: &Log, at: usize, last| Command::Assign {
        package: p1(),
        last,
        session: log.sessions[at],
        why: "preferred".into(),
    };
    assert!(log.refused(assign(&log, 0, Token(0))).to_string().contains("halted"));
    log.run();
    assert!(matches!(log.refused(assign(&log, 2, Token(0))), Rejected::NotEligible { .. }));
    let first = log.assign(0);
    assert_eq!(log.refused(assign(&log, 1, first)), Rejected::Owned { package: p1() });
    log.release(0, first, ReleaseOutcome::Stopped);
    assert!(matches!(log.refused(assign(&log, 1, Token(0))), Rejected::TokenMoved { .. }));
    assert!(log.assign(1) > first);
}

#[test]
fn only_the_holder_of_the_token_releases() {
    let mut log = Log::three();
    log.run();
    let token = log.assign(0);
    assert!(matches!(log.release(1, token, ReleaseOutcome::Stopped), Reply::Rejected(Rejected::NotOwner { .. })));
    let other = log.release(0, Token(token.0 + 1), ReleaseOutcome::Stopped);
    assert!(matches!(other, Reply::Rejected(Rejected::TokenMoved { .. })));
    assert_eq!(log.release(0, token, ReleaseOutcome::Stopped), Reply::Done);
    assert!(matches!(log.release(0, token, ReleaseOutcome::Stopped), Reply::Rejected(_)), "an ownership ends once");
}

#[test]
fn a_planned_move_is_completed_by_the_release() {
    let mut log = Log::three();
    log.run();
    let token = log.assign(0);
    assert_eq!(log.say(switch(&log, token, 1)), Reply::Done);
    assert_eq!(log.say(switch(&log, token, 1)), Reply::Already);
    assert_eq!(log.say(switch(&log, token, 0)), Reply::Already);
    let before = log.state.applied;
    let new = Token(log.next().0);
    assert_eq!(log.release(0, token, ReleaseOutcome::Stopped), Reply::Token(new));
    assert_eq!(log.owner(), Some((log.nodes[1], new)));
    assert_eq!(log.whats(before), ["released", "moved"]);
    assert_eq!(log.state.packages[&p1()].owner.as_ref().unwrap().why, "asked by root");
}

#[test]
fn a_move_needs_the_current_token_and_a_live_eligible_target() {
    let mut log = Log::three();
    log.run();
    let token = log.assign(0);
    assert!(matches!(log.refused(switch(&log, Token(1), 1)), Rejected::TokenMoved { .. }));
    assert!(log.refused(switch(&log, token, 2)).to_string().contains("not in its node list"));
    log.say(log.expire(1, &[0, 2], vec![]));
    assert!(log.refused(switch(&log, token, 1)).to_string().contains("keeper is not up"));
}

#[test]
fn a_move_whose_target_is_gone_by_the_release_leaves_the_package_unowned() {
    let mut log = Log::three();
    log.run();
    let token = log.assign(0);
    log.say(switch(&log, token, 1));
    log.say(log.expire(1, &[0, 2], vec![]));
    assert_eq!(log.release(0, token, ReleaseOutcome::Stopped), Reply::Done);
    assert_eq!(log.owner(), None);
}

#[test]
fn stopping_the_target_or_everywhere_calls_a_move_off() {
    for scope in [StopScope::Node(node_name(1)), StopScope::Everywhere] {
        let mut log = Log::three();
        log.run();
        let token = log.assign(0);
        log.say(switch(&log, token, 1));
        assert_eq!(log.stop(scope), Reply::Done);
        assert_eq!(log.state.packages[&p1()].owner.as_ref().unwrap().moving_to, None);
        assert_eq!(log.release(0, token, ReleaseOutcome::Stopped), Reply::Done);
    }
}

#[test]
fn a_failed_release_keeps_the_node_out_until_it_is_cleared() {
    let mut log = Log::three();
    log.run();
    let token = log.assign(0);
    let since = WallMillis(log.next().0 * 1000);
    assert_eq!(log.release(0, token, failed()), Reply::Done);
    let out = Eligibility::Failed { since, reason: "exit code 1".into() };
    assert_eq!(log.state.packages[&p1()].eligibility[&node_name(0)], out);
    let clear = Command::ClearFailure { package: p1(), node: node_name(0) };
    assert_eq!(log.say(clear.clone()), Reply::Done);
    assert_eq!(log.say(clear), Reply::Already);
}

#[test]
fn the_operators_stop_outlasts_a_failure() {
    let mut log = Log::three();
    log.run();
    let token = log.assign(0);
    log.stop(StopScope::Owner);
    log.release(0, token, failed());
    let now = &log.state.packages[&p1()].eligibility[&node_name(0)];
    assert!(matches!(now, Eligibility::Withdrawn { .. }), "{now:?}");
}

#[test]
fn only_the_current_owner_reports_and_a_phase_is_dated_from_its_first_report() {
    let mut log = Log::three();
    log.run();
    let token = log.assign(0);
    assert!(matches!(log.report(Token(1), Phase::Running), Reply::Rejected(Rejected::TokenMoved { .. })));
    let before = log.state.applied;
    log.report(token, Phase::Running);
    let since = log.state.packages[&p1()].report.as_ref().unwrap().since;
    let again = log.report(token, Phase::Running);
    assert_eq!((again, log.whats(before)), (Reply::Already, vec!["running"]), "it was delivered twice");
    let (package, phase, note) = (p1(), Phase::Running, "program runs again".to_owned());
    log.say(Command::Report { package, token, phase, resources: Vec::new(), after: Millis(5), note });
    assert_eq!(log.state.packages[&p1()].report.as_ref().unwrap().since, since);
    assert_eq!(log.whats(before), ["running", "report"]);
    assert_eq!(log.state.events.back().unwrap().after, Some(Millis(5)));
}
