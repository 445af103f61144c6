//! How much CLOCK_BOOTTIME's rate differs from CLOCK_MONOTONIC_RAW's, over the last few seconds, pure.
//!
//! CLOCK_BOOTTIME is slewed by NTP and CLOCK_MONOTONIC_RAW is not. The holder counts with the faster one, kernel timers
//! count with CLOCK_BOOTTIME: if that is the slower one, a timer armed for what is left would fire late.

use super::Raw;
use crate::engine::profile::RHO_PERMILLE;

/// Length of a measurement, in nanoseconds: a reading's error of 20 µs is then 0.004 %.
const WINDOW_NS: u64 = 500_000_000;
/// How many measurements count; the worst of them does.
const WINDOWS: usize = 8;
/// Rates that differ by more than rho/2 are a fault that `status` reports (rule 2).
const SKEW_LIMIT: f64 = RHO_PERMILLE as f64 / 1000.0 / 2.0;

/// The last measurements.
#[derive(Clone, Debug)]
pub struct Rates {
    from: Raw,
    /// By which part CLOCK_BOOTTIME was slower, per window; a ring.
    lags: [f64; WINDOWS],
    next: usize,
}

impl Rates {
    /// Begins with nothing measured.
    pub fn start(raw: Raw) -> Self {
        Self { from: raw, lags: [0.0; WINDOWS], next: 0 }
    }

    /// Takes a reading into account.
    pub fn observe(&mut self, raw: Raw) {
        if !raw.tight {
            return;
        }
        let nap = raw.suspended.abs_diff(self.from.suspended) > WINDOW_NS / 500;
        if !self.from.tight || nap {
            // The error of the first reading, or of the time slept, would be taken for a rate.
            self.from = raw;
            return;
        }
        let boot = raw.boot.saturating_sub(self.from.boot);
        let true_rate = raw.raw.saturating_sub(self.from.raw);
        if boot.max(true_rate) < WINDOW_NS {
            return;
        }
        self.lags[self.next] = (true_rate as f64 - boot as f64) / boot.max(true_rate) as f64;
        self.next = (self.next + 1) % WINDOWS;
        self.from = raw;
    }

    /// The difference, if it is larger than rho/2; positive if CLOCK_BOOTTIME is slower.
    pub fn skewed(&self) -> Option<f64> {
        let worst = self.lags.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs()))?;
        (worst.abs() > SKEW_LIMIT).then_some(worst)
    }

    /// By which part what is left of a lease is shortened for a timer on CLOCK_BOOTTIME. A lag beyond rho/2 counts
    /// double: something is changing the rate, and may have changed it further since it was measured.
    pub fn shortening(&self) -> f64 {
        let lag = self.lags.iter().copied().fold(0.0, f64::max);
        let counted = if lag > SKEW_LIMIT { 2.0 * lag } else { lag };
        counted.min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readings every 20 ms for that long, with CLOCK_BOOTTIME at that rate.
    fn observe(rates: &mut Rates, from: Raw, millis: u64, rate: f64) -> Raw {
        let mut raw = from;
        for _ in 0..millis / 20 {
            raw.raw += 20_000_000;
            raw.boot += (20_000_000.0 * rate) as u64;
            rates.observe(raw);
        }
        raw
    }

    fn start() -> (Rates, Raw) {
        let raw = Raw { boot: 9_000, raw: 7_000, suspended: 0, tight: true };
        (Rates::start(raw), raw)
    }

    #[test]
    fn equal_rates_shorten_nothing() {
        let (mut rates, raw) = start();
        observe(&mut rates, raw, 10_000, 1.0);
        assert_eq!(rates.skewed(), None);
        assert!(rates.shortening() < 1e-6);
    }

    #[test]
    fn ordinary_slewing_shortens_by_what_was_measured_and_is_not_reported() {
        let (mut rates, raw) = start();
        observe(&mut rates, raw, 10_000, 0.9995);
        assert_eq!(rates.skewed(), None);
        assert!((rates.shortening() - 0.0005).abs() < 1e-5, "{}", rates.shortening());
    }

    #[test]
    fn a_boottime_slewed_hard_is_reported_shortened_and_forgotten_when_it_is_over() {
        let (mut rates, raw) = start();
        let raw = observe(&mut rates, raw, 1_000, 0.9);
        let skew = rates.skewed().expect("ten per cent is more than rho/2");
        assert!((skew - 0.1).abs() < 1e-3, "{skew}");
        assert!((rates.shortening() - 0.2).abs() < 1e-3);
        observe(&mut rates, raw, 10_000, 1.0);
        assert_eq!(rates.skewed(), None);
        assert!(rates.shortening() < 1e-6);
    }

    #[test]
    fn a_fast_boottime_is_reported_but_needs_no_shortening() {
        let (mut rates, raw) = start();
        observe(&mut rates, raw, 2_000, 1.1);
        assert!(rates.skewed().expect("ten per cent is more than rho/2") < 0.0);
        assert!(rates.shortening() < 1e-9, "the holder already counts with the faster clock");
    }

    #[test]
    fn suspend_and_loose_readings_are_no_skew() {
        let (mut rates, raw) = start();
        let mut raw = observe(&mut rates, raw, 400, 1.0);
        raw.boot += 60_000_000_000;
        raw.suspended += 60_000_000_000;
        rates.observe(raw);
        let late = Raw { boot: raw.boot + 900_000_000, tight: false, ..raw };
        rates.observe(late);
        observe(&mut rates, raw, 5_000, 1.0);
        assert_eq!(rates.skewed(), None);
    }
}
