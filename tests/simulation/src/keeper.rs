//! A keeper's life: the shipped core, driven by this machine's clocks, and its effects carried out on the simulated
//! kernel and network. Between two effects the process may be held up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::AsyncRuntime;
use pkgctl::engine::{Nonce, Token};
use pkgctl::keeper::core::{Core, Effect, Enforcement, Input, Settings};
use pkgctl::keeper::leash::leash_margin;
use pkgctl::keeper::link::KeeperEvent;
use pkgctl::keeper::protocol::{FromKeeper, Op, Outcome, Place, ToKeeper};
use pkgctl::package::PackageName;

use crate::guard::Guard;
use crate::kernel::{element, leash};
use crate::machine::Machine;
use crate::plant::Plant;
use crate::process::Process;
use crate::rt::HostRt;
use crate::wire;
use crate::world::{World, spawn};

/// Silence of the agent after which renewals stop; the shipped default.
const AGENT_GRACE: Duration = Duration::from_secs(15);
/// The least wait of the shipped daemon's poll.
const TURN_MIN: Duration = Duration::from_millis(1);

/// What reaches a keeper.
pub enum Inbox {
    /// An input of the core's.
    Input(Input),
    /// An agent connects.
    Connect {
        /// Where it hears.
        to: async_channel::Sender<KeeperEvent>,
        /// What it says.
        frames: async_channel::Receiver<ToKeeper>,
    },
    /// A frame of that connection.
    Frame(u64, ToKeeper),
    /// That connection is gone.
    Gone(u64),
}

/// A keeper that runs.
#[derive(Clone)]
pub struct Keeper {
    /// Its process.
    pub process: Arc<Process>,
    /// Where it is reached.
    pub inbox: async_channel::Sender<Inbox>,
    /// It has ended in good order.
    pub ended: Arc<AtomicBool>,
    /// It listens: nothing of an earlier life is left.
    pub listens: Arc<AtomicBool>,
}

/// Starts a keeper's life.
pub fn start(world: &Arc<World>, machine: &Arc<Machine>) -> Keeper {
    let process = Process::new(machine.ppm(), world.new_chance());
    let (to_inbox, inbox) = async_channel::unbounded();
    let keeper = Keeper { process, inbox: to_inbox, ended: Arc::default(), listens: Arc::default() };
    let (world, machine, mine) = (world.clone(), machine.clone(), keeper.clone());
    drop(keeper.process.spawn(async move {
        clean(&world, &machine).await;
        mine.listens.store(true, Ordering::Relaxed);
        let ended = mine.ended.clone();
        Life::new(world, machine, mine).run(inbox).await;
        ended.store(true, Ordering::Relaxed);
    }));
    keeper
}

/// Nothing of an earlier life is left before a new one begins (rule 5).
async fn clean(world: &World, machine: &Machine) {
    if world.has(Plant::UncleanStart) {
        return;
    }
    while !machine.kernel().leashes.is_empty() && !world.has(Plant::Unawaited) {
        HostRt::sleep(Duration::from_millis(2)).await;
    }
    HostRt::sleep(world.pause(500, 5_000)).await;
    element::close_all(world, machine);
}

struct Life {
    world: Arc<World>,
    machine: Arc<Machine>,
    keeper: Keeper,
    core: Core,
    guard: Arc<Guard>,
    connection: u64,
    agent: Option<async_channel::Sender<KeeperEvent>>,
    /// Releases asked for, by the agent's number.
    releases: BTreeMap<u64, (PackageName, Token)>,
    done: bool,
}

impl Life {
    fn new(world: Arc<World>, machine: Arc<Machine>, keeper: Keeper) -> Self {
        let nonce = Nonce(world.chance().next());
        let settings = Settings {
            nonce,
            agent_grace: AGENT_GRACE,
            leash_margin: leash_margin(true),
            scheduling: "fifo".to_owned(),
            program: "simulated".to_owned(),
            enforcement: Enforcement::Kernel,
            rules: world.rules(),
        };
        world.log(format_args!("n{} keeper {nonce:?} begins", machine.index + 1));
        let core = Core::new(settings, machine.times());
        let guard = Guard::start(world.clone(), machine.clone(), keeper.inbox.clone());
        let (releases, agent) = (BTreeMap::new(), None);
        Self { world, machine, keeper, core, guard, connection: 0, agent, releases, done: false }
    }

