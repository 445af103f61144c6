//! What others do to the guard: a flushed ruleset is put back, a renamed interface hooked again, and an address whose
//! interface or whose own entry is gone counts as lapsed.

use super::announcing::Announcing;
use super::worker::{Phase, SlotState, Worker};
use crate::host::netlink::nft::{BatchError, Shape};
use crate::host::netlink::route::{Address, Link};
use crate::host::netlink::watch::Change;
use crate::keeper::protocol::Place;

impl Worker {
    /// Someone else changed our tables: put everything back.
    pub fn repair_ruleset(&mut self) {
        if self.shape.is_empty() {
            return;
        }
        let began = self.now();
        if let Err(e) = self.rebuild(self.shape.clone()) {
            let why = format!(
                "someone changed the guard's rules, and they cannot be put back: {e}; the address was taken away"
            );
            return self.held.keys().cloned().collect::<Vec<_>>().iter().for_each(|place| self.lapse(place, &why));
        }
        let took = self.now().since(began);
        self.note(None, format!(
            "someone changed the rules that guard this node's floating addresses (nft flush ruleset?); they were put \
             back in {took:.1?}. Leave the tables named pkgctl alone: without them a node that loses its lease goes \
             on answering"
        ));
    }

    /// Makes the whole guard anew in one transaction, shut; then each package that was open is granted its element
    /// again, which the lease bounds as ever.
    pub fn rebuild(&mut self, next: Shape) -> Result<(), BatchError> {
        self.nft.commit(&next.build())?;
        self.shape = next;
        let open = self.slots.iter().filter(|(_, state)| state.grant.is_some());
        for (package, state) in open.map(|(package, state)| (package.clone(), *state)).collect::<Vec<_>>() {
            match self.renewer.grant(state.slot) {
                Ok(grant) => drop(self.slots.insert(package, SlotState { grant: Some(grant), ..state })),
                Err(e) => {
                    let why = format!("the guard's rules had to be made anew, but cannot be opened: {e}");
                    self.lapse_package(&package, &why);
                }
            }
        }
        Ok(())
    }

    /// Something happened to a link or an address.
    pub fn link_changed(&mut self, change: Change) {
        match change {
            Change::Link(link) => self.link_is(&link),
            Change::LinkGone { index } => {
                for place in self.places_on(index) {
                    self.lapse(&place, "its interface is gone");
                }
            }
            Change::AddressGone(address) => self.address_gone(&address),
            Change::Missed => self.look_at_everything(),
        }
    }

    fn places_on(&self, index: u32) -> Vec<Place> {
        self.held.iter().filter(|(_, held)| held.link.index == index).map(|(place, _)| place.clone()).collect()
    }

    fn link_is(&mut self, link: &Link) {
        let places = self.places_on(link.index);
        let Some(old) = places.first().and_then(|place| self.held.get(place)).map(|held| held.link.clone()) else {
            return;
        };
        if old == *link {
            return;
        }
        if old.name != link.name {
            self.hook_again(&old.name, link, &places);
        }
        let now = self.now();
        let back = (link.carrier && !old.carrier) || link.mac != old.mac;
        for place in &places {
            let Some(held) = self.held.get_mut(place) else { continue };
            held.link = link.clone();
            if let Phase::Up(_) = held.phase
                && back
            {
                held.phase = Phase::Up(Announcing::begin(now));
            }
            if old.carrier && !link.carrier {
                let text = format!("{} has lost its carrier: no client reaches {}", link.name, held.ip.address);
                self.note(Some(&place.package), text);
            }
        }
    }

    /// A renamed interface opens the guard: hook it again under its new name, or take its addresses away.
    fn hook_again(&mut self, old: &str, link: &Link, places: &[Place]) {
        let mut next = self.shape.clone();
        next.devices.insert(link.index, link.name.clone());
        match self.reshape(next) {
            Ok(()) => self.note(
                None,
                format!(
                    "interface {old} was renamed to {new} while it held floating addresses; they are guarded there. \
                 Packages with device = \"{old}\" will not start here again until it has its name back",
                    new = link.name
                ),
            ),
            Err(e) => {
                let why = format!("its interface {old} was renamed to {}, where it cannot be guarded: {e}", link.name);
                places.iter().for_each(|place| self.lapse(place, &why));
            }
        }
    }

    /// Our own deletions are heard too, and an address may have been set again since: only what is really gone counts.
    fn address_gone(&mut self, gone: &Address) {
        let held = |held: &super::worker::Held| held.ip.address == gone.ip && held.link.index == gone.index;
        let Some(place) = self.held.iter().find(|(_, h)| held(h)).map(|(place, _)| place.clone()) else { return };
        let there = self.route.addresses().map(|all| all.iter().any(|a| a.ip == gone.ip && a.index == gone.index));
        if there != Ok(false) {
            return;
        }
        let links = self.route.links().unwrap_or_default();
        let why = match links.iter().find(|link| link.index == gone.index) {
            None => "its interface is gone",
            Some(link) if !link.up => "its interface was taken down, and the address with it",
            Some(_) => "someone else deleted the address from its interface",
        };
        self.lapse(&place, why);
    }

    /// Events were lost: compare.
    fn look_at_everything(&mut self) {
        let (Ok(links), Ok(addresses)) = (self.route.links(), self.route.addresses()) else {
            return self.note(None, "link events were lost and the interfaces cannot be listed".into());
        };
        for (place, ip, index) in
            self.held.iter().map(|(p, h)| (p.clone(), h.ip.address, h.link.index)).collect::<Vec<_>>()
        {
            match links.iter().find(|link| link.index == index) {
                None => self.lapse(&place, "its interface is gone"),
                Some(_) if !addresses.iter().any(|a| a.ip == ip && a.index == index) => {
                    self.lapse(&place, "someone else deleted the address from its interface");
                }
                Some(link) => self.link_is(&link.clone()),
            }
        }
    }
}
