//! The end of a storm: every fault undone, every machine switched on, and those that were removed back as new nodes.

use std::sync::Arc;
use std::time::Duration;

use super::Storm;
use pkgctl::engine::State;

use crate::machine::Machine;
use crate::members;
use crate::world::{Weather, World, now, sleep};

/// Until a machine that was removed has joined again.
const REJOIN: Duration = Duration::from_secs(90);

/// Undoes everything.
///
/// # Errors
/// When a machine could not come back.
pub async fn heal(world: &Arc<World>, storm: &Storm, members: usize) -> Result<(), String> {
    world.log(format_args!("everything is healed"));
    undo(world, members);
    let begun = now();
    while storm.is_raging() {
        sleep(Duration::from_millis(100)).await;
        if now() - begun > REJOIN.as_nanos() as u64 {
            return Err(format!("a fault was still going on {REJOIN:?} after the storm"));
        }
    }
    undo(world, members);
    for machine in &world.machines()[..members] {
        bring_back(world, machine).await?;
    }
    Ok(())
}

fn undo(world: &Arc<World>, members: usize) {
    world.net.heal();
    world.set_weather(Weather::CALM);
    for machine in &world.machines()[..members] {
        machine.repair();
        machine.thaw();
        machine.hold_link(false);
        machine.set_disk_takes(Duration::from_micros(300));
        if machine.node().is_some() {
            machine.power_on(world);
        }
    }
}

/// A machine whose node was removed, or which has not joined, joins.
async fn bring_back(world: &Arc<World>, machine: &Arc<Machine>) -> Result<(), String> {
    let begun = now();
    loop {
        let member = match machine.node() {
            None => Some((false, false)),
            Some(id) => {
                let look = move |state: &State| (state.nodes.contains_key(&id), state.leaving.contains(&id));
                members::look_now(world, look).await
            }
        };
        match member {
            Some((true, false)) => return Ok(()),
            Some((false, _)) => rejoin(world, machine).await?,
            // It is needed until it is let go.
            Some((true, true)) | None => sleep(Duration::from_millis(200)).await,
        }
        if now() - begun > REJOIN.as_nanos() as u64 {
            return Err(format!("I4 does not hold: n{} could not come back", machine.index + 1));
        }
    }
}

async fn rejoin(world: &Arc<World>, machine: &Arc<Machine>) -> Result<(), String> {
    machine.power_off(world);
    if !members::remove(world, machine, REJOIN).await {
        return Err(format!("I4 does not hold: n{} could not be removed", machine.index + 1));
    }
    members::wipe(machine).map_err(|error| format!("a simulated disk could not be wiped: {error}"))?;
    machine.power_on(world);
    members::join(world, machine, REJOIN).await
}
