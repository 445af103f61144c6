//! What agent and keeper say to each other: length-prefixed frames of `engine::codec` values on `<run>/keeper.sock`.
//!
//! The agent may crash and come back at any time; the keeper goes on. On attach the keeper hands over everything it
//! has ([`Welcome`]) and the agent adopts it. A keeper serves [`VERSION`] and the version before.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::engine::lease::Learn;
use crate::engine::state::{DatagramKey, Watchdog};
use crate::engine::{ClusterId, Incarnation, LogIndex, NodeId, Nonce, Profile, SessionId, SetId, Token};
use crate::package::{IpResource, Millis, PackageName};
pub use crate::resource::{Credentials, Place, ProgramSpec, Storage};

/// Version of this protocol.
pub const VERSION: u32 = 1;
/// Oldest version that is served; the one before [`VERSION`], once there is one.
pub const OLDEST_VERSION: u32 = 1;
/// Largest frame accepted, in bytes.
pub const FRAME_MAX_BYTES: usize = 4 << 20;

/// Agent to keeper.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToKeeper {
    /// First frame of a connection.
    Hello {
        /// Newest protocol version the agent speaks.
        version: u32,
        /// The agent's program version, for `status`.
        program: String,
    },
    /// Who this node is and whom it talks to. Sent on attach and whenever it changes.
    Configure(Configuration),
    /// The next step of the log's prefix (rule 7).
    Learn(Learn),
    /// The agent is fit: its store is open and it has applied up to a known leader's commit index, or waits for an
    /// election, within the last 5 s. Without it for `agent_grace` the keeper stops renewing.
    Alive,
    /// Orderly stop, no more renewals: the store has failed for good, or the node is being shut down.
    Retire {
        /// Why, for the log.
        why: String,
    },
    /// End in good order: this node is in no cluster any more, and there is nothing to release.
    End {
        /// Why, for the log.
        why: String,
    },
    /// Ask these voters to let a silent session expire, until [`ToKeeper::Abandon`] or everyone agreed.
    Collect {
        /// Which session.
        session: SessionId,
        /// Its lease time.
        ttl: Millis,
        /// Every member of every unretired lease set.
        voters: Vec<NodeId>,
    },
    /// Stop asking.
    Abandon {
        /// Which session.
        session: SessionId,
    },
    /// Do something and answer with [`FromKeeper::Done`] under the same id.
    Do {
        /// Chosen by the agent, unique in the connection.
        id: u64,
        /// What to do.
        op: Op,
    },
}

/// Who this node is and whom it talks to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Datagrams of another cluster are dropped.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// Every interval.
    pub profile: Profile,
    /// Keys of the datagrams' MAC, all of them accepted.
    pub keys: BTreeMap<u32, DatagramKey>,
    /// The id of the one to seal with; none from agents that do not say it, which mean the largest.
    #[serde(default)]
    pub sealing_key: Option<u32>,
    /// The entry that changed them last. They never go back during a keeper's life: an agent that has just restarted may
    /// know an earlier state only.
    #[serde(default)]
    pub keys_at: LogIndex,
    /// Datagram addresses of every member, this node included.
    pub peers: BTreeMap<NodeId, Vec<SocketAddr>>,
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Begin to take an address over; done when it is set, guarded and shut, and being asked for on the network. It goes
    /// on to the end by itself: what does not need the address to answer may start meanwhile, and
    /// [`Op::StartIp`] waits for the end.
    SetIp {
        /// Which resource.
        place: Place,
        /// Which address.
        ip: IpResource,
    },
    /// Take an address over: drop rules, address without DAD, probe, element, announcements (design 6.1).
    StartIp {
        /// Which resource.
        place: Place,
        /// Which address.
        ip: IpResource,
    },
    /// Give an address up: destroy its sockets, delete element and address.
    StopIp {
        /// Which resource.
        place: Place,
    },
    /// Start a program in a fresh leash.
    StartProgram {
        /// Which resource.
        place: Place,
        /// What to run.
        program: ProgramSpec,
    },
    /// Signal the main process, wait, then kill the leash; done when the namespace's init is gone.
    StopProgram {
        /// Which resource.
        place: Place,
        /// Signal of the orderly stop.
        signal: i32,
        /// How long to wait for it.
        grace: Millis,
    },
    /// Take a LUN for the ownership, or mount a filesystem.
    StartStorage {
        /// Which resource.
        place: Place,
        /// Which LUN or filesystem.
        storage: Storage,
    },
    /// Unmount a filesystem, or give a LUN up; done when its device is free on this node.
    StopStorage {
        /// Which resource.
        place: Place,
        /// After this long it is answered that it is not done; it goes on nevertheless.
        within: Millis,
    },
    /// Record the token as released with everything of the package down (rule 20); refused while anything is up.
    Release {
        /// Which package.
        package: PackageName,
        /// Which ownership.
        token: Token,
    },
    /// Announce every address held again (a link or a peer came back).
    Announce,
    /// Which of these nodes' keepers answer within a second? (rule 14)
    Reach {
        /// Whom to ask.
        nodes: Vec<NodeId>,
    },
    /// Which lease set does each of these nodes' keepers know? (rules 16 and 17)
    AskSets {
        /// Whom to ask.
        nodes: Vec<NodeId>,
    },
}

