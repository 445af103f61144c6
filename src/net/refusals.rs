//! What is said of strangers: the first refusal at once, all others of an interval in one line. Whoever knocks often
//! must not fill the log.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Time between two lines.
pub const TELL_EVERY: Duration = Duration::from_secs(10);
/// Time between two lines about nodes that were removed and try to come in.
pub const TELL_REMOVED_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct State {
    /// Something was said in this interval.
    said: bool,
    /// Not said yet: how many, and the last one.
    unsaid: u64,
    last: String,
}

/// Refusals of one port.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<Mutex<State>>);

impl Refusals {
    /// Somebody was refused.
    pub fn add(&self, there: SocketAddr, what: &str) {
        if let Some(line) = self.line_of(there, what) {
            tracing::info!("{line}");
        }
    }

    /// An interval has passed.
    pub fn tell(&self, interval: Duration) {
        if let Some(line) = self.line_of_interval(interval) {
            tracing::info!("{line}");
        }
    }

    fn line_of(&self, there: SocketAddr, what: &str) -> Option<String> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{there}: {what}");
        if !std::mem::replace(&mut state.said, true) {
            return Some(line);
        }
        state.unsaid += 1;
        state.last = line;
        None
    }

    fn line_of_interval(&self, interval: Duration) -> Option<String> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let unsaid = std::mem::take(&mut state.unsaid);
        state.said = unsaid > 0;
        let last = std::mem::take(&mut state.last);
        (unsaid > 0).then(|| format!("{unsaid} more were refused within {interval:?}; the last one, {last}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_a_flood_in_one_line_per_interval() {
        let (refusals, there) = (Refusals::default(), SocketAddr::from(([10, 0, 0, 9], 5)));
        assert_eq!(refusals.line_of(there, "no"), Some("10.0.0.9:5: no".to_owned()));
        for _ in 0..1000 {
            assert_eq!(refusals.line_of(there, "again"), None);
        }
        let line = refusals.line_of_interval(TELL_EVERY).unwrap();
        assert!(line.contains("1000 more") && line.ends_with("10.0.0.9:5: again"), "{line}");
        assert_eq!(refusals.line_of(there, "still"), None, "the interval had its line");
        assert!(refusals.line_of_interval(TELL_EVERY).is_some());
        assert_eq!(refusals.line_of_interval(TELL_EVERY), None);
        assert!(refusals.line_of(there, "later").is_some(), "after a quiet interval it is told at once again");
    }
}
