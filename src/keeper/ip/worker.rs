//! The thread for everything but renewals: a loop around `poll` over orders, link and ruleset events, replies to
//! probes, and timers.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;

use super::announcing::Announcing;
use super::closer::{Closer, Minded};
use super::loss::{Cause, Loss};
use super::own_macs::OwnMacs;
use super::record::Record;
use super::renewer::Caller;
use super::{Act, Clock, Event, IpError, Order, Setup};
use crate::engine::HolderTime;
use crate::host::netlink::NetlinkError;
use crate::host::netlink::nft::{BatchError, Nft, RulesetWatch, Shape, Slot};
use crate::host::netlink::route::{Link, Route};
use crate::host::netlink::watch::RouteWatch;
use crate::keeper::protocol::Place;
use crate::package::{IpResource, PackageName};

/// Packets read from one tap before the others get their turn.
pub(super) const PACKETS_MAX: usize = 64;
/// A conflict is noted this often at most.
const CONFLICT_NOTES_EVERY: Duration = Duration::from_secs(10);

/// Said once, at the start.
const ARP_UNFILTERED: &str = "this kernel cannot filter ARP (nftables family arp, CONFIG_NF_TABLES_ARP): floating \
                              addresses are guarded on their own interface, but another interface of this node on the \
                              same network goes on answering ARP for them after the lease's end. If there is one, set \
                              net.ipv4.conf.all.arp_ignore = 1";

/// What reaches the thread, and the descriptor that says so.
pub(super) struct Inboxes {
    pub orders: Receiver<Order>,
    pub losses: Receiver<Loss>,
    pub wake: Arc<EventFd>,
}

/// The thread's state.
pub(super) struct Worker {
    pub clock: Clock,
    pub route: Route,
    pub nft: Nft,
    pub renewer: Caller,
    pub record: Record,
    pub closer: Closer,
    /// What the kernel has of the guard.
    pub shape: Shape,
    /// Every address that is up or on its way.
    pub held: BTreeMap<Place, Held>,
    /// Each package's element.
    pub slots: BTreeMap<PackageName, SlotState>,
    pub slots_used: u32,
    rules: RulesetWatch,
    links: RouteWatch,
    inboxes: Inboxes,
    tell: Box<dyn Fn(Event) + Send>,
}

/// An address that is up or on its way.
pub(super) struct Held {
    pub ip: IpResource,
    pub link: Link,
    /// None on an interface without neighbours to ask or tell.
    pub tap: Option<Minded>,
    pub phase: Phase,
    pub conflict_noted: Option<HolderTime>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Set, guarded and shut; waiting whether someone answers the probes.
    Probing {
        /// Probes sent.
        sent: usize,
        /// When the next is due, or the verdict.
        due: HolderTime,
    },
    /// Open.
    Up(Announcing),
    /// Shut, but the kernel would not let go of it; a later stop tries again.
    Stuck,
}

/// A package's element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotState {
    pub slot: Slot,
    /// The grant it is open under.
    pub grant: Option<u64>,
}

impl Worker {
    /// Opens the sockets in this thread's network namespace.
    pub fn open(
        setup: &Setup,
        inboxes: Inboxes,
        renewer: Caller,
        tell: Box<dyn Fn(Event) + Send>,
    ) -> Result<Self, IpError> {
        let nft = Nft::open()?;
        let rules = RulesetWatch::open(&[nft.port(), renewer.port()])?;
        Ok(Self {
            clock: setup.clock.clone(),
            route: Route::open()?,
            links: RouteWatch::open()?,
            record: Record::open(&setup.record),
            closer: Closer::start().map_err(|e| IpError::thread(&e))?,
            shape: Shape::default(),
            held: BTreeMap::new(),
            slots: BTreeMap::new(),
            slots_used: 0,
            nft,
            rules,
            renewer,
            inboxes,
            tell,
        })
    }

