//! Signals by name or number.
//!
//! The numbers are those of Linux on x86, arm and riscv. A definition is one for the whole cluster, so its number must
//! not depend on the machine that read the file.

/// Signals that can end a program in good order, and the drastic one.
const SIGNALS: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ABRT", 6),
    ("KILL", 9),
    ("USR1", 10),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
];
/// Realtime signals.
const REALTIME: std::ops::RangeInclusive<i32> = 34..=64;

/// What to write for a signal.
pub const REMEDY: &str = "write a name like \"SIGTERM\", \"INT\" or \"QUIT\", \"SIGRTMIN+3\", or its number";

/// The number of a signal by name, with or without `SIG`; none if it cannot end a program.
pub fn by_name(name: &str) -> Option<i32> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = short.strip_prefix("RTMIN") {
        let offset = if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse().ok()? };
        return by_number(REALTIME.start().checked_add(offset)?);
    }
    SIGNALS
        .iter()
        .find(|(known, _)| *known == short)
        .map(|(_, number)| *number)
        .or_else(|| by_number(short.parse().ok()?))
}

/// A signal's number, if it is one that can end a program.
pub fn by_number(number: i32) -> Option<i32> {
    (REALTIME.contains(&number) || SIGNALS.iter().any(|(_, known)| *known == number)).then_some(number)
}

/// A signal as files show it.
pub fn word(number: i32) -> String {
    match SIGNALS.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => format!("SIG{name}"),
        None if REALTIME.contains(&number) => format!("SIGRTMIN+{}", number - REALTIME.start()),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_read_by_name_and_number() {
        for (given, number) in
            [("SIGTERM", 15), ("TERM", 15), ("sigint", 2), ("15", 15), ("SIGRTMIN+3", 37), ("RTMIN", 34)]
        {
            assert_eq!(by_name(given), Some(number), "{given}");
        }
    }

    #[test]
    fn signals_that_end_nothing_or_do_not_exist_are_refused() {
        for given in
            ["SIGSTOP", "CONT", "CHLD", "SIGFOO", "", "0", "-9", "65", "32", "RTMIN-1", "RTMIN+99", "RTMIN+4294967296"]
        {
            assert_eq!(by_name(given), None, "{given}");
        }
    }

    #[test]
    fn every_signal_reads_back_as_it_is_shown() {
        for number in (0..=70).filter_map(by_number) {
            assert_eq!(by_name(&word(number)), Some(number));
        }
    }
}
