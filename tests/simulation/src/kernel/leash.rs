//! One program under its leash: it runs from its start until somebody ends it or its deadline comes, whichever is first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{Either, select};
use pkgctl::engine::HolderTime;
use pkgctl::keeper::core::{Input, ProgramEvent};
use pkgctl::keeper::protocol::{Exit, Place};

use crate::acts::{Act, ActId};
use crate::keeper::Inbox;
use crate::machine::Machine;
use crate::plant::Plant;
use crate::world::{World, now, sleep, sleep_until};

/// A leash is armed before T by rule 22's margin; the kernel is late by less than that.
const LATENESS_MAX_US: u64 = 39_900;
/// Main processes are numbered from here.
const FIRST_PID: u64 = 2;
const FOR_EVER: u64 = u64::MAX / 4;

/// A leash's orders.
pub struct Leash {
    orders: Mutex<Orders>,
    bell: (async_channel::Sender<()>, async_channel::Receiver<()>),
}

struct Orders {
    deadline: HolderTime,
    asked: bool,
    killed: bool,
    act: Option<ActId>,
}

impl Leash {
    /// Armed from its first moment.
    pub fn new(deadline: HolderTime) -> Arc<Self> {
        let orders = Orders { deadline, asked: false, killed: false, act: None };
        Arc::new(Self { orders: Mutex::new(orders), bell: async_channel::bounded(1) })
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        // A bell that rings already is heard.
        let _ = self.bell.0.try_send(());
    }

    /// Moves its deadline.
    pub fn arm(&self, deadline: HolderTime) {
        self.orders().deadline = deadline;
        self.ring();
    }

    /// Asks the program to end.
    pub fn ask(&self) {
        self.orders().asked = true;
        self.ring();
    }

    /// Kills it.
    pub fn kill(&self) {
        self.orders().killed = true;
        self.ring();
    }
}

/// How a program is going to behave.
struct Character {
    starts_after: Duration,
    fails: bool,
    hangs: bool,
    ends_after: Option<Duration>,
    obeys_after: Option<Duration>,
    dies_after: Duration,
}

fn character(world: &World) -> Character {
    let weather = world.weather();
    let mut chance = world.chance();
    let late = chance.chance(weather.late);
    let starts_us = if late { chance.between(200_000, 4_000_000) } else { chance.between(500, 8_000) };
    let stubborn = chance.chance(weather.hangs);
    Character {
        starts_after: Duration::from_micros(starts_us),
        fails: chance.chance(weather.fails),
        hangs: chance.chance(weather.hangs),
        ends_after: chance.chance(weather.ends).then(|| Duration::from_millis(chance.between(5, 8_000))),
        obeys_after: (!stubborn).then(|| Duration::from_micros(chance.between(300, 60_000))),
        dies_after: Duration::from_micros(if stubborn {
            chance.between(1_000, 6_000_000)
        } else {
            chance.between(200, 900)
        }),
    }
}

/// What ends a program.
enum End {
    Deadline,
    Killed,
    Itself(Exit),
}

/// Runs a program until nothing of it is left. A task of the world's own.
pub async fn run(
    world: Arc<World>,
    machine: Arc<Machine>,
    place: Place,
    leash: Arc<Leash>,
    to: async_channel::Sender<Inbox>,
) {
    let character = character(&world);
    let tell = |event| {
        let input = Input::Program { place: place.clone(), event };
        // A keeper that is gone hears nothing.
        let _ = to.try_send(Inbox::Input(input));
    };
    let late = world.lateness(LATENESS_MAX_US);
    let begins = now() + character.starts_after.as_nanos() as u64;
    let end = match wait(&world, &machine, &leash, late, Some(begins).filter(|_| !character.hangs), None).await {
        Some(end) => end,
        None if character.fails => {
            tell(ProgramEvent::Failed { why: "it could not be executed".to_owned() });
            wait(&world, &machine, &leash, late, None, None).await.unwrap_or(End::Killed)
        }
        None => {
            let act = begin(&world, &machine, &place, &leash, late);
            tell(ProgramEvent::Started { pid: (FIRST_PID + world.acts.count()) as i32 });
            let ends = character.ends_after.map(|after| now() + after.as_nanos() as u64);
            let end = wait(&world, &machine, &leash, late, ends, character.obeys_after).await;
            world.acts.end(act, now());
            end.unwrap_or(End::Itself(Exit::Code(1)))
        }
    };
    if let End::Itself(exit) = end {
        tell(ProgramEvent::Exited { exit });
    }
    sleep(character.dies_after).await;
    let mine = |there: &Arc<Leash>| Arc::ptr_eq(there, &leash);
    machine.kernel().leashes.retain(|_, there| !mine(there));
    tell(ProgramEvent::Gone { by_deadline: matches!(end, End::Deadline) });
}

fn begin(world: &World, machine: &Machine, place: &Place, leash: &Leash, late: u64) -> ActId {
    let deadline = leash.orders().deadline;
    let until = ends_by(world, machine, deadline, late);
    let act = world.acts.begin(Act {
        package: place.package.clone(),
        resource: place.resource.to_string(),
        machine: machine.index,
        token: place.token,
        from: now(),
        until,
    });
    world.log(format_args!("n{} {}/{} acts under {}", machine.index + 1, place.package, place.resource, place.token));
    leash.orders().act = Some(act);
    act
}

/// The true time at which a leash with that deadline has killed.
fn ends_by(world: &World, machine: &Machine, deadline: HolderTime, late: u64) -> u64 {
    if world.has(Plant::NoDeadline) { FOR_EVER } else { machine.clock.holder_instant(deadline) + late }
}

/// Waits until the program ends, or `at` comes; none means that it came.
async fn wait(
    world: &World,
    machine: &Machine,
    leash: &Leash,
    late: u64,
    mut at: Option<u64>,
    obeys_after: Option<Duration>,
) -> Option<End> {
    let mut obeys_at = None;
    loop {
        let (deadline, asked, killed, act) = {
            let orders = leash.orders();
            (orders.deadline, orders.asked, orders.killed, orders.act)
        };
        let dies_at = ends_by(world, machine, deadline, late);
        if let Some(act) = act {
            world.acts.prolong(act, now(), dies_at);
        }
        if asked && obeys_at.is_none() {
            obeys_at = obeys_after.map(|after| now() + after.as_nanos() as u64);
        }
        if killed {
            return Some(End::Killed);
        }
        if dies_at <= now() {
            return Some(End::Deadline);
        }
        if obeys_at.is_some_and(|at| at <= now()) {
            return Some(End::Itself(Exit::Code(0)));
        }
        if at.is_some_and(|at| at <= now()) {
            if act.is_none() || world.weather().ends > 0 {
                return None;
            }
            // The weather has changed: it goes on.
            at = None;
        }
        let next = [Some(dies_at), obeys_at, at].into_iter().flatten().min().unwrap_or(FOR_EVER);
        let (time, bell) = (std::pin::pin!(sleep_until(next)), std::pin::pin!(leash.bell.1.recv()));
        match select(time, bell).await {
            Either::Left(((), _)) | Either::Right((Ok(()), _)) => {}
            Either::Right((Err(_), _)) => return Some(End::Killed),
        }
    }
}
