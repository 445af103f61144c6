//! A storm: faults drawn from the seed, several at a time, each with its own length, until it is over.
//!
//! - [`fault`]: the faults. [`plot`]: arranged ones. [`heal`]: what makes everything whole again.

pub mod fault;
pub mod heal;
pub mod plot;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::world::{World, now, sleep, spawn};

/// What is going on.
#[derive(Default)]
pub struct Storm {
    under_way: AtomicUsize,
    replacing: AtomicUsize,
    begun: AtomicUsize,
}

/// Faults at one time.
const AT_ONCE_MAX: usize = 3;

impl Storm {
    /// Faults begun so far.
    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether any fault is going on.
    pub fn is_raging(&self) -> bool {
        self.under_way.load(Ordering::Relaxed) > 0
    }

    /// Whether a machine is being replaced.
    fn is_replacing(&self) -> bool {
        self.replacing.load(Ordering::Relaxed) > 0
    }

    /// Lets faults happen until then.
    pub async fn rage(self: &Arc<Self>, world: &Arc<World>, members: usize, until: u64) {
        while now() < until {
            sleep(world.pause(100_000, 2_500_000)).await;
            if self.under_way.load(Ordering::Relaxed) >= AT_ONCE_MAX || now() >= until {
                continue;
            }
            let fault = fault::drawn(world, members);
            self.strike(world, fault, until);
        }
    }

    fn strike(self: &Arc<Self>, world: &Arc<World>, fault: fault::Fault, until: u64) {
        let replaces = matches!(fault, fault::Fault::Replace(_));
        if replaces && self.is_replacing() {
            return;
        }
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.replacing.fetch_add(usize::from(replaces), Ordering::Relaxed);
        world.log(format_args!("fault: {fault:?}"));
        let (storm, world) = (self.clone(), world.clone());
        spawn(async move {
            let lasts = storm.length(&world, until);
            fault.happen(&world, lasts, until).await;
            world.log(format_args!("over: {fault:?}"));
            storm.replacing.fetch_sub(usize::from(replaces), Ordering::Relaxed);
            storm.under_way.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Short, about a lease long, or long; never beyond the storm's end.
    fn length(&self, world: &World, until: u64) -> Duration {
        let ttl_ms = world.profile.ttl().0;
        let ms = match world.draw(0, 5) {
            0 => world.draw(1, 60),
            1..=3 => world.draw(ttl_ms / 2, 3 * ttl_ms),
            _ => world.draw(2 * ttl_ms, 10_000),
        };
        Duration::from_millis(ms).min(Duration::from_nanos(until.saturating_sub(now())))
    }
}
