//! The agent's one loop: events in, the pure machines stepped, their actions spawned.
//!
//! Everything that decides is pure and quick and runs here, in one task and one order; everything that waits (an
//! operation of the keeper, a proposal, a question to another node) is a task of its own that comes back as an event.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::AsyncRuntime;

use super::fencing::Fencer;
use super::flights::Flights;
use super::holdup::Holdup;
use super::leading::Leading;
use super::ops::Hands;
use super::platform::Platform;
use super::runner::Runner;
use super::spawn;
use super::view::{LocalView, Published};
use crate::api::local::Local;
use crate::engine::command::Entry;
use crate::engine::lease::{Knowledge, Learn, Rules};
use crate::engine::planner::Note;
use crate::engine::supervisor::Settled;
use crate::engine::{Command, NodeId, Nonce, Reply, SessionId, Token, VoterTime};
use crate::keeper::link::KeeperEvent;
use crate::keeper::protocol::{Configuration, FromKeeper, LeaseView, ToKeeper, Welcome};
use crate::package::{PackageName, ResourceName};
use crate::raft::{Committed, Consensus, ProposeError, RaftStatus};

/// The loop wakes at least this often: to tell the keeper that the agent is fit, and to look again.
const BEAT: Duration = Duration::from_secs(1);
/// Events taken before the machines are stepped again.
const BATCH_MAX: usize = 256;
/// How long one proposal may look for a leader before it is given up and decided anew.
pub(super) const PROPOSAL_WITHIN: Duration = Duration::from_secs(5);

/// What the loop hears.
#[derive(Debug)]
pub(super) enum Event {
    /// From the keeper's side.
    Keeper(KeeperEvent),
    /// The replicated state moved.
    Changed(Learn),
    /// Consensus has another role, leader or progress.
    Raft,
    /// An action of a package's supervisor has ended.
    Settled {
        /// Which package.
        package: PackageName,
        /// Which of its actions.
        action: u64,
        /// How.
        settled: Settled,
    },
    /// An opening has ended.
    Opened {
        /// Which package.
        package: PackageName,
        /// Which of its resources.
        resource: ResourceName,
        /// Under which ownership.
        token: Token,
        /// How.
        settled: Settled,
    },
    /// A report of a package has been delivered or given up.
    Reported(PackageName),
    /// A proposal or step of the leader has ended.
    Landed {
        /// Its key among the flights.
        key: String,
        /// Whether it should be held back for a moment before it is tried again.
        well: bool,
    },
    /// A host says which keepers it reaches.
    Reached {
        /// Which host.
        host: NodeId,
        /// What it reaches, with readiness.
        keepers: BTreeMap<NodeId, bool>,
        /// When it was asked.
        asked: VoterTime,
    },
    /// Keepers say which lease set they know.
    Sets(BTreeMap<NodeId, Option<crate::engine::SetId>>),
    /// This leader's attempt to fence a node has ended, and the log says how if it could be told.
    FenceEnded(NodeId),
}

/// One node at work.
pub(super) struct Brain<P: Platform> {
    pub(super) me: NodeId,
    /// Where this node answers plain HTTP.
    http: Option<std::net::SocketAddr>,
    pub(super) platform: P,
    pub(super) peers: P::Peers,
    pub(super) consensus: Consensus<P::Rt, P::Peers>,
    pub(super) hands: Hands<P>,
    pub(super) to_self: async_channel::Sender<Event>,
    pub(super) events: async_channel::Receiver<Event>,
    pub(super) view: LocalView,
    /// What the keeper said on attach, updated by what it says since.
    pub(super) keeper: Option<Welcome>,
    /// What the keeper waits for before it can be attached to.
    keeper_waits: Option<String>,
    pub(super) configured: Option<Configuration>,
    pub(super) wants_voter_up: bool,
    /// Whether this agent has once applied up to a known leader's commit index; before that it does nothing to packages,
    /// because an older state may want what the newer one does not (I5).
    pub(super) current: bool,
    pub(super) runners: BTreeMap<PackageName, Runner>,
    pub(super) leading: Option<Leading>,
    pub(super) rules: Rules,
    /// Sessions this node's keeper has not heard for a while, with the time it last did.
    pub(super) silent: BTreeMap<SessionId, VoterTime>,
    /// Why packages that should run do not, as the planner said last.
    pub(super) notes: Vec<Note>,
    /// What a change of the cluster waits for, as the planner said last.
    pub(super) holdup: Holdup,
    pub(super) flights: Flights,
    pub(super) fencer: Fencer<P>,
    /// Nodes that this agent is fencing as leader.
    pub(super) fencing: BTreeSet<NodeId>,
    /// The keeper is to end: everything here is stopped and released.
    pub(super) leaving: bool,
    /// When the keeper was last heard, or this agent began.
    pub(super) keeper_heard: VoterTime,
    last_beat: Option<VoterTime>,
    /// The keeper at this end of the link has been told that the store has failed.
    retired: bool,
}

