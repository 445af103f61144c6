//! The table for people and the line for machines.

use pkgctl::cli::print_table;
use pkgctl::engine::Profile;
use pkgctl::lab::demo::fault::Fault;
use serde_json::{Map, Value, json};

use crate::bounds::{self, Bound};
use crate::figures::{median, range};
use crate::own::Own;
use crate::run::{PHASES, Run, ms};

/// All runs of one fault under one profile.
pub struct Series {
    pub profile: Profile,
    pub scheduling: String,
    pub fault: Fault,
    pub own: Own,
    pub runs: Vec<Run>,
}

impl Series {
    pub fn outages(&self) -> Vec<f64> {
        self.runs.iter().map(|run| ms(run.outcome.verdict.outage)).collect()
    }

    fn worst(&self, of: impl Fn(&Run) -> f64) -> f64 {
        range(&self.runs.iter().map(of).collect::<Vec<_>>()).1
    }

    /// The median of a phase over the runs that had it.
    fn phase(&self, number: usize) -> Option<f64> {
        let all: Vec<f64> = self.runs.iter().filter_map(|run| run.phases[number]).collect();
        (!all.is_empty()).then(|| median(&all))
    }

    fn failed(&self) -> usize {
        self.runs.iter().map(|run| run.outcome.verdict.failed).sum()
    }
}

/// Prints what was measured; how many bounds were missed. Without `check` only what was not healed counts.
pub fn tables(all: &[Series], check: bool) -> usize {
    let head: Vec<&str> = ["PROFILE", "FAULT", "RUNS", "MIN ms", "MEDIAN ms", "MAX ms", "BOUND ms"]
        .into_iter()
        .chain(["NOTICED", "AGREED", "COMMITTED", "STARTED", "ANSWERING"])
        .chain(["TWO ACTING ms", "FAILED PROBES", "OWN STALL ms"])
        .collect();
    println!();
    print_table(&head, &all.iter().map(row).collect::<Vec<_>>());
    println!(
        "\nOutages in ms; phases are medians of the ms since the fault, by the cluster's own ledger, the last by the \
         client.\nOwn stall: the longest this machine kept the observer in any run. The program by itself: {}.",
        all.first().map_or_else(String::new, |s| format!("start {:.1} ms, stop {:.1} ms", s.own.start, s.own.stop))
    );
    let mut count = 0;
    for series in all {
        let unhealed = series.runs.iter().any(|run| !run.outcome.good);
        for missed in bounds::missed(series).into_iter().filter(|_| check || unhealed) {
            count += 1;
            println!("MISSED: {} {}: {missed}", series.profile.word(), series.fault.word());
        }
    }
    if check && count == 0 {
        println!("Every bound was kept.");
    }
    count
}

fn row(series: &Series) -> Vec<String> {
    let (least, most) = range(&series.outages());
    let bound = match bounds::bound(series) {
        Bound::Outage(limit) => format!("{limit:.1}"),
        Bound::Undisturbed => "no failed probe".to_owned(),
        Bound::Healed => "-".to_owned(),
    };
    let number = |value: f64| format!("{value:.1}");
    let mut row = vec![series.profile.word().to_owned(), series.fault.word().to_owned(), series.runs.len().to_string()];
    row.extend([number(least), number(median(&series.outages())), number(most), bound]);
    row.extend((0..PHASES.len()).map(|phase| series.phase(phase).map_or_else(|| "-".to_owned(), number)));
    row.push(number(series.worst(|run| ms(run.outcome.verdict.double_activity))));
    row.push(series.failed().to_string());
    row.push(number(series.worst(|run| ms(run.outcome.verdict.stall))));
    row
}

/// One line with everything, every run's outage included.
pub fn json(all: &[Series], missed: usize) {
    let series: Vec<Value> = all.iter().map(one).collect();
    println!("{}", json!({"ok": missed == 0, "series": series}));
}

fn one(series: &Series) -> Value {
    let phases: Map<String, Value> =
        PHASES.iter().enumerate().map(|(n, name)| ((*name).to_owned(), json!(series.phase(n)))).collect();
    let limit = match bounds::bound(series) {
        Bound::Outage(limit) => Some(limit),
        Bound::Undisturbed | Bound::Healed => None,
    };
    json!({
        "profile": series.profile.word(),
        "scheduling": series.scheduling,
        "fault": series.fault.word(),
        "outages_ms": series.outages(),
        "median_ms": median(&series.outages()),
        "bound_ms": limit,
        "phases_ms": phases,
        "double_activity_ms": series.worst(|run| ms(run.outcome.verdict.double_activity)),
        "failed_probes": series.failed(),
        "own_stall_ms": series.worst(|run| ms(run.outcome.verdict.stall)),
        "program_start_ms": series.own.start,
        "program_stop_ms": series.own.stop,
        "missed": bounds::missed(series),
    })
}