    /// Works until the keeper's end of the channel is gone.
    pub fn run(&mut self) {
        if self.nft.lacks_arp() {
            self.note(None, ARP_UNFILTERED.into());
        }
        loop {
            if let Err(errno) = self.wait() {
                self.note(None, format!("the address worker cannot wait for events ({errno}); it looks again at once"));
            }
            let _ = self.inboxes.wake.read();
            // First, so that an element that someone's flush took away is not mistaken for one that ran out.
            self.look_at_ruleset();
            while let Ok(loss) = self.inboxes.losses.try_recv() {
                self.lost(&loss);
            }
            self.look_at_links();
            if !self.take_orders() {
                return;
            }
            self.tick();
        }
    }

    /// The present reading of the holder's clock.
    pub fn now(&self) -> HolderTime {
        self.clock.now()
    }

    pub fn is_set(&self, place: &Place) {
        (self.tell)(Event::Set { place: place.clone() });
    }

    pub fn done(&self, place: &Place, act: Act) {
        (self.tell)(Event::Done { place: place.clone(), act });
    }

    pub fn failed(&self, place: &Place, act: Act, why: String) {
        (self.tell)(Event::Failed { place: place.clone(), act, why });
    }

    pub fn lapsed(&self, place: &Place, why: String) {
        (self.tell)(Event::Lapsed { place: place.clone(), why });
    }

    pub fn note(&self, package: Option<&PackageName>, text: String) {
        (self.tell)(Event::Note { package: package.cloned(), text });
    }

    pub fn cleaned(&self, outcome: Result<(), String>) {
        (self.tell)(Event::Cleaned(outcome));
    }

    /// Makes the kernel's guard `next`. If the kernel's rules are not what we think they are (an interface went away
    /// and took its chains along), the guard is made anew.
    pub fn reshape(&mut self, next: Shape) -> Result<(), BatchError> {
        match self.nft.commit(&self.shape.change_to(&next)) {
            Ok(()) => {
                self.shape = next;
                Ok(())
            }
            Err(BatchError::Refused(_)) => self.rebuild(next),
            Err(e @ (BatchError::RefusedWhole(_) | BatchError::Unknown(_))) => Err(e),
        }
    }

