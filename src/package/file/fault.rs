//! The TOML parser's errors, in the operator's words and by line.
//!
//! The parser's messages are matched by their beginnings; a message that is not known is passed on as it is.

use toml::de::DeTable;

use super::sheet::{columns, line_starts};
use crate::package::problem::quoted;

/// What stopped the parser from reading on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// The line is no `key = value`.
    Pair,
    /// A table header without its closing brackets.
    Header,
    /// A list or inline table that swallows the lines after it.
    List(char),
    /// A text that swallows everything after it, or nesting too deep: no line to mend.
    Rest,
}

impl Break {
    /// What the parser's message says about it; none when the parser recovered by itself.
    fn of(message: &str) -> Option<Self> {
        let begins = |words: &[&str]| words.iter().any(|w| message.starts_with(w));
        if begins(&["unclosed array table", "unclosed table"]) {
            Some(Self::Header)
        } else if begins(&["unclosed array", "unexpected `=` in array"]) {
            Some(Self::List(']'))
        } else if begins(&["unclosed inline table"]) {
            Some(Self::List('}'))
        } else if begins(&["key with no value"]) {
            Some(Self::Pair)
        } else if begins(&["invalid multi-line", "recursion limit", "cannot recurse"]) {
            Some(Self::Rest)
        } else {
            None
        }
    }
}

/// An error of the parser by line and column of the text as it stands.
pub(super) struct Fault {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Width in characters.
    pub width: usize,
    /// The parser's message.
    pub message: String,
    /// Whether, and how, it stopped the parser.
    pub breaks: Option<Break>,
}

/// Every error of the parser, in the order of places.
pub(super) fn faults(text: &str) -> Vec<Fault> {
    let starts = line_starts(text);
    let (_, errors) = DeTable::parse_recoverable(text);
    let fault = |error: toml::de::Error| {
        let span = error.span().unwrap_or(text.len()..text.len());
        let line = starts.partition_point(|start| *start <= span.start).max(1);
        let start = starts[line - 1];
        let (column, width) = columns(&text[start..], span.start - start..span.end.max(start) - start);
        Fault { line, column, width, message: error.message().to_owned(), breaks: Break::of(error.message()) }
    };
    let mut faults: Vec<Fault> = errors.into_iter().map(fault).collect();
    faults.sort_by_key(|f| (f.line, f.column));
    faults
}

/// The parser's message in the operator's words, with what to write instead.
pub(super) fn explain(message: &str, line: &str) -> (String, String) {
    let pair = line.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
    let say = |what: &str, remedy: &str| (what.to_owned(), remedy.to_owned());
    match (message, pair) {
        (m, Some((key, ""))) if m.starts_with("string values must be quoted") => {
            (format!("{} has no value", quoted(key)), "write a value after the '=', or take the line out".to_owned())
        }
        (m, Some((key, value))) if unquoted(m, value) => match value.starts_with(['[', '{']) {
            true => say("text must stand in double quotes", "put every word of the list in quotes: [\"a\", \"b\"]"),
            false => {
                let bare = value.trim_matches(['"', '\'', '“', '”']);
                say("text must stand in double quotes", &format!("write {key} = \"{bare}\""))
            }
        },
        (m, _) if m.starts_with("key with no value") => match line.trim().split_once(':') {
            Some((key, value)) => {
                let value = value.trim();
                let bare = !value.starts_with(['"', '\'', '[', '{']);
                let value = if bare { format!("\"{value}\"") } else { value.to_owned() };
                say("a key and its value are joined by '='", &format!("write {} = {value}", key.trim()))
            }
            None => say("this is no line of the form key = value", "write key = value, or begin a comment with #"),
        },
        (m, _) if m.starts_with("unclosed array table") || m.starts_with("unclosed table") => {
            let header = closed_header(line).unwrap_or_else(|| "[[resource]]".to_owned());
            say("the header is not closed", &format!("write {header}"))
        }
        (m, _) if m.starts_with("unclosed array") || m.starts_with("unexpected `=` in array") => {
            say("the list that begins here is not closed", "end it with ]")
        }
        (m, _) if m.starts_with("unclosed inline table") => {
            say("the table that begins here is not closed", "end it with }")
        }
        (m, _) if m.starts_with("duplicate key") => match line.trim_start().starts_with('[') {
            true => say("this header stands in the file already", "use [[…]], with two brackets each time, for a list"),
            false => say("this key stands here already", "keep one of the two lines"),
        },
        (m, _) if m.starts_with("invalid basic string") || m.starts_with("invalid literal string") => {
            say("the closing quote is missing", "end the text with the quote it began with, on the same line")
        }
        (m, _) if m.starts_with("invalid multi-line") => {
            say("the text that begins here is never closed", "end it with the three quotes it began with")
        }
        (m, _) if m.starts_with("missing escaped value") => {
            say("'\\' in double quotes begins an escape", "write \\\\ for a backslash, or use single quotes: 'a\\b'")
        }
        (m, _) if m.starts_with("missing comma") => say("a comma is missing here", "put a comma between the elements"),
        (m, _) => say(m, "write key = value; text stands in double quotes, lists in [ ]"),
    }
}

/// Whether the parser took a text without quotes for a number, a date or true.
fn unquoted(message: &str, value: &str) -> bool {
    let numbers = ["integer", "hexadecimal", "octal", "binary", "float", "mantissa", "fraction", "exponent"];
    let invalid = message.strip_prefix("invalid ");
    let misread = invalid.is_some_and(|what| {
        what.starts_with("boolean") || what.starts_with("date") || numbers.iter().any(|n| what.starts_with(n))
    });
    let others = ["string values must be quoted", "unexpected leading zero", "redundant", "radix"];
    (misread || others.iter().any(|m| message.starts_with(m))) && !value.starts_with(['"', '\''])
}

/// `[[resource` and `[resource]` with too few brackets, closed.
pub(super) fn closed_header(text: &str) -> Option<String> {
    let inner = text.trim().trim_start_matches('[');
    let brackets = text.trim().len() - inner.len();
    let key: String = inner.chars().take_while(|c| is_key_char(*c)).collect();
    let (open, close) = if brackets > 1 { ("[[", "]]") } else { ("[", "]") };
    (!key.is_empty()).then(|| format!("{open}{key}{close}"))
}

/// Whether a character may stand in a key without quotes, or join two keys.
pub(super) fn is_key_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}
