//! Rules 9, 10 and 12: the lease's majority moves from one voter to another while each of them agrees to its end, and the
//! owner holds its lease all the time. The fence, the new incarnation and the wait for it each stand against that.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Trouble;
use super::cast::{Absent, Wanted, assemble, hush, lease, until, until_so};
use crate::machine::power::Part;
use crate::world::{World, sleep};

/// What happens to the first voter between its agreement and the next renewal that it hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    Nothing,
    /// Its keeper restarts.
    Restart,
    /// The same, and its agent reaches nobody.
    MuteRestart,
}

/// A keeper's restart, and its `VoterUp`.
const RESTARTS_WITHIN: Duration = Duration::from_secs(4);
/// What an agent tells its keeper on attach is there.
const TOLD: Duration = Duration::from_millis(150);

pub async fn play(world: &Arc<World>, between: Between) -> Result<(), Trouble> {
    let cast = assemble(world, Wanted::Anybody).await?;
    let [first, second, witness] = &cast.others[..] else { return Err(Absent("three other voters").into()) };
    let (owner, leader) = (&cast.owner, &cast.leader);
    // The worst owner: it never learns that it lost the package.
    owner.freeze(Part::Agent);
    world.net.deafen(owner.index, leader.index);
    world.net.deafen(owner.index, first.index);
    // Leader and first voter agree; the other two and the owner itself carry the lease.
    sleep(lease(world, 1_200)).await;
    let before = super::cast::state_at(leader).ok_or(Absent("the leader"))?;
    match between {
        Between::Nothing => {
            world.net.deafen(owner.index, second.index);
            sleep(world.pause(0, world.profile.ttl().0 * 300)).await;
        }
        Between::Restart => {
            let node = first.node().ok_or(Absent("a voter"))?;
            let life = before.voter_lives.get(&node).copied();
            first.kill(world, Part::Keeper);
            until("the voter's new life", RESTARTS_WITHIN, leader, |s| s.voter_lives.get(&node).copied() != life)
                .await?;
            sleep(TOLD).await;
        }
        Between::MuteRestart => {
            hush(world, first);
            first.kill(world, Part::Keeper);
            let listens = || first.keeper().is_some_and(|keeper| keeper.listens.load(Ordering::Relaxed));
            until_so("the voter's new life", RESTARTS_WITHIN, listens).await?;
            sleep(TOLD).await;
        }
    }
    world.net.undeafen(owner.index, first.index);
    if between != Between::Nothing {
        sleep(lease(world, 300)).await;
        world.net.deafen(owner.index, second.index);
    }
    // Those who carry the lease now hear of its end late.
    [first, witness].into_iter().for_each(|voter| voter.hold_link(true));
    sleep(lease(world, 1_500)).await;
    owner.thaw();
    Ok(())
}
