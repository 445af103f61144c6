//! Units that travel: durations are whole milliseconds, and the type says so.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A duration in whole milliseconds, as it stands in definitions, in the log and on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

/// Why a duration in a file was refused; the text says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a number and a unit, like 500ms, 30s, 1m30s or 2h")]
pub struct BadDuration;

impl Millis {
    /// A whole number of seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1000)
    }

    /// The same length as the standard library's type.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl From<Duration> for Millis {
    fn from(value: Duration) -> Self {
        Self(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }
}

impl FromStr for Millis {
    type Err = BadDuration;
    /// Reads `30s`, `1m30s`, `500ms`; fractions of a millisecond are refused, because they would be lost.
    fn from_str(text: &str) -> Result<Self, BadDuration> {
        let duration = humantime::parse_duration(text).map_err(|_| BadDuration)?;
        let millis = Self::from(duration);
        if millis.duration() == duration { Ok(millis) } else { Err(BadDuration) }
    }
}

impl fmt::Display for Millis {
    /// `250ms`, `1.5s`, `90s`: the shortest form that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, ms) = (self.0 / 1000, self.0 % 1000);
        match (secs, ms) {
            (0, ms) => write!(f, "{ms}ms"),
            (secs, 0) => write!(f, "{secs}s"),
            (secs, ms) => write!(f, "{secs}.{}s", format!("{ms:03}").trim_end_matches('0')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, ms) in [("30s", 30_000), ("1m30s", 90_000), ("1m 30s", 90_000), ("500ms", 500), ("1.5s", 1500)] {
            assert_eq!(text.parse(), Ok(Millis(ms)), "{text}");
        }
    }

    #[test]
    fn a_duration_without_unit_or_finer_than_a_millisecond_is_refused() {
        for text in ["30", "", "s", "1us", "1.0001s", "-3s", "ten seconds", "999999999999999999h"] {
            assert_eq!(text.parse::<Millis>(), Err(BadDuration), "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for ms in [0, 1, 999, 1000, 1001, 1010, 1500, 61_001, 90_000, u64::from(u32::MAX)] {
            assert_eq!(Millis(ms).to_string().parse(), Ok(Millis(ms)));
        }
    }
}
