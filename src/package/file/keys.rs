//! One table's keys: which are unknown, which are missing, which have a value of the wrong type.
//!
//! Getters report what is wrong and hand back what they can; a reader goes on either way, so that one pass finds
//! everything. A default returned in place of a bad value is never used: the report makes the whole file fail.

use std::ops::{Range, RangeInclusive};
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Report;
use super::suggest::nearest;
use crate::package::problem::quoted;
use crate::package::{BadName, Millis};

/// A value and its place in the text.
pub type At<T> = Spanned<T>;

/// The keys of one table.
#[derive(Clone, Debug)]
pub struct Keys<'t> {
    table: &'t DeTable<'t>,
    /// Where the table begins: what is missing from it is reported there.
    pub header: Range<usize>,
    /// Whose keys they are, as a sentence begins: `an ip resource`.
    pub whose: String,
}

impl<'t> Keys<'t> {
    /// The keys of a table that begins at `header`.
    pub fn new(table: &'t DeTable<'t>, header: Range<usize>, whose: impl Into<String>) -> Self {
        Self { table, header, whose: whose.into() }
    }

    /// Reports every key that is not known; `elsewhere` may know where it belongs.
    pub fn check(&self, known: &[&str], elsewhere: impl Fn(&str) -> Option<String>, report: &mut Report) {
        for key in self.table.keys().filter(|k| !known.contains(&k.get_ref().as_ref())) {
            let word = key.get_ref();
            let remedy = elsewhere(word).unwrap_or_else(|| match nearest(word, known) {
                Some(meant) => format!("did you mean '{meant}'?"),
                None => format!("take it out; keys here: {}", known.join(", ")),
            });
            report.add(key.span(), format!("{} has no key {}", self.whose, quoted(word)), remedy);
        }
    }

    /// A key's value of whatever type.
    pub fn get(&self, key: &str) -> Option<&'t At<DeValue<'t>>> {
        self.table.get(key)
    }

    /// The value of a key that must be there; `example` is a whole line.
    pub fn need(&self, key: &str, example: &str, report: &mut Report) -> Option<&'t At<DeValue<'t>>> {
        let value = self.get(key);
        if value.is_none() {
            report.add_missing(self.header.clone(), key, &self.whose, example);
        }
        value
    }

    /// A text that must be there; `example` is a whole line.
    pub fn need_text(&self, key: &str, example: &str, report: &mut Report) -> Option<At<&'t str>> {
        self.need(key, example, report).and_then(|value| text(value, key, example, report))
    }

    /// A text that may be there.
    pub fn text(&self, key: &str, example: &str, report: &mut Report) -> Option<At<&'t str>> {
        self.get(key).and_then(|value| text(value, key, example, report))
    }

    /// A duration that may be there, within limits.
    pub fn duration(&self, key: &str, default: Millis, limits: RangeInclusive<Millis>, report: &mut Report) -> Millis {
        let Some(value) = self.get(key) else { return default };
        let span = value.span();
        if let DeValue::Integer(number) = value.get_ref() {
            report.add(
                span,
                format!("'{key}' has no unit"),
                format!("write {key} = \"{number}s\" if seconds are meant"),
            );
            return default;
        }
        let example = format!("{key} = \"{default}\"");
        let Some(given) = text(value, key, &example, report) else { return default };
        match given.get_ref().parse::<Millis>() {
            Err(bad) => report.add(span, format!("{} is not a duration", quoted(given.get_ref())), bad.to_string()),
            Ok(length) if !limits.contains(&length) => report.add(
                span,
                format!("'{key}' must lie between {} and {}", spoken(*limits.start()), spoken(*limits.end())),
                format!("write for example {example}, which is the default"),
            ),
            Ok(length) => return length,
        }
        default
    }

    /// A whole number that may be there, within limits.
    pub fn number(&self, key: &str, default: u32, limits: RangeInclusive<u32>, report: &mut Report) -> u32 {
        let Some(value) = self.get(key) else { return default };
        let given = value.get_ref().as_integer().and_then(|n| u32::from_str_radix(n.as_str(), n.radix()).ok());
        match given.filter(|n| limits.contains(n)) {
            Some(number) => number,
            None => {
                let what = format!("'{key}' must be a whole number from {} to {}", limits.start(), limits.end());
                report.add(value.span(), what, format!("write for example {key} = {default}, which is the default"));
                default
            }
        }
    }

    /// A truth that may be there.
    pub fn truth(&self, key: &str, default: bool, report: &mut Report) -> bool {
        let Some(value) = self.get(key) else { return default };
        if let DeValue::Boolean(truth) = value.get_ref() {
            return *truth;
        }
        let what = format!("'{key}' must be true or false, not {}", kind_of(value.get_ref()));
        report.add(value.span(), what, format!("write {key} = {}, without quotes", !default));
        default
    }

    /// A list of texts; none if the key is missing or something in the list is no text.
    pub fn texts(&self, key: &str, example: &str, report: &mut Report) -> Option<At<Vec<At<&'t str>>>> {
        let value = self.get(key)?;
        let DeValue::Array(elements) = value.get_ref() else {
            let what = format!("'{key}' must be a list of texts, not {}", kind_of(value.get_ref()));
            report.add(value.span(), what, format!("write {example}"));
            return None;
        };
        let texts: Vec<_> = elements.iter().map(|e| text(e, key, example, report)).collect();
        Some(Spanned::new(value.span(), texts.into_iter().collect::<Option<Vec<_>>>()?))
    }
}

/// A value as text, without NUL bytes.
pub fn text<'t>(value: &'t At<DeValue<'t>>, key: &str, example: &str, report: &mut Report) -> Option<At<&'t str>> {
    match value.get_ref() {
        DeValue::String(text) if text.contains('\0') => {
            report.add(
                value.span(),
                format!("'{key}' contains a NUL byte"),
                "take \\u0000 out; nothing can be given it",
            );
            None
        }
        DeValue::String(text) => Some(Spanned::new(value.span(), text.as_ref())),
        other => {
            report.add(
                value.span(),
                format!("'{key}' must be text, not {}", kind_of(other)),
                format!("write {example}"),
            );
            None
        }
    }
}

/// A text as a name of some sort.
pub fn name<N: FromStr<Err = BadName>>(given: &At<&str>, report: &mut Report) -> Option<N> {
    let name = given.get_ref().parse();
    if name.is_err() {
        report.add(given.span(), format!("{} is not a name", quoted(given.get_ref())), BadName::RULE);
    }
    name.ok()
}

/// A limit as people say it: `1day` rather than `86400s`.
fn spoken(limit: Millis) -> humantime::FormattedDuration {
    humantime::format_duration(limit.duration())
}

/// A value's type with its article.
pub fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
