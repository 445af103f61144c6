//! A LUN in memory whose reservations behave as SCSI says (SPC, "persistent reservations"): one registration per path
//! of a node to the device, a preemption of a key that nobody has is a conflict, who is not registered does not write.

use std::collections::BTreeMap;

use super::{Abort, Key, PrFault, Reservation, ReservationKind, Reservations};

/// The path of one node to one LUN; SCSI calls it an I_T nexus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nexus(pub u8);

/// A LUN.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemoryLun {
    registered: BTreeMap<Nexus, Key>,
    holder: Option<(Nexus, ReservationKind)>,
}

/// A LUN as one node reaches it.
#[derive(Debug)]
pub struct Port<'l> {
    lun: &'l mut MemoryLun,
    nexus: Nexus,
}

impl MemoryLun {
    /// Nobody registered.
    pub fn new() -> Self {
        Self::default()
    }

    /// As one node reaches it.
    pub fn port(&mut self, nexus: Nexus) -> Port<'_> {
        Port { lun: self, nexus }
    }

    /// Registers somebody who is not pkgctl, with a reservation of some kind if they take one.
    pub fn occupy(&mut self, nexus: Nexus, key: Key, reserved: Option<ReservationKind>) {
        self.registered.insert(nexus, key);
        self.holder = reserved.map(|kind| (nexus, kind)).or(self.holder);
    }

    /// Whether a node may write now.
    pub fn may_write(&self, nexus: Nexus) -> bool {
        match self.holder {
            None => true,
            Some((holder, ReservationKind::WriteExclusive | ReservationKind::ExclusiveAccess)) => holder == nexus,
            Some((
                _,
                ReservationKind::WriteExclusiveRegistrantsOnly
                | ReservationKind::ExclusiveAccessRegistrantsOnly
                | ReservationKind::WriteExclusiveAllRegistrants
                | ReservationKind::ExclusiveAccessAllRegistrants,
            )) => self.registered.contains_key(&nexus),
        }
    }

    /// Whether a node is registered.
    pub fn is_registered(&self, nexus: Nexus) -> bool {
        self.registered.contains_key(&nexus)
    }

    fn drop_registration(&mut self, nexus: Nexus) {
        self.registered.remove(&nexus);
        if self.holder.is_some_and(|(holder, _)| holder == nexus) {
            self.holder = None;
        }
    }
}

impl Port<'_> {
    fn is_registered_under(&self, key: Key, what: &'static str) -> Result<(), PrFault> {
        match self.lun.registered.get(&self.nexus) == Some(&key) {
            true => Ok(()),
            false => Err(PrFault::Conflict { what }),
        }
    }
}

impl Reservations for Port<'_> {
    fn register(&mut self, key: Key) -> Result<(), PrFault> {
        self.lun.registered.insert(self.nexus, key);
        Ok(())
    }

    fn unregister(&mut self, key: Key) -> Result<(), PrFault> {
        self.is_registered_under(key, "unregister")?;
        self.lun.drop_registration(self.nexus);
        Ok(())
    }

    fn reserve(&mut self, key: Key) -> Result<(), PrFault> {
        self.is_registered_under(key, "reserve")?;
        let wanted = (self.nexus, ReservationKind::WriteExclusiveRegistrantsOnly);
        if self.lun.holder.is_some_and(|held| held != wanted) {
            return Err(PrFault::Conflict { what: "reserve" });
        }
        self.lun.holder = Some(wanted);
        Ok(())
    }

    fn release(&mut self, key: Key) -> Result<(), PrFault> {
        self.is_registered_under(key, "release")?;
        match self.lun.holder {
            Some((holder, ReservationKind::WriteExclusiveRegistrantsOnly)) if holder == self.nexus => {
                self.lun.holder = None;
                Ok(())
            }
            // "Invalid release of persistent reservation".
            Some((holder, kind)) if holder == self.nexus => {
                Err(PrFault::Failed { what: "release", why: format!("the reservation is {kind}") })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn preempt(&mut self, own: Key, victim: Key, _: Abort) -> Result<(), PrFault> {
        self.is_registered_under(own, "preempt")?;
        let victims: Vec<Nexus> =
            self.lun.registered.iter().filter(|(_, key)| **key == victim).map(|(nexus, _)| *nexus).collect();
        if victims.is_empty() {
            return Err(PrFault::Conflict { what: "preempt" });
        }
        let held = self.lun.holder.is_some_and(|(holder, _)| victims.contains(&holder));
        victims.into_iter().filter(|nexus| *nexus != self.nexus).for_each(|nexus| self.lun.drop_registration(nexus));
        if held {
            self.lun.holder = Some((self.nexus, ReservationKind::WriteExclusiveRegistrantsOnly));
        }
        Ok(())
    }

    fn clear(&mut self, key: Key) -> Result<(), PrFault> {
        self.is_registered_under(key, "clear")?;
        *self.lun = MemoryLun::default();
        Ok(())
    }

    fn keys(&mut self) -> Result<Vec<Key>, PrFault> {
        Ok(self.lun.registered.values().copied().collect())
    }

    fn reservation(&mut self) -> Result<Option<Reservation>, PrFault> {
        let held = self.lun.holder.map(|(nexus, kind)| {
            let key = self.lun.registered.get(&nexus).copied().unwrap_or(Key(0));
            Reservation { key, kind }
        });
        Ok(held)
    }
}
