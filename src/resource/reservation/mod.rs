//! Reservations of LUNs: what a storage device is asked, and the protocol by which one ownership takes a LUN from
//! another (design 6.3). Pure but for the device behind [`Reservations`].
//!
//! - [`key`]: which ownership a key stands for.
//! - [`take`]: taking a LUN and giving it up, one command at a time.
//! - [`memory`]: a LUN in memory, for tests.

pub mod key;
pub mod memory;
pub mod take;
#[cfg(test)]
mod tests;

use std::fmt;

pub use key::Key;
pub use take::{GiveUp, Policy, Step, Take, TakeError, give_up, take};

/// The kinds of reservations, numbered as in `<linux/pr.h>`, which is not how SCSI numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum ReservationKind {
    /// Only the holder writes.
    WriteExclusive = 1,
    /// Only the holder reads and writes.
    ExclusiveAccess = 2,
    /// Only who is registered writes. The one that pkgctl takes: SCSI calls it type 5.
    WriteExclusiveRegistrantsOnly = 3,
    /// Only who is registered reads and writes.
    ExclusiveAccessRegistrantsOnly = 4,
    /// As 3, and everybody registered holds it.
    WriteExclusiveAllRegistrants = 5,
    /// As 4, and everybody registered holds it.
    ExclusiveAccessAllRegistrants = 6,
}

impl ReservationKind {
    /// The kind with this number in `<linux/pr.h>`.
    pub fn of_linux(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }

    /// The kind with this number in SCSI's own count (SPC, "persistent reservation types").
    pub fn of_scsi(number: u8) -> Option<Self> {
        let scsi = [1, 3, 5, 6, 7, 8];
        scsi.iter().position(|known| *known == number).map(|at| Self::ALL[at])
    }

    const ALL: [Self; 6] = [
        Self::WriteExclusive,
        Self::ExclusiveAccess,
        Self::WriteExclusiveRegistrantsOnly,
        Self::ExclusiveAccessRegistrantsOnly,
        Self::WriteExclusiveAllRegistrants,
        Self::ExclusiveAccessAllRegistrants,
    ];
}

impl fmt::Display for ReservationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WriteExclusive => "write exclusive",
            Self::ExclusiveAccess => "exclusive access",
            Self::WriteExclusiveRegistrantsOnly => "write exclusive, registrants only",
            Self::ExclusiveAccessRegistrantsOnly => "exclusive access, registrants only",
            Self::WriteExclusiveAllRegistrants => "write exclusive, all registrants",
            Self::ExclusiveAccessAllRegistrants => "exclusive access, all registrants",
        })
    }
}

/// A reservation as a device reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The holder's key; zero where everybody registered holds it.
    pub key: Key,
    /// Its kind.
    pub kind: ReservationKind,
}

/// Whether commands of a preempted node that the device has accepted already are ended too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Abort {
    /// PREEMPT AND ABORT: what was under way is ended before the preemption is.
    Yes,
    /// PREEMPT: a write that the device had taken from the old owner may still reach the medium afterwards.
    No,
}

/// Why a device did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum PrFault {
    /// RESERVATION CONFLICT: this node is not registered with that key, or no one is with the other, or another holds it.
    #[error("{what}: reservation conflict")]
    Conflict {
        /// What was asked.
        what: &'static str,
    },
    /// The device, its driver or this kernel has no such thing.
    #[error("{what}: {why}")]
    Unsupported {
        /// What was asked.
        what: &'static str,
        /// Why not, and what to do.
        why: String,
    },
    /// Anything else.
    #[error("{what}: {why}")]
    Failed {
        /// What was asked.
        what: &'static str,
        /// What the device or the system said.
        why: String,
    },
}

/// A device with persistent reservations, as one node reaches it. Every call is one command to the device.
pub trait Reservations {
    /// Registers this node under a key, whatever it was registered under before.
    ///
    /// # Errors
    /// As the device says.
    fn register(&mut self, key: Key) -> Result<(), PrFault>;

    /// Ends this node's registration, and its reservation with it.
    ///
    /// # Errors
    /// [`PrFault::Conflict`] if it is not registered under that key.
    fn unregister(&mut self, key: Key) -> Result<(), PrFault>;

    /// Takes the reservation "write exclusive, registrants only"; nothing happens if this node holds it.
    ///
    /// # Errors
    /// [`PrFault::Conflict`] if another holds one, or this node is not registered under that key.
    fn reserve(&mut self, key: Key) -> Result<(), PrFault>;

    /// Gives that reservation up, keeping the registration; nothing happens if another holds it.
    ///
    /// # Errors
    /// [`PrFault::Conflict`] if this node is not registered under that key.
    fn release(&mut self, key: Key) -> Result<(), PrFault>;

    /// Ends the registrations under another key. If its owner held the reservation, this node holds it from then on.
    ///
    /// # Errors
    /// [`PrFault::Conflict`] if this node is not registered under `own`, or nobody is under `victim`.
    fn preempt(&mut self, own: Key, victim: Key, abort: Abort) -> Result<(), PrFault>;

    /// Ends every registration and the reservation. Nothing of pkgctl asks for it; it is for tests and for repair.
    ///
    /// # Errors
    /// [`PrFault::Conflict`] if this node is not registered under that key.
    fn clear(&mut self, key: Key) -> Result<(), PrFault>;

    /// Every registration's key; one that is registered over several paths comes as often.
    ///
    /// # Errors
    /// As the device says.
    fn keys(&mut self) -> Result<Vec<Key>, PrFault>;

    /// The reservation, if there is one.
    ///
    /// # Errors
    /// As the device says.
    fn reservation(&mut self) -> Result<Option<Reservation>, PrFault>;
}
