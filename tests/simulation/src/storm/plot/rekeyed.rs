//! The key of the datagrams is replaced while the owner's keeper, and in larger clusters a voter's, hears nothing of its
//! agent, and leadership moves midway. Nobody may seal with what these cannot open, so nothing is disturbed (docs/security.md).

use std::sync::Arc;

use pkgctl::engine::Command;

use super::Trouble;
use super::cast::{Wanted, ask, assemble, lease};
use crate::check::idle::Idle;
use crate::storm::fault;
use crate::world::{World, sleep};

/// How long it lasts, in thousandths of a lease time: several times what a lease lives, less than what keepers bear
/// without an agent.
const LASTS: (u64, u64) = (3_000, 6_000);

pub async fn play(world: &Arc<World>) -> Result<(), Trouble> {
    let cast = assemble(world, Wanted::Anybody).await?;
    // All the others together are a majority, without which the owner has no lease.
    let voter = cast.others.first().filter(|_| cast.others.len() > 2);
    let cut_off = || std::iter::once(&cast.owner).chain(voter);
    let idle = Idle::now(world);
    cut_off().for_each(|machine| machine.hold_link(true));
    ask(world, &cast.leader, Command::RotateKey).await;
    let lasts = world.draw(LASTS.0, LASTS.1);
    sleep(lease(world, lasts / 2)).await;
    if world.chance().chance(500) {
        fault::transfer(world).await;
    }
    sleep(lease(world, lasts / 2)).await;
    idle.check(world, "the key of the datagrams was to be replaced").map_err(Trouble::Violation)?;
    // By and by they learn of it.
    for machine in cut_off() {
        machine.hold_link(false);
        sleep(lease(world, 1_000)).await;
    }
    idle.check(world, "the key of the datagrams was replaced").map_err(Trouble::Violation)
}