    fn wait(&self) -> Result<(), Errno> {
        let mut fds = vec![
            PollFd::new(self.inboxes.wake.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.rules.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.links.as_fd(), PollFlags::POLLIN),
        ];
        let taps = self.held.values().filter_map(|held| held.tap.as_ref());
        fds.extend(taps.map(|tap| PollFd::new(tap.as_fd(), PollFlags::POLLIN)));
        let due = self.held.values().filter_map(|held| match held.phase {
            Phase::Probing { due, .. } => Some(due),
            Phase::Up(announcing) => announcing.due(),
            Phase::Stuck => None,
        });
        let timeout = due.min().map_or(PollTimeout::NONE, |due| {
            let left_ms = due.since(self.now()).as_micros().div_ceil(1000);
            PollTimeout::try_from(i32::try_from(left_ms).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn look_at_ruleset(&mut self) {
        match self.rules.touched() {
            Ok(false) => {}
            Ok(true) => self.repair_ruleset(),
            Err(e) => self.note(None, watch_failed(&e)),
        }
    }

    fn look_at_links(&mut self) {
        match self.links.changes() {
            Ok(changes) => changes.into_iter().for_each(|change| self.link_changed(change)),
            Err(e) => self.note(None, watch_failed(&e)),
        }
    }

    /// False when there will be no more.
    fn take_orders(&mut self) -> bool {
        loop {
            match self.inboxes.orders.try_recv() {
                Ok(Order::Up { place, ip }) => self.start(place, ip),
                Ok(Order::Down { place }) => self.stop(&place),
                Ok(Order::Announce) => self.announce_all(),
                Ok(Order::CleanAll) => self.clean_all(),
                // The handle gives it to the renewer.
                Ok(Order::SetLease(_)) => {}
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// An element ended without an order.
    fn lost(&mut self, loss: &Loss) {
        let found = self.slots.iter().find(|(_, state)| state.slot == loss.slot && state.grant == Some(loss.grant));
        let Some((package, _)) = found.map(|(package, state)| (package.clone(), *state)) else {
            return;
        };
        if let Cause::HeldUp { .. } = loss.cause {
            self.note(Some(&package), loss.cause.sentence());
        }
        self.lapse_package(&package, &loss.cause.sentence());
    }

    /// Probes, verdicts and announcements that are due.
    fn tick(&mut self) {
        for place in self.held.keys().cloned().collect::<Vec<_>>() {
            self.listen(&place);
            match self.held.get(&place).map(|held| held.phase) {
                Some(Phase::Probing { sent, due }) if due <= self.now() => self.probe_further(&place, sent),
                Some(Phase::Up(announcing)) => self.announce_further(&place, announcing),
                Some(Phase::Probing { .. } | Phase::Stuck) | None => {}
            }
        }
    }

    fn announce_further(&mut self, place: &Place, mut announcing: Announcing) {
        let due = announcing.take_due(self.now());
        if let Some(held) = self.held.get_mut(place).filter(|_| due) {
            held.phase = Phase::Up(announcing);
            announce(held);
        }
    }

    /// Reads what an address's tap has heard: while probing, a claim fails the start; later it is noted.
    fn listen(&mut self, place: &Place) {
        let now = self.now();
        let Some(held) = self.held.get_mut(place) else { return };
        let mut own = OwnMacs::new(&mut self.route);
        let heard = held.tap.as_ref().map_or(Ok(None), |tap| tap.claimant(PACKETS_MAX, |mac| own.have(mac)));
        match (heard, held.phase) {
            (Ok(None), _) => {}
            (Ok(Some(mac)), Phase::Probing { .. }) => {
                let why = format!(
                    "{ip} is already in use on {device} by the machine with hardware address {mac}; nothing was \
                     started. Find that machine and take the address from it, or give the package another address",
                    ip = held.ip.address,
                    device = held.link.name,
                );
                self.give_up_start(place, why);
            }
            (Ok(Some(mac)), Phase::Up(_)) => {
                let quiet = held.conflict_noted.is_some_and(|noted| now.since(noted) < CONFLICT_NOTES_EVERY);
                if !quiet {
                    held.conflict_noted = Some(now);
                    let text = format!(
                        "the machine with hardware address {mac} claims {ip} on {device}, which this package holds; \
                         clients may reach either. Take the address from that machine",
                        ip = held.ip.address,
                        device = held.link.name,
                    );
                    self.note(Some(&place.package), text);
                }
            }
            // The interface went down or away; its own event says so.
            (Err(_), Phase::Up(_)) | (Ok(Some(_)) | Err(_), Phase::Stuck) => {}
            (Err(e), Phase::Probing { .. }) => {
                let why = probe_failed(&held.ip, &held.link.name, &e);
                self.give_up_start(place, why);
            }
        }
    }

    /// Announces every address again, beginning now.
    pub fn announce_all(&mut self) {
        let now = self.now();
        for held in self.held.values_mut() {
            if let Phase::Up(_) = held.phase {
                held.phase = Phase::Up(Announcing::begin(now));
            }
        }
    }
}

/// Announces now. An interface that does not take it is down; its coming back announces again. ENOBUFS means that the
/// guard is shut: nothing may be claimed then.
pub(super) fn announce(held: &Held) {
    if let Some(tap) = &held.tap {
        let _ = tap.announce();
    }
}

pub(super) fn probe_failed(ip: &IpResource, device: &str, e: &io::Error) -> String {
    format!(
        "cannot ask on {device} whether {} is in use: {e}; nothing was started. Bring the interface up, or name \
         another in the package file",
        ip.address
    )
}

fn watch_failed(e: &NetlinkError) -> String {
    format!("the guard cannot watch this node's links or ruleset: {e}; addresses stay guarded, changes go unnoticed")
}
