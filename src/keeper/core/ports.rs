//! What goes into the keeper's core and what comes out: values only.

use std::time::Duration;

use crate::engine::lease::{Message, Rules};
use crate::engine::{HolderTime, NodeId, Nonce, VoterTime};
use crate::keeper::protocol::{Configuration, Exit, FromKeeper, Place, ProgramSpec, ToKeeper};
use crate::keeper::storage::Task;
use crate::package::{IpResource, Millis, PackageName};

/// One reading of the node's clocks, made right before the input is handed in. Sends happen after it, so its `holder`
/// is a t0, and a datagram's `voter` is read after its receipt (rule 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For what this node holds.
    pub holder: HolderTime,
    /// For what this node waits for.
    pub voter: VoterTime,
}

/// What is fixed for a keeper's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Names this life (rule 4).
    pub nonce: Nonce,
    /// Silence of the agent after which renewals stop.
    pub agent_grace: Duration,
    /// How long before T leashes are armed (rule 22): more where SCHED_FIFO is refused.
    pub leash_margin: Duration,
    /// `fifo` or `best-effort`.
    pub scheduling: String,
    /// This program's version.
    pub program: String,
    /// Whether a lease's end ends anything.
    pub enforcement: Enforcement,
    /// The lease rules in force: all of them; simulations drop one.
    pub rules: Rules,
}

/// Whether the end of a lease ends what runs under it.
///
/// Fixed for a keeper's life by whoever starts it. `pkgctl keeper` always enforces: there is no option, configuration
/// key or message for anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// By the lease's end everything is down, by the kernel's hand: always, but in the lab.
    Kernel,
    /// The lab's only, to prove that its observer sees two nodes acting when they do: a lease once had is taken for
    /// endless, so that neither leash nor guard ever closes.
    Off,
}

/// What stands for endless: no lab lives that long.
const ENDLESS: Duration = Duration::from_secs(24 * 3600);

impl Enforcement {
    /// When what runs under a lease that ends at `until` must be down.
    pub(super) fn end_of(self, until: HolderTime) -> HolderTime {
        match self {
            Enforcement::Kernel => until,
            Enforcement::Off => until + ENDLESS,
        }
    }

    /// Whether a session that has ended ends what runs under it.
    pub(super) fn is_on(self) -> bool {
        match self {
            Enforcement::Kernel => true,
            Enforcement::Off => false,
        }
    }
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passed; asked for by `next_wake`.
    Tick,
    /// An authenticated datagram.
    Datagram {
        /// Its sender.
        from: NodeId,
        /// Its content.
        message: Message,
    },
    /// An agent has connected; its `Hello` has not come yet. It replaces any earlier one.
    AgentConnected,
    /// The agent's connection is gone.
    AgentGone,
    /// The agent said something.
    Frame(ToKeeper),
    /// Something happened to a program.
    Program {
        /// Which one.
        place: Place,
        /// What.
        event: ProgramEvent,
    },
    /// Something happened to an address.
    Address {
        /// Which one.
        place: Place,
        /// What.
        event: AddressEvent,
    },
    /// Something happened to a LUN or filesystem.
    Storage {
        /// Which one.
        place: Place,
        /// What.
        event: StorageEvent,
    },
    /// Something that an operator should read.
    Note {
        /// Which package it is about.
        package: Option<PackageName>,
        /// The sentence.
        text: String,
    },
    /// The rates of this node's two clocks differ by more than rho/2 (rule 2), or by another amount, or no longer.
    Skew {
        /// By how many millionths, positive if the one that arms timers is slow; none if it is no more than rho/2.
        ppm: Option<i32>,
    },
    /// Something happened to the machine's watchdog, where one is configured.
    Watchdog(WatchdogEvent),
    /// Somebody wants this process to end in good order.
    Terminate,
}

/// What happens to a program between [`Effect::Spawn`] and [`ProgramEvent::Gone`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProgramEvent {
    /// Its main process runs.
    Started {
        /// Its process id on the host.
        pid: i32,
    },
    /// It could not be started.
    Failed {
        /// Why.
        why: String,
    },
    /// Its main process has ended; others of its namespace may live.
    Exited {
        /// How.
        exit: Exit,
    },
    /// Its namespace's init is gone, and everything in it. The last event, always.
    Gone {
        /// The leash's deadline ended it.
        by_deadline: bool,
    },
}

