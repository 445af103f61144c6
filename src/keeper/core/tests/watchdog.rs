//! The watchdog: petted by a keeper that lives, starved by one that cannot take down what must be down.

use super::*;
use crate::engine::state;

const TIMEOUT: Millis = Millis::from_secs(10);
const PET: &str = "watchdog Pet";
const DISARM: &str = "watchdog Disarm";

fn opened(b: &mut Bench, timeout: Millis) {
    b.input(Input::Watchdog(WatchdogEvent::Opened { timeout, is_chosen: true }));
}

fn watched() -> (Bench, SessionId) {
    let (mut b, session) = Bench::leased();
    opened(&mut b, TIMEOUT);
    (b, session)
}

/// How often something was done since last asked.
fn count(b: &mut Bench, what: &str) -> usize {
    b.done().iter().filter(|done| *done == what).count()
}

fn view(b: &mut Bench) -> Option<state::Watchdog> {
    b.last_view().expect("a word about the lease").watchdog
}

#[test]
fn it_is_petted_from_its_opening_on_several_times_a_timeout_with_or_without_a_lease() {
    let (mut b, _) = watched();
    assert_eq!(count(&mut b, PET), 1);
    assert_eq!(view(&mut b), Some(state::Watchdog::Armed { timeout: TIMEOUT }));
    b.live(10_000);
    assert!((4..=6).contains(&count(&mut b, PET)));
    // The lease ends with nothing up: nothing is wrong.
    b.run(20_000);
    assert!((9..=11).contains(&count(&mut b, PET)));
}

#[test]
fn a_keeper_that_stands_still_pets_nobody() {
    let (mut b, _) = watched();
    count(&mut b, PET);
    b.frozen(60_000);
    assert_eq!(count(&mut b, PET), 0);
    b.run(1);
    assert_eq!(count(&mut b, PET), 1, "thawed in time, it goes on");
}

#[test]
fn a_program_that_outlives_its_lease_starves_it_after_a_grace_and_is_named() {
    let (mut b, session) = watched();
    let p = place("p", "program", 9, session);
    b.running(&p, 100);
    b.run(LEASE_MS + 500);
    assert!(b.done().contains(&"kill program".to_owned()));
    b.told();
    b.run(limits::WATCHDOG_GRACE.as_millis() as u64);
    let Some(state::Watchdog::Starved { why }) = view(&mut b) else { panic!("not starved") };
    assert!(why.contains("program 'program' of package 'p'"), "{why}");
    b.done();
    b.run(30_000);
    assert_eq!(count(&mut b, PET), 0);
    // The machine has not been reset, and the program is gone at last.
    b.gone(&p);
    assert_eq!(count(&mut b, PET), 1);
    assert_eq!(view(&mut b), Some(state::Watchdog::Armed { timeout: TIMEOUT }));
}

#[test]
fn an_address_that_cannot_be_given_up_at_the_leases_end_starves_it() {
    let (mut b, session) = watched();
    let i = place("p", "ip", 9, session);
    b.start_ip(&i);
    b.address(&i, AddressEvent::Up);
    b.run(LEASE_MS + 500);
    b.address(&i, AddressEvent::Stuck { why: "no".to_owned() });
    b.done();
    b.run(limits::WATCHDOG_GRACE.as_millis() as u64 + 10_000);
    assert!(matches!(view(&mut b), Some(state::Watchdog::Starved { .. })));
    assert!(count(&mut b, PET) <= 2);
}

#[test]
fn what_dies_within_the_grace_starves_nobody() {
    let (mut b, session) = watched();
    let p = place("p", "program", 9, session);
    b.running(&p, 100);
    b.run(LEASE_MS + limits::WATCHDOG_GRACE.as_millis() as u64 - 500);
    b.gone(&p);
    b.run(20_000);
    assert!(
        !b.told()
            .iter()
            .any(|f| matches!(f, FromKeeper::Lease(LeaseView { watchdog: Some(state::Watchdog::Starved { .. }), .. })))
    );
}

#[test]
fn a_stop_that_hangs_under_a_live_lease_starves_nobody() {
    let (mut b, session) = watched();
    let p = place("p", "program", 9, session);
    b.running(&p, 100);
    b.op(Op::StopProgram { place: p.clone(), signal: 15, grace: Millis(10) });
    b.live(20_000);
    assert!(count(&mut b, PET) >= 9);
    assert_eq!(view(&mut b), Some(state::Watchdog::Armed { timeout: TIMEOUT }));
}

#[test]
fn an_orderly_end_disarms_it_before_the_process_ends() {
    let (mut b, session) = watched();
    let p = place("p", "program", 9, session);
    b.running(&p, 100);
    b.input(Input::AgentGone);
    b.input(Input::Terminate);
    assert_eq!(count(&mut b, DISARM), 0, "not with something up");
    b.gone(&p);
    assert_eq!(b.done(), [DISARM, "exit"]);
}

#[test]
fn one_whose_timeout_nobody_chose_is_stretched_to_what_the_profile_asks_for() {
    let (mut b, _) = Bench::leased();
    let least = Millis(TTL.0 * 2);
    b.input(Input::Watchdog(WatchdogEvent::Opened { timeout: Millis(least.0 - 1), is_chosen: false }));
    let stretch = format!("watchdog {:?}", WatchdogOrder::Stretch { timeout: least });
    assert_eq!(b.done().last(), Some(&stretch));
    b.live(least.0 / 2);
    assert!(count(&mut b, &stretch) > 0, "it is petted and asked again until the driver answers");
    b.input(Input::Watchdog(WatchdogEvent::Opened { timeout: least, is_chosen: true }));
    assert_eq!(b.done(), [PET]);
    assert_eq!(view(&mut b), Some(state::Watchdog::Armed { timeout: least }));
    b.input(Input::Watchdog(WatchdogEvent::Opened { timeout: Millis(least.0 - 1), is_chosen: true }));
    assert_eq!(b.done().last().map(String::as_str), Some(DISARM), "its driver bears no more");
}

#[test]
fn one_that_would_reset_machines_whose_lease_survives_is_disarmed() {
    let (mut b, _) = Bench::leased();
    opened(&mut b, Millis(TTL.0 * 2 - 1));
    assert_eq!(b.done().last().map(String::as_str), Some(DISARM));
    let Some(state::Watchdog::Unusable { why }) = view(&mut b) else { panic!("in use") };
    assert!(why.contains("watchdog_timeout = \"3s\""), "{why}");
    b.run(20_000);
    assert_eq!(count(&mut b, PET), 0);
    // Long enough, to the millisecond.
    let (mut b, _) = Bench::leased();
    opened(&mut b, Millis(TTL.0 * 2));
    assert_eq!(count(&mut b, PET), 1);
}

#[test]
fn one_that_cannot_be_had_is_said_and_leases_go_on() {
    let (mut b, _) = Bench::leased();
    b.input(Input::Watchdog(WatchdogEvent::Unusable { why: "gone fishing".to_owned() }));
    let told = b.told();
    assert!(told.iter().any(|f| matches!(f, FromKeeper::Note { text, .. } if text.contains("gone fishing"))));
    b.live(3000);
    assert!(b.last_view().unwrap().is_live());
}
