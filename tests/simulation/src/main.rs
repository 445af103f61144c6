//! `pkgctl-sim`: runs seeds of the simulation, and replays one that failed.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use simulation::plant::Plant;
use simulation::run::{Options, Outcome, run};
use simulation::storm::plot::Plot;

/// The whole of pkgctl in virtual time: a cluster, storms of faults, and what must hold
///
/// Examples:
///   pkgctl-sim --seeds 1000                      a thousand seeds on every core
///   pkgctl-sim --seeds 1 --first 4711 --log      one seed, with everything that happens in it
///   pkgctl-sim --seeds 50 --plant LostFsync      a planted bug, to see it found
///
/// The last line is JSON. Exit codes: 0 no violation, 1 some, 2 a wrong command line.
#[derive(Parser)]
#[command(version, verbatim_doc_comment)]
struct Args {
    /// How many seeds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    seeds: u64,
    /// The first of them
    #[arg(long, value_name = "S", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=u64::MAX / 2))]
    first: u64,
    /// Plant a bug
    #[arg(long, value_name = "NAME")]
    plant: Option<Plant>,
    /// Play this plot in every seed
    #[arg(long, value_name = "NAME")]
    plot: Option<Plot>,
    /// Print everything that happens
    #[arg(long)]
    log: bool,
    /// Seeds run at the same time [default: one per core]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

/// What all seeds came to.
#[derive(Default)]
struct Total {
    violations: u64,
    virtual_time: Duration,
    faults: usize,
    answered: usize,
    healed_within: Duration,
    done: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = if args.log { 1 } else { args.jobs.unwrap_or(cores).max(1) };
    let (next, total) = (AtomicU64::new(args.first), Mutex::new(Total::default()));
    let options = Options { plant: args.plant, plot: args.plot, log: args.log };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= args.first + args.seeds {
                        return;
                    }
                    let outcome = run(seed, options);
                    report(&args, seed, &outcome, &total);
                }
            });
        }
    });
    let total = total.into_inner().unwrap_or_default();
    println!(
        "{}",
        serde_json::json!({
            "seeds": total.done,
            "violations": total.violations,
            "virtual_hours": (total.virtual_time.as_secs_f64() / 36.0).round() / 100.0,
            "faults": total.faults,
            "answered": total.answered,
            "healed_within_s": (total.healed_within.as_secs_f64() * 10.0).round() / 10.0,
        })
    );
    if total.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(args: &Args, seed: u64, outcome: &Outcome, total: &Mutex<Total>) {
    let mut total = total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    total.done += 1;
    total.virtual_time += outcome.lasted;
    total.faults += outcome.faults;
    total.answered += outcome.answered;
    total.healed_within = total.healed_within.max(outcome.healed_within);
    if args.log {
        println!("{outcome:?}");
    }
    if let Some(failure) = &outcome.failure {
        total.violations += 1;
        let mut chosen = args.plant.map(|plant| format!(" --plant {plant}")).unwrap_or_default();
        chosen.extend(args.plot.map(|plot| format!(" --plot {plot}")));
        println!("seed {seed}: {failure}");
        println!("  again: cargo run --release --bin pkgctl-sim -- --seeds 1 --first {seed}{chosen} --log");
    } else if std::io::stderr().is_terminal() {
        eprint!("\r{} of {} seeds ", total.done, args.seeds);
    }
}
