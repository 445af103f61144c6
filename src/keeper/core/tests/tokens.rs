//! Which ownerships may start anything, and releases (rules 20 and 21).

use super::*;

#[test]
fn nothing_starts_without_a_session_without_a_lease_or_under_another_session() {
    let mut b = Bench::attached();
    assert!(is_refused(&b.start(&place("p", "program", 9, SessionId(3)))), "no session");
    let session = b.register();
    assert!(is_refused(&b.start(&place("p", "program", 9, session))), "no lease yet");
    b.renewed();
    assert!(is_refused(&b.start(&place("p", "program", 9, SessionId(999)))), "another session");
    assert_eq!(b.start(&place("p", "program", 9, session)), None, "under way");
    assert!(b.done().contains(&"spawn program".to_owned()));
}

#[test]
fn nothing_starts_when_less_than_the_leash_margin_of_the_lease_is_left() {
    let (mut b, session) = Bench::leased();
    let renewed_at = b.ms;
    b.frozen(LEASE_MS - MARGIN_MS);
    assert_eq!(b.ms, renewed_at + LEASE_MS - MARGIN_MS);
    assert!(is_refused(&b.start(&place("p", "program", 9, session))));
}

#[test]
fn released_and_older_tokens_start_nothing_and_a_newer_agent_changes_nothing_about_that() {
    let (mut b, session) = Bench::leased();
    let package = PackageName::new("p").unwrap();
    assert_eq!(b.ask(Op::Release { package: package.clone(), token: Token(9) }), Some(Outcome::Ok));
    let welcome = b.attach();
    assert_eq!(welcome.released, BTreeMap::from([(package.clone(), Token(9))]));
    assert!(is_refused(&b.start(&place("p", "program", 9, session))), "at it");
    assert!(is_refused(&b.start_ip(&place("p", "ip", 8, session))), "below it");
    b.running(&place("p", "program", 12, session), 100);
    assert!(is_refused(&b.start_ip(&place("p", "ip", 11, session))), "below the largest seen");
    assert_eq!(b.attach().largest, BTreeMap::from([(package, Token(12))]));
}

#[test]
fn a_release_is_refused_while_anything_of_the_package_is_up_or_dying() {
    let (mut b, session) = Bench::leased();
    let p = place("p", "program", 9, session);
    b.running(&p, 100);
    let release = Op::Release { package: p.package.clone(), token: Token(9) };
    assert!(is_refused(&b.ask(release.clone())));
    b.op(Op::StopProgram { place: p.clone(), signal: 15, grace: Millis(1000) });
    b.program(&p, ProgramEvent::Exited { exit: Exit::Code(0) });
    assert!(is_refused(&b.ask(release.clone())), "its main process has ended, its namespace has not");
    b.gone(&p);
    assert_eq!(b.ask(release), Some(Outcome::Ok));
}

#[test]
fn another_packages_programs_do_not_hold_a_release_back() {
    let (mut b, session) = Bench::leased();
    b.running(&place("q", "program", 9, session), 100);
    let package = PackageName::new("p").unwrap();
    assert_eq!(b.ask(Op::Release { package, token: Token(9) }), Some(Outcome::Ok));
}
