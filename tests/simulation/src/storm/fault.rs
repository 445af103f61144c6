//! The faults.

use std::sync::Arc;
use std::time::Duration;

use crate::disk::Trouble;
use crate::machine::Machine;
use crate::machine::power::Part;
use crate::members;
use crate::world::{Weather, World, now, sleep};

/// Which way a machine is cut off.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// It neither hears nor is heard.
    Both,
    /// It hears nothing.
    In,
    /// It is not heard.
    Out,
}

/// Something that goes wrong, for a while.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A process dies.
    Crash(usize, Part),
    /// Processes stand still.
    Freeze(usize, Part),
    /// Every process of ours stands still, on several machines.
    FreezeAll(Vec<usize>),
    /// The power goes.
    Power(Vec<usize>),
    /// A machine is cut off from all others.
    Cut(usize, Way),
    /// Two machines do not reach each other, one way or both.
    Between(usize, usize, Way),
    /// A machine's link comes and goes.
    Flap(usize),
    /// A bad cable: so many in a thousand are lost.
    Loss(usize, u64),
    /// Whatever comes to a machine comes late.
    Slow(usize),
    /// Leadership is handed over.
    Transfer,
    /// A machine is given up, and comes back as another node with an empty disk.
    Replace(usize),
    /// A disk is full.
    Full(usize),
    /// A disk's syncs fail.
    SyncFails(usize),
    /// A disk is slow.
    SlowDisk(usize),
    /// An agent is restarted in good order, as for an upgrade.
    Upgrade(usize),
    /// A keeper is stopped in good order.
    StopKeeper(usize),
    /// A wall clock is set wrong.
    WallStep(usize),
    /// The link between an agent and its keeper breaks.
    Link(usize),
    /// Answers come late to a machine; then it is cut off.
    LateThenCut(usize),
    /// An owner's datagrams reach its voters in turns, and its leader never; its agent learns of nothing.
    Dance,
    /// A machine is cut off, and every other one's keeper dies and comes back at once.
    CutAndRestart(usize),
    /// Resources fail, hang, come late and end by themselves.
    Weather,
}

/// Draws one.
pub fn drawn(world: &World, members: usize) -> Fault {
    let mut chance = world.chance();
    let drawn = chance.index(members);
    // The first machine may have the slowest clocks.
    let at = if chance.chance(250) { 0 } else { drawn };
    let other = (at + 1 + chance.index(members.max(2) - 1)) % members;
    let part = [Part::Agent, Part::Keeper, Part::Both][chance.index(3)];
    let way = [Way::Both, Way::In, Way::Out][chance.index(3)];
    match chance.below(28) {
        0 | 1 => Fault::Crash(at, part),
        2..=4 => Fault::Freeze(at, part),
        5 => Fault::FreezeAll((0..members).filter(|_| chance.chance(600)).collect()),
        6 | 7 => Fault::Power(vec![at]),
        8 => Fault::Power((0..members).filter(|_| chance.chance(500)).collect()),
        9 => Fault::Power((0..members).collect()),
        10..=12 => Fault::Cut(at, way),
        13 => Fault::Between(at, other, way),
        14 => Fault::Flap(at),
        15 => Fault::Loss(at, chance.between(50, 500)),
        16 => Fault::Slow(at),
        17 => Fault::Transfer,
        18 => Fault::Replace(at),
        19 => [Fault::Full(at), Fault::SyncFails(at), Fault::SlowDisk(at)][chance.index(3)].clone(),
        20 => Fault::Upgrade(at),
        21 => Fault::StopKeeper(at),
        22 => [Fault::WallStep(at), Fault::Link(at)][chance.index(2)].clone(),
        23 | 24 => Fault::LateThenCut(at),
        25 => Fault::CutAndRestart(at),
        26 => Fault::Dance,
        _ => Fault::Weather,
    }
}

