//! Who plays what in a plot: an owner of the star package, the leader, and the other members; and what plots wait for.

use std::sync::Arc;
use std::time::Duration;

use pkgctl::api::door::Door;
use pkgctl::engine::{Command, NodeId, Reply, SessionId, State};
use pkgctl::package::PackageName;

use crate::machine::Machine;
use crate::members::REQUEST;
use crate::storm::fault;
use crate::world::{World, now, sleep};

/// What a plot needs did not come about.
#[derive(Debug)]
pub struct Absent(pub &'static str);

/// Who is to own the star.
#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    /// Anybody.
    Anybody,
    /// The first node of its list.
    Preferred,
    /// That machine.
    Machine(usize),
}

/// Who plays what.
pub struct Cast {
    /// The package that it is about; every member may own it.
    pub star: PackageName,
    /// Its owner, who does not lead.
    pub owner: Arc<Machine>,
    /// The leader.
    pub leader: Arc<Machine>,
    /// The other members, in an order that the seed draws.
    pub others: Vec<Arc<Machine>>,
}

const ATTEMPTS_MAX: u32 = 12;
const LOOK: Duration = Duration::from_millis(1);

/// Finds them; the star is moved and leadership handed over where that is needed.
pub async fn assemble(world: &Arc<World>, wanted: Wanted) -> Result<Cast, Absent> {
    let star = PackageName::new("p1").map_err(|_| Absent("a name"))?;
    for _ in 0..ATTEMPTS_MAX {
        if let Some(cast) = attempt(world, &star, wanted).await {
            return Ok(cast);
        }
        sleep(Duration::from_millis(700)).await;
    }
    Err(Absent("an owner that does not lead"))
}

async fn attempt(world: &Arc<World>, star: &PackageName, wanted: Wanted) -> Option<Cast> {
    let leader = leader(world)?;
    let state = state_at(&leader)?;
    let entry = state.packages.get(star)?;
    let owner = world.machine_of(entry.owner.as_ref()?.node)?.clone();
    let preferred = entry.definition.nodes.first();
    let fits = match wanted {
        Wanted::Anybody => None,
        Wanted::Preferred => world.machines().iter().find(|machine| Some(&machine.name) == preferred),
        Wanted::Machine(index) => world.machines().get(index),
    };
    if let Some(fit) = fits.filter(|fit| fit.index != owner.index) {
        move_to(world, &leader, star, fit).await;
        return None;
    }
    if leader.index == owner.index {
        fault::transfer(world).await;
        return None;
    }
    if !acts_on(world, star, |machine| machine == owner.index) {
        return None;
    }
    let apart = |machine: &&Arc<Machine>| machine.index != owner.index && machine.index != leader.index;
    let members = world.machines().iter().filter(|machine| machine.node().is_some());
    let mut others: Vec<Arc<Machine>> = members.filter(apart).cloned().collect();
    let drawn = world.chance().index(others.len().max(1));
    others.rotate_left(drawn);
    Some(Cast { star: star.clone(), owner, leader, others })
}

/// An operator moves a package.
pub async fn move_to(world: &Arc<World>, leader: &Machine, package: &PackageName, to: &Machine) {
    let token = state_at(leader).and_then(|state| Some(state.packages.get(package)?.owner.as_ref()?.token));
    if let (Some(token), Some(to)) = (token, to.node()) {
        let (package, why) = (package.clone(), "an operator moves it".to_owned());
        ask(world, leader, Command::MovePackage { package, token, to, why }).await;
    }
}

/// Puts a command through that machine's agent.
pub async fn ask(world: &World, at: &Machine, command: Command) {
    let Some((life, agent)) = at.agent().and_then(|life| Some((life.clone(), life.agent()?))) else { return };
    world.log(format_args!("operator at n{}: {command:?}", at.index + 1));
    let done = life.ask(REQUEST, async move { agent.submit(command, "operator".to_owned()).await }).await;
    let reply: Option<Reply> = done.and_then(Result::ok).map(|(_, reply)| reply);
    world.log(format_args!("operator is told {reply:?}"));
}

/// The machine that leads.
pub fn leader(world: &World) -> Option<Arc<Machine>> {
    let leads = |machine: &&Arc<Machine>| {
        machine.agent().and_then(|life| life.agent()).is_some_and(|agent| agent.consensus.status().is_leader())
    };
    world.machines().iter().find(leads).cloned()
}

/// What is applied on a machine.
pub fn state_at(machine: &Machine) -> Option<Arc<State>> {
    Some(machine.agent()?.agent()?.consensus.state())
}

/// Whether both resources of the package act on one such machine.
pub fn acts_on(world: &World, package: &PackageName, such: impl Fn(usize) -> bool) -> bool {
    let acts = world.acts.now(now());
    acts.values().filter(|act| act.package == *package && such(act.machine)).count() >= 2
}

/// The live session of a node.
pub fn session_of(state: &State, node: Option<NodeId>) -> Option<SessionId> {
    state.sessions.iter().rev().find(|(_, session)| Some(session.node) == node).map(|(id, _)| *id)
}

/// Waits until something is so at a machine.
pub async fn until(
    what: &'static str,
    within: Duration,
    at: &Machine,
    so: impl Fn(&State) -> bool,
) -> Result<(), Absent> {
    until_so(what, within, || state_at(at).is_some_and(|state| so(&state))).await
}

/// Waits until something is so.
pub async fn until_so(what: &'static str, within: Duration, so: impl Fn() -> bool) -> Result<(), Absent> {
    let end = now() + u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
    while !so() {
        if now() > end {
            return Err(Absent(what));
        }
        sleep(LOOK).await;
    }
    Ok(())
}

/// Part of a lease time, in thousandths.
pub fn lease(world: &World, permille: u64) -> Duration {
    Duration::from_micros(world.profile.ttl().0 * permille)
}

/// No datagram passes between the two.
pub fn deafen(world: &World, one: &Machine, other: &Machine) {
    world.net.deafen(one.index, other.index);
    world.net.deafen(other.index, one.index);
}

/// No stream passes between that machine and any other.
pub fn hush(world: &World, machine: &Machine) {
    world.net.hush_all(machine.index, world.machines().len());
}
