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

use lap::Length;
use pkgctl::lab::Moment;
use totals::Totals;

const SECONDS_VARIABLE: &str = "PKGCTL_NEMESIS_SECONDS";
const SEED_VARIABLE: &str = "PKGCTL_NEMESIS_SEED";
/// A new cluster, with the next seed, after so long: another lab can have its turn in between.
const LAP: Duration = Duration::from_secs(240);
/// What `cargo test` runs.
const SHORT: Length = Length { rounds: 4, time: Duration::from_secs(75), longest_fault: Duration::from_secs(6) };
const SHORT_SEED: u64 = 3;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

#[test]
fn whatever_the_seed_brings_no_two_nodes_act_and_nothing_acknowledged_is_lost() {
    let soak = variable(SECONDS_VARIABLE).map(Duration::from_secs);
    let mut seed = variable(SEED_VARIABLE).unwrap_or(SHORT_SEED);
    let (mut totals, begun) = (Totals::default(), Moment::now());
    let failure = loop {
        let left = soak.map(|soak| soak.saturating_sub(Moment::now().since(begun)));
        let longest_fault = Duration::from_secs(13);
        let length = left.map_or(SHORT, |left| Length { rounds: usize::MAX, time: left.min(LAP), longest_fault });
        match lap::run(seed, length, soak.is_some(), &mut totals) {
            // No lab can be had here; it has been said.
            Ok(false) => return,
            Ok(true) => {}
            Err(failure) => break Some(failure),
        }
        seed += 1;
        if soak.is_none_or(|soak| Moment::now().since(begun) >= soak) {
            break None;
        }
    };
    println!("\n{}", totals.summary(Moment::now().since(begun), failure.as_ref()));
    if let Some(failure) = failure {
        panic!(
            "{}\nagain: {SEED_VARIABLE}={seed} {SECONDS_VARIABLE}=240 cargo test --release --test nemesis -- --nocapture",
            failure.why
        );
    }
}
