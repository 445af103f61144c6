//! The switch of a lab: one bridge in the bed's network namespace, a port per node.

use std::io::Result;

use super::cut::Wrong;
use super::spec::Wiring;
use super::{cut, link};

const BRIDGE: &str = "switch";
/// The name of every node's only interface.
pub(super) const DEVICE: &str = "eth0";

/// Sets the bridge up in the current network namespace.
pub(super) fn build() -> Result<()> {
    link::set_up("lo", true)?;
    link::add_bridge(BRIDGE)?;
    link::set_up(BRIDGE, true)?;
    cut::prepare()
}

/// Lays a cable from the bridge to the network namespace of process `pid`.
pub(super) fn plug(wiring: &Wiring, pid: i32) -> Result<()> {
    link::add_cable(&wiring.port, BRIDGE, DEVICE, wiring.mac, pid)?;
    link::set_up(&wiring.port, true)
}

/// Takes the port down: from here on nothing of that node leaves or arrives.
pub(super) fn darken(wiring: &Wiring) -> Result<()> {
    link::set_up(&wiring.port, false)
}

/// Removes the cable, both ends.
pub(super) fn unplug(wiring: &Wiring) -> Result<()> {
    link::delete(&wiring.port)
}

/// Replaces what is wrong with a node's cable by something else, or by nothing.
pub(super) fn change(wiring: &Wiring, from: &Wrong, to: &Wrong) -> Result<()> {
    cut::change(&wiring.port, from, to)
}
