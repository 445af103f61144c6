//! The address worker as the core sees it: effects become its orders, its events become inputs.

use std::os::fd::{AsFd, BorrowedFd};

use crate::engine::HolderTime;
use crate::keeper::core::{AddressEvent, Input};
use crate::keeper::ip::{Act, Event, IpWorker, Lease, Order};
use crate::keeper::protocol::Place;
use crate::package::{IpResource, Millis};

/// The worker, or why there is none.
pub enum Addresses {
    /// It works.
    Guarded(IpWorker),
    /// This host cannot guard addresses; programs can run nevertheless.
    Unguarded {
        /// Why not.
        why: String,
    },
}

impl Addresses {
    /// What is to be watched.
    pub fn watched(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Addresses::Guarded(worker) => Some(worker.as_fd()),
            Addresses::Unguarded { .. } => None,
        }
    }

    /// Takes an address over. Answers what to tell the core if it could not even be ordered.
    pub fn start(&self, place: Place, ip: IpResource) -> Option<Input> {
        let order = Order::Up { place: place.clone(), ip };
        self.order(order).err().map(|why| Input::Address { place, event: AddressEvent::Failed { why } })
    }

    /// Gives an address up. Answers what to tell the core if it could not even be ordered.
    pub fn stop(&self, place: Place) -> Option<Input> {
        let order = Order::Down { place: place.clone() };
        self.order(order).err().map(|why| Input::Address { place, event: AddressEvent::Stuck { why } })
    }

    /// Announces every address held.
    pub fn announce(&self) {
        if let Err(why) = self.order(Order::Announce) {
            tracing::warn!("addresses were not announced: {why}");
        }
    }

    /// The lease has moved on, or has ended.
    pub fn set_lease(&self, until: Option<HolderTime>, ttl: Millis) {
        // Without a worker there is no element to be extended.
        let _ = self.order(Order::SetLease(until.map(|until| Lease { until, ttl })));
    }

    fn order(&self, order: Order) -> Result<(), String> {
        match self {
            Addresses::Guarded(worker) => worker.order(order).map_err(|e| e.to_string()),
            Addresses::Unguarded { why } => Err(why.clone()),
        }
    }

    /// The next thing that the worker has to tell.
    pub fn next_event(&self) -> Option<Input> {
        let Addresses::Guarded(worker) = self else { return None };
        let address = |place, event| Input::Address { place, event };
        worker.next_event().map(|event| match event {
            Event::Set { place } => address(place, AddressEvent::Set),
            Event::Done { place, act: Act::Up } => address(place, AddressEvent::Up),
            Event::Done { place, act: Act::Down } => address(place, AddressEvent::Down),
            Event::Failed { place, act: Act::Up, why } => address(place, AddressEvent::Failed { why }),
            Event::Failed { place, act: Act::Down, why } => address(place, AddressEvent::Stuck { why }),
            Event::Lapsed { place, why } => address(place, AddressEvent::Lapsed { why }),
            Event::Note { package, text } => Input::Note { package, text },
            Event::Cleaned(Ok(())) => Input::Tick,
            Event::Cleaned(Err(why)) => Input::Note { package: None, text: why },
        })
    }
}
