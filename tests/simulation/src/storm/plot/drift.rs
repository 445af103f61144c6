//! Rule 1: the owner's clocks are as slow as is allowed, everybody else's as fast, and the owner is cut off and stands
//! still, so that only its kernel ends what it runs. Its lease must be shorter than its voters' promises by both errors.

use std::sync::Arc;

use super::Trouble;
use super::cast::{Wanted, assemble, lease};
use crate::check::live;
use crate::machine::power::Part;
use crate::storm::fault::{self, Way};
use crate::world::{World, sleep};

/// So often, because much must fit into the few milliseconds that one clock's error makes.
const TIMES: u32 = 3;

pub async fn play(world: &Arc<World>) -> Result<(), Trouble> {
    for _ in 0..TIMES {
        let owner = assemble(world, Wanted::Machine(0)).await?.owner;
        sleep(world.pause(0, 150_000)).await;
        fault::isolate(world, owner.index, Way::Both);
        owner.freeze(Part::Both);
        sleep(lease(world, 1_500)).await;
        owner.thaw();
        fault::reconnect(world, owner.index);
        live::wait(world).await.map_err(Trouble::Violation)?;
    }
    Ok(())
}
