//! Rules 6a and 8a: a dead owner, or one that hears nobody, must not be promised leases for ever, or nobody takes over.

use std::sync::Arc;
use std::time::Duration;

use super::Trouble;
use super::cast::{Cast, Wanted, acts_on, assemble, lease};
use crate::machine::power::Part;
use crate::storm::fault::{self, Way};
use crate::wire;
use crate::world::{World, now, sleep};

/// I4 while the fault lasts: beyond ten lease times, what it takes keepers to restart and programs to start.
const BEYOND: Duration = Duration::from_secs(4);

/// The owner is cut off, and all that is heard of it is what it had sent before.
pub async fn replays(world: &Arc<World>, voters_restart: bool) -> Result<(), Trouble> {
    let cast = assemble(world, Wanted::Anybody).await?;
    let owner = cast.owner.index;
    fault::isolate(world, owner, Way::Both);
    let voters: Vec<_> = cast.others.iter().chain([&cast.leader]).cloned().collect();
    let heard = |to: usize| world.recording.renewals(owner, to);
    let heard: Vec<_> = voters.iter().map(|voter| (voter.clone(), heard(voter.index))).collect();
    if voters_restart {
        voters.iter().for_each(|voter| voter.kill(world, Part::Keeper));
    }
    let again = |nth: usize| {
        for (voter, renewals) in &heard {
            let renewal = renewals.get(nth % renewals.len().max(1)).cloned();
            renewal.into_iter().for_each(|renewal| wire::arrive(world, voter, renewal));
        }
    };
    taken_over(world, &cast, again).await
}

/// The owner's keeper hears no other one and is heard by all.
pub async fn deaf(world: &Arc<World>) -> Result<(), Trouble> {
    // It is given to its preferred node again and again, as long as that seems to be well.
    let cast = assemble(world, Wanted::Preferred).await?;
    let owner = cast.owner.index;
    let others = world.machines().iter().filter(|other| other.index != owner);
    others.for_each(|other| world.net.deafen(other.index, owner));
    taken_over(world, &cast, |_| {}).await
}

/// Waits until somebody else acts; twice in a lease time something is done against it.
async fn taken_over(world: &World, cast: &Cast, against: impl Fn(usize)) -> Result<(), Trouble> {
    let (begun, within) = (now(), lease(world, 10_000) + BEYOND);
    for nth in 0.. {
        if acts_on(world, &cast.star, |machine| machine != cast.owner.index) {
            break;
        }
        if Duration::from_nanos(now() - begun) > within {
            return Err(Trouble::Violation(format!(
                "I4 does not hold: {within:?} after n{} was lost, nobody runs '{}'",
                cast.owner.index + 1,
                cast.star
            )));
        }
        against(nth);
        sleep(lease(world, 500)).await;
    }
    Ok(())
}
