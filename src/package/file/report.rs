//! Problems as they are found, by place in the text; a [`Sheet`] turns them into lines and columns at the end.

use std::ops::Range;

use super::Sheet;
use crate::package::problem::{PROBLEMS_MAX, Problems};

/// One problem as found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Bytes of the sheet's text that it is about.
    pub span: Range<usize>,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub remedy: String,
    /// The key that is missing, for a problem of that sort: a damaged line may hold it.
    pub missing: Option<String>,
}

/// What a reader has found so far.
#[derive(Debug, Default)]
pub struct Report {
    found: Vec<Found>,
}

impl Report {
    /// Something there is wrong.
    pub fn add(&mut self, span: Range<usize>, what: impl Into<String>, remedy: impl Into<String>) {
        self.found.push(Found { span, what: what.into(), remedy: remedy.into(), missing: None });
    }

    /// Something is not there; `span` is the header that it should stand under.
    pub fn add_missing(&mut self, span: Range<usize>, key: &str, whose: &str, example: &str) {
        self.found.push(Found {
            span,
            what: format!("{whose} needs '{key}'"),
            remedy: format!("add a line like: {example}"),
            missing: Some(key.to_owned()),
        });
    }

    /// Whether nothing has been found by readers; the sheet's own syntax problems are not counted here.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All problems in order: the sheet's syntax problems, and those found here that are not merely their echo.
    pub fn finish(self, sheet: &Sheet) -> Option<Problems> {
        let echoes = |found: &Found| sheet.damage.explains(found, sheet.line_of(found.span.start));
        let mut problems: Vec<_> = self.found.iter().filter(|f| !echoes(f)).map(|f| sheet.problem(f)).collect();
        problems.extend(sheet.damage.problems.iter().cloned());
        problems.sort_by_key(|p| (p.line, p.column));
        problems.dedup();
        if problems.is_empty() {
            return None;
        }
        let unlisted = problems.len().saturating_sub(PROBLEMS_MAX);
        problems.truncate(PROBLEMS_MAX);
        Some(Problems { file: sheet.file.clone(), problems, unlisted })
    }
}
