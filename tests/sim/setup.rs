//! The cluster that every plot begins with: its nodes have joined, one package is defined and told to run.

use std::collections::BTreeMap;

use pkgctl::engine::command::{Entry, NewNode};
use pkgctl::engine::state::{Cluster, DatagramKey, State};
use pkgctl::engine::{ClusterId, Command, NodeId, Nonce, Profile, WallMillis};
use pkgctl::package::{IpResource, Kind, Millis, NodeName, Package, PackageName, Resource, ResourceName};

use super::MS;
use super::clock::Clock;
use super::node::Node;
use super::world::{Event, Item, World};

/// The one package.
pub fn package() -> PackageName {
    PackageName::new("p").expect("a name")
}

/// Lease time of every session.
pub const TTL: Millis = Millis(400);
/// Time between two renewals.
pub const RENEW_EVERY_MS: u64 = 40;

fn name(node: usize) -> NodeName {
    NodeName::new(format!("n{}", node + 1)).expect("a name")
}

fn new_node(node: usize) -> NewNode {
    let address = format!("10.0.0.{}:7400", node + 1).parse().expect("an address");
    NewNode { name: name(node), address, links: Vec::new() }
}

fn definition(nodes: usize) -> Package {
    let ip = IpResource { address: "10.0.0.100".parse().expect("an address"), prefix: 24, device: "eth0".into() };
    let resource = Resource {
        name: ResourceName::new("ip").expect("a name"),
        start_timeout: Millis(1000),
        stop_timeout: Millis(1000),
        kind: Kind::Ip(ip),
    };
    Package {
        name: package(),
        description: String::new(),
        nodes: (0..nodes).map(name).collect(),
        resources: vec![resource],
    }
}

fn cluster() -> Cluster {
    Cluster {
        id: ClusterId(1),
        name: "sim".into(),
        profile: Profile::Fast,
        ca_certificate: String::new(),
        ca_key: String::new(),
        datagram_keys: BTreeMap::from([(1, DatagramKey([0; 32]))]),
    }
}

impl World {
    /// Writes the beginning of the log and starts the nodes.
    pub fn set_up(&mut self) {
        let count = self.script.nodes;
        self.say(Command::CreateCluster { cluster: cluster(), node: new_node(0) });
        for node in 1..count {
            let digest = format!("{node:064x}");
            self.say(Command::IssueToken { digest: digest.clone(), expires: WallMillis(u64::MAX) });
            self.say(Command::AddNode { node: new_node(node), token: digest, request: Nonce(node as u64) });
        }
        let ids: Vec<NodeId> = self.state.nodes.keys().copied().collect();
        let voters = self.script.voters.iter().map(|node| ids[*node]).collect();
        self.append(Item::Voters(voters));
        self.say(Command::DefinePackage { definition: definition(count), replaces: None });
        self.say(Command::RunPackage { package: package(), node: None });
        for (node, id) in ids.into_iter().enumerate() {
            let clock = Clock::draw(self.script.clocks, node, &mut self.rng);
            self.nodes.push(Node::new(id, clock));
        }
        for node in 0..count {
            let at = self.rng.below(20 * MS);
            self.schedule(at, Event::Start { node });
        }
        self.schedule(30 * MS, Event::Elect);
        for (at_ms, fault) in std::mem::take(&mut self.script.faults) {
            self.schedule(at_ms * MS, Event::Fault(fault));
        }
    }

    fn say(&mut self, command: Command) {
        self.append(Item::Command(Entry { wall: WallMillis(0), by: "setup".into(), command }));
    }

    /// A node comes up: a new keeper life, and an agent that has some prefix of the log on its disk.
    pub fn start(&mut self, node: usize) {
        let kept = self.rng.below(self.log.len() as u64 + 1);
        let kept = kept.max(self.nodes[node].state.applied.0.min(kept + 3));
        self.nonces += 1;
        let (nonce, state) = (Nonce(self.nonces), self.prefix(kept));
        let (now, rules) = (self.now, self.rules);
        self.nodes[node].start(nonce, now, rules, state);
        self.trace.line(now, format_args!("n{} starts with {nonce:?} and {kept} entries", node + 1));
        self.attach(node);
    }

    /// The state after that many entries.
    pub fn prefix(&self, entries: u64) -> State {
        let mut state = State::default();
        for (at, item) in self.log.iter().enumerate().take(entries as usize) {
            let index = pkgctl::engine::LogIndex(at as u64 + 1);
            super::world::apply_item(&self.rules, &mut state, index, item);
        }
        state
    }
}
