//! The address worker: takes floating addresses over, guards them, gives them up (design 6.1).
//!
//! It runs on threads of its own, so that an nftables transaction that is held up, or a slow interface, never stalls
//! the keeper's loop and its lease renewals. The keeper sends [`Order`]s and reads [`Event`]s when [`IpWorker`]'s
//! descriptor is readable.
//!
//! - `renewer`: the thread that renews lease elements, and does nothing else.
//! - `worker`: the thread for everything else, a loop around `poll`.
//! - `start`, `stop`, `repair`, `cleanup`: what that thread does.
//! - `loss`: why an element ended, in words.
//! - `own_macs`: which claims are our own voice.
//! - `announcing`: when an address is announced.
//! - `closer`: closes packet sockets, which takes long, on a thread of its own.
//! - `record`: the addresses set by this keeper life, for the next one.

mod announcing;
mod cleanup;
mod closer;
mod loss;
mod own_macs;
mod record;
mod renewer;
mod repair;
mod start;
mod stop;
mod worker;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::engine::HolderTime;
use crate::host::clock;
use crate::host::netlink::NetlinkError;
use crate::keeper::protocol::Place;
use crate::package::{IpResource, Millis, PackageName};

/// Orders that may wait; an operator's node holds far fewer addresses.
const ORDERS_MAX: usize = 1024;

/// The holder's clock (rule 2), and how slow the kernel's timers run against it.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> HolderTime + Send + Sync>,
    slow: Arc<dyn Fn() -> f64 + Send + Sync>,
}

impl Clock {
    /// The node's clock.
    pub fn of(clock: Arc<clock::Clock>) -> Self {
        let rates = Arc::clone(&clock);
        Self {
            now: Arc::new(move || clock.now().holder),
            slow: Arc::new(move || rates.skewed().unwrap_or_default().max(0.0)),
        }
    }

    /// Any other clock that runs with the kernel's timers.
    pub fn reading(now: impl Fn() -> HolderTime + Send + Sync + 'static) -> Self {
        Self { now: Arc::new(now), slow: Arc::new(|| 0.0) }
    }

    fn now(&self) -> HolderTime {
        (self.now)()
    }

    fn slow(&self) -> f64 {
        (self.slow)()
    }
}

/// What the worker needs to begin.
#[derive(Clone)]
pub struct Setup {
    /// The holder's clock.
    pub clock: Clock,
    /// File for the record of addresses set, in the run directory.
    pub record: PathBuf,
    /// Run first on each thread with its name: the place to ask for SCHED_FIFO, which threads do not inherit when it
    /// is reset on fork.
    pub on_thread: Arc<dyn Fn(&'static str) + Send + Sync>,
}

/// The lease as the keeper holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// T: by then everything is down (rule 8).
    pub until: HolderTime,
    /// The session's lease time; slices follow from it.
    pub ttl: Millis,
}

/// What the keeper wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Take an address over. Answered by [`Event::Set`] and then [`Event::Done`], or by [`Event::Failed`].
    Up {
        /// Which resource, under which token.
        place: Place,
        /// Which address.
        ip: IpResource,
    },
    /// Give an address up. Answered by [`Event::Done`] or [`Event::Failed`].
    Down {
        /// Which resource.
        place: Place,
    },
    /// The lease has moved on, or has ended: then every address is shut at once and taken away.
    SetLease(Option<Lease>),
    /// Announce every address held again.
    Announce,
    /// Take away everything an earlier keeper life left (rule 5). Answered by [`Event::Cleaned`].
    CleanAll,
}

/// Which order was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// [`Order::Up`].
    Up,
    /// [`Order::Down`].
    Down,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An address is set, guarded and shut, and the first probe is on its way.
    Set {
        /// Which resource.
        place: Place,
    },
    /// An order was carried out.
    Done {
        /// Which resource.
        place: Place,
        /// Which order.
        act: Act,
    },
    /// An order failed. After a failed `Up` nothing is left; after a failed `Down` the address is shut but still there.
    Failed {
        /// Which resource.
        place: Place,
        /// Which order.
        act: Act,
        /// What happened, what still holds, what to do.
        why: String,
    },
    /// An address ended without an order: it is shut and taken away.
    Lapsed {
        /// Which resource.
        place: Place,
        /// What ended it.
        why: String,
    },
    /// Whether anything of an earlier life is left.
    Cleaned(Result<(), String>),
    /// Something an operator should read.
    Note {
        /// Which package it is about.
        package: Option<PackageName>,
        /// The sentence.
        text: String,
    },
}

