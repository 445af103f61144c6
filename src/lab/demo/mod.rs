//! `pkgctl demo`: a three-node cluster and a client on this machine, faults, and what an outside observer saw.
//!
//! - [`cluster`]: the cluster in the lab. [`fault`]: what is done to it. `report`: what people and machines read.

pub mod cluster;
pub mod fault;
mod report;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use self::cluster::Cluster;
use self::fault::{Fault, Outcome};
use self::report::Teller;
use crate::engine::Profile;

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
    teller.say("building three nodes and a client in network namespaces");
    let profile = Profile::from(args.profile);
    let cluster = Cluster::build(binary, &["n1", "n2", "n3"], profile, &|text| teller.say(text))?;
    let (owner, token, reason) = cluster.owner()?;
    teller.say(&format!("testpkg1 runs on {owner} (token {token}): {reason}"));
    let faults = args.fault.map_or_else(|| Fault::HANDFUL.to_vec(), |one| vec![one]);
    let mut outcomes: Vec<Outcome> = Vec::new();
    for fault in faults {
        teller.say(&format!("{}: now", fault.word()));
        let outcome = fault::run(&cluster, fault).with_context(|| format!("during {}", fault.word()))?;
        teller.outcome(&outcome);
        outcomes.push(outcome);
    }
    let good = outcomes.iter().all(|o| o.good);
    teller.table(&outcomes);
    if args.keep {
        keep(&cluster, &teller)?;
    }
    teller.json(&outcomes, good, profile, &cluster.scheduling()?);
    Ok(good)
}

/// Waits for the end of standard input, or Ctrl-C, which ends the process and with it the lab.
fn keep(cluster: &Cluster, teller: &Teller) -> Result<()> {
    let binary = std::env::current_exe()?;
    for node in &cluster.nodes {
        let (pid, disk) = (cluster.lab.init_pid(node)?, &cluster.lab.place(node).disk);
        let (binary, disk) = (binary.display(), disk.display());
        teller.say(&format!("{node}: {binary} lab-enter {pid} {binary} --root {disk} status"));
    }
    teller.say("the cluster stays until Ctrl-C or the end of input");
    let mut line = String::new();
    while std::io::stdin().read_line(&mut line).context("cannot read the terminal")? > 0 {
        line.clear();
    }
    Ok(())
}
