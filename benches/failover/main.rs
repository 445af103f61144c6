//! How long a package is away: every fault of the demo, many times, on a real cluster in the lab, as a table, as JSON,
//! and with `--check` against the bounds that are promised.
//!
//! `cargo bench --bench failover -- --runs 10 --check`. One lab at a time; a full run of both profiles takes about a
//! quarter of an hour.
//!
//! - `run`: one fault, once, with the phases that the cluster's own ledger records. `own`: what the program itself needs.
//! - `bounds`: what is promised. `figures`: medians. `report`: tables and JSON.

mod bounds;
mod figures;
mod own;
mod report;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use pkgctl::engine::Profile;
use pkgctl::lab::demo::DemoProfile;
use pkgctl::lab::demo::cluster::Cluster;
use pkgctl::lab::demo::fault::Fault;

use crate::report::Series;

/// Measure how long a package is away after each fault
#[derive(Debug, Parser)]
#[command(name = "failover")]
struct Arguments {
    /// Runs of each fault
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Only this fault; may be given several times
    #[arg(long, value_enum)]
    fault: Vec<Fault>,
    /// Only this profile; may be given several times
    #[arg(long, value_enum)]
    profile: Vec<DemoProfile>,
    /// Print JSON for machines as the last line
    #[arg(long)]
    json: bool,
    /// Fail when a median misses its bound
    #[arg(long)]
    check: bool,
    /// Given by `cargo bench`; without it nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !arguments.bench {
        println!("failover: measures only under `cargo bench --bench failover`");
        return ExitCode::SUCCESS;
    }
    match measure(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("failover: {error:#}");
            ExitCode::from(3)
        }
    }
}

/// Whether everything was healed and, if that is checked, within its bounds.
fn measure(arguments: &Arguments) -> Result<bool> {
    let asked = !arguments.profile.is_empty();
    let profiles = if asked { arguments.profile.clone() } else { vec![DemoProfile::Default, DemoProfile::Fast] };
    let faults = if arguments.fault.is_empty() { Fault::ALL.to_vec() } else { arguments.fault.clone() };
    let mut all = Vec::new();
    for profile in profiles {
        match build(profile.into()) {
            Ok(cluster) => all.extend(series(&cluster, profile.into(), &faults, arguments.runs)?),
            // Without a profile on the command line, what this machine cannot do is left out, and said.
            Err(error) if !asked && profile == DemoProfile::Fast => eprintln!("failover: left out: {error:#}"),
            Err(error) => return Err(error),
        }
    }
    let missed = report::tables(&all, arguments.check);
    if arguments.json {
        report::json(&all, missed);
    }
    Ok(missed == 0)
}

fn build(profile: Profile) -> Result<Cluster> {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_pkgctl"));
    Cluster::build(binary, &["n1", "n2", "n3"], profile, &|text| eprintln!("{}: {text}", profile.word()))
}

fn series(cluster: &Cluster, profile: Profile, faults: &[Fault], runs: u32) -> Result<Vec<Series>> {
    let own = own::measure(env!("CARGO_BIN_EXE_pkgctl").as_ref()).context("cannot time the program by itself")?;
    let scheduling = cluster.scheduling()?;
    let mut all = Vec::new();
    for fault in faults {
        let mut done = Vec::new();
        for number in 1..=runs {
            let run = run::once(cluster, *fault).with_context(|| format!("run {number} of {}", fault.word()))?;
            eprintln!("{} {} {number}/{runs}: {}", profile.word(), fault.word(), run.line());
            done.push(run);
        }
        all.push(Series { profile, scheduling: scheduling.clone(), fault: *fault, own, runs: done });
    }
    Ok(all)
}
