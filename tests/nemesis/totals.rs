//! What a run has seen in all, and its summary.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fault::Planned;
use crate::history::{Op, Outcome, What};

/// Sums over rounds and laps.
#[derive(Debug, Default)]
pub struct Totals {
    pub laps: usize,
    pub rounds: usize,
    pub faults: usize,
    pub commands: usize,
    /// Writes by clients, deletions included.
    pub acknowledged: usize,
    pub refused: usize,
    pub unknown: usize,
    pub reads: usize,
    pub searched: usize,
    pub unsearched: usize,
    /// Probes that were answered.
    pub answered: usize,
    /// Programs that were to be left alone in a round, and were.
    pub undisturbed: usize,
    /// Rounds in which one was disturbed by the machine: by its scheduling, where that is best-effort, or because it stood still.
    pub disturbed_by_machine: usize,
    pub revived: usize,
    pub alive_ms: Vec<u64>,
    pub whole_power_losses: usize,
}

impl Totals {
    pub fn count_plan(&mut self, plan: &[Planned]) {
        self.rounds += 1;
        self.faults += plan.len();
    }

    pub fn count_ops(&mut self, ops: &[Op]) {
        for op in ops {
            match op.what {
                What::Read(_) => self.reads += 1,
                What::Write { outcome: Outcome::Done, .. } => self.acknowledged += 1,
                What::Write { outcome: Outcome::Refused | Outcome::NotTaken, .. } => self.refused += 1,
                What::Write { outcome: Outcome::Open, .. } => self.unknown += 1,
            }
        }
    }

    /// The summary of a run in which every check held; a run that ended in a failure names that instead.
    pub fn summary(&self, took: Duration, failure: Option<&Failure>) -> Value {
        let mut alive = self.alive_ms.clone();
        alive.sort_unstable();
        let failed = |check: &str| failure.is_some_and(|f| f.check == check);
        json!({
            "seconds": took.as_secs(),
            "laps": self.laps,
            "rounds": self.rounds,
            "faults": self.faults,
            "whole_power_losses": self.whole_power_losses,
            "operator_commands": self.commands,
            "double_activity_ms": failure.map_or(0, |f| f.double_activity_ms),
            "acknowledged": self.acknowledged,
            "refused": self.refused,
            "unknown": self.unknown,
            "reads": self.reads,
            "lost": usize::from(failed("kept")),
            "linearizable": !failed("linear"),
            "searched": self.searched,
            "unsearched": self.unsearched,
            "probes_answered": self.answered,
            "undisturbed": self.undisturbed,
            "disturbed_by_machine": self.disturbed_by_machine,
            "revived": self.revived,
            "alive_ms_median": alive.get(alive.len() / 2),
            "alive_ms_max": alive.last(),
            "ok": failure.is_none(),
        })
    }
}

/// Why a run ended.
#[derive(Debug)]
pub struct Failure {
    /// The check that failed, or `lab`.
    pub check: &'static str,
    pub why: String,
    pub double_activity_ms: u128,
    /// Where logs, timeline and history are, once they have been copied.
    pub kept_in: Option<PathBuf>,
}

impl Failure {
    pub fn of(check: &'static str) -> impl Fn(String) -> Self {
        move |why| Self { check, why, double_activity_ms: 0, kept_in: None }
    }
}
