//! A file's text: its lines and columns, and the tables that can be read of it even when its syntax is broken.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;

use super::repair::{self, Damage};
use super::report::Found;
use crate::package::problem::{Problem, Problems};

/// Largest file read, in bytes: a definition must fit into one log record with room to spare.
pub const FILE_MAX_BYTES: usize = 32 << 10;
/// Longest part of a line shown with a problem, in characters.
const EXCERPT_MAX_CHARS: usize = 160;

/// A file as text with lines.
#[derive(Debug)]
pub struct Sheet {
    /// The file, as the operator named it.
    pub file: String,
    /// Which lines are broken, and what is wrong with them.
    pub damage: Damage,
    lines: Vec<String>,
    text: String,
    starts: Vec<usize>,
}

impl Sheet {
    /// Takes a file's text and finds what is wrong with its syntax.
    ///
    /// # Errors
    /// One problem when the file is larger than [`FILE_MAX_BYTES`]; nothing of it is read then.
    pub fn read(file: &str, text: &str) -> Result<Self, Problems> {
        Self::read_within(file, text, FILE_MAX_BYTES)
    }

    /// The same with a limit of the caller's, in bytes.
    ///
    /// # Errors
    /// As [`Sheet::read`].
    pub fn read_within(file: &str, text: &str, max_bytes: usize) -> Result<Self, Problems> {
        if text.len() > max_bytes {
            let what = format!("the file has {} bytes; at most {max_bytes} are read", text.len());
            return Err(too_large(file, &what));
        }
        let (mended, damage) = repair::mend(text);
        let starts = line_starts(&mended);
        let lines = text.split('\n').map(|l| l.trim_end_matches('\r').to_owned()).collect();
        Ok(Self { file: file.to_owned(), damage, lines, text: mended, starts })
    }

    /// Everything that can be read of it.
    pub fn table(&self) -> Spanned<DeTable<'_>> {
        DeTable::parse_recoverable(&self.text).0
    }

    /// For a reader that could not make a value although nothing was reported: a defect of the reader, told as such.
    pub fn unreadable(&self) -> Problems {
        let what = "this file cannot be read, and pkgctl cannot say why";
        let remedy = "compare it with pkg-templates/template.toml, and report this as a defect of pkgctl";
        let problems = vec![place(&self.lines, 1, 1, 1, what, remedy)];
        Problems { file: self.file.clone(), problems, unlisted: 0 }
    }

    /// The line, from 1, of a byte of the text.
    pub fn line_of(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset).max(1)
    }

    /// A found problem with its line and column.
    pub fn problem(&self, found: &Found) -> Problem {
        let line = self.line_of(found.span.start);
        let start = self.starts[line - 1];
        let (column, width) = columns(&self.text[start..], found.span.start - start..found.span.end.max(start) - start);
        place(&self.lines, line, column, width, &found.what, &found.remedy)
    }
}

/// A problem at a place of a text, with that line as its excerpt.
pub(super) fn place(lines: &[String], line: usize, column: usize, width: usize, what: &str, remedy: &str) -> Problem {
    let whole = lines.get(line - 1).map_or("", String::as_str);
    let excerpt: String = whole.chars().take(EXCERPT_MAX_CHARS).map(printable).collect();
    let shown = excerpt.chars().count();
    let width = width.min((shown + 1).saturating_sub(column)).max(1);
    // A place beyond the excerpt is told by its column alone.
    let excerpt = if column > shown + 1 { String::new() } else { excerpt };
    let safe = |text: &str| text.chars().map(printable).collect();
    Problem { line, column, what: safe(what), remedy: safe(remedy), excerpt, width }
}

/// A character as it may go to a terminal: nothing that moves the cursor or turns the direction of writing, so that
/// what is shown is what is there. One character stays one column.
fn printable(c: char) -> char {
    match c {
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => ' ',
        c => c,
    }
}

/// Bytes of a line as a column from 1 and a width, both in characters; a span over several lines ends with the first.
pub(super) fn columns(line_and_rest: &str, bytes: Range<usize>) -> (usize, usize) {
    let line = line_and_rest.split('\n').next().unwrap_or_default();
    let before = |end: usize| line.char_indices().take_while(|(at, _)| *at < end).count();
    let (start, end) = (before(bytes.start), before(bytes.end));
    (start + 1, end.saturating_sub(start).max(1))
}

/// Where each line begins, in bytes.
pub(super) fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

/// The one problem of a file that is too large.
pub fn too_large(file: &str, what: &str) -> Problems {
    let remedy = "check that this is the right file; move long scripts into files of their own and name them here";
    Problems { file: file.to_owned(), problems: vec![place(&[], 1, 1, 1, what, remedy)], unlisted: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::file::Report;

    #[test]
    fn columns_count_characters_not_bytes() {
        assert_eq!(columns("# é = x\nnext", 5..9), (5, 3));
        assert_eq!(columns("abc", 1..2), (2, 1));
        assert_eq!(columns("", 0..0), (1, 1));
    }

    #[test]
    fn a_place_is_told_by_line_and_column() {
        let sheet = Sheet::read("p", "a = 1\nb = 2\n").unwrap();
        let mut report = Report::default();
        report.add(6..7, "what", "remedy");
        let problems = report.finish(&sheet).unwrap().problems;
        assert_eq!((problems[0].line, problems[0].column, problems[0].excerpt.as_str()), (2, 1, "b = 2"));
    }

    #[test]
    fn nothing_of_a_file_can_steer_a_terminal() {
        let shown = place(&["a\u{1b}b\u{202e}c\td".into()], 1, 1, 1, "x\u{1b}[2J", "y\ry");
        assert_eq!(
            (shown.excerpt.as_str(), shown.what.as_str(), shown.remedy.as_str()),
            ("a b\u{fffd}c d", "x [2J", "y y")
        );
    }

    #[test]
    fn a_huge_file_is_refused_unread() {
        let problems = Sheet::read("p", &"#".repeat(FILE_MAX_BYTES + 1)).unwrap_err();
        assert_eq!(problems.count(), 1);
        assert!(Sheet::read("p", &"#".repeat(FILE_MAX_BYTES)).is_ok());
    }
}
