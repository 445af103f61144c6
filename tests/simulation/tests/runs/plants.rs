//! The simulation bites: bugs that are planted are found within so many seeds. docs/testing.md lists what each of them
//! takes with nothing else said; here those that need a plot have theirs played in every seed.

use std::sync::atomic::{AtomicU64, Ordering};

use simulation::plant::Plant;
use simulation::run::{Options, run};
use simulation::storm::plot::Plot;

fn is_found_within(seeds: u64, plant: &str, plot: Option<Plot>) {
    is_found_among(0..seeds, plant, plot);
}

fn is_found_among(seeds: std::ops::Range<u64>, plant: &str, plot: Option<Plot>) {
    let plant: Plant = plant.parse().unwrap();
    let options = Options { plant: Some(plant), plot, log: false };
    let found = seeds.clone().find_map(|seed| Some((seed, run(seed, options).failure?)));
    let (seed, failure) = found.unwrap_or_else(|| panic!("{plant} is not found by seeds {seeds:?}"));
    println!("{plant} is found by seed {seed}: {failure}");
}

#[test]
fn a_disk_that_does_not_sync_is_found() {
    is_found_within(8, "LostFsync", None);
}

#[test]
fn a_leash_without_a_deadline_is_found() {
    is_found_within(8, "NoDeadline", Some(Plot::Drift));
}

#[test]
fn a_read_that_asks_no_leader_is_found() {
    is_found_within(12, "StaleReads", None);
}

#[test]
fn an_agent_that_restarts_what_runs_is_found() {
    // Its first dozen seeds find nothing and would take most of this file's time.
    is_found_among(10..20, "RestartsAll", None);
}

#[test]
fn a_key_that_is_used_before_every_keeper_has_it_is_found() {
    is_found_within(4, "SealsAtOnce", Some(Plot::Rekeyed));
}

#[test]
fn a_repeated_change_of_keys_that_is_carried_out_again_is_found() {
    is_found_within(4, "Nameless", None);
}

#[test]
fn a_write_under_a_token_that_is_over_is_found() {
    is_found_within(4, "Unguarded", None);
}

/// Every rule that no storm finds soon, each with the plot that was arranged for it.
const ARRANGED: [(&str, Plot); 12] = [
    ("TwoClocksErr", Plot::Drift),
    ("PromiseLapsed", Plot::Drift),
    ("Fence", Plot::Dance),
    ("CurrentIncarnation", Plot::RestartDance),
    ("VoterUpFirst", Plot::MuteDance),
    ("LogRefuse", Plot::StaleHost),
    ("EverySet", Plot::Shrink),
    ("RetireWait", Plot::Shrink),
    ("TakenOnce", Plot::Replays),
    ("ThisLife", Plot::RestartReplays),
    ("QueryMode", Plot::Deaf),
    ("ReleasedToken", Plot::Released),
];

#[test]
fn a_lease_rule_that_is_dropped_is_found_by_the_plot_that_it_stands_against() {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(|| {
                while let Some((rule, plot)) = ARRANGED.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    is_found_within(8, rule, Some(*plot));
                }
            });
        }
    });
}
