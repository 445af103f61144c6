//! How long the machine itself stood still. Where a core is given to nobody, not even to the first in line, keepers cannot
//! renew, and leases end by that as by any fault, though no test made one. What such a moment disturbs is lawful.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
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
    longest_ms: Arc<AtomicU64>,
    /// A core's thread ends when its sender is gone.
    watches: Vec<(Sender<()>, JoinHandle<()>)>,
}

impl Stalls {
    /// Begins to watch.
    pub fn watch() -> Self {
        let longest_ms = Arc::<AtomicU64>::default();
        let watch = |core| {
            let (sender, over) = channel();
            let longest_ms = longest_ms.clone();
            let thread = Builder::new().name("stalls".into()).spawn(move || watch_core(core, &over, &longest_ms));
            thread.ok().map(|thread| (sender, thread))
        };
        let watches = cores().into_iter().filter_map(watch).collect();
        Self { longest_ms, watches }
    }

    /// Whatever was before is not of interest.
    pub fn forget(&self) {
        self.longest_ms.store(0, Ordering::Relaxed);
    }

    /// The longest time that any core was given to nobody, since somebody last asked or forgot, if it was too long for a
    /// lease.
    pub fn take(&self) -> Option<Duration> {
        let longest = Duration::from_millis(self.longest_ms.swap(0, Ordering::Relaxed));
        (longest > BEARABLE).then_some(longest)
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

fn watch_core(core: CpuSet, over: &Receiver<()>, longest_ms: &AtomicU64) {
    prefer_fifo(LEASH_PRIORITY + 1);
    let _ = sched_setaffinity(Pid::from_raw(0), &core);
    let mut last = Moment::now();
    while let Err(RecvTimeoutError::Timeout) = over.recv_timeout(TICK) {
        let now = Moment::now();
        let late = now.since(last).saturating_sub(TICK);
        longest_ms.fetch_max(u64::try_from(late.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
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