impl Fault {
    /// Lets it happen, and makes it undone. Nothing new begins after `until`.
    pub async fn happen(&self, world: &Arc<World>, lasts: Duration, until: u64) {
        let machine = |at: &usize| &world.machines()[*at];
        match self {
            Self::Crash(at, part) => machine(at).kill(world, *part),
            Self::Freeze(at, part) => {
                machine(at).freeze(*part);
                sleep(lasts).await;
                machine(at).thaw();
            }
            Self::FreezeAll(all) => {
                all.iter().for_each(|at| machine(at).freeze(Part::Both));
                sleep(lasts).await;
                all.iter().for_each(|at| machine(at).thaw());
            }
            Self::Power(all) => {
                all.iter().for_each(|at| machine(at).power_off(world));
                sleep(lasts).await;
                all.iter().filter(|at| machine(at).node().is_some()).for_each(|at| machine(at).power_on(world));
            }
            Self::Cut(at, way) => {
                isolate(world, *at, *way);
                sleep(lasts).await;
                reconnect(world, *at);
            }
            Self::Between(at, other, way) => {
                cut(world, *at, *other, *way);
                sleep(lasts).await;
                mend(world, *at, *other);
            }
            Self::Flap(at) => self.flap(world, *at, lasts).await,
            Self::Loss(at, permille) => {
                world.net.lose(*at, *permille);
                sleep(lasts).await;
                world.net.lose(*at, 0);
            }
            Self::Slow(at) => {
                world.net.slow(*at, Duration::from_millis(world.draw(5, 800)));
                sleep(lasts).await;
                world.net.slow(*at, Duration::ZERO);
            }
            Self::LateThenCut(at) => late_then_cut(world, *at).await,
            Self::Dance => dance(world).await,
            Self::CutAndRestart(at) => cut_and_restart(world, *at).await,
            Self::Transfer => transfer(world).await,
            Self::Replace(at) => replace(world, machine(at), until).await,
            Self::Full(at) => trouble(machine(at), Trouble::Full, lasts).await,
            Self::SyncFails(at) => trouble(machine(at), Trouble::SyncFails, lasts).await,
            Self::SlowDisk(at) => {
                machine(at).set_disk_takes(Duration::from_millis(world.draw(20, 400)));
                machine(at).kill(world, Part::Agent);
                sleep(lasts).await;
                machine(at).set_disk_takes(Duration::from_micros(300));
                machine(at).kill(world, Part::Agent);
            }
            Self::Upgrade(at) => upgrade(world, machine(at)).await,
            Self::StopKeeper(at) => machine(at).terminate_keeper(),
            Self::Link(at) => machine(at).break_link(),
            Self::WallStep(at) => {
                let by = world.draw(0, 2_000_000) as i64 - 1_000_000;
                machine(at).step_wall(by);
                sleep(lasts).await;
                machine(at).step_wall(-by);
            }
            Self::Weather => {
                world.set_weather(Weather::FOUL);
                sleep(lasts).await;
                world.set_weather(Weather::STORMY);
            }
        }
    }

    async fn flap(&self, world: &Arc<World>, at: usize, lasts: Duration) {
        let until = now() + lasts.as_nanos() as u64;
        while now() < until {
            isolate(world, at, Way::Both);
            sleep(world.pause(5_000, 900_000)).await;
            reconnect(world, at);
            sleep(world.pause(5_000, 900_000)).await;
        }
    }
}

fn others(world: &World, at: usize) -> impl Iterator<Item = usize> {
    (0..world.machines().len()).filter(move |other| *other != at)
}

/// Cuts a machine off from all others.
pub fn isolate(world: &World, at: usize, way: Way) {
    others(world, at).for_each(|other| cut(world, at, other, way));
}

/// It reaches them again.
pub fn reconnect(world: &World, at: usize) {
    others(world, at).for_each(|other| mend(world, at, other));
}

fn leases(world: &World, count: u64) -> Duration {
    world.profile.ttl().duration() * u32::try_from(count).unwrap_or(1)
}

async fn late_then_cut(world: &Arc<World>, at: usize) {
    let ttl_us = world.profile.ttl().0 * 1_000;
    world.net.slow(at, Duration::from_micros(world.draw(ttl_us / 8, ttl_us / 3)));
    sleep(leases(world, 2)).await;
    isolate(world, at, Way::Both);
    sleep(leases(world, 3)).await;
    world.net.slow(at, Duration::ZERO);
    reconnect(world, at);
}