/// Why the worker did not start or take an order.
#[derive(Debug, thiserror::Error)]
pub enum IpError {
    /// The kernel lacks what the guard needs, or refuses it.
    #[error("floating addresses cannot be guarded on this node: {0}")]
    Netlink(#[from] NetlinkError),
    /// No descriptor or thread.
    #[error("the address worker cannot start: {0}")]
    Start(Errno),
    /// Too many orders wait: the worker is held up.
    #[error("the address worker is held up ({ORDERS_MAX} orders wait); nothing was ordered, try again")]
    Busy,
    /// Its thread has ended.
    #[error("the address worker has ended; addresses run out by themselves, restart the keeper")]
    Ended,
}

impl IpError {
    fn thread(e: &std::io::Error) -> Self {
        Self::Start(Errno::from_raw(e.raw_os_error().unwrap_or(libc::EAGAIN)))
    }
}

/// The worker as the keeper's loop sees it. Dropping it ends its threads and leaves everything to run out by itself.
pub struct IpWorker {
    orders: Option<SyncSender<Order>>,
    wake: Arc<EventFd>,
    renewer: renewer::Renewer,
    events: Receiver<Event>,
    ready: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl AsFd for IpWorker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }
}

impl IpWorker {
    /// Starts the worker in this thread's network namespace.
    ///
    /// # Errors
    /// When the kernel lacks nftables or refuses sockets or threads.
    pub fn start(setup: Setup) -> Result<Self, IpError> {
        let (wake, ready) = (Arc::new(descriptor()?), Arc::new(descriptor()?));
        let (orders, order_inbox) = mpsc::sync_channel(ORDERS_MAX);
        let (losses, loss_inbox) = mpsc::channel();
        let (event_sender, events) = mpsc::channel();
        let renewer = renewer::Renewer::start(
            &setup,
            Box::new({
                let wake = Arc::clone(&wake);
                move |loss| signal(losses.send(loss).is_ok(), &wake)
            }),
        )?;
        let tell = Box::new({
            let ready = Arc::clone(&ready);
            move |event| signal(event_sender.send(event).is_ok(), &ready)
        });
        let inboxes = worker::Inboxes { orders: order_inbox, losses: loss_inbox, wake: Arc::clone(&wake) };
        let mut worker = worker::Worker::open(&setup, inboxes, renewer.caller(), tell)?;
        let on_thread = Arc::clone(&setup.on_thread);
        let thread = thread::Builder::new()
            .name("addresses".into())
            .spawn(move || {
                on_thread("addresses");
                worker.run();
            })
            .map_err(|e| IpError::thread(&e))?;
        Ok(Self { orders: Some(orders), wake, renewer, events, ready, thread: Some(thread) })
    }

    /// Hands an order over; never waits.
    ///
    /// # Errors
    /// [`IpError::Busy`] or [`IpError::Ended`]; the order was not taken.
    pub fn order(&self, order: Order) -> Result<(), IpError> {
        match order {
            Order::SetLease(lease) => {
                self.renewer.set_lease(lease);
                Ok(())
            }
            Order::Up { .. } | Order::Down { .. } | Order::Announce | Order::CleanAll => {
                let orders = self.orders.as_ref().ok_or(IpError::Ended)?;
                orders.try_send(order).map_err(|e| match e {
                    TrySendError::Full(_) => IpError::Busy,
                    TrySendError::Disconnected(_) => IpError::Ended,
                })?;
                signal(true, &self.wake);
                Ok(())
            }
        }
    }

    /// The next event, if one waits. Read until none when the descriptor is readable.
    pub fn next_event(&self) -> Option<Event> {
        // Cleared before reading, so that an event sent meanwhile makes it readable again.
        let _ = self.ready.read();
        self.events.try_recv().ok()
    }

    /// The longest nftables transaction seen, for `tune`: it includes waiting for others in this network namespace.
    pub fn longest_transaction(&self) -> Duration {
        self.renewer.longest_transaction()
    }
}

impl Drop for IpWorker {
    fn drop(&mut self) {
        self.orders = None;
        signal(true, &self.wake);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn descriptor() -> Result<EventFd, IpError> {
    EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(IpError::Start)
}

/// Makes the descriptor readable if there is something to read. A full counter is readable anyway.
fn signal(sent: bool, descriptor: &EventFd) {
    if sent {
        let _ = descriptor.write(1);
    }
}
