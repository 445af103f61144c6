//! The loop: wait for the first thing that comes, hand it to the core with the time it is, do what the core says.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signalfd::SignalFd;

use super::addresses::Addresses;
use super::agent_end::{AgentEnd, Lost};
use super::attend::Shown;
use super::leashes::Leashes;
use super::links::Links;
use super::storages::{Settled, Storages};
use super::watchdog::Watchdog;
use super::{KeeperError, system};
use crate::engine::HolderTime;
use crate::host::clock::Clock;
use crate::keeper::core::{Core, Effect, Input, Now, ProgramEvent, Settings, StorageEvent};
use crate::keeper::protocol::Place;
use crate::keeper::storage::{Act, Task};

/// Time between two lines about datagrams that were dropped.
const DROPS_EVERY: Duration = Duration::from_secs(10);
/// Descriptors that are ready, taken at one time.
const READY_MAX: usize = 64;
/// Time between two attempts to bind an address.
const BIND_RETRY: Duration = Duration::from_secs(1);

/// Time between two looks whether the socket still has its name.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a descriptor in the poll set belongs to, as the number it is registered under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Signals,
    Listener,
    Agent,
    Addresses,
    Link(usize),
    Leash(u64),
    Storage(u64),
}

const FIRST_LINK: u64 = 16;
const FIRST_LEASH: u64 = 1 << 16;
const FIRST_STORAGE: u64 = 1 << 48;

impl Source {
    fn number(self) -> u64 {
        match self {
            Source::Signals => 0,
            Source::Listener => 1,
            Source::Agent => 2,
            Source::Addresses => 3,
            Source::Link(n) => FIRST_LINK + n as u64,
            Source::Leash(n) => FIRST_LEASH + n,
            Source::Storage(n) => FIRST_STORAGE + n,
        }
    }

    fn of(number: u64) -> Self {
        match number {
            0 => Source::Signals,
            1 => Source::Listener,
            2 => Source::Agent,
            3 => Source::Addresses,
            n if n < FIRST_LEASH => Source::Link((n - FIRST_LINK.min(n)) as usize),
            n if n < FIRST_STORAGE => Source::Leash(n - FIRST_LEASH),
            n => Source::Storage(n - FIRST_STORAGE),
        }
    }
}

/// What acts on the node.
pub(super) struct Hands {
    pub addresses: Addresses,
    pub leashes: Leashes,
    pub storages: Storages,
}

/// One keeper's life.
pub(super) struct Daemon {
    core: Core,
    clock: Arc<Clock>,
    poll: Epoll,
    pub(super) signals: SignalFd,
    pub(super) agent: AgentEnd,
    pub(super) addresses: Addresses,
    pub(super) leashes: Leashes,
    storages: Storages,
    pub(super) links: Links,
    pub(super) shown: Shown,
    pub(super) watchdog: Watchdog,
    /// Whether the guard was told of a lease last.
    leased: bool,
    /// What the effects of one input have brought, to be taken before anything else.
    pub(super) inputs: VecDeque<Input>,
    bind_at: Option<HolderTime>,
    /// What the core was told last of how unevenly the clocks run.
    skew_ppm: Option<i32>,
    /// When it is looked whether the socket still has its name.
    look_at: HolderTime,
    /// When it is looked whether there is something to tell of datagrams that were dropped.
    drops_at: HolderTime,
    /// Why it has lost its name, as told.
    nameless: Option<String>,
    done: bool,
}

impl Daemon {
    pub(super) fn new(
        settings: Settings,
        clock: Arc<Clock>,
        signals: SignalFd,
        agent: AgentEnd,
        hands: Hands,
        shown: Shown,
    ) -> Result<Self, KeeperError> {
        let poll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(system("make a poll set"))?;
        let core = Core::new(settings, now(&clock));
        let Hands { addresses, leashes, storages } = hands;
        let (links, inputs) = (Links::default(), VecDeque::new());
        let daemon = Self {
            core,
            clock,
            poll,
            signals,
            agent,
            addresses,
            leashes,
            storages,
            links,
            shown,
            watchdog: Watchdog::default(),
            leased: false,
            inputs,
            bind_at: None,
            skew_ppm: None,
            look_at: HolderTime::default(),
            drops_at: HolderTime::default(),
            nameless: None,
            done: false,
        };
        daemon.watch(&daemon.signals, Source::Signals)?;
        daemon.watch(daemon.agent.listener(), Source::Listener)?;
        if let Some(fd) = daemon.addresses.watched() {
            daemon.watch(fd, Source::Addresses)?;
        }
        Ok(daemon)
    }

