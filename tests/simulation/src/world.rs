//! The world of one run: its seed, its network, its machines, what acts in it, and what was found not to hold.

use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft_rt_sim::{SimInstant, SimRuntime};
use pkgctl::engine::lease::Rules;
use pkgctl::engine::{NodeId, Profile};

use crate::acts::Acts;
use crate::machine::Machine;
use crate::net::Net;
use crate::plant::Plant;
use crate::random::Random;
use crate::trace::Trace;
use crate::wire::Recording;

/// How often resources misbehave, in a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Starts that fail.
    pub fails: u64,
    /// Starts and stops that never answer.
    pub hangs: u64,
    /// Starts that come late.
    pub late: u64,
    /// Programs that end by themselves within seconds.
    pub ends: u64,
    /// Transactions of the address guard that another one holds up.
    pub held_up: u64,
}

impl Weather {
    /// Nothing misbehaves.
    pub const CALM: Self = Self { fails: 0, hangs: 0, late: 0, ends: 0, held_up: 0 };
    /// As usual in a storm.
    pub const STORMY: Self = Self { held_up: 2, ..Self::CALM };
    /// Everything misbehaves.
    pub const FOUL: Self = Self { fails: 100, hangs: 100, late: 200, ends: 300, held_up: 5 };
}

/// Everything there is.
pub struct World {
    /// Chance for whatever has no generator of its own.
    chance: Mutex<Random>,
    trace: Mutex<Trace>,
    /// The network.
    pub net: Net,
    /// What was heard on it.
    pub recording: Recording,
    /// What acts.
    pub acts: Acts,
    /// The bug planted, if any.
    pub plant: Option<Plant>,
    /// The cluster's intervals.
    pub profile: Profile,
    weather: Mutex<Weather>,
    machines: OnceLock<Vec<Arc<Machine>>>,
    broken: Mutex<Option<String>>,
    /// Where the machines' files really lie; its name is chance and nothing of the run.
    scratch: String,
}

/// True time, in nanoseconds since the run began.
pub fn now() -> u64 {
    let now = SimInstant::try_now().map(SimInstant::elapsed_since_start).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Waits in true time.
pub async fn sleep(by: Duration) {
    SimRuntime::sleep(by).await;
}

/// Waits until that instant of true time.
pub async fn sleep_until(at: u64) {
    SimRuntime::sleep(Duration::from_nanos(at.saturating_sub(now()))).await;
}

/// Starts a task of the world's own: it belongs to no process and never stands still.
pub fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(SimRuntime::spawn(task));
}

impl World {
    /// A world without machines, whose files lie below a directory.
    pub fn new(chance: &mut Random, trace: Trace, plant: Option<Plant>, profile: Profile, scratch: &Path) -> Self {
        Self {
            net: Net::new(Random::new(chance.next())),
            chance: Mutex::new(Random::new(chance.next())),
            trace: Mutex::new(trace),
            recording: Recording::default(),
            acts: Acts::default(),
            plant,
            profile,
            weather: Mutex::default(),
            machines: OnceLock::new(),
            broken: Mutex::default(),
            scratch: scratch.display().to_string(),
        }
    }

    /// Puts the machines into it, once.
    pub fn settle(&self, machines: Vec<Arc<Machine>>) {
        let _once = self.machines.set(machines);
    }

    /// The machines.
    pub fn machines(&self) -> &[Arc<Machine>] {
        self.machines.get().map_or(&[], Vec::as_slice)
    }

    /// The machine that is that node.
    pub fn machine_of(&self, node: NodeId) -> Option<&Arc<Machine>> {
        self.machines().iter().find(|machine| machine.node() == Some(node))
    }

    /// The world's own chance.
    pub fn chance(&self) -> MutexGuard<'_, Random> {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A generator of its own for something new.
    pub fn new_chance(&self) -> Random {
        Random::new(self.chance().next())
    }

    /// A draw from the world's chance.
    pub fn draw(&self, low: u64, high: u64) -> u64 {
        self.chance().between(low, high)
    }

    /// A pause drawn between two bounds, in microseconds.
    pub fn pause(&self, low_us: u64, high_us: u64) -> Duration {
        Duration::from_micros(self.draw(low_us, high_us))
    }

    /// How late the kernel is, in nanoseconds: most often as late as it is allowed to be.
    pub fn lateness(&self, max_us: u64) -> u64 {
        let mut chance = self.chance();
        1_000 * if chance.chance(700) { max_us } else { chance.below(max_us + 1) }
    }

    /// The lease rules in force.
    pub fn rules(&self) -> Rules {
        Plant::rules(self.plant)
    }

    /// Whether that bug is planted.
    pub fn has(&self, plant: Plant) -> bool {
        self.plant.is_some_and(|planted| planted.includes(plant))
    }

    /// How resources behave.
    pub fn weather(&self) -> Weather {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// They behave so from now on.
    pub fn set_weather(&self, weather: Weather) {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// A line of the log.
    pub fn log(&self, text: std::fmt::Arguments) {
        let text = text.to_string().replace(&self.scratch, "");
        self.trace.lock().unwrap_or_else(PoisonError::into_inner).line(now(), format_args!("{text}"));
    }

    /// What happened, as one number.
    pub fn hash(&self) -> u64 {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner).hash()
    }

    /// Mixes numbers into it.
    pub fn mix(&self, numbers: &[u64]) {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner).mix(numbers);
    }

    /// Something does not hold. The first counts.
    pub fn broken(&self, what: String) {
        self.log(format_args!("VIOLATION: {what}"));
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.get_or_insert_with(|| format!("at {:.3} ms: {what}", now() as f64 / 1e6));
    }

    /// What did not hold.
    pub fn failure(&self) -> Option<String> {
        if self.broken.lock().unwrap_or_else(PoisonError::into_inner).is_none()
            && let Err(what) = self.acts.check(now())
        {
            self.broken(what);
        }
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
