//! One seed from beginning to end: a cluster is made, storms pass, after each everything runs again, what must not disturb
//! does not, and in the end all power is lost at once and nothing that was acknowledged is.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Once};
use std::time::Duration;

use futures::future::{Either, select};
use openraft::AsyncRuntime;
use openraft_rt_sim::SimRuntime;
use pkgctl::engine::Profile;

use crate::check::idle::Idle;
use crate::check::linear::History;
use crate::check::{keys as key_check, live, states};
use crate::clients::{self, Pace};
use crate::clock::{Clock, Clocks};
use crate::keys;
use crate::machine::Machine;
use crate::machine::power::Part;
use crate::plant::Plant;
use crate::random::Random;
use crate::setup::{self, Plan, REGISTERS, register};
use crate::storm::plot::Plot;
use crate::storm::{Storm, fault, heal};
use crate::trace::Trace;
use crate::world::{Weather, World, now, sleep, spawn};

/// How a run is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The bug planted.
    pub plant: Option<Plant>,
    /// The plot to be played, whatever the seed would draw.
    pub plot: Option<Plot>,
    /// Whether every line of the log is printed.
    pub log: bool,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The first thing that did not hold.
    pub failure: Option<String>,
    /// The log as one number.
    pub hash: u64,
    /// Virtual time that passed.
    pub lasted: Duration,
    /// Faults that happened.
    pub faults: usize,
    /// Acts for packages.
    pub acts: u64,
    /// Requests of operators with a certain answer.
    pub answered: usize,
    /// The longest time from the end of a storm until everything ran.
    pub healed_within: Duration,
}

thread_local! {
    /// What panicked in the run on this thread; none when there is no run.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// A panic in a task is caught by the runtime and would pass unseen. One outside of a run is told as always.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            let noted = PANICS
                .with_borrow_mut(|panics| panics.as_mut().map(|panics| panics.push(panicked.to_string())).is_some());
            if !noted {
                tell(panicked);
            }
        }));
    });
}

fn panicked() -> Option<String> {
    PANICS.with_borrow(|panics| panics.as_ref()?.first().cloned())
}

/// Runs a seed.
pub fn run(seed: u64, options: Options) -> Outcome {
    note_panics();
    PANICS.set(Some(Vec::new()));
    let mut runtime = SimRuntime::with_seed(seed);
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(whole(seed, options))));
    let outcome = outcome.unwrap_or_else(|_| {
        let failure = panicked().unwrap_or_else(|| "the run panicked".to_owned());
        Outcome { failure: Some(failure), ..Outcome::default() }
    });
    PANICS.set(None);
    outcome
}

/// What a seed's cluster is like, and what it is put through.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Members from the beginning.
    pub members: usize,
    /// Whether there is a machine that may become another one.
    pub spare: bool,
    /// Packages that run.
    pub packages: usize,
    /// Storms.
    pub rounds: usize,
    /// The cluster's intervals.
    pub profile: Profile,
    /// How its clocks are drawn.
    pub clocks: Clocks,
    /// What is played before each storm.
    pub plot: Option<Plot>,
}

fn shape(chance: &mut Random, plot: Option<Plot>) -> Shape {
    let members = [3, 3, 3, 5, 4, 2][chance.index(6)];
    let mut shape = Shape {
        members,
        spare: chance.chance(500),
        packages: 1 + chance.index(4),
        rounds: 1 + chance.index(3),
        profile: if chance.chance(500) { Profile::Fast } else { Profile::Default },
        clocks: if chance.chance(300) { Clocks::FirstSlow } else { Clocks::Any },
        plot: Plot::drawn(chance),
    };
    shape.plot = plot.or(shape.plot);
    if let Some(plot) = shape.plot {
        plot.shape(&mut shape);
    }
    shape
}

async fn whole(seed: u64, options: Options) -> Outcome {
    let mut chance = Random::new(seed);
    let shape = shape(&mut chance, options.plot);
    let scratch = match tempfile::Builder::new().prefix("pkgctl-sim").tempdir_in(scratch_root()) {
        Ok(scratch) => scratch,
        Err(error) => return Outcome { failure: Some(format!("no scratch directory: {error}")), ..Outcome::default() },
    };
    let trace = Trace::new(options.log);
    let world = Arc::new(World::new(&mut chance, trace, options.plant, shape.profile, scratch.path()));
    let count = shape.members + usize::from(shape.spare);
    world.settle((0..count).map(|index| machine(&world, &shape, scratch.path(), index, &mut chance)).collect());
    let (storm, history) = (Arc::<Storm>::default(), Arc::<History>::default());
    let keys = Arc::<key_check::History>::default();
    spawn(states::watch(world.clone()));
    let mut story = Story {
        world: world.clone(),
        shape,
        storm: storm.clone(),
        history: history.clone(),
        keys: keys.clone(),
        healed: Duration::ZERO,
    };
    let told = {
        let (story, failing) = (std::pin::pin!(story.tell()), std::pin::pin!(failing(&world)));
        match select(story, failing).await {
            Either::Left((told, _)) => told,
            Either::Right((why, _)) => Err(why),
        }
    };
    if let Err(why) = told {
        world.broken(why);
    }
    let failure = panicked().or_else(|| world.failure());
    if failure.is_some() {
        live::describe(&world);
    }
    let outcome = Outcome {
        failure,
        hash: world.hash(),
        lasted: Duration::from_nanos(now()),
        faults: storm.begun(),
        acts: world.acts.count(),
        answered: history.answered() + keys.answered(),
        healed_within: story.healed,
    };
    world.machines().iter().for_each(|machine| machine.kill(&world, Part::Both));
    outcome
}

