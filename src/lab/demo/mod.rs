//! `pkgctl demo`: a three-node cluster and a client on this machine, faults, and what an outside observer saw.
//!
//! - [`cluster`]: the cluster in the lab. [`fault`]: what is done to it. `story`: what happens then, as it happens.
//! - [`observed`]: a fault without leases, to show that the observer sees two nodes acting.
//! - `report`: what people and machines read. `kept`: the cluster left running.

pub mod cluster;
pub mod fault;
mod kept;
pub mod observed;
mod report;
mod story;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};

use self::cluster::Cluster;
use self::fault::{Fault, Outcome};
use self::report::Teller;
use crate::engine::Profile;

/// The demo's nodes; the first two may own the package.
const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// Show a failover on this machine, in network namespaces; needs no root and nothing installed
#[derive(Debug, Parser)]
pub struct DemoArgs {
    /// Only this fault [default: a handful, in under a minute]
    #[arg(long, value_enum)]
    pub fault: Option<Fault>,
    /// Timing of the cluster; `fast` needs SCHED_FIFO
    #[arg(long, value_enum, default_value_t = DemoProfile::Default)]
    pub profile: DemoProfile,
    /// Leave the cluster running and print how to enter its nodes
    #[arg(long)]
    pub keep: bool,
    /// Cut the owner's link with the leases switched off: it goes on acting, and the observer must see it
    #[arg(long, hide = true, conflicts_with_all = ["fault", "keep"])]
    pub without_leases: bool,
}

/// Profiles that make sense on one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DemoProfile {
    /// A lease of 1500 ms
    Default,
    /// A lease of 400 ms
    Fast,
}

impl From<DemoProfile> for Profile {
    fn from(word: DemoProfile) -> Self {
        match word {
            DemoProfile::Default => Profile::Default,
            DemoProfile::Fast => Profile::Fast,
        }
    }
}

/// Runs the demo; 0 only if every fault was healed and never two nodes were acting.
pub fn run(args: &DemoArgs, json: bool) -> ExitCode {
    match show(args, json) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            anstream::eprintln!("pkgctl demo: {error:#}");
            ExitCode::from(3)
        }
    }
}

fn show(args: &DemoArgs, json: bool) -> Result<bool> {
    let teller = Teller::new(json);
    let binary = std::env::current_exe().context("cannot find this program's own file")?;
    let profile = Profile::from(args.profile);
    if args.without_leases {
        return show_unleased(binary, profile, &teller);
    }
    if args.fault.is_none() {
        teller.say("first, whether the observer sees two nodes acting: a cluster whose leases end nothing");
        let seen = unleased(binary.clone(), profile, &teller)?;
        teller.observed(&seen);
    }
    teller.say("building three nodes and a client in network namespaces");
    let cluster = Cluster::build(binary, &NODES, profile, &|text| teller.say(text))?;
    let (owner, token, reason) = cluster.owner()?;
    teller.say(&format!("testpkg1 runs on {owner} (token {token}): {reason}"));
    let faults = args.fault.map_or_else(|| Fault::HANDFUL.to_vec(), |one| vec![one]);
    let mut outcomes: Vec<Outcome> = Vec::new();
    for fault in faults {
        let say = |text: &str| teller.say(text);
        let outcome = fault::run(&cluster, fault, &say).with_context(|| format!("during {}", fault.word()))?;
        teller.outcome(&outcome);
        outcomes.push(outcome);
    }
    let good = outcomes.iter().all(|o| o.good);
    let scheduling = cluster.scheduling()?;
    teller.table(&outcomes);
    if args.keep {
        kept::wait(&cluster, &teller)?;
    }
    teller.json(&outcomes, good, profile, &scheduling);
    Ok(good)
}

/// The fault without leases alone: never good, because two nodes act.
fn show_unleased(binary: PathBuf, profile: Profile, teller: &Teller) -> Result<bool> {
    let seen = unleased(binary, profile, teller)?;
    teller.observed(&seen);
    teller.table(std::slice::from_ref(&seen));
    teller.json(&[seen], false, profile, "none");
    Ok(false)
}

/// Two nodes act for a while, and the observer must have seen it.
fn unleased(binary: PathBuf, profile: Profile, teller: &Teller) -> Result<Outcome> {
    let seen = observed::run_unleased(binary, &NODES, profile, &|text| teller.say(text));
    let seen = seen.context("without leases")?;
    if seen.verdict.double_activity.is_zero() {
        bail!("without leases two nodes acted, and the observer did not see it: its word is worth nothing here");
    }
    Ok(seen)
}