impl<P: Platform> Brain<P> {
    pub(super) fn new(parts: super::Parts<P>, hands: Hands<P>, fencer: Fencer<P>, view: LocalView) -> Self {
        let (to_self, events) = async_channel::unbounded();
        let keeper_heard = parts.platform.now();
        Self {
            keeper_heard,
            me: parts.me,
            http: parts.http,
            platform: parts.platform,
            peers: parts.peers,
            consensus: parts.consensus,
            hands,
            to_self,
            events,
            view,
            keeper: None,
            keeper_waits: None,
            configured: None,
            wants_voter_up: false,
            current: false,
            runners: BTreeMap::new(),
            leading: None,
            rules: parts.rules,
            silent: BTreeMap::new(),
            notes: Vec::new(),
            holdup: Holdup::default(),
            flights: Flights::default(),
            fencer,
            fencing: BTreeSet::new(),
            leaving: false,
            last_beat: None,
            retired: false,
        }
    }

    /// Works until the agent is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let wait = self.wait();
            match P::Rt::timeout(wait, self.events.recv()).await {
                Ok(Ok(event)) => self.take(event),
                Ok(Err(_)) => return,
                Err(_elapsed) => {}
            }
            for _ in 0..BATCH_MAX {
                let Ok(event) = self.events.try_recv() else { break };
                self.take(event);
            }
            self.advance();
        }
    }

    fn wait(&self) -> Duration {
        let now = self.platform.now();
        let wakes = self.runners.values().filter_map(Runner::wake).chain(self.flights.wake());
        let next = wakes.map(|at| at.since(now)).min().unwrap_or(BEAT);
        next.clamp(Duration::from_millis(1), BEAT)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Keeper(KeeperEvent::Attached(welcome)) => self.attached(*welcome),
            Event::Keeper(KeeperEvent::Detached) => self.hands.ops.all_lost(),
            Event::Keeper(KeeperEvent::Waits(what)) => self.keeper_waits = what,
            Event::Keeper(KeeperEvent::Said(frame)) => self.said(*frame),
            Event::Changed(step) => self.tell_keeper(ToKeeper::Learn(step)),
            Event::Raft => {}
            Event::Settled { package, action, settled } => self.settled(&package, action, settled),
            Event::Opened { package, resource, token, settled } => self.opened(&package, resource, token, settled),
            Event::Reported(package) => self.reported(&package),
            Event::Landed { key, well } => self.flights.landed(&key, well, self.platform.now()),
            Event::Reached { host, keepers, asked } => self.reached(host, keepers, asked),
            Event::Sets(sets) => self.sets_known(&sets),
            Event::FenceEnded(node) => drop(self.fencing.remove(&node)),
        }
    }

    fn advance(&mut self) {
        let now = self.platform.now();
        if !self.current && caught_up(&self.consensus.status()) {
            self.current = true;
            self.adopt_running();
        }
        self.beat(now);
        self.configure();
        self.live();
        if self.current {
            self.run_packages(now);
        }
        self.lead(now);
        self.publish();
    }

    /// The keeper renews only while the agent is fit (design section 4).
    fn beat(&mut self, now: VoterTime) {
        let due = self.last_beat.is_none_or(|last| now.since(last) >= BEAT);
        if due {
            self.tell_systemd();
        }
        if due && self.consensus.fit().is_ok() {
            self.last_beat = Some(now);
            self.tell_keeper(ToKeeper::Alive);
        }
        if let Some(why) = self.consensus.status().fatal.filter(|_| !self.retired) {
            self.retired = true;
            self.tell_keeper(ToKeeper::Retire { why });
        }
    }

    /// A line for people and a sign of life: once a beat is often enough, and the loop turns far more often.
    fn tell_systemd(&self) {
        let (leader, lease) =
            (self.consensus.status().leader.map(|(id, _)| id), self.keeper.as_ref().map(|k| &k.lease));
        let sentence = self.consensus.read(|state| super::life::sentence(state, self.me, leader, lease));
        self.platform.turned(&sentence);
    }

    pub(super) fn tell_keeper(&self, frame: ToKeeper) {
        // The link is unbounded on our side and drops frames while detached; attach hands everything over again.
        let _ = self.hands.keeper.try_send(frame);
    }

    fn attached(&mut self, welcome: Welcome) {
        self.keeper_heard = self.platform.now();
        self.keeper_waits = None;
        // What was asked before this connection never reached a keeper, or its answer is lost.
        self.hands.ops.all_lost();
        let reborn = self.keeper.as_ref().is_some_and(|old| old.nonce != welcome.nonce);
        if reborn {
            let lost = self.keeper.take().and_then(|old| old.lease.session);
            lost.into_iter().for_each(|session| self.session_over(session));
        }
        let first = self.keeper.is_none();
        self.keeper = Some(welcome);
        self.configured = None;
        self.configure();
        let whole = self.consensus.read(Knowledge::of);
        self.tell_keeper(ToKeeper::Learn(Learn::Whole(whole)));
        self.last_beat = None;
        self.retired = false;
        self.leaving = false;
        if first && self.current {
            self.adopt_running();
        } else if !reborn {
            self.hear_of_ends();
        }
    }

    fn said(&mut self, frame: FromKeeper) {
        self.keeper_heard = self.platform.now();
        match frame {
            FromKeeper::Welcome(welcome) => self.attached(welcome),
            FromKeeper::Lease(lease) => self.lease(lease),
            // The keeper keeps the time itself and ends everything when it is up.
            FromKeeper::Leaving { within: _ } => self.leaving = true,
            FromKeeper::Silent { session, since } => self.heard_silence(session, since),
            FromKeeper::Heard { session } => self.heard_again(session),
            // The keeper's own measure is for its log; the leader's collector measures on the leader's clock.
            FromKeeper::Agreed { session, voter, incarnation, after: _ } => self.agreed(session, voter, incarnation),
            FromKeeper::WantsVoterUp => self.wants_voter_up = true,
            FromKeeper::Exited { place, exit } => {
                self.ended(&place, Some(exit));
                self.exited(&place, exit);
            }
            FromKeeper::Lapsed { place, why } => {
                self.ended(&place, None);
                self.lapsed(&place, &why);
            }
            FromKeeper::Done { id, outcome } => self.hands.ops.done(id, outcome),
            FromKeeper::Note { package, text } => self.note(package.as_ref(), &text),
        }
    }

    fn lease(&mut self, lease: LeaseView) {
        let over = lease.session.filter(|_| lease.over);
        if let Some(keeper) = self.keeper.as_mut() {
            keeper.lease = lease;
        }
        over.into_iter().for_each(|session| self.session_over(session));
    }

    fn session_over(&mut self, session: SessionId) {
        self.runners.values_mut().for_each(|r| r.session_over(session, self.platform.now()));
    }

    fn note(&self, package: Option<&PackageName>, text: &str) {
        tracing::info!(package = package.map(PackageName::as_str), "keeper: {text}");
        if let Some(package) = package {
            self.platform.log_line(package, text);
        }
    }

    /// Tells the keeper who this node is and whom it talks to, when that has changed.
    fn configure(&mut self) {
        let Some(keeper) = &self.keeper else { return };
        let told = self.consensus.read(|state| super::told::configuration(state, self.me, &keeper.lease));
        let Some(wanted) = told else { return };
        if self.configured.as_ref() != Some(&wanted) {
            self.configured = Some(wanted.clone());
            self.tell_keeper(ToKeeper::Configure(wanted));
        }
    }

    /// The keeper's life in the log: its `VoterUp` and its session (rules 4, 5, 9 and 11).
    fn live(&mut self) {
        let http = self.consensus.read(|state| super::life::http(state, self.me, self.http));
        http.into_iter().for_each(|command| self.propose("http".to_owned(), command));
        let Some(keeper) = &self.keeper else { return };
        let (nonce, clean) = (keeper.nonce, keeper.clean);
        let lease = keeper.lease.clone();
        let voter_up = self.consensus.read(|state| super::life::voter_up(state, self.me, nonce, self.wants_voter_up));
        if let Some(command) = voter_up {
            self.wants_voter_up = false;
            self.propose("voter-up".to_owned(), command);
        }
        let watchdog = self.consensus.read(|state| super::life::watchdog(state, self.me, &lease));
        watchdog.into_iter().for_each(|command| self.propose("watchdog".to_owned(), command));
        let keys = self.consensus.read(|state| super::life::have_keys(state, self.me, nonce, &lease));
        keys.into_iter().for_each(|command| self.propose("have-keys".to_owned(), command));
        if clean {
            let register = self.consensus.read(|state| super::life::register(state, self.me, nonce, &lease));
            register.into_iter().for_each(|command| self.propose("register".to_owned(), command));
        }
    }

    fn publish(&self) {
        let keeper = self.keeper.as_ref();
        let local = Local {
            node: self.me,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            keeper_version: keeper.map(|k| k.program.clone()),
            keeper_waits: self.keeper_waits.clone(),
            scheduling: keeper.map(|k| k.scheduling.clone()),
            lease: keeper.map(|k| k.lease.clone()).unwrap_or_default(),
            silent: self.silent.keys().copied().collect(),
        };
        self.view.set(Published { local, notes: self.notes.clone(), waits: self.holdup.shown() });
    }

    /// The keeper's session, if it is good to act under.
    pub(super) fn session(&self) -> Option<SessionId> {
        let keeper = self.keeper.as_ref()?;
        let nonce: Nonce = keeper.nonce;
        if keeper.lease.over {
            return None;
        }
        let in_log = |id: &SessionId| self.consensus.read(|s| s.sessions.get(id).is_some_and(|x| x.nonce == nonce));
        keeper.lease.session.filter(in_log)
    }

    /// Puts a command into the log as a flight of its own; one flight per key at a time.
    pub(super) fn propose(&mut self, key: String, command: Command) {
        if !self.flights.take_off(&key, self.platform.now()) {
            return;
        }
        let entry = self.entry(command);
        let (consensus, back) = (self.consensus.clone(), self.to_self.clone());
        spawn::<P>(async move {
            let result = consensus.submit(entry, PROPOSAL_WITHIN).await;
            let well = landed_well(&key, &result);
            let _ = back.send(Event::Landed { key, well }).await;
        });
    }

    /// Stamps a command of this agent's own.
    pub(super) fn entry(&self, command: Command) -> Entry {
        let name = self.consensus.read(|s| s.nodes.get(&self.me).map(|n| n.name.to_string()));
        Entry { wall: self.platform.wall(), by: format!("agent@{}", name.unwrap_or_default()), command }
    }
}

/// Whether everything that a known leader committed is applied here. Without a leader nothing is known to be current.
fn caught_up(status: &RaftStatus) -> bool {
    status.leader.is_some() && status.committed.is_some() && status.applied >= status.committed
}

fn landed_well(key: &str, result: &Result<Committed, ProposeError>) -> bool {
    match result {
        Ok(committed) => {
            tracing::debug!(key, ?committed, "landed");
            !matches!(committed.reply, Reply::Rejected(_))
        }
        Err(error) => {
            tracing::debug!(key, %error, "did not land");
            false
        }
    }
}
