//! Lease elements in the kernel: while one is there its address answers. What the renewing thread asks for is committed
//! here, compare-and-set, at one instant.

use std::time::Duration;

use pkgctl::keeper::protocol::Place;

use crate::acts::{Act, ActId};
use crate::machine::Machine;
use crate::plant::Plant;
use crate::world::{World, now};

/// Elements are dropped up to that much late (leases.md, `j`).
const LATENESS_MAX_US: u64 = 24_900;
const FOR_EVER: u64 = u64::MAX / 4;

/// An element.
#[derive(Clone, Copy, Debug)]
pub struct Element {
    expiry: u64,
    act: ActId,
}

/// What the kernel answers when the element is not there, or is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absent;

/// The true time at which a timeout of that length, begun now, has run out.
fn after(world: &World, machine: &Machine, length: Duration) -> u64 {
    if world.has(Plant::NoExpiry) {
        return FOR_EVER;
    }
    machine.clock.voter_instant(machine.clock.voter(now()) + length)
}

fn act_until(world: &World, expiry: u64) -> u64 {
    expiry + world.lateness(LATENESS_MAX_US)
}

/// Adds a permit, which opens nothing.
pub fn permit(world: &World, machine: &Machine, place: &Place, length: Duration) {
    let until = after(world, machine, length);
    machine.kernel().permits.insert(place.clone(), until);
}

/// Deletes the permit and adds the element, if the one is there and the other is not.
///
/// # Errors
/// Otherwise; nothing was changed.
pub fn grant(world: &World, machine: &Machine, place: &Place, length: Duration) -> Result<(), Absent> {
    let permitted = machine.kernel().permits.get(place).is_some_and(|until| *until > now());
    let there = machine.kernel().elements.get(place).is_some_and(|element| element.expiry > now());
    if !permitted || there {
        return Err(Absent);
    }
    machine.kernel().permits.remove(place);
    open(world, machine, place, length);
    Ok(())
}

fn open(world: &World, machine: &Machine, place: &Place, length: Duration) {
    let expiry = after(world, machine, length);
    close(world, machine, place);
    let act = world.acts.begin(Act {
        package: place.package.clone(),
        resource: place.resource.to_string(),
        machine: machine.index,
        token: place.token,
        from: now(),
        until: act_until(world, expiry),
    });
    world.log(format_args!(
        "n{} {}/{} answers under {}",
        machine.index + 1,
        place.package,
        place.resource,
        place.token
    ));
    machine.kernel().elements.insert(place.clone(), Element { expiry, act });
}

/// Deletes the element and adds it anew, if it is there.
///
/// # Errors
/// Otherwise; nothing was changed.
pub fn renew(world: &World, machine: &Machine, place: &Place, length: Duration) -> Result<(), Absent> {
    let element = machine.kernel().elements.get(place).copied();
    let Some(element) = element.filter(|element| element.expiry > now()) else {
        if world.has(Plant::BlindRenewal) {
            open(world, machine, place, length);
            return Ok(());
        }
        return Err(Absent);
    };
    let expiry = after(world, machine, length);
    world.acts.prolong(element.act, now(), act_until(world, expiry));
    machine.kernel().elements.insert(place.clone(), Element { expiry, ..element });
    Ok(())
}

/// Deletes permit and element, whether they are there or not.
pub fn close(world: &World, machine: &Machine, place: &Place) {
    let element = {
        let mut kernel = machine.kernel();
        kernel.permits.remove(place);
        kernel.elements.remove(place)
    };
    if let Some(element) = element {
        world.acts.end(element.act, now());
    }
}

/// Deletes all of them.
pub fn close_all(world: &World, machine: &Machine) {
    let places: Vec<Place> = {
        let kernel = machine.kernel();
        kernel.elements.keys().chain(kernel.permits.keys()).cloned().collect()
    };
    places.iter().for_each(|place| close(world, machine, place));
}
