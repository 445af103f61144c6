//! Rule 20: a package does not start, its node gives it up, and before that is in the log the agent restarts, reads that
//! it is to run the package, and finds a keeper that must remember.

use std::sync::Arc;
use std::time::Duration;

use super::Trouble;
use super::cast::{Absent, Wanted, assemble, move_to, until_so};
use crate::machine::power::Part;
use crate::world::{Weather, World, sleep};

/// Until the package has failed.
const FAILS_WITHIN: Duration = Duration::from_secs(8);
/// A restart of the agent, and what it does then.
const RESTARTED: Duration = Duration::from_secs(3);

pub async fn play(world: &Arc<World>) -> Result<(), Trouble> {
    let cast = assemble(world, Wanted::Anybody).await?;
    let taker = cast.others.first().ok_or(Absent("a third member"))?;
    let before = world.acts.largest_released(taker.index, &cast.star);
    // Nothing that it asks for reaches the log.
    world.net.stall(taker.index);
    world.set_weather(Weather { fails: 1_000, ..Weather::CALM });
    move_to(world, &cast.leader, &cast.star, taker).await;
    let released = || world.acts.largest_released(taker.index, &cast.star) > before;
    until_so("the release", FAILS_WITHIN, released).await?;
    taker.kill(world, Part::Agent);
    world.set_weather(Weather::CALM);
    sleep(RESTARTED).await;
    world.net.unstall(taker.index);
    Ok(())
}
