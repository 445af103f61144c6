//! One fault, once: what the observer saw, and where the time went by the cluster's own ledger.
//!
//! The ledger carries its proposers' wall clocks, and all nodes of the lab share one. On separate machines the phases
//! compare as well as the machines' clocks do.

use std::time::Duration;

use anyhow::Result;
use pkgctl::lab::demo::cluster::Cluster;
use pkgctl::lab::demo::fault::{self, Fault, Outcome};
use serde_json::Value;

/// Names of the phases, in order.
pub const PHASES: [&str; 5] = ["noticed", "agreed", "committed", "started", "answering"];

/// A fault that was done and healed.
pub struct Run {
    pub outcome: Outcome,
    /// Milliseconds from the fault to each of [`PHASES`]; none where there is no such phase.
    pub phases: [Option<f64>; 5],
}

impl Run {
    /// For people who watch.
    pub fn line(&self) -> String {
        let (verdict, good) = (&self.outcome.verdict, if self.outcome.good { "" } else { ", NOT HEALED AS IT SHOULD" });
        let (outage, stall) = (ms(verdict.outage), ms(verdict.stall));
        format!("outage {outage:.1} ms, {} probes failed, own stall {stall:.1} ms{good}", verdict.failed)
    }
}

/// Does it and undoes it.
pub fn once(cluster: &Cluster, fault: Fault) -> Result<Run> {
    let outcome = fault::run(cluster, fault, &|_| ())?;
    let answering = outcome.verdict.first_other.map(ms);
    let [noticed, agreed, committed, started] = from_ledger(&cluster.ledger()?, outcome.at.wall());
    Ok(Run { phases: [noticed, agreed, committed, started, answering], outcome })
}

/// Milliseconds of a duration.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The first of each after the fault. The wall clock counts whole milliseconds, so one is allowed for.
fn from_ledger(ledger: &[Value], fault: f64) -> [Option<f64>; 4] {
    let since = |event: &Value| event["wall"].as_f64().map(|wall| wall - fault).filter(|at| *at >= -1.0);
    let first = |what: &str| ledger.iter().find(|e| e["what"] == what && since(e).is_some());
    let taken = first("taken_over");
    let agreed = taken.and_then(since);
    let asking = taken.and_then(|event| event["timeline"]["agreed"].as_f64());
    let noticed = agreed.zip(asking).map(|(agreed, asking)| agreed - asking);
    [noticed, agreed, first("starting").and_then(since), first("running").and_then(since)]
}
