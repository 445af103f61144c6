//! The simulation bites: bugs that are planted are found within so many seeds. docs/testing.md lists what each of the
//! rarer ones takes; those are looked for by hand, with `pkgctl-sim --plant NAME`.

use simulation::plant::Plant;
use simulation::run::{Options, run};

fn is_found_within(seeds: u64, plant: Plant) {
    let options = Options { plant: Some(plant), log: false };
    let found = (0..seeds).find_map(|seed| Some((seed, run(seed, options).failure?)));
    let (seed, failure) = found.unwrap_or_else(|| panic!("{plant} is not found within {seeds} seeds"));
    println!("{plant} is found by seed {seed}: {failure}");
}

#[test]
fn a_voter_that_agrees_at_once_is_found() {
    is_found_within(12, "PromiseLapsed".parse().unwrap());
}

#[test]
fn a_disk_that_does_not_sync_is_found() {
    is_found_within(8, Plant::LostFsync);
}

#[test]
fn a_leash_without_a_deadline_is_found() {
    is_found_within(16, Plant::NoDeadline);
}

#[test]
fn a_read_that_asks_no_leader_is_found() {
    is_found_within(12, Plant::StaleReads);
}

#[test]
fn an_agent_that_restarts_what_runs_is_found() {
    is_found_within(16, Plant::RestartsAll);
}
