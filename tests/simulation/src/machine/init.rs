//! What systemd does: keeps keeper and agent up while the machine has power.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Machine;
use crate::agent::{self, Ended};
use crate::disk::Trouble;
use crate::keeper;
use crate::plant::Plant;
use crate::world::{World, sleep};

const LOOK: Duration = Duration::from_millis(20);

/// Runs until the power goes.
pub async fn run(world: Arc<World>, machine: Arc<Machine>, boot: u64) {
    let mine = || {
        let running = machine.running();
        running.power && running.boot == boot
    };
    sleep(world.pause(50_000, 1_500_000)).await;
    while mine() {
        let frozen = machine.running().frozen;
        if !frozen {
            keep_keeper(&world, &machine).await;
            if !mine() {
                return;
            }
            keep_agent(&world, &machine).await;
        }
        sleep(LOOK).await;
    }
}

async fn keep_keeper(world: &Arc<World>, machine: &Arc<Machine>) {
    let ended = machine.keeper().is_some_and(|keeper| keeper.ended.load(Ordering::Relaxed));
    if ended {
        machine.kill(world, super::power::Part::Keeper);
    }
    if machine.keeper().is_some() {
        return;
    }
    sleep(world.pause(20_000, 400_000)).await;
    if machine.has_power() && machine.keeper().is_none() {
        let keeper = keeper::start(world, machine);
        machine.running().keeper = Some(keeper);
    }
}

async fn keep_agent(world: &Arc<World>, machine: &Arc<Machine>) {
    if let Some(ended) = machine.agent().and_then(|agent| agent.ended()) {
        machine.kill(world, super::power::Part::Agent);
        after_end(world, machine, ended);
        return;
    }
    let (there, out_of_order) = (machine.agent().is_some(), machine.running().out_of_order);
    if there || out_of_order || !machine.has_store() {
        return;
    }
    sleep(world.pause(50_000, 900_000)).await;
    let again = machine.has_power() && machine.agent().is_none() && machine.has_store();
    if again {
        let takes = machine.running().disk_takes;
        if world.has(Plant::RestartsAll) {
            machine.kernel().leashes.values().for_each(|leash| leash.kill());
        }
        let agent = agent::start(world, machine, takes);
        machine.running().agent = Some(agent);
    }
}

/// An agent whose disk failed is not started again by itself; what the kernel could not write is dropped by then.
fn after_end(world: &World, machine: &Machine, ended: Ended) {
    match ended {
        Ended::Refused(why) => {
            world.broken(format!("I3 does not hold: n{} refuses its own store: {why}", machine.index + 1));
            machine.running().out_of_order = true;
        }
        Ended::NoDisk(_) => {}
        Ended::Retired { disk, .. } => {
            if disk {
                // Unless an operator has been here already.
                machine.running().out_of_order = machine.disk.trouble() != Trouble::None;
                let mut chance = world.new_chance();
                if let Err(error) = machine.disk.lose(&machine.dir, &mut chance) {
                    world.broken(format!("the simulated disk of n{} does not work: {error}", machine.index + 1));
                }
            }
        }
    }
}
