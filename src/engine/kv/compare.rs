//! Comparing values: numbers as numbers, anything else as bytes.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How two values are to stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compare {
    /// The same.
    #[serde(rename = "=")]
    Equal,
    /// Not the same.
    #[serde(rename = "!=")]
    NotEqual,
    /// Smaller.
    #[serde(rename = "<")]
    Less,
    /// Smaller or the same.
    #[serde(rename = "<=")]
    AtMost,
    /// Larger.
    #[serde(rename = ">")]
    Greater,
    /// Larger or the same.
    #[serde(rename = ">=")]
    AtLeast,
}

impl Compare {
    /// All of them, with the sign used in commands and JSON.
    pub const SIGNS: [(&str, Compare); 6] = [
        ("=", Compare::Equal),
        ("!=", Compare::NotEqual),
        ("<", Compare::Less),
        ("<=", Compare::AtMost),
        (">", Compare::Greater),
        (">=", Compare::AtLeast),
    ];

    /// Whether it holds for two things in that order.
    pub fn holds(self, order: Ordering) -> bool {
        match self {
            Compare::Equal => order.is_eq(),
            Compare::NotEqual => order.is_ne(),
            Compare::Less => order.is_lt(),
            Compare::AtMost => order.is_le(),
            Compare::Greater => order.is_gt(),
            Compare::AtLeast => order.is_ge(),
        }
    }
}

impl fmt::Display for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = Self::SIGNS.iter().find(|(_, compare)| compare == self);
        f.write_str(sign.map_or("", |(sign, _)| sign))
    }
}

impl FromStr for Compare {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        let found = Self::SIGNS.iter().find(|(sign, _)| *sign == given);
        found.map(|(_, compare)| *compare).ok_or_else(|| format!("'{given}' compares nothing: use = != < <= > or >="))
    }
}

/// How two values stand to each other: as decimal numbers of any length if both are some, else as bytes.
pub fn order(left: &[u8], right: &[u8]) -> Ordering {
    match (Decimal::read(left), Decimal::read(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        (None, _) | (_, None) => left.cmp(right),
    }
}

/// A decimal number without what does not count: leading and trailing zeros, the sign of zero.
#[derive(PartialEq, Eq)]
struct Decimal<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
}

impl<'a> Decimal<'a> {
    /// `12`, `-12`, `+12`, `12.50`, `.5`, with spaces and line breaks around it; none if it is no such number.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let bytes = bytes.trim_ascii();
        let (negative, digits) = match bytes.split_first()? {
            (b'-', rest) => (true, rest),
            (b'+', rest) => (false, rest),
            _ => (false, bytes),
        };
        let point = digits.iter().position(|b| *b == b'.');
        let (whole, fraction) = point.map_or((digits, &[][..]), |at| (&digits[..at], &digits[at + 1..]));
        let all_digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
        if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let whole = &whole[whole.iter().position(|b| *b != b'0').unwrap_or(whole.len())..];
        let fraction = &fraction[..fraction.iter().rposition(|b| *b != b'0').map_or(0, |at| at + 1)];
        let negative = negative && !(whole.is_empty() && fraction.is_empty());
        Some(Self { negative, whole, fraction })
    }

    fn size(&self) -> (usize, &[u8], &[u8]) {
        (self.whole.len(), self.whole, self.fraction)
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, false) => self.size().cmp(&other.size()),
            (true, true) => other.size().cmp(&self.size()),
            (negative, _) => {
                if negative {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
        }
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
