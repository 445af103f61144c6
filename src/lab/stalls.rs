//! How long the machine itself stood still. Where a core is given to nobody, not even to the first in line, keepers cannot
//! renew, and leases end by that as by any fault, though no test made one. What such a moment disturbs is lawful.

use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::Moment;
use crate::host::sched::{LEASH_PRIORITY, prefer_fifo};

const TICK: Duration = Duration::from_millis(10);
/// A core that is late by so much holds up a renewal (a slice of the lease is 600 ms), or two voters that answer in turn.
const BEARABLE: Duration = Duration::from_millis(200);

/// Watches every core until it is dropped, from a thread on each that comes before every keeper and leash, so that none
/// of them can be what it waits for. Where the kernel refuses that, a busy core counts as one that stood still.
pub struct Stalls {
    found: Arc<Found>,
    /// A core's thread ends when its sender is gone.
    watches: Vec<(Sender<()>, JoinHandle<()>)>,
}

impl Stalls {
    /// Begins to watch.
    pub fn watch() -> Self {
        let found = Arc::<Found>::default();
        let watch = |core| {
            let (sender, over) = channel();
            let found = found.clone();
            let thread = Builder::new().name("stalls".into()).spawn(move || watch_core(core, &over, &found));
            thread.ok().map(|thread| (sender, thread))
        };
        let watches = cores().into_iter().filter_map(watch).collect();
        Self { found, watches }
    }

    /// Whatever was before is not of interest.
    pub fn forget(&self) {
        self.found.all().clear();
    }

    /// The longest time that any core was given to nobody, since somebody last asked or forgot, if it was too long for a
    /// lease.
    pub fn take(&self) -> Option<Duration> {
        self.found.all().drain(..).map(|stall| stall.end.since(stall.start)).max()
    }

    /// Whether a core was given to nobody for so long in a part of this time.
    pub fn met(&self, time: &Range<Moment>) -> bool {
        self.found.all().iter().any(|stall| stall.start < time.end && time.start < stall.end)
    }
}

/// The times in which a core was late by more than is [`BEARABLE`].
#[derive(Default)]
struct Found(Mutex<Vec<Range<Moment>>>);

impl Found {
    fn all(&self) -> MutexGuard<'_, Vec<Range<Moment>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A core's thread that ran at the start slept until the end.
    fn slept(&self, time: Range<Moment>) {
        if time.end.since(time.start) > BEARABLE + TICK {
            self.all().push(time);
        }
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        for (sender, thread) in self.watches.drain(..) {
            drop(sender);
            let _ = thread.join();
        }
    }
}

fn watch_core(core: CpuSet, over: &Receiver<()>, found: &Found) {
    prefer_fifo(LEASH_PRIORITY + 1);
    let _ = sched_setaffinity(Pid::from_raw(0), &core);
    let mut last = Moment::now();
    while let Err(RecvTimeoutError::Timeout) = over.recv_timeout(TICK) {
        let now = Moment::now();
        found.slept(last..now);
        last = now;
    }
}

/// The cores that this process may use, each by itself.
fn cores() -> Vec<CpuSet> {
    let Ok(all) = sched_getaffinity(Pid::from_raw(0)) else { return Vec::new() };
    let one = |core| {
        let mut set = CpuSet::new();
        set.set(core).ok().map(|()| set)
    };
    (0..CpuSet::count()).filter(|core| all.is_set(*core).unwrap_or(false)).filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Moment {
        Moment(ms * 1_000_000)
    }

    #[test]
    fn a_core_that_was_late_for_too_long_is_found_in_that_time_and_told_once() {
        let stalls = Stalls { found: Arc::default(), watches: Vec::new() };
        stalls.found.slept(at(1000)..at(1200));
        assert!(!stalls.met(&(at(0)..at(9000))), "late, but bearably");
        stalls.found.slept(at(2000)..at(2500));
        stalls.found.slept(at(2100)..at(2400));
        assert!(
            stalls.met(&(at(1900)..at(2001))) && stalls.met(&(at(2200)..at(2300))) && stalls.met(&(at(2499)..at(3000)))
        );
        assert!(!stalls.met(&(at(1900)..at(2000))) && !stalls.met(&(at(2500)..at(3000))));
        assert_eq!((stalls.take(), stalls.take()), (Some(Duration::from_millis(500)), None));
    }
}
