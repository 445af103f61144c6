//! How a broken line is made harmless, so that one slip does not hide the problems on the lines after it.
//!
//! The parser recovers by itself from a bad value, but gives up, or swallows what follows, at a key without a value, an
//! unclosed header or an unclosed list. Such a line is closed or blanked and the text parsed again. Only lines change,
//! never their number; what is read from a repaired text serves to find further problems and is never used as input.

use std::collections::BTreeSet;

use super::fault::{self, Break, Fault, closed_header, is_key_char};
use super::report::Found;
use super::sheet::place;
use crate::package::problem::Problem;

/// Broken lines mended in one file; beyond it nothing after the break is judged.
const REPAIRS_MAX: usize = 32;

/// Which lines of a file are broken, and what is wrong with them.
#[derive(Debug, Default)]
pub struct Damage {
    /// A problem for each broken line.
    pub problems: Vec<Problem>,
    lines: BTreeSet<usize>,
    /// Words that broken lines begin with: those keys are broken, not missing.
    mentioned: BTreeSet<String>,
    /// Nothing after this line could be read.
    lost_after: Option<usize>,
}

impl Damage {
    /// Whether a problem found by a reader is only the echo of a broken line.
    pub(super) fn explains(&self, found: &Found, line: usize) -> bool {
        match &found.missing {
            Some(key) => self.lost_after.is_some() || self.mentioned.contains(key),
            None => self.lines.contains(&line) || self.lost_after.is_some_and(|lost| line > lost),
        }
    }

    /// Takes a fault down against a line, once for each line.
    fn note(&mut self, original: &[String], fault: &Fault, line: usize) {
        if !self.lines.insert(line) {
            return;
        }
        let text = original.get(line - 1).map_or("", String::as_str);
        let (what, remedy) = fault::explain(&fault.message, text);
        let (column, width) = if line == fault.line {
            (fault.column, fault.width)
        } else {
            (text.chars().take_while(|c| c.is_whitespace()).count() + 1, text.trim().chars().count())
        };
        self.mentioned.insert(first_word(text));
        self.problems.push(place(original, line, column, width, &what, &remedy));
    }
}

/// The text with its broken lines made harmless, and the damage. An unbroken text comes back as it is.
pub(super) fn mend(text: &str) -> (String, Damage) {
    let original: Vec<String> = text.split('\n').map(|l| l.trim_end_matches('\r').to_owned()).collect();
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let mut damage = Damage::default();
    let mut tried = BTreeSet::new();
    for _ in 0..REPAIRS_MAX {
        let faults = fault::faults(&lines.join("\n"));
        let Some((fault, how)) = faults.iter().find_map(|f| Some((f, f.breaks?))) else {
            faults.iter().for_each(|f| damage.note(&original, f, f.line));
            return (lines.join("\n"), damage);
        };
        let opened = opening_line(&lines, fault.line, how);
        // Faults between an opening bracket and the place where it went wrong are its consequences.
        faults.iter().filter(|f| f.line < opened).for_each(|f| damage.note(&original, f, f.line));
        damage.note(&original, fault, opened);
        let Some(target) = line_to_mend(&lines, fault.line, opened, how) else {
            damage.lost_after = Some(opened);
            return (lines.join("\n"), damage);
        };
        let line = &mut lines[target - 1];
        *line = mended(line, how).filter(|_| tried.insert(target)).unwrap_or_default();
        damage.lines.insert(target);
        damage.mentioned.insert(first_word(&original[target - 1]));
    }
    damage.lost_after = damage.lines.first().copied();
    (lines.join("\n"), damage)
}

/// The line, from 1, to blame: that of the fault, or the one that opened the list or text found unclosed there.
fn opening_line(lines: &[String], line: usize, how: Break) -> usize {
    let opens: &[&str] = match how {
        Break::Pair | Break::Header => return line,
        Break::List(']') => &["["],
        Break::List(_) => &["{"],
        Break::Rest => &["\"\"\"", "'''"],
    };
    let opens = |text: &String| is_pair(text) && opens.iter().any(|o| text.contains(o));
    (1..=line.min(lines.len())).rev().find(|l| opens(&lines[l - 1])).unwrap_or(line)
}

/// The line, from 1, that is closed or blanked; none when nothing can be saved.
fn line_to_mend(lines: &[String], line: usize, opened: usize, how: Break) -> Option<usize> {
    match how {
        Break::Pair | Break::Header => Some(line),
        Break::List(close) => Some(last_of_list(lines, opened, close)),
        Break::Rest => None,
    }
}

/// Where a list that is never closed was meant to end: before the next header or the next key of the table it is in.
fn last_of_list(lines: &[String], opened: usize, close: char) -> usize {
    let mut last = opened;
    for (number, text) in (1..).zip(lines).skip(opened) {
        let text = without_comment(text);
        // Keys may follow in an inline table, but only after a comma.
        let goes_on = without_comment(&lines[last - 1]).ends_with([',', '{']);
        if is_header(text) || is_pair(text) && (close == ']' || !goes_on) {
            break;
        }
        if !text.is_empty() {
            last = number;
        }
    }
    last
}

/// The line closed; none when all that helps is to blank it.
fn mended(line: &str, how: Break) -> Option<String> {
    match how {
        Break::Header => closed_header(line),
        Break::List(close) => Some(format!("{}{close}", without_comment(line))),
        Break::Pair | Break::Rest => None,
    }
}

fn is_pair(line: &str) -> bool {
    line.split_once('=').is_some_and(|(key, _)| !key.trim().is_empty() && key.trim().chars().all(is_key_char))
}

fn is_header(line: &str) -> bool {
    line.trim_start().strip_prefix('[').is_some_and(|rest| rest.trim_start_matches('[').starts_with(is_key_char))
}

fn without_comment(line: &str) -> &str {
    line.split('#').next().unwrap_or_default().trim_end()
}

fn first_word(text: &str) -> String {
    text.trim_start_matches(|c| !is_key_char(c)).chars().take_while(|c| is_key_char(*c)).collect()
}
