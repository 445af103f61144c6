//! Taking an address over: drop rules, address without DAD, probes, element, announcements; in this order, so that
//! nothing answers on the address before this node may.

use std::time::Duration;

use nix::errno::Errno;

use super::Act;
use super::announcing::Announcing;
use super::closer::Closer;
use super::worker::{Held, Phase, SlotState, Worker, announce, probe_failed};
use crate::host::netlink::nft::{Path, Seat, Slot};
use crate::host::netlink::route::Link;
use crate::host::tap::{Hears, Mac, Tap};
use crate::keeper::protocol::Place;
use crate::package::{IpResource, PackageName};

/// When each probe goes out, counted from the one before. RFC 5227's own timing would take 4–7 s.
const PROBES: [Duration; 2] = [Duration::ZERO, Duration::from_millis(10)];
/// From the last probe to the verdict; 25 ms from the first.
const PROBE_WAIT: Duration = Duration::from_millis(15);

impl Worker {
    /// Begins to take an address over. Answered now or once the probes are over.
    pub fn start(&mut self, place: Place, ip: IpResource) {
        self.retry_stuck();
        match self.held.get(&place) {
            // Already up under the same token: adopted (L18).
            Some(held) if held.ip == ip && held.phase != Phase::Stuck => {
                if let Phase::Up(_) = held.phase {
                    self.done(&place, Act::Up);
                }
                return;
            }
            Some(held) => {
                let why = format!(
                    "this resource still has {}/{} here; stop it first. Nothing was changed",
                    held.ip.address, held.ip.prefix
                );
                return self.failed(&place, Act::Up, why);
            }
            None => {}
        }
        match self.set(&place, &ip) {
            Ok(()) => self.is_set(&place),
            Err(why) => self.failed(&place, Act::Up, why),
        }
    }

    /// What could not be deleted earlier may go now; what still cannot stays shut.
    fn retry_stuck(&mut self) {
        let stuck = self.held.iter().filter(|(_, held)| held.phase == Phase::Stuck);
        for place in stuck.map(|(place, _)| place.clone()).collect::<Vec<_>>() {
            let _ = self.take_away(&place);
        }
    }

    /// Everything up to the first probe. On an error nothing is left.
    fn set(&mut self, place: &Place, ip: &IpResource) -> Result<(), String> {
        self.check_free(place, ip)?;
        let link = self.usable_link(&ip.device)?;
        self.check_absent(ip)?;
        let tap = match (link.resolves, <[u8; 6]>::try_from(&link.mac[..])) {
            (true, Ok(mac)) => {
                let tap = Tap::open(link.index, Mac(mac), ip.address, Hears::BeforeTheGuard);
                Some(self.closer.mind(tap.map_err(|e| probe_failed(ip, &link.name, &e))?))
            }
            (true | false, _) => None,
        };
        let slot = self.slot_of(&place.package);
        let mut next = self.shape.clone();
        next.devices.insert(link.index, link.name.clone());
        next.packages.insert(slot, place.package.to_string());
        next.addresses.insert(ip.address, Seat { device: link.index, path: Path::Shut });
        let index = link.index;
        let held = Held { ip: ip.clone(), link, tap, phase: self.first_phase(), conflict_noted: None };
        self.held.insert(place.clone(), held);
        if let Err(e) = self.reshape(next) {
            self.forget(place);
            return Err(format!("{} cannot be guarded: {e}; nothing was started", ip.address));
        }
        if let Err(why) = self.add_address(ip, index) {
            self.take_rules_away(place);
            self.forget(place);
            return Err(why);
        }
        // Probes go out in the next turn of the loop, within microseconds.
        Ok(())
    }

    fn first_phase(&self) -> Phase {
        Phase::Probing { sent: 0, due: self.now() }
    }

    /// The same address under another place: another package, or an older ownership that has not been stopped.
    fn check_free(&self, place: &Place, ip: &IpResource) -> Result<(), String> {
        let other = self.held.iter().find(|(_, held)| held.ip.address == ip.address);
        if let Some((other, _)) = other {
            return Err(format!(
                "{} is held here by resource {} of package {} under token {}; stop that first. Nothing was started",
                ip.address, other.resource, other.package, other.token
            ));
        }
        let older = self.held.keys().find(|held| held.package == place.package && held.token != place.token);
        match older {
            Some(older) => Err(format!(
                "package {} still holds resource {} here under token {}; stop that first. Nothing was started",
                older.package, older.resource, older.token
            )),
            None => Ok(()),
        }
    }

    fn usable_link(&mut self, device: &str) -> Result<Link, String> {
        let links = self.route.links().map_err(|e| format!("cannot list interfaces: {e}; nothing was started"))?;
        let Some(link) = links.iter().find(|link| link.name == device) else {
            let names: Vec<_> = links.iter().filter(|l| !l.loopback).map(|l| l.name.as_str()).collect();
            return Err(format!(
                "this node has no interface '{device}' (it has: {}); nothing was started. Correct 'device' in the \
                 package file, or give this node an interface of that name",
                if names.is_empty() { "none".into() } else { names.join(", ") }
            ));
        };
        let fault = if link.loopback {
            "is the loopback interface, where no client can reach an address; name the interface of your network"
        } else if !link.up {
            "is down; bring it up (ip link set up) and run the package again"
        } else if !link.carrier {
            "has no carrier; check its cable, bond or bridge and run the package again"
        } else {
            return Ok(link.clone());
        };
        Err(format!("interface '{device}' {fault}. Nothing was started"))
    }

