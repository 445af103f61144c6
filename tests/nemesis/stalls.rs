//! How long the machine itself stood still. Where a core is given to nobody, not even to the first in line, keepers cannot
//! renew, and leases end by that as by any fault, though no round drew it. What such a moment disturbs is lawful.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use pkgctl::host::sched::{LEASH_PRIORITY, prefer_fifo};
use pkgctl::lab::Moment;

use crate::bell::Bell;

const TICK: Duration = Duration::from_millis(10);
/// A core that is late by so much holds up a renewal (a slice of the lease is 600 ms), or two voters that answer in turn.
const BEARABLE: Duration = Duration::from_millis(200);

/// The longest time that any core was given to nobody, since somebody last asked or forgot.
#[derive(Default)]
pub struct Stalls {
    longest_ms: AtomicU64,
    over: Bell,
}

impl Stalls {
    /// Watches every core until the work is done.
    pub fn watched<T>(work: impl FnOnce(&Self) -> T) -> T {
        let stalls = Self::default();
        thread::scope(|scope| {
            for core in cores() {
                let stalls = &stalls;
                scope.spawn(move || stalls.watch(core));
            }
            let _ends = Ends(&stalls.over);
            work(&stalls)
        })
    }

    /// Whatever was before is not of interest.
    pub fn forget(&self) {
        self.longest_ms.store(0, Ordering::Relaxed);
    }

    /// The longest stall since the last call, if one was too long for a lease.
    pub fn take(&self) -> Option<Duration> {
        let longest = Duration::from_millis(self.longest_ms.swap(0, Ordering::Relaxed));
        (longest > BEARABLE).then_some(longest)
    }

    /// Before every keeper and leash, so that none of them can be what it waits for. Where the kernel refuses that, the
    /// check that this serves is not made at all.
    fn watch(&self, core: CpuSet) {
        prefer_fifo(LEASH_PRIORITY + 1);
        let _ = sched_setaffinity(Pid::from_raw(0), &core);
        let mut last = Moment::now();
        while !self.over.wait(TICK) {
            let now = Moment::now();
            let late = now.since(last).saturating_sub(TICK);
            self.longest_ms.fetch_max(u64::try_from(late.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
            last = now;
        }
    }
}

/// Ends the watch, after a panic too.
struct Ends<'a>(&'a Bell);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.ring();
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
