//! Operators at work: definitions written and read, packages run, stopped and moved, through whichever agent is there.

use std::sync::Arc;
use std::time::Duration;

use pkgctl::api::door::Door;
use pkgctl::engine::command::{Command, Rejected, Reply, StopScope};
use pkgctl::package::PackageName;

use crate::check::linear::{Answer, History};
use crate::members::{REQUEST, any_agent, look, submit};
use crate::plant::Plant;
use crate::setup::{REGISTERS, register};
use crate::world::{World, now, sleep};

/// How busy an operator is.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two requests, in milliseconds.
    pub pause_ms: (u64, u64),
    /// Of a thousand requests so many change what packages should do.
    pub verbs: u64,
}

/// Works until `until`.
pub async fn work(world: Arc<World>, history: Arc<History>, packages: usize, pace: Pace, until: u64) {
    while now() < until {
        sleep(world.pause(pace.pause_ms.0 * 1000, pace.pause_ms.1 * 1000)).await;
        let (verb, writes) = {
            let mut chance = world.chance();
            (chance.chance(pace.verbs), chance.chance(600))
        };
        if verb {
            change(&world, packages).await;
        } else if writes {
            write(&world, &history).await;
        } else {
            read(&world, &history).await;
        }
    }
}

fn drawn_register(world: &World) -> usize {
    world.chance().index(REGISTERS)
}

/// A linearizable read of a register, as the API answers it.
async fn read(world: &Arc<World>, history: &History) {
    let number = drawn_register(world);
    let id = history.invoke(number, None, now());
    let seen = seen(world, number).await;
    history.answer(id, seen.map_or(Answer::Unknown, |(revision, value)| Answer::Seen { revision, value }), now());
}

async fn seen(world: &Arc<World>, number: usize) -> Option<(u64, u64)> {
    let life = any_agent(world)?;
    let agent = life.agent()?;
    let (name, stale) = (register(number, 0).name, world.has(Plant::StaleReads));
    let reading = async move {
        if !stale {
            agent.linearize().await.ok()?;
        }
        agent.read(|state| {
            let entry = state.packages.get(&name)?;
            Some((entry.revision.0, entry.definition.description.parse().ok()?))
        })
    };
    life.ask(REQUEST, reading).await?
}

/// A compare-and-set of a register, as `init --update` does it.
async fn write(world: &Arc<World>, history: &History) {
    let number = drawn_register(world);
    let Some((replaces, _)) = seen(world, number).await else { return };
    let value = history.next_value();
    let id = history.invoke(number, Some((value, replaces)), now());
    let outcome = define(world, number, value, replaces).await;
    history.answer(id, outcome, now());
}

async fn define(world: &Arc<World>, number: usize, value: u64, replaces: u64) -> Answer {
    let Some((life, agent)) = any_agent(world).and_then(|life| Some((life.clone(), life.agent()?))) else {
        return Answer::Unknown;
    };
    let replaces = Some(pkgctl::engine::LogIndex(replaces));
    let command = Command::DefinePackage { definition: register(number, value), replaces };
    let done = life.ask(REQUEST, async move { agent.submit(command, format!("client {value}")).await }).await;
    match done {
        Some(Ok((_, Reply::Revision(revision)))) => Answer::Written { revision: revision.0 },
        Some(Ok((_, Reply::Rejected(Rejected::RevisionMoved { current, .. })))) => Answer::Moved { current: current.0 },
        Some(Ok(_) | Err(_)) | None => Answer::Unknown,
    }
}

/// One verb.
async fn change(world: &Arc<World>, packages: usize) {
    let drawn = world.chance().index(packages);
    let Ok(package) = PackageName::new(format!("p{}", drawn + 1)) else { return };
    let what = world.chance().below(10);
    let command = match what {
        0 | 1 => Some(Command::StopPackage { package, scope: StopScope::Owner }),
        2 => Some(Command::StopPackage { package, scope: StopScope::Everywhere }),
        3..6 => moved(world, &package),
        _ => Some(Command::RunPackage { package, node: None }),
    };
    if let Some(command) = command {
        world.log(format_args!("operator: {command:?}"));
        let reply = submit(world, command, "operator").await;
        world.log(format_args!("operator is told {reply:?}"));
    }
}

fn moved(world: &World, package: &PackageName) -> Option<Command> {
    look(world, |state| {
        let entry = state.packages.get(package)?;
        let owner = entry.owner.as_ref()?;
        let to =
            state.nodes.iter().find(|(id, node)| **id != owner.node && entry.definition.nodes.contains(&node.name))?;
        let why = "an operator moves it".to_owned();
        Some(Command::MovePackage { package: package.clone(), token: owner.token, to: *to.0, why })
    })?
}

/// Every package is to run wherever it may: what an operator types when a storm is over.
pub async fn run_all(world: &Arc<World>, packages: usize) {
    for number in 0..packages {
        let Ok(package) = PackageName::new(format!("p{}", number + 1)) else { return };
        while submit(world, Command::RunPackage { package: package.clone(), node: None }, "operator").await.is_none() {
            sleep(Duration::from_millis(200)).await;
        }
    }
}