    /// An address that an interface of this node has already, not by us. On another interface than ours the probes could
    /// not tell: what our own interfaces say is no claim. It would outlast our lease there, unguarded.
    fn check_absent(&mut self, ip: &IpResource) -> Result<(), String> {
        let all = self.route.addresses().map_err(|e| format!("cannot list addresses: {e}; nothing was started"))?;
        let Some(found) = all.iter().find(|address| address.ip == ip.address) else { return Ok(()) };
        let links = self.route.links().unwrap_or_default();
        let name = links.iter().find(|link| link.index == found.index).map_or("an interface", |link| &link.name);
        Err(not_ours(&format!("{}/{}", found.ip, found.prefix), name))
    }

    fn slot_of(&mut self, package: &PackageName) -> Slot {
        let used = &mut self.slots_used;
        let state = self.slots.entry(package.clone()).or_insert_with(|| {
            *used += 1;
            SlotState { slot: Slot(*used), grant: None }
        });
        state.slot
    }

    fn add_address(&mut self, ip: &IpResource, index: u32) -> Result<(), String> {
        self.record.add(ip.address, ip.prefix).map_err(|e| {
            format!("cannot record {} in the run directory: {e}; nothing was started. Make room there", ip.address)
        })?;
        let added = self.route.add_address(ip.address, ip.prefix, index);
        added.map_err(|e| {
            let _ = self.record.remove(ip.address, ip.prefix);
            let (address, device) = (format!("{}/{}", ip.address, ip.prefix), &ip.device);
            if e.refusal() == Some(Errno::EEXIST) {
                not_ours(&address, device)
            } else {
                format!("{e} on {device}; nothing was started. Check address, prefix and device in the package file")
            }
        })
    }

    /// Sends the next probe, or gives the verdict: nobody answered.
    pub fn probe_further(&mut self, place: &Place, sent: usize) {
        let now = self.now();
        let Some(held) = self.held.get_mut(place) else { return };
        let Some(tap) = &held.tap else { return self.admit(place) };
        if sent == PROBES.len() {
            return self.admit(place);
        }
        match tap.probe() {
            Ok(()) => {
                let wait = PROBES.get(sent + 1).copied().unwrap_or(PROBE_WAIT);
                held.phase = Phase::Probing { sent: sent + 1, due: now + wait };
            }
            Err(e) => {
                let why = probe_failed(&held.ip, &held.link.name, &e);
                self.give_up_start(place, why);
            }
        }
    }

    /// The element, then the announcements.
    fn admit(&mut self, place: &Place) {
        if let Err(why) = self.open_path(place) {
            return self.give_up_start(place, why);
        }
        let now = self.now();
        if let Some(held) = self.held.get_mut(place) {
            let mut announcing = Announcing::begin(now);
            announcing.take_due(now);
            announce(held);
            held.phase = Phase::Up(announcing);
            settle(held, &self.closer);
        }
        self.done(place, Act::Up);
    }

    fn open_path(&mut self, place: &Place) -> Result<(), String> {
        let Some(held) = self.held.get(place) else { return Ok(()) };
        let (address, device) = (held.ip.address, held.link.index);
        let slot = self.slot_of(&place.package);
        let mut next = self.shape.clone();
        next.addresses.insert(address, Seat { device, path: Path::Package(slot) });
        self.reshape(next).map_err(|e| format!("{address} cannot be opened: {e}; it was taken away again"))?;
        if self.slots.get(&place.package).is_some_and(|state| state.grant.is_some()) {
            return Ok(());
        }
        let granted = self.renewer.grant(slot);
        let grant = granted.map_err(|e| format!("{address} cannot be opened: {e}; it was taken away again"))?;
        self.slots.insert(place.package.clone(), SlotState { slot, grant: Some(grant) });
        Ok(())
    }

    /// Undoes a start and says why.
    pub fn give_up_start(&mut self, place: &Place, why: String) {
        match self.take_away(place) {
            Ok(()) => self.failed(place, Act::Up, why),
            Err(left) => self.failed(place, Act::Up, format!("{why}. And: {left}")),
        }
    }
}

fn not_ours(address: &str, device: &str) -> String {
    format!(
        "{device} already has {address}, and pkgctl did not put it there; nothing was started. Take it out of this \
         node's network configuration (now: ip addr del {address} dev {device})"
    )
}

/// From hearing everything before the guard to hearing what an address that is up needs to hear.
fn settle(held: &mut Held, closer: &Closer) {
    let Ok(mac) = <[u8; 6]>::try_from(&held.link.mac[..]) else { return };
    if held.tap.is_some()
        && let Ok(tap) = Tap::open(held.link.index, Mac(mac), held.ip.address, Hears::Later)
    {
        held.tap = Some(closer.mind(tap));
    }
}