/// Where the stores lie: in memory, where there is such a place.
fn scratch_root() -> std::path::PathBuf {
    let memory = std::path::PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

fn machine(world: &World, shape: &Shape, scratch: &std::path::Path, index: usize, chance: &mut Random) -> Arc<Machine> {
    let clock = if world.has(Plant::WildClocks) {
        // Five times what is allowed for.
        let ppm = if index.is_multiple_of(2) { -50_000 } else { 50_000 };
        Clock::running(ppm, ppm, chance)
    } else {
        Clock::draw(shape.clocks, index, chance)
    };
    let dir = scratch.join(format!("n{}", index + 1));
    if let Err(error) = std::fs::create_dir(&dir) {
        world.broken(format!("no scratch directory: {error}"));
    }
    let machine = Arc::new(Machine::new(index, clock, dir));
    if world.has(Plant::LostFsync) {
        machine.disk.lie();
    }
    machine
}

/// Ends when something does not hold.
async fn failing(world: &World) -> String {
    loop {
        sleep(Duration::from_millis(200)).await;
        if let Some(why) = panicked().or_else(|| world.failure()) {
            return why;
        }
    }
}

/// What happens in a run.
struct Story {
    world: Arc<World>,
    shape: Shape,
    storm: Arc<Storm>,
    history: Arc<History>,
    keys: Arc<key_check::History>,
    healed: Duration,
}

impl Story {
    async fn tell(&mut self) -> Result<(), String> {
        let plan = Plan { members: self.shape.members, packages: self.shape.packages };
        setup::set_up(&self.world, plan).await?;
        self.comes_to_life().await?;
        for _ in 0..self.shape.rounds {
            self.plot().await?;
            self.storm().await?;
            self.quiet().await?;
        }
        self.power_loss_of_all().await?;
        self.last_judgement().await?;
        self.keys().await
    }

    /// I4, and how long it took.
    async fn comes_to_life(&mut self) -> Result<(), String> {
        let took = live::wait(&self.world).await?;
        self.world.log(format_args!("everything runs after {took:?}"));
        self.healed = self.healed.max(took);
        Ok(())
    }

    /// An arranged fault, with nothing else wrong.
    async fn plot(&mut self) -> Result<(), String> {
        let Some(plot) = self.shape.plot else { return Ok(()) };
        self.world.log(format_args!("plot: {plot}"));
        plot.play(&self.world).await?;
        self.heals().await
    }

    async fn heals(&mut self) -> Result<(), String> {
        heal::heal(&self.world, &self.storm, self.shape.members).await?;
        clients::run_all(&self.world, self.shape.packages).await;
        self.comes_to_life().await
    }

    async fn storm(&mut self) -> Result<(), String> {
        let until = now() + Duration::from_millis(self.world.draw(6_000, 25_000)).as_nanos() as u64;
        self.world.log(format_args!("a storm begins"));
        self.world.set_weather(Weather::STORMY);
        for _ in 0..2 {
            let pace = Pace { pause_ms: (50, 700), verbs: 120 };
            let (world, history, packages) = (self.world.clone(), self.history.clone(), self.shape.packages);
            spawn(clients::work(world, history, packages, pace, until));
        }
        self.storm.rage(&self.world, self.shape.members, until).await;
        self.heals().await
    }

    /// Nothing of what is done here may disturb what runs (I5).
    async fn quiet(&mut self) -> Result<(), String> {
        self.settles().await?;
        for _ in 0..2 {
            let idle = Idle::now(&self.world);
            let what = self.something_harmless().await;
            sleep(Duration::from_secs(3)).await;
            idle.check(&self.world, what)?;
            self.comes_to_life().await?;
        }
        Ok(())
    }

    /// Waits until what runs has not changed for a while.
    async fn settles(&self) -> Result<(), String> {
        for _ in 0..40 {
            let idle = Idle::now(&self.world);
            sleep(Duration::from_secs(2)).await;
            if idle.check(&self.world, "").is_ok() {
                return Ok(());
            }
        }
        Err("I4 does not hold: what runs changes again and again although nothing is wrong".to_owned())
    }

    async fn something_harmless(&self) -> &'static str {
        let at = self.world.chance().index(self.shape.members);
        let machine = &self.world.machines()[at];
        let drawn = self.world.draw(0, 5);
        self.world.log(format_args!("quiet: harmless thing {drawn} on n{}", at + 1));
        match drawn {
            0 => {
                machine.kill(&self.world, Part::Agent);
                "an agent was killed"
            }
            1 => {
                fault::upgrade(&self.world, machine).await;
                "an agent was upgraded"
            }
            2 => {
                fault::transfer(&self.world).await;
                "leadership was handed over"
            }
            3 => {
                let pace = Pace { pause_ms: (5, 60), verbs: 0 };
                let (world, until) = (self.world.clone(), now() + 2_000_000_000);
                clients::work(world, self.history.clone(), self.shape.packages, pace, until).await;
                "definitions of others were changed"
            }
            4 => {
                if let Some(agent) = machine.agent().and_then(|life| life.agent()) {
                    let _asked = agent.consensus.trigger_snapshot().await;
                }
                "a snapshot was made"
            }
            _ => self.another_member().await,
        }
    }

    /// A machine that was never a member joins, or leaves.
    async fn another_member(&self) -> &'static str {
        let Some(spare) = self.world.machines().get(self.shape.members) else { return "nothing was done" };
        if spare.node().is_none() {
            spare.power_on(&self.world);
            let _joined = crate::members::join(&self.world, spare, Duration::from_secs(20)).await;
            return "a member was added";
        }
        // It is up, and its session lives.
        if crate::members::remove(&self.world, spare, Duration::from_secs(30)).await {
            spare.power_off(&self.world);
            let _wiped = crate::members::wipe(spare);
        }
        "a member was removed"
    }

    async fn power_loss_of_all(&mut self) -> Result<(), String> {
        self.world.log(format_args!("the power of all goes"));
        self.world.machines().iter().for_each(|machine| machine.power_off(&self.world));
        sleep(Duration::from_secs(2)).await;
        for machine in self.world.machines().iter().filter(|machine| machine.node().is_some()) {
            machine.power_on(&self.world);
        }
        self.comes_to_life().await
    }

    /// Everything acknowledged is there, in the order that operators were told.
    async fn last_judgement(&self) -> Result<(), String> {
        let last = loop {
            let found = crate::members::look_now(&self.world, |state| {
                let held = |number: usize| {
                    let entry = state.packages.get(&register(number, 0).name)?;
                    Some((number, (entry.revision.0, entry.definition.description.parse().ok()?)))
                };
                (0..REGISTERS).filter_map(held).collect::<BTreeMap<_, _>>()
            })
            .await;
            match found {
                Some(last) => break last,
                None => sleep(Duration::from_millis(100)).await,
            }
        };
        if last.len() != REGISTERS {
            return Err("I3 does not hold: a definition is gone".to_owned());
        }
        self.history.check(&last, now()).map_err(|what| format!("I3 or linearizability does not hold: {what}"))
    }

    /// Keys change while one more storm passes, and while nothing is wrong; all power is lost once more; then everything
    /// that was asked for is answered, and all answers fit.
    async fn keys(&mut self) -> Result<(), String> {
        let until = now() + Duration::from_millis(self.world.draw(4_000, 12_000)).as_nanos() as u64;
        self.world.log(format_args!("a storm over keys begins"));
        self.world.set_weather(Weather::STORMY);
        for _ in 0..3 {
            spawn(keys::work(self.world.clone(), self.keys.clone(), self.shape.packages, until));
        }
        // So that tokens come to be over.
        let pace = Pace { pause_ms: (200, 900), verbs: 1000 };
        spawn(clients::work(self.world.clone(), self.history.clone(), self.shape.packages, pace, until));
        self.storm.rage(&self.world, self.shape.members, until).await;
        self.heals().await?;
        self.settles().await?;
        let idle = Idle::now(&self.world);
        let until = now() + Duration::from_secs(2).as_nanos() as u64;
        keys::work(self.world.clone(), self.keys.clone(), self.shape.packages, until).await;
        idle.check(&self.world, "keys were changed")?;
        self.power_loss_of_all().await?;
        keys::settle(&self.world, &self.keys).await?;
        let last = keys::all(&self.world).await;
        self.keys.check(&last, &self.world.acts.tokens(), now()).map_err(|what| format!("keys: {what}"))
    }
}
