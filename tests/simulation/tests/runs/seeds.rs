//! A fixed set of seeds, each plot once, and that the same seed gives the same run.
//!
//! `cargo run --release --bin pkgctl-sim -- --seeds N` runs more; docs/testing.md.

use std::sync::atomic::{AtomicUsize, Ordering};

use simulation::run::{Options, run};
use simulation::storm::plot::Plot;

/// Of every run of the tests.
const SEEDS: std::ops::Range<u64> = 0..4;

/// Runs seeds, each with its plot if one is named, on as many threads as there are cores.
fn all_hold(seeds: &[(u64, Option<Plot>)]) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicUsize::new(0);
    let failed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some((seed, plot)) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = run(*seed, Options { plot: *plot, ..Options::default() });
                    assert!(outcome.faults > 0 || outcome.failure.is_some(), "seed {seed} had no fault at all");
                    if let Some(failure) = outcome.failure {
                        let plot = plot.map(|plot| format!("--plot {plot} ")).unwrap_or_default();
                        failed.lock().unwrap().push(format!(
                            "seed {seed}: {failure}\n  again: cargo run --release --bin pkgctl-sim -- --seeds 1 \
                             --first {seed} {plot}--log"
                        ));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_fixed_set_of_seeds_and_each_plot_hold() {
    let drawn = SEEDS.map(|seed| (seed, None));
    let arranged = (100..).zip(Plot::ALL.map(Some));
    all_hold(&drawn.chain(arranged).collect::<Vec<_>>());
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let runs = std::thread::scope(|scope| {
        [4, 4, 5].map(|seed| scope.spawn(move || run(seed, Options::default()))).map(|run| run.join().unwrap())
    });
    let [one, two, other] = runs;
    assert_eq!((one.hash, one.lasted, one.acts), (two.hash, two.lasted, two.acts));
    assert_ne!(one.hash, other.hash, "another seed is another run");
}
