//! What is wrong with a file, told so that it can be put right at 3 a.m.: all of it at once, each with its remedy.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Problems listed one by one; of the rest only the number is told.
pub const PROBLEMS_MAX: usize = 50;

/// One thing wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub remedy: String,
    /// The line as it stands in the file, safe to print.
    pub excerpt: String,
    /// How many characters of it, from the column on, the problem is about.
    pub width: usize,
}

/// Everything wrong with one file, in the order of its lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problems {
    /// The file, as the operator named it.
    pub file: String,
    /// In the order of lines and columns; at most [`PROBLEMS_MAX`].
    pub problems: Vec<Problem>,
    /// How many more there are.
    pub unlisted: usize,
}

impl std::error::Error for Problems {}

impl Problems {
    /// How many problems there are in all.
    pub fn count(&self) -> usize {
        self.problems.len() + self.unlisted
    }
}

impl fmt::Display for Problems {
    /// One block per problem, as compilers print them, then the count. Nothing ends in a line feed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            write_problem(f, &self.file, problem)?;
        }
        match (self.count(), self.unlisted) {
            (1, _) => write!(f, "1 problem in {}", self.file),
            (all, 0) => write!(f, "{all} problems in {}", self.file),
            (all, more) => write!(f, "{all} problems in {}, {more} of them not listed", self.file),
        }
    }
}

fn write_problem(f: &mut fmt::Formatter<'_>, file: &str, problem: &Problem) -> fmt::Result {
    let Problem { line, column, what, remedy, excerpt, width } = problem;
    writeln!(f, "{file}:{line}:{column}: {what}")?;
    let gutter = line.to_string().len().max(4);
    if !excerpt.trim().is_empty() {
        writeln!(f, "{line:>gutter$} | {excerpt}")?;
        let blank = " ".repeat(column - 1);
        writeln!(f, "{:>gutter$} | {blank}{}", "", "^".repeat((*width).max(1)))?;
    }
    writeln!(f, "{:>gutter$} = {remedy}\n", "")
}

/// Text of a file quoted in a message: control characters escaped, cut where it gets long.
pub fn quoted(text: &str) -> String {
    const QUOTED_MAX_CHARS: usize = 60;
    let mut shown: String = text.chars().take(QUOTED_MAX_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTED_MAX_CHARS).is_some() {
        shown.push('…');
    }
    format!("'{shown}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: usize) -> Problem {
        Problem {
            line,
            column: 1,
            what: "an ip resource has no key 'adress'".into(),
            remedy: "write address".into(),
            excerpt: "adress = \"10.0.0.100/24\"".into(),
            width: 6,
        }
    }

    #[test]
    fn a_problem_shows_its_place_its_line_and_its_remedy() {
        let problems = Problems { file: "testpkg1.toml".into(), problems: vec![problem(4)], unlisted: 0 };
        let expected = "\
testpkg1.toml:4:1: an ip resource has no key 'adress'
   4 | adress = \"10.0.0.100/24\"
     | ^^^^^^
     = write address

1 problem in testpkg1.toml";
        assert_eq!(problems.to_string(), expected);
    }

    #[test]
    fn what_is_not_listed_is_counted() {
        let problems = Problems { file: "p".into(), problems: vec![problem(1), problem(2)], unlisted: 7 };
        assert!(problems.to_string().ends_with("9 problems in p, 7 of them not listed"));
    }

    #[test]
    fn quoted_text_cannot_steer_a_terminal() {
        assert_eq!(quoted("a\u{1b}[2Jb"), "'a\\u{1b}[2Jb'");
        assert_eq!(quoted(&"x".repeat(61)), format!("'{}…'", "x".repeat(60)));
    }
}
