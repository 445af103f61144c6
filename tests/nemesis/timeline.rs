//! What was done when, for whoever reads a failure.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use pkgctl::lab::Moment;

/// Lines with their moments, from several threads.
pub struct Timeline {
    start: Moment,
    loud: bool,
    lines: Mutex<Vec<(Moment, String)>>,
}

impl Timeline {
    /// An empty one; a loud one also prints each line as it comes.
    pub fn new(loud: bool) -> Self {
        Self { start: Moment::now(), loud, lines: Mutex::default() }
    }

    pub fn say(&self, line: impl Into<String>) {
        let (at, line) = (Moment::now(), line.into());
        if self.loud {
            println!("{}", self.line(at, &line));
        }
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push((at, line));
    }

    /// Everything, a line each; the wall clock is the one of the nodes' logs.
    pub fn text(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().fold(String::new(), |mut text, (at, line)| {
            let _ = writeln!(text, "{}", self.line(*at, line));
            text
        })
    }

    /// A moment of this machine's clock as the lines show it.
    pub fn at(&self, at: Moment) -> String {
        format!("{:9.3}", at.since(self.start).as_secs_f64())
    }

    fn line(&self, at: Moment, line: &str) -> String {
        format!("{} [{:.0}] {line}", self.at(at), at.wall())
    }
}
