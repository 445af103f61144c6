//! The key/value tree beside etcd: same machine, same minute, same values, three nodes, durable on both sides, over HTTP
//! for both (etcd by its JSON gateway).
//!
//! `cargo bench --bench kv -- --seconds 5`. Needs `apt install etcd-server etcd-client`. Both clusters stand in one lab; while one is
//! measured the other is idle. Every point is measured in turns, and the table prints ratios.
//!
//! - `bed`: the two clusters. `load`: clients in a loop, as a process of their own in the lab's client. `gap`: writes across
//!   the loss of a leader. `figures`: memory and disk. `report`: tables and JSON.

mod bed;
mod figures;
mod gap;
mod load;
mod report;
mod target;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::bed::Bed;
use crate::report::{Memory, Point, Report};
use crate::target::{Op, Target};

/// Compare the key/value tree with etcd
#[derive(Debug, Parser)]
#[command(name = "kv")]
struct Arguments {
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Clients at once
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
    clients: Vec<usize>,
    /// Times each point is measured on each side, in turns; the table has the medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    turns: u32,
    /// Distinct keys that are stored before memory is looked at
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Times the leader is killed
    #[arg(long, default_value_t = 5)]
    kills: u32,
    /// Print JSON for machines as the last line
    #[arg(long)]
    json: bool,
    /// Given to itself: what one load process does
    #[arg(long, hide = true)]
    load: Option<String>,
    /// Given to itself: writes until it is told to stop
    #[arg(long, hide = true)]
    gap: Option<String>,
    /// Given by `cargo bench`; without it nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match (&arguments.load, &arguments.gap) {
        (Some(spec), _) => load::main(spec),
        (None, Some(spec)) => gap::main(spec),
        (None, None) if !arguments.bench => {
            println!("kv: measures only under `cargo bench --bench kv`");
            Ok(())
        }
        (None, None) => measure(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kv: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    let bed = Bed::build()?;
    let idle = memory(&bed)?;
    let mut points = Vec::new();
    for op in [Op::Put, Op::Get, Op::GetStale] {
        for clients in &arguments.clients {
            let mut point = Point::new(op, *clients);
            for _ in 0..arguments.turns {
                for target in Target::BOTH {
                    let measured = bed.load(target, op, *clients, arguments.seconds)?;
                    eprintln!("  {} {clients} clients, {}: {}", op.word(), target.word(), measured.sentence());
                    point.add(target, measured);
                }
            }
            points.push(point);
        }
    }
    let mut full = Vec::new();
    for target in Target::BOTH {
        let before = bed.written();
        bed.fill(target, arguments.keys)?;
        let figures = bed.figures(target)?;
        let written = bed.written().zip(before).map(|(after, before)| after.saturating_sub(before));
        let written_per_write = written.map(|bytes| bytes / arguments.keys.max(1));
        full.push(Memory { target, figures, written_per_write });
    }
    let mut gaps = Vec::new();
    for _ in 0..arguments.kills {
        for target in Target::BOTH {
            let gap = bed.kill_leader(target)?;
            eprintln!("  leader of {} killed: {gap:.0} ms to the next acknowledged write", target.word());
            gaps.push((target, gap));
        }
    }
    let report = Report { points, idle, full, gaps };
    report.print();
    if arguments.json {
        println!("{}", report.json());
    }
    Ok(())
}

fn memory(bed: &Bed) -> Result<Vec<Memory>> {
    let of = |target| Ok(Memory { target, figures: bed.figures(target)?, written_per_write: None });
    Target::BOTH.into_iter().map(of).collect()
}
