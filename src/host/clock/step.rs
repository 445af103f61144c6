//! One step of the holder's and the voter's clock, pure.

use super::{BootTime, HolderTime, VoterTime};

/// Changes of the suspended time up to this are noise of reading two clocks one after the other, in nanoseconds.
/// Leaving out so little is safe: CLOCK_BOOTTIME, which has it, bounds the holder's time from below, and the voter's
/// time only gets shorter.
const SUSPEND_NOISE_NS: u64 = 1_000_000;

/// The kernel's clocks as read at one moment, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Raw {
    /// CLOCK_BOOTTIME.
    pub boot: u64,
    /// CLOCK_MONOTONIC_RAW, which does not count suspended time.
    pub raw: u64,
    /// CLOCK_BOOTTIME − CLOCK_MONOTONIC: time the machine has been suspended since boot.
    pub suspended: u64,
    /// The clocks were read within microseconds of each other, so that they may be compared.
    pub tight: bool,
}

/// The same moment on each clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For who holds.
    pub holder: HolderTime,
    /// For who waits.
    pub voter: VoterTime,
    /// For kernel timers.
    pub boot: BootTime,
}

impl Now {
    /// Every clock starts at the uptime.
    pub fn start(raw: Raw) -> Self {
        Self { holder: HolderTime(raw.boot), voter: VoterTime(raw.boot), boot: BootTime(raw.boot) }
    }
}

/// The clocks one reading later (rule 2): the holder's advances by the larger of the two elapsed times, the voter's by
/// the smaller. Returns the times, and what the next reading is to be compared with.
///
/// Taking the larger one at each step, and not over the whole, keeps the promise for *every* pair of readings: no
/// kernel clock has advanced more than the holder's, none less than the voter's. A clock that went back counts as
/// standing still until it has caught up.
pub fn advance(now: Now, last: Raw, raw: Raw) -> (Now, Raw) {
    // Suspended time only grows; a loose reading may overstate it.
    let suspended = match raw.tight && raw.suspended > last.suspended.saturating_add(SUSPEND_NOISE_NS) {
        true => raw.suspended,
        false => last.suspended,
    };
    let by_boot = raw.boot.saturating_sub(last.boot);
    let by_raw = raw.raw.saturating_sub(last.raw).saturating_add(suspended - last.suspended);
    let next = Now {
        holder: HolderTime(now.holder.0.saturating_add(by_boot.max(by_raw))),
        voter: VoterTime(now.voter.0.saturating_add(by_boot.min(by_raw))),
        boot: BootTime(raw.boot.max(last.boot)),
    };
    let kept = Raw { boot: raw.boot.max(last.boot), raw: raw.raw.max(last.raw), suspended, tight: raw.tight };
    (next, kept)
}

/// When CLOCK_BOOTTIME will say that the holder's deadline has come, if it runs slower than the holder's clock by the
/// part `shortening` (0 to 1). Being early is safe, being late is not.
pub fn armed_at(now: Now, deadline: HolderTime, shortening: f64) -> BootTime {
    if deadline <= now.holder {
        return now.boot.back(now.holder - deadline);
    }
    let left = deadline - now.holder;
    now.boot + left.mul_f64(1.0 - shortening.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    fn at(boot: u64, raw: u64, suspended: u64) -> Raw {
        Raw { boot, raw, suspended, tight: true }
    }

    fn run(readings: &[Raw]) -> Vec<Now> {
        let mut last = readings[0];
        let mut now = Now::start(last);
        let mut out = vec![now];
        for raw in &readings[1..] {
            (now, last) = advance(now, last, *raw);
            out.push(now);
        }
        out
    }

    #[test]
    fn the_holder_follows_the_faster_clock_and_the_voter_the_slower() {
        let times = run(&[at(0, 0, 0), at(1010 * MS, 1000 * MS, 0), at(2010 * MS, 2020 * MS, 0)]);
        assert_eq!(times[2].holder, HolderTime::from_millis(1010 + 1020));
        assert_eq!(times[2].voter, VoterTime::from_millis(1000 + 1000));
    }

    #[test]
    fn suspended_time_counts_for_both() {
        let times = run(&[at(0, 0, 0), at(61_000 * MS, 1000 * MS, 60_000 * MS)]);
        assert_eq!(times[1].holder, HolderTime::from_millis(61_000));
        assert_eq!(times[1].voter, VoterTime::from_millis(61_000));
    }

    #[test]
    fn a_loose_reading_of_suspended_time_does_not_hurry_the_voter() {
        let loose = Raw { boot: 10 * MS, raw: 10 * MS, suspended: 9_000 * MS, tight: false };
        let times = run(&[at(0, 0, 0), loose, at(20 * MS, 20 * MS, 0)]);
        assert_eq!(times[2].voter, VoterTime::from_millis(20));
        assert_eq!(times[2].holder, HolderTime::from_millis(20));
    }

    #[test]
    fn a_clock_that_jumps_back_stands_still() {
        let times = run(&[at(100 * MS, 100 * MS, 0), at(50 * MS, 110 * MS, 0), at(105 * MS, 120 * MS, 0)]);
        assert_eq!(times[1].boot, BootTime::from_millis(100));
        assert_eq!(times[2].holder, HolderTime::from_millis(120));
        assert_eq!(times[2].voter, VoterTime::from_millis(105));
    }

    #[test]
    fn arming_for_a_slow_boottime_is_early_by_its_lag() {
        let now = Now::start(at(1000 * MS, 1000 * MS, 0));
        let deadline = now.holder + Duration::from_millis(1000);
        assert_eq!(armed_at(now, deadline, 0.0), BootTime::from_millis(2000));
        assert_eq!(armed_at(now, deadline, 0.1), BootTime::from_millis(1900));
        assert_eq!(armed_at(now, deadline, 7.0), BootTime::from_millis(1000));
        let past = HolderTime::from_millis(400);
        assert_eq!(armed_at(now, past, 0.0), BootTime::from_millis(400));
    }

    proptest! {
        /// The promise of rule 2, for every pair of readings under drifting and jumping clocks.
        #[test]
        fn between_any_two_readings_the_holder_counts_most_and_the_voter_least(
            steps in prop::collection::vec((0u64..3_000 * MS, 0u64..3_000 * MS, prop::bool::weighted(0.1), 2u64..9_000), 1..40),
            a in 0usize..40, b in 0usize..40,
        ) {
            let mut readings = vec![at(5_000 * MS, 4_000 * MS, 1_000 * MS)];
            for (boot, raw, slept, ms) in steps {
                let last = readings[readings.len() - 1];
                let nap = if slept { ms * MS } else { 0 };
                readings.push(at(last.boot + boot + nap, last.raw + raw, last.suspended + nap));
            }
            let times = run(&readings);
            let (a, b) = (a.min(b) % times.len(), a.max(b) % times.len());
            prop_assume!(a <= b);
            let boot = readings[b].boot - readings[a].boot;
            let raw = readings[b].raw - readings[a].raw + readings[b].suspended - readings[a].suspended;
            let holder = (times[b].holder - times[a].holder).as_nanos() as u64;
            let voter = (times[b].voter - times[a].voter).as_nanos() as u64;
            prop_assert!(holder >= boot.max(raw));
            prop_assert!(voter <= boot.min(raw));
        }
    }
}
