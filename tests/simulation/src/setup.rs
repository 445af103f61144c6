//! A cluster from nothing: the founder, the others joining one by one, the packages.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pkgctl::api::door::Door;
use pkgctl::engine::command::{Command, Entry, NewNode};
use pkgctl::engine::state::{Cluster, DatagramKey};
use pkgctl::engine::{ClusterId, FOUNDER, NodeId, WallMillis};
use pkgctl::package::{
    IpResource, Kind, Millis, NodeName, Package, PackageName, ProgramResource, Resource, ResourceName,
};
use pkgctl::raft::{Identity, create_store_on};

use crate::machine::Machine;
use crate::members;
use crate::table::SimTable;
use crate::world::{World, sleep};

/// The cluster of every run.
pub const CLUSTER: ClusterId = ClusterId(0x51b);
/// Long enough for any single step of the setup.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the cluster is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Members from the beginning.
    pub members: usize,
    /// Packages that run.
    pub packages: usize,
}

/// Makes an empty store for a machine that is to be that node.
pub fn make_store(world: &World, machine: &Machine, node: NodeId) -> Result<(), String> {
    let identity = Identity { cluster: CLUSTER, node, profile: world.profile };
    create_store_on::<SimTable>(&machine.dir, identity, machine.disk.clone()).map_err(|e| e.to_string())?;
    machine.disk.settle(&machine.dir).map_err(|e| e.to_string())?;
    machine.set_node(Some(node));
    Ok(())
}

/// Founds the cluster, lets the others join, defines the packages and runs them.
pub async fn set_up(world: &Arc<World>, plan: Plan) -> Result<(), String> {
    found(world).await?;
    for machine in &world.machines()[1..plan.members] {
        machine.power_on(world);
        members::join(world, machine, PATIENCE).await?;
    }
    all_vote(world, plan.members).await?;
    for number in 0..plan.packages {
        let definition = package(world, number, plan.members);
        let name = definition.name.clone();
        submit(world, Command::DefinePackage { definition, replaces: None }).await?;
        submit(world, Command::RunPackage { package: name, node: None }).await?;
    }
    for number in 0..REGISTERS {
        submit(world, Command::DefinePackage { definition: register(number, 0), replaces: None }).await?;
    }
    Ok(())
}

async fn found(world: &Arc<World>) -> Result<(), String> {
    let machine = &world.machines()[0];
    make_store(world, machine, FOUNDER)?;
    machine.power_on(world);
    let cluster = Cluster {
        id: CLUSTER,
        name: "simulated".to_owned(),
        profile: world.profile,
        ca_certificate: String::new(),
        ca_key: String::new(),
        datagram_keys: BTreeMap::from([(1, DatagramKey([0; 32]))]),
    };
    let node = NewNode { name: machine.name.clone(), address: machine.address, links: Vec::new() };
    let address = machine.address;
    let entry =
        Entry { wall: machine.wall(), by: "setup".to_owned(), command: Command::CreateCluster { cluster, node } };
    let (life, agent) = loop {
        if let Some(life) = machine.agent()
            && let Some(agent) = life.agent()
        {
            break (life, agent);
        }
        sleep(Duration::from_millis(10)).await;
    };
    let founded = life.ask(PATIENCE, async move { agent.consensus.found(address, entry, PATIENCE).await }).await;
    founded.ok_or("the founder died")?.map(drop).map_err(|e| e.to_string())
}

/// Waits until that many machines vote and promise leases.
async fn all_vote(world: &World, members: usize) -> Result<(), String> {
    let begun = crate::world::now();
    loop {
        let voters = world.machines()[0].agent().and_then(|life| life.agent()).map(|agent| {
            agent.consensus.read(|state| {
                let promising: BTreeSet<_> = state.lease_sets.values().next_back().cloned().unwrap_or_default();
                (promising.len(), state.sessions.len(), state.lease_sets.len())
            })
        });
        if voters == Some((members, members, 1)) {
            return Ok(());
        }
        if crate::world::now() - begun > PATIENCE.as_nanos() as u64 {
            return Err(format!("the cluster did not come together: {voters:?}"));
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Submits a command through any member, again and again until it is taken.
async fn submit(world: &World, command: Command) -> Result<(), String> {
    for _ in 0..20 {
        if let Some(life) = members::any_agent(world)
            && let Some(agent) = life.agent()
        {
            let command = command.clone();
            let done = life.ask(PATIENCE, async move { agent.submit(command, "setup".to_owned()).await }).await;
            if let Some(Ok(_)) = done {
                return Ok(());
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
    Err("a command of the setup was not taken".to_owned())
}

fn resource(name: &str, kind: Kind) -> Resource {
    let (start_timeout, stop_timeout) = (Millis::from_secs(5), Millis::from_secs(2));
    Resource { name: ResourceName::new(name).expect("a name"), start_timeout, stop_timeout, kind }
}

/// A package with an address and a program, on some of the members; the first one on all of them.
fn package(world: &World, number: usize, members: usize) -> Package {
    let mut nodes: Vec<NodeName> = world.machines()[..members].iter().map(|machine| machine.name.clone()).collect();
    let mut chance = world.chance();
    for at in (1..nodes.len()).rev() {
        let other = chance.index(at + 1);
        nodes.swap(at, other);
    }
    let least = if number == 0 { nodes.len() } else { nodes.len().min(2) };
    nodes.truncate(least + chance.index(nodes.len() - least + 1));
    let address = IpAddr::from([10, 0, 1, number as u8 + 1]);
    let ip = IpResource { address, prefix: 24, device: "eth0".to_owned() };
    let program = ProgramResource {
        command: vec!["/usr/sbin/serves".to_owned()],
        user: None,
        working_directory: None,
        environment: BTreeMap::new(),
        stop_signal: 15,
        restarts: 3,
        restart_window: Millis::from_secs(60),
    };
    Package {
        name: PackageName::new(format!("p{}", number + 1)).expect("a name"),
        description: String::new(),
        nodes,
        resources: vec![resource("ip", Kind::Ip(ip)), resource("program", Kind::Program(program))],
    }
}

/// Definitions that are only written and read, to judge by: packages that never run.
pub const REGISTERS: usize = 2;

/// The definition of a register with that value.
pub fn register(number: usize, value: u64) -> Package {
    let ip = IpResource { address: IpAddr::from([10, 0, 2, number as u8 + 1]), prefix: 24, device: "eth0".to_owned() };
    Package {
        name: PackageName::new(format!("r{}", number + 1)).expect("a name"),
        description: value.to_string(),
        nodes: vec![NodeName::new("n1").expect("a name")],
        resources: vec![resource("ip", Kind::Ip(ip))],
    }
}

/// A time that never comes.
pub const NEVER: WallMillis = WallMillis(u64::MAX);