/// What happens to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressEvent {
    /// It is set, guarded and shut, and being asked for on the network.
    Set,
    /// It answers.
    Up,
    /// It could not be taken over; nothing of it is left.
    Failed {
        /// Why.
        why: String,
    },
    /// It was given up; nothing of it is left.
    Down,
    /// It could not be given up; it is silent, but still there.
    Stuck {
        /// Why.
        why: String,
    },
    /// The guard closed by itself and the address was deleted.
    Lapsed {
        /// Why.
        why: String,
    },
}

/// How an operation on a LUN or filesystem ended. Each that was begun ends once, when its process is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageEvent {
    /// It is taken or mounted.
    Up,
    /// It could not be, or its process was ended; something of it may be left.
    Failed {
        /// Why.
        why: String,
    },
    /// Its start was never begun: there is nothing of it, and nothing to undo.
    Unbegun {
        /// Why.
        why: String,
    },
    /// It was given up or unmounted, and its device is free.
    Down,
    /// It could not be.
    Stuck {
        /// Why, and who keeps it.
        why: String,
    },
}

/// What happens to the machine's watchdog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchdogEvent {
    /// It runs, or was stretched: from now on it resets the machine when it is not petted.
    Opened {
        /// For how long it bears not to be, as its driver says.
        timeout: Millis,
        /// Whether that is as it was asked for, by the operator or by the core.
        is_chosen: bool,
    },
    /// It cannot be had, or not any more.
    Unusable {
        /// Why, and what to do; it is tried again.
        why: String,
    },
}

/// What to do with the machine's watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchdogOrder {
    /// The machine may live for another timeout.
    Pet,
    /// Have it bear so long, and pet it. Answered by [`WatchdogEvent::Opened`].
    Stretch {
        /// How long.
        timeout: Millis,
    },
    /// Stop it, as far as its driver can, and leave it alone.
    Disarm,
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send a datagram, one copy over every link. To [`crate::net::datagram::JOINER`]: to where the last one came from.
    Send {
        /// To whom; never this node itself.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Tell the agent, if there is one.
    Tell(FromKeeper),
    /// Write a sentence to the keeper's own log.
    Log {
        /// The sentence.
        text: String,
    },
    /// Close the agent's connection once everything told has been written.
    Disconnect {
        /// Why, for the log.
        why: String,
    },
    /// Who this node is and whom it talks to.
    Configure(Box<Configuration>),
    /// Start a leash, armed from its first moment, and the program in it.
    Spawn {
        /// Its place, by which it is named from now on.
        place: Place,
        /// What to run.
        program: ProgramSpec,
        /// When it dies.
        deadline: HolderTime,
    },
    /// Move the deadline of a leash, or of a process that takes or mounts.
    Arm {
        /// Which leash.
        place: Place,
        /// When it dies.
        deadline: HolderTime,
    },
    /// Signal a program's main process.
    Signal {
        /// Which program.
        place: Place,
        /// Signal number.
        signal: i32,
    },
    /// Kill a leash, and with it everything in it; or a process that takes or mounts.
    Kill {
        /// Which one.
        place: Place,
    },
    /// Take an address over.
    StartAddress {
        /// Its place, by which it is named from now on.
        place: Place,
        /// Which address.
        ip: IpResource,
    },
    /// Give an address up.
    StopAddress {
        /// Which one.
        place: Place,
    },
    /// Begin to take a LUN or mount a filesystem, in a process of its own that dies at the deadline.
    StartStorage {
        /// Its place, by which it is named from now on.
        place: Place,
        /// What.
        task: Task,
        /// When the process dies; moved by [`Effect::Arm`], ended by [`Effect::Kill`].
        deadline: HolderTime,
    },
    /// Begin to undo it, whatever of it there is.
    StopStorage {
        /// Which one.
        place: Place,
        /// What.
        task: Task,
    },
    /// Announce every address held.
    Announce,
    /// Elements may last until this less the guard's own margin; none: no lease, nothing may be opened or extended.
    Lease {
        /// The lease's end T.
        until: Option<HolderTime>,
        /// The session's lease time; the guard's slices follow from it.
        ttl: Millis,
    },
    /// Pet or stop the machine's watchdog.
    Watchdog(WatchdogOrder),
    /// Everything is down: end the process.
    Exit,
}
