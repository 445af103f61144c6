//! Rules 12 and 17: two members are removed at once, so that the new lease set has a majority that the old one's majority
//! has nobody in. The owner and those that are removed do not learn of it and go on as a majority of the old one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pkgctl::engine::{Command, State};

use super::Trouble;
use super::cast::{Absent, Wanted, ask, assemble, deafen, lease, session_of, until};
use crate::machine::power::Part;
use crate::world::{World, sleep};

/// Hosts say whom they reach; a keeper waits a second for one that does not answer.
const ASKED: Duration = Duration::from_millis(1_300);
/// The change of the lease set.
const CHANGES_WITHIN: Duration = Duration::from_secs(4);

pub async fn play(world: &Arc<World>) -> Result<(), Trouble> {
    let cast = assemble(world, Wanted::Anybody).await?;
    let [one, two, stays] = &cast.others[..] else { return Err(Absent("three other voters").into()) };
    let (owner, leader) = (&cast.owner, &cast.leader);
    // Two whose agents hang, and whose keepers nobody but the owner's hears: their sessions expire, their votes do not.
    for leaver in [one, two] {
        leaver.freeze(Part::Agent);
        [leader, stays].into_iter().for_each(|other| deafen(world, leaver, other));
    }
    deafen(world, one, two);
    let gone = |s: &State| [one, two].into_iter().all(|leaver| session_of(s, leaver.node()).is_none());
    until("the end of two sessions", lease(world, 6_000), leader, gone).await?;

    // Nobody is asked twice: when the last answer comes, the owner's keeper hears nothing of its agent any more.
    stays.hold_link(true);
    for leaver in [one, two] {
        ask(world, leader, Command::RemoveNode { node: leaver.name.clone() }).await;
    }
    sleep(ASKED).await;
    owner.hold_link(true);
    sleep(world.pause(1_000, 10_000)).await;
    [leader, stays].into_iter().for_each(|other| deafen(world, owner, other));
    stays.hold_link(false);
    let staying: BTreeSet<_> = [owner, leader, stays].into_iter().filter_map(|machine| machine.node()).collect();
    let changed = |s: &State| s.lease_sets.values().next_back() == Some(&staying);
    until("the new lease set", CHANGES_WITHIN, leader, changed).await?;
    sleep(lease(world, 2_500)).await;
    Ok(())
}
