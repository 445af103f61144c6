//! Everything that is printed: tables, progress, JSON. Colour only on a terminal.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use super::exit::Failed;
use crate::engine::WallMillis;
use crate::engine::view::StateWord;

/// The widest cell in which an agent's own words stand: what is longer is cut there, and shown whole below or elsewhere.
const CELL_MAX_CHARS: usize = 48;

/// Where answers go.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    json: bool,
    colour: bool,
}

impl Out {
    /// For people, or for machines.
    pub fn new(json: bool) -> Self {
        Self { json, colour: !json && std::io::stdout().is_terminal() }
    }

    /// Whether machines read.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// A sentence for people; machines get their value at the end.
    pub fn say(self, text: &str) {
        if !self.json {
            put(text);
        }
    }

    /// A line of an answer that goes on: whoever no longer reads it, or has no room for it, ends it.
    ///
    /// # Errors
    /// It cannot be printed.
    pub fn line(self, text: &str) -> Result<(), Failed> {
        printed(text).map_err(|e| Failed::outcome(format!("cannot print: {e}")))
    }

    /// What is going on meanwhile; not part of the answer.
    pub fn progress(self, text: &str) {
        if !self.json {
            put_aside(text);
        }
    }

    /// The answer for machines.
    pub fn value<T: Serialize>(self, value: &T) {
        if self.json {
            // Our own types always serialize; a failure would be a defect worth seeing.
            put(&serde_json::to_string(value).unwrap_or_else(|e| format!("{{\"error\":\"{e}\"}}")));
        }
    }

    /// A verb did not succeed.
    pub fn failed(self, failed: &Failed) {
        if self.json {
            let (exit, code, message) = (failed.number(), failed.word(), &failed.message);
            self.value(&serde_json::json!({"ok": false, "exit": exit, "code": code, "message": message}));
        } else {
            put_aside(&format!("pkgctl: {}", failed.message));
        }
    }

    /// A table with aligned columns; the last column is not padded.
    pub fn table(self, head: &[&str], rows: &[Vec<String>]) {
        if self.json {
            return;
        }
        let mut widths: Vec<usize> = head.iter().map(|h| h.chars().count()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let head: Vec<String> = head.iter().map(|h| (*h).to_owned()).collect();
        put(&self.bold(&line(&head, &widths)));
        rows.iter().for_each(|row| put(&line(row, &widths)));
    }

    fn bold(self, text: &str) -> String {
        let style = anstyle::Style::new().bold();
        if self.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// A warning line.
    pub fn warn(self, text: &str) {
        let style = anstyle::AnsiColor::Yellow.on_default();
        match (self.json, self.colour) {
            (true, _) => {}
            (false, true) => put(&format!("{style}! {text}{style:#}")),
            (false, false) => put(&format!("! {text}")),
        }
    }
}

/// Writes a line. What was asked for has been done by then, and the exit code says so: an output that is full or closed
/// must not hide it.
fn put(text: &str) {
    let _ = printed(text);
}

fn printed(text: &str) -> std::io::Result<()> {
    let mut stdout = anstream::stdout();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush())
}

/// The same beside the answer.
fn put_aside(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let last = cells.len().saturating_sub(1);
    let padded = cells.iter().zip(widths).enumerate();
    let each: Vec<String> =
        padded.map(|(i, (cell, width))| if i == last { cell.clone() } else { format!("{cell:width$}") }).collect();
    each.join("  ").trim_end().to_owned()
}

/// A text as a cell of a table: one line, cut to [`CELL_MAX_CHARS`].
pub fn cell(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(CELL_MAX_CHARS) {
        Some(_) => line.chars().take(CELL_MAX_CHARS - 1).chain(['…']).collect(),
        None => line,
    }
}

/// `2026-11-21 02:43:07Z`, or `-`.
pub fn when(wall: Option<WallMillis>) -> String {
    let Some(wall) = wall else { return "-".to_owned() };
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(wall.0);
    humantime::format_rfc3339_seconds(at).to_string().replace('T', " ")
}

/// A state's word.
pub fn word(state: StateWord) -> String {
    state.word().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_line_of_bounded_width() {
        assert_eq!(cell("as  it\nis"), "as it is");
        let cut = cell(&"ä".repeat(500));
        assert_eq!((cut.chars().count(), cut.ends_with("ä…")), (CELL_MAX_CHARS, true));
        let whole = "x".repeat(CELL_MAX_CHARS);
        assert_eq!(cell(&whole), whole);
    }

    #[test]
    fn columns_align_and_lines_end_without_blanks() {
        let row = |a: &str, b: &str| line(&[a.to_owned(), b.to_owned()], &[5, 3]);
        assert_eq!(row("ab", "x"), "ab     x");
        assert_eq!(row("ab", ""), "ab");
    }
}
