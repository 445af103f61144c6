//! Machines that join and leave the cluster, as an operator has them do it.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use pkgctl::api::door::Door;
use pkgctl::engine::command::{Command, NewNode, Reply};
use pkgctl::engine::{Nonce, State};

use crate::agent::{AgentLife, SimAgent};
use crate::machine::Machine;
use crate::setup::{NEVER, make_store};
use crate::world::{World, now, sleep};

/// How long one request of an operator is waited for.
pub const REQUEST: Duration = Duration::from_secs(12);

/// Any agent that serves, drawn.
pub fn any_agent(world: &World) -> Option<AgentLife> {
    let serving = |machine: &Arc<Machine>| machine.agent().filter(|life| life.agent().is_some());
    let all: Vec<AgentLife> = world.machines().iter().filter_map(serving).collect();
    (!all.is_empty()).then(|| all[world.chance().index(all.len())].clone())
}

/// Puts a command through some agent.
pub async fn submit(world: &World, command: Command, by: &str) -> Option<Reply> {
    let life = any_agent(world)?;
    let (agent, by) = (life.agent()?, by.to_owned());
    let done = life.ask(REQUEST, async move { agent.submit(command, by).await }).await;
    done?.ok().map(|(_, reply)| reply)
}

/// What some agent has applied.
pub fn look<T>(world: &World, look: impl FnOnce(&State) -> T) -> Option<T> {
    let agent: SimAgent = any_agent(world)?.agent()?;
    Some(agent.consensus.read(look))
}

/// What some agent has applied, after everything that was acknowledged before.
pub async fn look_now<T: Send + 'static>(world: &World, look: impl FnOnce(&State) -> T + Send + 'static) -> Option<T> {
    let life = any_agent(world)?;
    let agent: SimAgent = life.agent()?;
    let looking = async move {
        agent.linearize().await.ok()?;
        Some(agent.read(look))
    };
    life.ask(REQUEST, looking).await?
}

/// Lets a machine join under a new id, and waits until its store is made.
///
/// # Errors
/// When nobody let it in in time.
pub async fn join(world: &Arc<World>, machine: &Arc<Machine>, within: Duration) -> Result<(), String> {
    let until = now() + within.as_nanos() as u64;
    let (digest, request) = {
        let mut chance = world.chance();
        (format!("{:064x}", chance.next()), Nonce(chance.next()))
    };
    let issue = Command::IssueToken { digest: digest.clone(), expires: NEVER };
    let node = NewNode { name: machine.name.clone(), address: machine.address, links: Vec::new() };
    let add = Command::AddNode { node, token: digest, request };
    while now() < until {
        // Both are repeated as a join is: by its token's digest and its request they are found again.
        let _issued = submit(world, issue.clone(), "operator").await;
        match submit(world, add.clone(), "join").await {
            Some(Reply::Node(id)) => {
                world.log(format_args!("n{} joins as node {id}", machine.index + 1));
                return make_store(world, machine, id);
            }
            other => world.log(format_args!("n{} does not join yet: {other:?}", machine.index + 1)),
        }
        sleep(Duration::from_millis(300)).await;
    }
    Err(format!("n{} could not join", machine.index + 1))
}

/// Has a machine removed, with power or without, and waits until no member has its name.
pub async fn remove(world: &Arc<World>, machine: &Arc<Machine>, within: Duration) -> bool {
    let until = now() + within.as_nanos() as u64;
    while now() < until {
        let _asked = submit(world, Command::RemoveNode { node: machine.name.clone() }, "operator").await;
        sleep(Duration::from_millis(500)).await;
        let name = machine.name.clone();
        if look_now(world, move |state| state.nodes.values().all(|node| node.name != name)).await == Some(true) {
            return true;
        }
    }
    false
}

/// Takes away what a machine without power has of the node it was.
pub fn wipe(machine: &Machine) -> std::io::Result<()> {
    machine.set_node(None);
    fs::remove_dir_all(&machine.dir)?;
    fs::create_dir(&machine.dir)?;
    machine.disk.settle(&machine.dir)
}
