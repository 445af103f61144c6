//! The tables for people and the line for machines. Ratios are ours to etcd's; the goals are the project's own.

use pkgctl::cli::print_table;
use serde_json::{Value, json};

use crate::figures::Figures;
use crate::load::Measured;
use crate::target::{Op, Target};

/// Our rate is to be at least so many times etcd's.
const RATE_GOAL: f64 = 1.5;
/// Our median latency is to be at most so many times etcd's.
const P50_GOAL: f64 = 2.0 / 3.0;
/// Longest time from the leader's end to the next acknowledged write, in milliseconds.
const GAP_GOAL_MS: f64 = 600.0;
/// Largest memory after 100,000 distinct keys, in bytes.
const RSS_GOAL: u64 = 100_000_000;

/// One operation at one width, both sides.
pub struct Point {
    op: Op,
    clients: usize,
    ours: Vec<Measured>,
    theirs: Vec<Measured>,
}

/// What one side holds.
pub struct Memory {
    pub target: Target,
    pub figures: Figures,
    /// Bytes; none where that cannot be said.
    pub written_per_write: Option<u64>,
}

/// Everything measured.
pub struct Report {
    pub points: Vec<Point>,
    pub idle: Vec<Memory>,
    pub full: Vec<Memory>,
    pub gaps: Vec<(Target, f64)>,
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Point {
    pub fn new(op: Op, clients: usize) -> Self {
        Self { op, clients, ours: Vec::new(), theirs: Vec::new() }
    }

    pub fn add(&mut self, target: Target, measured: Measured) {
        match target {
            Target::Pkgctl => self.ours.push(measured),
            Target::Etcd => self.theirs.push(measured),
        }
    }

    fn of(&self, target: Target, figure: fn(&Measured) -> f64) -> f64 {
        let all = match target {
            Target::Pkgctl => &self.ours,
            Target::Etcd => &self.theirs,
        };
        median(all.iter().map(figure).collect())
    }

    fn ratio(&self, figure: fn(&Measured) -> f64) -> f64 {
        self.of(Target::Pkgctl, figure) / self.of(Target::Etcd, figure)
    }

    fn row(&self) -> Vec<String> {
        let (rate, p50, p99) = (|m: &Measured| m.rate, |m: &Measured| m.p50, |m: &Measured| m.p99);
        let (rates, medians) = (self.ratio(rate), self.ratio(p50));
        let goal = match self.op {
            Op::Put if rates >= RATE_GOAL && medians <= P50_GOAL => "met",
            Op::Put => "missed",
            Op::Get | Op::GetStale => "",
        };
        vec![
            self.op.word().to_owned(),
            self.clients.to_string(),
            format!("{:.0}", self.of(Target::Pkgctl, rate)),
            format!("{:.0}", self.of(Target::Etcd, rate)),
            format!("{rates:.2}"),
            format!("{:.3}", self.of(Target::Pkgctl, p50)),
            format!("{:.3}", self.of(Target::Etcd, p50)),
            format!("{medians:.2}"),
            format!("{:.3}", self.of(Target::Pkgctl, p99)),
            format!("{:.3}", self.of(Target::Etcd, p99)),
            goal.to_owned(),
        ]
    }

    fn json(&self) -> Value {
        json!({ "op": self.op, "clients": self.clients, "pkgctl": self.ours, "etcd": self.theirs })
    }
}

/// Milliseconds, where they were measured.
fn whole(ms: f64) -> String {
    if ms.is_nan() { "-".to_owned() } else { format!("{ms:.0}") }
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

impl Report {
    pub fn print(&self) {
        println!();
        let head = [
            "",
            "CLIENTS",
            "OURS /s",
            "ETCD /s",
            "RATIO",
            "OURS p50 ms",
            "ETCD",
            "RATIO",
            "OURS p99 ms",
            "ETCD",
            "GOAL",
        ];
        print_table(&head, &self.points.iter().map(Point::row).collect::<Vec<_>>());
        println!(
            "\nMedians of {} turns. Goal of writes: rate at least {RATE_GOAL} and p50 at most {P50_GOAL:.2} of etcd's.\n",
            self.points.first().map_or(0, |point| point.ours.len())
        );
        let rows: Vec<Vec<String>> = self
            .idle
            .iter()
            .zip(&self.full)
            .map(|(idle, full)| {
                vec![
                    idle.target.word().to_owned(),
                    mib(idle.figures.rss),
                    mib(full.figures.rss),
                    mib(full.figures.disk),
                    full.written_per_write.map_or("-".to_owned(), |bytes| bytes.to_string()),
                    whole(median(self.gaps_of(idle.target))),
                    whole(self.gaps_of(idle.target).into_iter().fold(f64::NAN, f64::max)),
                ]
            })
            .collect();
        let head =
            ["", "RSS IDLE MiB", "RSS FULL MiB", "DISK MiB", "BYTES WRITTEN /WRITE", "LEADER KILL ms", "WORST ms"];
        print_table(&head, &rows);
        let full = self.full.iter().find(|memory| memory.target == Target::Pkgctl).map_or(0, |m| m.figures.rss);
        let gap = median(self.gaps_of(Target::Pkgctl));
        println!(
            "\nMemory after the distinct keys: {} (goal: {} MiB). Leader kill to next write: {} (goal: {GAP_GOAL_MS} ms).",
            if full <= RSS_GOAL { "met" } else { "missed" },
            mib(RSS_GOAL),
            match gap {
                gap if gap.is_nan() => "not measured",
                gap if gap <= GAP_GOAL_MS => "met",
                _ => "missed",
            },
        );
    }

    fn gaps_of(&self, target: Target) -> Vec<f64> {
        self.gaps.iter().filter(|(of, _)| *of == target).map(|(_, gap)| *gap).collect()
    }

    pub fn json(&self) -> Value {
        let memory = |all: &[Memory]| -> Vec<Value> {
            let of = |m: &Memory| json!({ "target": m.target, "figures": m.figures, "written_per_write": m.written_per_write });
            all.iter().map(of).collect()
        };
        json!({
            "points": self.points.iter().map(Point::json).collect::<Vec<_>>(),
            "idle": memory(&self.idle),
            "full": memory(&self.full),
            "leader_kill_ms": self.gaps,
        })
    }
}
