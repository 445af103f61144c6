//! Giving an address up, by order or because its element has ended.

use super::Act;
use super::worker::{Phase, SlotState, Worker};
use crate::host::netlink::nft::{Path, Seat};
use crate::host::netlink::sock_diag::destroy_sockets;
use crate::keeper::protocol::Place;
use crate::package::PackageName;

impl Worker {
    /// A planned stop: destroy the address's sockets while the guard is open, so that clients see a reset and come
    /// back at once; then shut it, then delete it. A resource that holds nothing has been stopped.
    pub fn stop(&mut self, place: &Place) {
        match self.held.get(place).map(|held| (held.phase, held.ip.address)) {
            None => return self.done(place, Act::Down),
            Some((Phase::Probing { .. }, _)) => {
                self.failed(place, Act::Up, "it was stopped before it was up".into());
            }
            Some((Phase::Up(_), address)) => self.destroy_sockets(place, address),
            Some((Phase::Stuck, _)) => {}
        }
        match self.take_away(place) {
            Ok(()) => self.done(place, Act::Down),
            Err(why) => self.failed(place, Act::Down, why),
        }
    }

    /// An address that ended: its element is gone, or its interface. The sockets go too: a connection from before must
    /// not come back to life with the address.
    pub fn lapse(&mut self, place: &Place, why: &str) {
        let Some(held) = self.held.get(place) else { return };
        let (address, phase) = (held.ip.address, held.phase);
        let left = self.take_away(place).err();
        self.destroy_sockets(place, address);
        let why = left.map_or_else(|| why.to_owned(), |left| format!("{why}. And: {left}"));
        match phase {
            Phase::Up(_) => self.lapsed(place, why),
            Phase::Probing { .. } => self.failed(place, Act::Up, why),
            // Its end has been told.
            Phase::Stuck => {}
        }
    }

    /// Every address of a package.
    pub fn lapse_package(&mut self, package: &PackageName, why: &str) {
        if let Some(state) = self.slots.get_mut(package) {
            state.grant = None;
        }
        for place in self.held.keys().filter(|place| place.package == *package).cloned().collect::<Vec<_>>() {
            self.lapse(&place, why);
        }
    }

    fn destroy_sockets(&self, place: &Place, address: std::net::IpAddr) {
        let text = match destroy_sockets(address) {
            Ok(done) if done.refused == 0 => return,
            Ok(done) => format!("{} connections of {address} could not be ended", done.refused),
            Err(e) => format!("connections of {address} could not be ended: {e}"),
        };
        self.note(Some(&place.package), format!("{text}; their clients notice only when they time out"));
    }

    /// Shut, delete, unguard; in this order, so that the address is never unguarded. On an error the address is still
    /// there, shut and guarded, and still held: a later stop tries again.
    pub fn take_away(&mut self, place: &Place) -> Result<(), String> {
        let outcome = self.try_to_take_away(place);
        if let Some(held) = self.held.get_mut(place) {
            held.phase = Phase::Stuck;
        }
        outcome
    }

    fn try_to_take_away(&mut self, place: &Place) -> Result<(), String> {
        let Some(held) = self.held.get(place) else { return Ok(()) };
        let (ip, index) = (held.ip.clone(), held.link.index);
        self.shut(place)?;
        self.route.delete_address(ip.address, ip.prefix, index).map_err(|e| {
            format!(
                "{e}; it stays shut and answers nobody, but is still on {}. Remove it (ip addr del {}/{} dev {}) and \
                 stop the package again",
                ip.device, ip.address, ip.prefix, ip.device
            )
        })?;
        if let Err(e) = self.record.remove(ip.address, ip.prefix) {
            self.note(Some(&place.package), format!("cannot update the record of addresses: {e}; make room there"));
        }
        self.take_rules_away(place);
        self.forget(place);
        Ok(())
    }

    /// The address leads nowhere any more; with the package's last, its element goes too.
    fn shut(&mut self, place: &Place) -> Result<(), String> {
        let Some(held) = self.held.get(place) else { return Ok(()) };
        let (address, device) = (held.ip.address, held.link.index);
        let last = !self.held.keys().any(|other| other.package == place.package && other != place);
        if let Some(SlotState { slot, grant: Some(_) }) = self.slots.get(&place.package).copied()
            && last
        {
            // Even if the kernel refuses now, the renewals have ended and the element runs out within a slice; the
            // path below shuts the address at once.
            if let Err(e) = self.renewer.revoke(slot) {
                self.note(
                    Some(&place.package),
                    format!("the lease element was not deleted: {e}; it runs out by itself"),
                );
            }
            self.slots.insert(place.package.clone(), SlotState { slot, grant: None });
        }
        let mut next = self.shape.clone();
        next.addresses.insert(address, Seat { device, path: Path::Shut });
        self.reshape(next).map_err(|e| format!("{address} could not be shut: {e}; it is still up, stop it again"))
    }

    /// Rules of an address that is gone. Whatever the kernel refuses here is in nobody's way, and goes with the next
    /// change.
    pub fn take_rules_away(&mut self, place: &Place) {
        let Some(held) = self.held.get(place) else { return };
        let others = || self.held.iter().filter(|(other, _)| *other != place);
        let mut next = self.shape.clone();
        next.addresses.remove(&held.ip.address);
        if !others().any(|(_, other)| other.link.index == held.link.index) {
            next.devices.remove(&held.link.index);
        }
        if !others().any(|(other, _)| other.package == place.package)
            && let Some(state) = self.slots.get(&place.package)
        {
            next.packages.remove(&state.slot);
        }
        if let Err(e) = self.reshape(next) {
            self.note(Some(&place.package), format!("rules of an address that is gone are left: {e}"));
        }
    }

    /// Takes an address off the books, and its package's slot with its last one: a slot's number is never used again.
    pub fn forget(&mut self, place: &Place) {
        self.held.remove(place);
        if !self.held.keys().any(|other| other.package == place.package) {
            self.slots.remove(&place.package);
        }
    }
}
