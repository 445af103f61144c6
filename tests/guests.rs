//! The program of the guests that `tests/guests/run` boots: pid 1 there, and the scenarios, on real SCSI and a real
//! watchdog. Started by anybody else, it says how to start it.

#[path = "cluster/bench.rs"]
#[allow(dead_code, reason = "tests/cluster.rs uses all of it")]
mod bench;
#[path = "guests/disk.rs"]
mod disk;
#[path = "guests/facts.rs"]
mod facts;
#[path = "guests/lun.rs"]
mod lun;
#[path = "guests/machine.rs"]
mod machine;
#[path = "guests/reservation.rs"]
mod reservation;
#[path = "guests/rig.rs"]
mod rig;
#[path = "guests/story.rs"]
mod story;
#[path = "guests/watchdog.rs"]
mod watchdog;
#[path = "guests/writers.rs"]
mod writers;

use std::process::ExitCode;

use facts::Named;

/// What one guest can show, by the name that `tests/guests/run` gives.
const SCENARIOS: &[Named] =
    &[("rig", rig::run), ("reservation", reservation::run), ("story", story::run), ("watchdog", watchdog::run)];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        _ if std::process::id() == 1 => machine::boot(),
        Some("scenarios") => facts::run_all(SCENARIOS, &words[1..]),
        Some("preempt-abort") => reservation::preempt_abort(&words[1]),
        Some("writer") => writers::main(&words.iter().skip(1).map(String::as_str).collect::<Vec<_>>()),
        _ => {
            eprintln!("skipped: the guests; run them with tests/guests/run");
            ExitCode::SUCCESS
        }
    }
}