/// Keeper to agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromKeeper {
    /// First frame of a connection.
    Welcome(Welcome),
    /// The keeper is to end. Stop and release what runs here, then say [`ToKeeper::Retire`]; after that time the keeper
    /// stops everything itself, and the packages come back elsewhere when the lease has ended.
    Leaving {
        /// How long the keeper waits.
        within: Millis,
    },
    /// The lease's state, whenever it begins, ends or its session changes, and about once a second.
    Lease(LeaseView),
    /// A session's renewals have not been heard for a while (a quarter of its ttl).
    Silent {
        /// Which session.
        session: SessionId,
        /// Since the last renewal heard.
        since: Millis,
    },
    /// A session that was silent renews again.
    Heard {
        /// Which session.
        session: SessionId,
    },
    /// A voter agreed to the expiry being collected.
    Agreed {
        /// Which session.
        session: SessionId,
        /// Who agreed.
        voter: NodeId,
        /// In which incarnation.
        incarnation: Incarnation,
        /// Since the first question.
        after: Millis,
    },
    /// This keeper has fenced a session that goes on renewing: commit a new `VoterUp` (rule 11).
    WantsVoterUp,
    /// A program's main process ended by itself.
    Exited {
        /// Which resource.
        place: Place,
        /// How.
        exit: Exit,
    },
    /// A resource was ended by its deadline or by the guard, not by an operation.
    Lapsed {
        /// Which resource.
        place: Place,
        /// What ended it.
        why: String,
    },
    /// An operation's outcome.
    Done {
        /// The operation's id.
        id: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// Something an operator should read; goes to the package's log or the agent's.
    Note {
        /// Which package it is about.
        package: Option<PackageName>,
        /// The sentence.
        text: String,
    },
}

/// Everything the keeper has, on attach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The protocol version to speak from now on.
    pub version: u32,
    /// The keeper's program version.
    pub program: String,
    /// This keeper life.
    pub nonce: Nonce,
    /// `fifo` or `best-effort`.
    pub scheduling: String,
    /// The session renewed or last held, and how the lease stands.
    pub lease: LeaseView,
    /// Released token per package.
    pub released: BTreeMap<PackageName, Token>,
    /// Largest token seen per package.
    pub largest: BTreeMap<PackageName, Token>,
    /// What is up.
    pub running: Vec<Running>,
    /// True when nothing of an earlier keeper life is left on this node, so that `Register` may supersede (rule 5).
    pub clean: bool,
}

/// How the lease stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseView {
    /// The keeper's session; none before its first.
    pub session: Option<SessionId>,
    /// Time left; zero when there is no lease.
    pub left: Millis,
    /// The session is over (expired, lapsed or refused) and everything of it is down: register a new one.
    pub over: bool,
    /// By how many millionths this node's two clocks differ in rate, positive if the one that arms timers is slow; none
    /// while it is no more than rho/2 (rule 2), and from keepers that do not say it.
    #[serde(default)]
    pub skew_ppm: Option<i32>,
    /// How the machine's watchdog is; none when none is configured, and from keepers that do not say it.
    #[serde(default)]
    pub watchdog: Option<Watchdog>,
    /// The entry of the datagram keys that this keeper goes by, zero before it has any; none from keepers that do not say
    /// it, and that seal with the largest key they have.
    #[serde(default)]
    pub keys_at: Option<LogIndex>,
}

impl LeaseView {
    /// Whether there is a session that is not over; its lease may still have to begin.
    pub fn is_live(&self) -> bool {
        self.session.is_some() && !self.over
    }
}

/// Something that is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Which resource.
    pub place: Place,
    /// What it is.
    pub what: RunningKind,
}

/// What is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunningKind {
    /// An address.
    Ip(IpResource),
    /// A LUN or filesystem.
    Storage(Storage),
    /// A program: its main process as the host sees it.
    Program {
        /// Process id on the host.
        pid: i32,
        /// The main process has ended with this status and no agent has been told.
        exited: Option<Exit>,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done.
    Ok,
    /// A program runs.
    Started {
        /// Its process id on the host.
        pid: i32,
    },
    /// Nodes that answered, with whether each is ready as voter.
    Reached(BTreeMap<NodeId, bool>),
    /// Lease sets known.
    Sets(BTreeMap<NodeId, Option<SetId>>),
    /// It failed; nothing of it is left up unless the text says so.
    Failed {
        /// What happened, what still holds, what to do.
        why: String,
    },
    /// Refused by a rule: no lease, an old token, another session.
    Refused {
        /// Which rule.
        why: String,
    },
}