    fn watch(&self, fd: impl AsFd, source: Source) -> Result<(), KeeperError> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, source.number());
        self.poll.add(fd, event).map_err(system("watch a descriptor"))
    }

    /// Turns until the core says that everything is down.
    pub(super) fn run(mut self) -> Result<(), KeeperError> {
        let mut ready = [EpollEvent::empty(); READY_MAX];
        self.mind_watchdog();
        self.shown.ready();
        while !self.done {
            let count = match self.poll.wait(&mut ready, self.timeout(self.shown.turn_within())) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(why) => return Err(KeeperError::System { what: "wait for what comes", why }),
            };
            for event in &ready[..count] {
                self.attend(Source::of(event.data()), event.events());
            }
            self.mind_watchdog();
            self.take(Input::Tick);
            self.bind_again();
            self.mind_skew();
            self.mind_socket();
            self.mind_drops();
            self.shown.turned(self.leased, self.leashes.count());
        }
        tracing::info!("keeper ends, with everything down");
        Ok(())
    }

    fn timeout(&self, at_most: Duration) -> EpollTimeout {
        if !self.inputs.is_empty() {
            return EpollTimeout::ZERO;
        }
        let wake = self.core.next_wake(now(&self.clock)).min(at_most);
        let bind = self.bind_at.map_or(wake, |_| wake.min(BIND_RETRY));
        // Rounded up: a wait that ends too early only turns once more for nothing.
        let ms = bind.as_nanos().div_ceil(1_000_000);
        EpollTimeout::try_from(i32::try_from(ms).unwrap_or(i32::MAX)).unwrap_or(EpollTimeout::ZERO)
    }

    /// Hands an input to the core with the time it is now, after its receipt (rule 3), and does what the core says;
    /// then the same with whatever that has brought.
    pub(super) fn take(&mut self, input: Input) {
        self.inputs.push_back(input);
        while let Some(input) = self.inputs.pop_front() {
            for effect in self.core.handle(now(&self.clock), input) {
                self.carry_out(effect);
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, message } => self.links.send(to, &message),
            Effect::Tell(word) => {
                let told = self.agent.tell(&word);
                self.after_agent(told);
            }
            Effect::Log { text } => tracing::info!("{text}"),
            Effect::Disconnect { why } => {
                tracing::warn!("the agent is disconnected: {why}");
                let closed = self.agent.close_when_written();
                self.after_agent(closed);
            }
            Effect::Configure(configuration) => {
                if self.links.configure(*configuration) {
                    self.bind();
                }
            }
            Effect::Spawn { place, program, deadline } => {
                let spawned = self.leashes.spawn(&place, program, self.clock.arm_at(deadline));
                let watched = spawned.and_then(|number| self.watch_leash(number));
                if let Err(why) = watched {
                    let event = |event| Input::Program { place: place.clone(), event };
                    self.inputs.push_back(event(ProgramEvent::Failed { why }));
                    self.inputs.push_back(event(ProgramEvent::Gone { by_deadline: false }));
                }
            }
            Effect::Arm { place, deadline } => {
                let at = self.clock.arm_at(deadline);
                self.leashes.arm(&place, at);
                self.storages.arm(&place, at);
            }
            Effect::Signal { place, signal } => self.leashes.signal(&place, signal),
            Effect::Kill { place } => {
                self.leashes.kill(&place);
                self.storages.kill(&place);
            }
            Effect::StartStorage { place, task, deadline } => self.storage(place, Act::Do, task, Some(deadline)),
            Effect::StopStorage { place, task } => self.storage(place, Act::Undo, task, None),
            Effect::StartAddress { place, ip } => self.inputs.extend(self.addresses.start(place, ip)),
            Effect::StopAddress { place } => self.inputs.extend(self.addresses.stop(place)),
            Effect::Announce => self.addresses.announce(),
            Effect::Lease { until, ttl } => {
                self.leased = until.is_some();
                self.addresses.set_lease(until, ttl);
            }
            Effect::Watchdog(order) => self.watchdog.order(order),
            Effect::Exit => self.done = true,
        }
    }

    fn storage(&mut self, place: Place, act: Act, task: Task, deadline: Option<HolderTime>) {
        let at = deadline.map(|deadline| self.clock.arm_at(deadline));
        let prepared = self.storages.prepare(place.clone(), act, task, at);
        if let Err(why) = prepared.and_then(|number| self.begin_storage(number)) {
            let event = match act {
                Act::Do => StorageEvent::Unbegun { why },
                Act::Undo => StorageEvent::Stuck { why },
            };
            self.inputs.push_back(Input::Storage { place, event });
        }
    }

    /// Watched first: of what could not be watched nobody would learn how it ended.
    fn begin_storage(&mut self, number: u64) -> Result<(), String> {
        let watched = match self.storages.watched(number) {
            Some(fd) => self.watch(fd, Source::Storage(number)).map_err(|e| e.to_string()),
            None => Ok(()),
        };
        watched.inspect_err(|_| self.storages.abandon(number))?;
        self.storages.go(number)
    }

    /// A process that took or mounted has ended.
    pub(super) fn storage_ended(&mut self, number: u64) {
        let Some(Settled { place, event, note }) = self.storages.settled(number) else { return };
        if let Some(text) = note {
            self.take(Input::Note { package: Some(place.package.clone()), text });
        }
        self.take(Input::Storage { place, event });
    }

    fn watch_leash(&self, number: u64) -> Result<(), String> {
        let Some(fd) = self.leashes.watched(number) else { return Ok(()) };
        self.watch(fd, Source::Leash(number)).map_err(|e| e.to_string())
    }

    /// The agent's connection after a word to it or from it.
    pub(super) fn after_agent(&mut self, outcome: Result<(), Lost>) {
        match outcome {
            Ok(()) => self.watch_agent(),
            Err(Lost::Closed) => self.agent_gone("the agent's connection was closed"),
            Err(why @ (Lost::Frame(_) | Lost::Io(_) | Lost::Slow)) => {
                self.agent_gone(&format!("the agent's connection is closed: {why}"));
            }
        }
    }

    fn agent_gone(&mut self, text: &str) {
        tracing::info!("{text}");
        self.agent.close();
        self.inputs.push_back(Input::AgentGone);
    }

    /// A new connection is to be watched.
    pub(super) fn watch_new_agent(&mut self) {
        let failed = self.agent.stream().is_some_and(|fd| self.watch(fd, Source::Agent).is_err());
        if failed {
            self.agent_gone("the agent's connection cannot be watched");
        }
    }

    /// Watches for room to write only while something is to be written.
    fn watch_agent(&mut self) {
        let Some(fd) = self.agent.stream() else { return };
        let mut flags = EpollFlags::EPOLLIN;
        flags.set(EpollFlags::EPOLLOUT, self.agent.wants_to_write());
        let mut event = EpollEvent::new(flags, Source::Agent.number());
        // It is in the set; changing what it is watched for cannot fail otherwise.
        let _ = self.poll.modify(fd, &mut event);
    }

    fn bind(&mut self) {
        let before: Vec<usize> = self.links.sockets().map(|(n, _)| n).collect();
        let failed = self.links.bind();
        for (number, fd) in self.links.sockets().filter(|(n, _)| !before.contains(n)) {
            if let Err(why) = self.watch(fd, Source::Link(number)) {
                tracing::error!("datagrams are not read: {why}");
            }
        }
        if self.bind_at.is_none() {
            for (address, why) in &failed {
                let text = format!(
                    "datagrams cannot be received at {address}: {why}. This node takes no part in leases until they \
                     can; it is tried again every second. See who has the port: ss -lunp"
                );
                self.inputs.push_back(Input::Note { package: None, text });
            }
        }
        self.bind_at = self.links.wants_to_bind().then(|| self.clock.now().holder + BIND_RETRY);
    }

    fn bind_again(&mut self) {
        if self.bind_at.is_some_and(|at| at <= self.clock.now().holder) {
            self.bind();
        }
    }
}

