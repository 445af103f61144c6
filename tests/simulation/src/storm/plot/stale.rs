//! Rule 6: a host whose session has expired in the log, before any voter but its own ever heard it renew, learns nothing
//! of that. The voters that agreed restart, remember nothing of it but the log, and then hear it.

use std::sync::Arc;
use std::time::Duration;

use pkgctl::engine::Command;
use pkgctl::engine::command::StopScope;

use super::Trouble;
use super::cast::{Absent, Wanted, ask, assemble, deafen, hush, lease, session_of, state_at, until};
use crate::machine::power::Part;
use crate::world::{World, sleep};

/// Any one step of it.
const STEP: Duration = Duration::from_secs(4);

pub async fn play(world: &Arc<World>) -> Result<(), Trouble> {
    let cast = assemble(world, Wanted::Anybody).await?;
    let (host, leader, star) = (&cast.owner, &cast.leader, &cast.star);
    let node = host.node().ok_or(Absent("a node"))?;
    let package = || star.clone();
    ask(world, leader, Command::StopPackage { package: package(), scope: StopScope::Everywhere }).await;
    until("the stop", STEP, leader, |s| s.packages.get(star).is_some_and(|entry| entry.owner.is_none())).await?;

    let before = session_of(&*state_at(leader).ok_or(Absent("the leader"))?, Some(node));
    world.machines().iter().filter(|other| other.index != host.index).for_each(|other| deafen(world, host, other));
    host.kill(world, Part::Keeper);
    let begun = |s: &pkgctl::engine::State| session_of(s, Some(node)).is_some_and(|id| Some(id) != before);
    until("the host's new session", STEP, leader, begun).await?;
    let session = session_of(&*state_at(leader).ok_or(Absent("the leader"))?, Some(node)).unwrap_or_default();
    ask(world, leader, Command::RunPackage { package: package(), node: Some(host.name.clone()) }).await;
    let owned = |s: &pkgctl::engine::State| {
        s.packages.get(star).and_then(|entry| entry.owner.as_ref()).is_some_and(|owner| owner.session == session)
    };
    until("the host's ownership", STEP, host, owned).await?;
    hush(world, host);
    ask(world, leader, Command::RunPackage { package: package(), node: None }).await;

    until("the session's end", lease(world, 5_000), leader, |s| !s.sessions.contains_key(&session)).await?;
    let lives = state_at(leader).ok_or(Absent("the leader"))?.voter_lives.clone();
    for voter in &cast.others {
        voter.kill(world, Part::Keeper);
    }
    let again = |s: &pkgctl::engine::State| {
        let mut nodes = cast.others.iter().filter_map(|voter| voter.node());
        nodes.all(|node| s.voter_lives.get(&node) != lives.get(&node))
    };
    until("the voters' new lives", STEP, leader, again).await?;
    let others = world.machines().iter().filter(|other| other.index != host.index);
    others.for_each(|other| {
        world.net.undeafen(host.index, other.index);
        world.net.undeafen(other.index, host.index);
    });
    sleep(lease(world, 3_000)).await;
    Ok(())
}