    async fn run(mut self, inbox: async_channel::Receiver<Inbox>) {
        while !self.done {
            let wait = self.core.next_wake(self.machine.times()).max(TURN_MIN);
            match HostRt::timeout(wait, inbox.recv()).await {
                Ok(Ok(what)) => self.take(what).await,
                Ok(Err(_closed)) => return,
                Err(_elapsed) => self.hand_in(Input::Tick).await,
            }
        }
    }

    async fn take(&mut self, what: Inbox) {
        match what {
            Inbox::Input(input) => self.hand_in(input).await,
            Inbox::Connect { to, frames } => {
                self.connection += 1;
                self.agent = Some(to);
                self.releases.clear();
                follow(self.connection, frames, self.keeper.inbox.clone());
                self.hand_in(Input::AgentConnected).await;
            }
            Inbox::Frame(connection, frame) if connection == self.connection => {
                if let ToKeeper::Do { id, op: Op::Release { package, token } } = &frame {
                    self.releases.insert(*id, (package.clone(), *token));
                }
                self.hand_in(Input::Frame(frame)).await;
            }
            Inbox::Gone(connection) if connection == self.connection => {
                self.agent = None;
                self.hand_in(Input::AgentGone).await;
            }
            Inbox::Frame(..) | Inbox::Gone(_) => {}
        }
    }

    async fn hand_in(&mut self, input: Input) {
        let effects = self.core.handle(self.machine.times(), input);
        for effect in effects {
            let held_up = self.world.chance().chance(15);
            if held_up {
                HostRt::sleep(self.world.pause(10, 3_000)).await;
            }
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, message } => wire::send(&self.world, &self.machine, to, message),
            Effect::Tell(word) => self.tell(word),
            Effect::Log { text } => self.world.log(format_args!("n{} keeper: {text}", self.machine.index + 1)),
            Effect::Disconnect { why } => {
                self.world.log(format_args!("n{} keeper disconnects its agent: {why}", self.machine.index + 1));
                self.agent = None;
            }
            Effect::Configure(configuration) => self.machine.configured(configuration),
            Effect::Spawn { place, program: _, deadline } => self.spawn(place, deadline),
            Effect::Arm { place, deadline } => self.leash(&place, |leash| leash.arm(deadline)),
            Effect::Signal { place, signal: _ } => self.leash(&place, leash::Leash::ask),
            Effect::Kill { place } => self.leash(&place, leash::Leash::kill),
            Effect::StartAddress { place, ip: _ } => self.guard.begin(place),
            Effect::StopAddress { place } => self.guard.end(place),
            Effect::Announce => {}
            Effect::Lease { until, ttl } => self.guard.set_lease(until.map(|until| (until, ttl))),
            // No simulated package has storage, and no machine a watchdog.
            Effect::StartStorage { .. } | Effect::StopStorage { .. } | Effect::Watchdog(_) => {}
            Effect::Exit => self.done = true,
        }
    }

    fn spawn(&self, place: Place, deadline: pkgctl::engine::HolderTime) {
        let leash = leash::Leash::new(deadline);
        self.machine.kernel().leashes.insert(place.clone(), leash.clone());
        spawn(leash::run(self.world.clone(), self.machine.clone(), place, leash, self.keeper.inbox.clone()));
    }

    fn leash(&self, place: &Place, order: impl FnOnce(&leash::Leash)) {
        if let Some(leash) = self.machine.kernel().leashes.get(place) {
            order(leash);
        }
    }

    fn tell(&mut self, word: FromKeeper) {
        if let FromKeeper::Done { id, outcome } = &word
            && let Some((package, token)) = self.releases.remove(id)
            && *outcome == Outcome::Ok
        {
            self.world.acts.released(self.machine.index, &package, token);
        }
        let event = match word {
            FromKeeper::Welcome(welcome) => KeeperEvent::Attached(Box::new(welcome)),
            other => KeeperEvent::Said(Box::new(other)),
        };
        if let Some(agent) = &self.agent {
            let _ = agent.try_send(event);
        }
    }
}

/// Reads one connection, as a task of the keeper's process.
fn follow(connection: u64, frames: async_channel::Receiver<ToKeeper>, inbox: async_channel::Sender<Inbox>) {
    drop(HostRt::spawn(async move {
        while let Ok(frame) = frames.recv().await {
            let _ = inbox.send(Inbox::Frame(connection, frame)).await;
        }
        let _ = inbox.send(Inbox::Gone(connection)).await;
    }));
}