impl Daemon {
    fn mind_watchdog(&mut self) {
        while let Some(event) = self.watchdog.next_event() {
            self.take(Input::Watchdog(event));
        }
    }

    /// Rule 2: how unevenly the clocks run is known to whoever asks.
    fn mind_skew(&mut self) {
        let ppm = self.clock.skewed().map(|part| (part * 1e6) as i32);
        if ppm != self.skew_ppm {
            self.skew_ppm = ppm;
            self.inputs.push_back(Input::Skew { ppm });
        }
    }
}

impl Daemon {
    /// An agent that looks for this keeper finds it, whatever cleans the run directory. The loop turns once a second.
    fn mind_socket(&mut self) {
        let now = self.clock.now().holder;
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK_EVERY;
        let path = self.agent.path().display().to_string();
        let lost = match self.agent.keep_name() {
            // A name that was lost may have come back with its own socket, by a rename.
            Ok(false) => None,
            // The old listening socket has left the poll set by being closed.
            Ok(true) => match self.watch(self.agent.listener(), Source::Listener) {
                Ok(()) => {
                    self.note(format!("{path} was taken away, so that no agent could attach; it is there again"));
                    None
                }
                Err(why) => Some(why.to_string()),
            },
            Err(why) => Some(why.to_string()),
        };
        if lost.is_some() && lost != self.nameless {
            let why = lost.as_deref().unwrap_or_default();
            self.note(format!(
                "{path} was taken away and cannot be bound again: {why}. An agent that is attached stays, no other can \
                 attach; it is tried again every second"
            ));
        }
        self.nameless = lost;
    }

    /// One line per interval, however many there were.
    fn mind_drops(&mut self) {
        let now = self.clock.now().holder;
        if now < self.drops_at {
            return;
        }
        self.drops_at = now + DROPS_EVERY;
        if let Some(line) = self.links.drops_to_tell() {
            tracing::warn!("{line}");
        }
    }

    fn note(&mut self, text: String) {
        self.inputs.push_back(Input::Note { package: None, text });
    }
}

fn now(clock: &Clock) -> Now {
    let read = clock.now();
    Now { holder: read.holder, voter: read.voter }
}
