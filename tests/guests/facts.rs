//! What a guest found out: one line per fact, on a serial line of its own, and whether all scenarios passed.

use std::cell::RefCell;
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use pkgctl::lab::Moment;

use crate::bench::words_of;

/// Where `tests/guests/run` listens.
const LINE: &str = "/dev/ttyS1";

/// A scenario by its name.
pub type Named = (&'static str, fn(&Facts));

/// The line out of the guest.
pub struct Facts {
    scenario: &'static str,
    out: RefCell<File>,
}

impl Facts {
    /// States what was just shown; whoever calls it has asserted it.
    pub fn shown(&self, fact: impl Display) {
        self.line(format_args!("ok {:6.1} s  {}: {fact}", uptime(), self.scenario));
    }

    /// States a number, or something that this kernel does and nothing relies on.
    pub fn noted(&self, fact: impl Display) {
        self.line(format_args!("   {:6.1} s  {}: {fact}", uptime(), self.scenario));
    }

    fn line(&self, text: impl Display) {
        writeln!(self.out.borrow_mut(), "{text}").expect("write to the line out of the guest");
    }
}

/// Since this machine was started, in seconds.
fn uptime() -> f64 {
    Moment::now().since(Moment::default()).as_secs_f64()
}

/// Runs the scenarios of these names to their ends; one that panics has failed, and the next one runs all the same.
pub fn run_all(scenarios: &[Named], wanted: &[String]) -> ExitCode {
    let mut failed = false;
    let mut facts =
        Facts { scenario: "", out: RefCell::new(OpenOptions::new().write(true).open(LINE).expect("a second line")) };
    for name in wanted {
        let since = Moment::now();
        let Some((scenario, run)) = scenarios.iter().find(|(known, _)| known == name) else {
            facts.line(format_args!("FAILED {name}: there is no such scenario"));
            failed = true;
            continue;
        };
        facts.scenario = scenario;
        let took = || Moment::now().since(since).as_secs_f64();
        match catch_unwind(AssertUnwindSafe(|| run(&facts))) {
            Ok(()) => facts.line(format_args!("passed {name} in {:.1} s", took())),
            Err(panic) => {
                let why = words_of(&*panic).unwrap_or("a panic without words");
                facts.line(format_args!("FAILED {name} after {:.1} s: {why}", took()));
                failed = true;
            }
        }
    }
    facts.line(if failed { "the guest failed" } else { "the guest passed" });
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
