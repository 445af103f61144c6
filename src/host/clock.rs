//! The one clock: raw readings of the kernel's clocks, and the holder's and the voter's time made of them (rule 2).
//!
//! Everything else receives times as arguments. Readings are kernel calls and not `std::time`, because `Instant` is
//! CLOCK_MONOTONIC, which stands still while the machine is suspended.

mod rates;
mod step;

use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::time::{ClockId, clock_gettime};

use crate::engine::time::{BootTime, HolderTime, VoterTime, WallMillis};

pub use rates::Rates;
pub use step::{Now, Raw, advance, armed_at};

/// A reading is tight if no more than this passed between its first and its last kernel call, in nanoseconds.
const TIGHT_NS: u64 = 20_000;
/// How often a reading is tried again to make it tight (being preempted between the calls is rare, and harmless).
const TRIES: u32 = 8;

/// Makes holder's and voter's time out of the kernel's clocks. One per process, shared by its threads: times of two
/// clocks must not be compared.
#[derive(Debug)]
pub struct Clock {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    last: Raw,
    now: Now,
    rates: Rates,
}

impl Clock {
    /// Starts at the machine's uptime.
    pub fn start() -> Self {
        let last = read();
        Self { inner: Mutex::new(Inner { last, now: Now::start(last), rates: Rates::start(last) }) }
    }

    /// Reads the clocks now. Call it after receipt of what is to be judged, and before the send whose t0 it is (rule 3).
    pub fn now(&self) -> Now {
        self.step().now
    }

    /// When to arm a kernel timer (CLOCK_BOOTTIME, absolute) for a deadline of the holder's clock: never later than the
    /// deadline, whichever of the two clocks runs faster.
    pub fn arm_at(&self, deadline: HolderTime) -> BootTime {
        let inner = self.step();
        armed_at(inner.now, deadline, inner.rates.shortening())
    }

    /// By which part CLOCK_BOOTTIME's rate differed from CLOCK_MONOTONIC_RAW's within the last seconds, if that is more
    /// than rho/2 (something slews the clock hard): armed deadlines are shortened and `status` says so. Positive if
    /// CLOCK_BOOTTIME is the slower one.
    pub fn skewed(&self) -> Option<f64> {
        self.step().rates.skewed()
    }

    /// The reading happens under the lock, so that steps are in the order of their readings.
    fn step(&self) -> MutexGuard<'_, Inner> {
        // A thread that panicked while holding the lock has left whole values: they are plain data, replaced last.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let raw = read();
        let (now, last) = advance(inner.now, inner.last, raw);
        inner.rates.observe(raw);
        inner.now = now;
        inner.last = last;
        inner
    }
}

/// CLOCK_BOOTTIME now.
pub fn boot_now() -> BootTime {
    BootTime(nanos(ClockId::CLOCK_BOOTTIME))
}

/// Wall-clock time now: data for people.
pub fn wall_now() -> WallMillis {
    WallMillis(nanos(ClockId::CLOCK_REALTIME) / 1_000_000)
}

/// One reading of all clocks, tried again while something came between.
fn read() -> Raw {
    let mut tries = 0;
    loop {
        let before = nanos(ClockId::CLOCK_BOOTTIME);
        let monotonic = nanos(ClockId::CLOCK_MONOTONIC);
        let raw = nanos(ClockId::CLOCK_MONOTONIC_RAW);
        let boot = nanos(ClockId::CLOCK_BOOTTIME);
        let width = boot.saturating_sub(before);
        tries += 1;
        if width <= TIGHT_NS || tries >= TRIES {
            let suspended = before.saturating_sub(monotonic);
            return Raw { boot, raw, suspended, tight: width <= TIGHT_NS };
        }
    }
}

fn nanos(clock: ClockId) -> u64 {
    // Fails only for a clock that does not exist; all four are older than every kernel that can run the leash.
    let at = clock_gettime(clock).expect("the kernel has this clock");
    let secs = u64::try_from(at.tv_sec()).unwrap_or(0);
    secs.saturating_mul(1_000_000_000).saturating_add(u64::try_from(at.tv_nsec()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn readings_never_go_back_and_the_voter_never_runs_ahead_of_the_holder() {
        let clock = Clock::start();
        let first = clock.now();
        let mut last = first;
        for _ in 0..10_000 {
            let now = clock.now();
            assert!(now.holder >= last.holder && now.voter >= last.voter && now.boot >= last.boot);
            assert!(now.holder - first.holder >= now.boot - first.boot);
            assert!(now.voter - first.voter <= now.boot - first.boot);
            last = now;
        }
        assert!(last.boot > first.boot, "ten thousand readings take time");
    }

    #[test]
    fn a_deadline_is_armed_no_later_than_it_is() {
        let clock = Clock::start();
        let now = clock.now();
        let armed = clock.arm_at(now.holder + Duration::from_secs(1));
        assert!(armed <= clock.now().boot + Duration::from_secs(1));
        assert!(clock.arm_at(now.holder) <= clock.now().boot, "a deadline that has passed is armed in the past");
    }
}
