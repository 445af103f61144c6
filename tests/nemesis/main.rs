//! Real faults on real processes: five nodes, ten packages, clients and operators at work, and a nemesis that draws
//! from a seed what goes wrong next.
//!
//! `cargo test` runs a short round. The soak:
//! `PKGCTL_NEMESIS_SECONDS=3600 cargo test --release --test nemesis -- --nocapture`; it prints what is done as it is done
//! and, last of what it prints itself, a summary in JSON. `PKGCTL_NEMESIS_SEED=S` begins with that seed: it draws the same
//! faults again, though real processes never take them in quite the same way.

mod asker;
mod bell;
mod check;
mod clients;
mod fault;
mod field;
mod history;
mod lap;
mod nemesis;
mod operators;
#[path = "../sim/random.rs"]
mod random;
mod timeline;
mod totals;

use std::time::Duration;

use fault::{Fault, Planned};
use lap::{Course, Faults};
use pkgctl::lab::{Direction, Moment};
use totals::Totals;

const SECONDS_VARIABLE: &str = "PKGCTL_NEMESIS_SECONDS";
const SEED_VARIABLE: &str = "PKGCTL_NEMESIS_SEED";
/// A new cluster, with the next seed, after so long: another lab can have its turn in between.
const LAP: Duration = Duration::from_secs(240);
/// What `cargo test` runs.
const SHORT_ROUNDS: usize = 4;
const SHORT_TIME: Duration = Duration::from_secs(75);
const SHORT_SEED: u64 = 3;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// The short round, or one lap of a soak that has so long to go.
fn course(soak_left: Option<Duration>) -> Course {
    let longest = Duration::from_secs(if soak_left.is_some() { 13 } else { 6 });
    Course {
        rounds: if soak_left.is_some() { usize::MAX } else { SHORT_ROUNDS },
        time: soak_left.map_or(SHORT_TIME, |left| left.min(LAP)),
        faults: Faults::Drawn { longest },
        leased: true,
        loud: soak_left.is_some(),
    }
}

#[test]
fn whatever_the_seed_brings_no_two_nodes_act_and_nothing_acknowledged_is_lost() {
    let soak = variable(SECONDS_VARIABLE).map(Duration::from_secs);
    let mut seed = variable(SEED_VARIABLE).unwrap_or(SHORT_SEED);
    let (mut totals, begun) = (Totals::default(), Moment::now());
    let failure = loop {
        let left = soak.map(|soak| soak.saturating_sub(Moment::now().since(begun)));
        match lap::run(seed, &course(left), &mut totals) {
            // No lab can be had here; it has been said.
            Ok(false) => return,
            Ok(true) => {}
            Err(failure) => break Some(failure),
        }
        if soak.is_none_or(|soak| Moment::now().since(begun) >= soak) {
            break None;
        }
        seed += 1;
    };
    println!("\n{}", totals.summary(Moment::now().since(begun), failure.as_ref()));
    if let Some(failure) = failure {
        let again = format!("{SEED_VARIABLE}={seed} {SECONDS_VARIABLE}=240");
        panic!("{}\nagain: {again} cargo test --release --test nemesis -- --nocapture", failure.why);
    }
}

#[test]
fn without_leases_the_same_checks_see_two_nodes_acting() {
    if variable(SECONDS_VARIABLE).is_some() {
        // The soak has the machine for itself.
        return;
    }
    let cut = |node| {
        let (begins, ends) = (Duration::ZERO, Duration::from_secs(5));
        Planned { fault: Fault::Cut(node, Direction::Both), begins, ends }
    };
    let faults = Faults::These(vec![cut("n1"), cut("n2")]);
    let course = Course { rounds: 1, faults, leased: false, ..course(None) };
    let failure = match lap::run(SHORT_SEED, &course, &mut Totals::default()) {
        Ok(false) => return,
        Ok(true) => panic!("two nodes acted, and nobody saw it"),
        Err(failure) => failure,
    };
    assert_eq!(failure.check, "activity", "{}", failure.why);
    assert!(failure.double_activity_ms > 100, "{}", failure.why);
    let kept_in = failure.kept_in.expect("its logs are kept");
    assert!(kept_in.join("timeline").exists() && kept_in.join("n1/console").exists(), "{kept_in:?}");
    std::fs::remove_dir_all(kept_in).expect("what was kept can be removed");
}