/// While one voter after the other misses renewals, agrees to the session's end and hears them again, the owner has a
/// majority all the time.
async fn dance(world: &Arc<World>) {
    let owner =
        members::look(world, |state| state.packages.values().find_map(|entry| Some(entry.owner.as_ref()?.node)));
    let Some(owner) = owner.flatten().and_then(|node| world.machine_of(node).cloned()) else { return };
    let leads = |machine: &&Arc<Machine>| {
        machine.agent().and_then(|life| life.agent()).is_some_and(|agent| agent.consensus.status().is_leader())
    };
    let Some(leader) = world.machines().iter().find(leads).map(|machine| machine.index) else { return };
    let mut voters: Vec<usize> = others(world, owner.index).filter(|at| *at != leader).collect();
    if voters.len() < 2 || leader == owner.index {
        return;
    }
    let drawn = world.chance().index(voters.len());
    voters.rotate_left(drawn);
    let ttl_us = world.profile.ttl().0 * 1_000;
    owner.freeze(Part::Agent);
    world.net.deafen(owner.index, leader);
    for at in voters {
        world.net.deafen(owner.index, at);
        sleep(world.pause(ttl_us, ttl_us * 3 / 2)).await;
        world.net.undeafen(owner.index, at);
        // Before or after the voter's fence is healed (rule 11).
        let healed = world.chance().chance(500);
        sleep(if healed { world.pause(ttl_us, ttl_us * 3) } else { world.pause(0, ttl_us / 8) }).await;
    }
    world.net.undeafen(owner.index, leader);
    owner.thaw();
}

async fn cut_and_restart(world: &Arc<World>, at: usize) {
    isolate(world, at, Way::Both);
    sleep(world.pause(0, 60_000)).await;
    others(world, at).for_each(|other| world.machines()[other].kill(world, Part::Keeper));
    sleep(leases(world, 3)).await;
    reconnect(world, at);
}

fn cut(world: &World, at: usize, other: usize, way: Way) {
    match way {
        Way::Both => {
            world.net.cut(at, other);
            world.net.cut(other, at);
        }
        Way::In => world.net.cut(other, at),
        Way::Out => world.net.cut(at, other),
    }
}

fn mend(world: &World, at: usize, other: usize) {
    world.net.mend(at, other);
    world.net.mend(other, at);
}

async fn trouble(machine: &Machine, trouble: Trouble, lasts: Duration) {
    machine.disk.set_trouble(trouble);
    sleep(lasts).await;
    machine.repair();
}

/// Hands leadership over, if somebody leads and another can.
pub async fn transfer(world: &Arc<World>) {
    for machine in world.machines() {
        let Some((life, agent)) = machine.agent().and_then(|life| Some((life.clone(), life.agent()?))) else {
            continue;
        };
        if agent.consensus.status().is_leader() {
            let _asked = life.ask(members::REQUEST, async move { agent.consensus.step_down().await.is_ok() }).await;
            return;
        }
    }
}

/// Restarts an agent in good order: leadership is handed over, the store closed.
pub async fn upgrade(world: &Arc<World>, machine: &Arc<Machine>) {
    let Some((life, agent)) = machine.agent().and_then(|life| Some((life.clone(), life.agent()?))) else { return };
    let orderly = async move {
        if agent.consensus.status().is_leader() {
            let _handed_over = agent.consensus.step_down().await;
        }
        agent.consensus.shutdown().await;
    };
    let _ended = life.ask(members::REQUEST, orderly).await;
    machine.kill(world, Part::Agent);
}

/// Gives a machine up and lets it come back as another node.
async fn replace(world: &Arc<World>, machine: &Arc<Machine>, until: u64) {
    machine.power_off(world);
    let left = Duration::from_nanos(until.saturating_sub(now())) + Duration::from_secs(5);
    if members::remove(world, machine, left).await {
        // No power since it was given up; somebody may have switched it on.
        machine.power_off(world);
        if let Err(error) = members::wipe(machine) {
            world.broken(format!("a simulated disk could not be wiped: {error}"));
        }
        machine.power_on(world);
        if let Err(why) = members::join(world, machine, left).await {
            world.log(format_args!("{why}"));
        }
    } else {
        machine.power_on(world);
    }
}
