//! Tests of `apply`, a file per group of commands, over one small cluster whose log they write.

mod cluster;
mod fallback;
mod fence;
mod keys;
mod kv;
mod lease;
mod node;
mod owner;
mod package;
mod total;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use super::{Applied, apply, apply_membership, removal_waits_for_nobody};
use crate::engine::command::{Entry, NewNode, ReleaseOutcome, StopScope, Takeover};
use crate::engine::event::Timeline;
use crate::engine::state::{Cluster, DatagramKey, Phase};
use crate::engine::{
    ClusterId, Command, FOUNDER, Incarnation, LogIndex, NodeId, Nonce, Profile, Rejected, Reply, SessionId, SetId,
    State, Token, WallMillis,
};
use crate::package::{
    IpResource, Kind, Millis, NodeName, Package, PackageName, ProgramResource, Resource, ResourceName,
};

pub(crate) use fallback::alone;

/// Three nodes up, one lease set of all of them, a session each, one package defined.
pub(crate) struct Log {
    pub state: State,
    pub nodes: Vec<NodeId>,
    pub sessions: Vec<SessionId>,
    pub lives: Vec<Incarnation>,
    pub set: SetId,
}

pub(super) fn node_name(at: usize) -> NodeName {
    NodeName::new(format!("n{}", at + 1)).unwrap()
}

pub(super) fn new_node(at: usize) -> NewNode {
    let address = format!("10.0.0.{}:7400", at + 1).parse().unwrap();
    NewNode { name: node_name(at), address, links: Vec::new() }
}

pub(super) fn cluster() -> Cluster {
    Cluster {
        id: ClusterId(7),
        name: "test".into(),
        profile: Profile::Default,
        ca_certificate: String::new(),
        ca_key: String::new(),
        datagram_keys: BTreeMap::from([(1, DatagramKey([1; 32]))]),
    }
}

pub(super) fn digest(of: u8) -> String {
    format!("{of:064x}")
}

pub(in crate::engine) fn p1() -> PackageName {
    PackageName::new("p1").unwrap()
}

pub(super) fn package(name: &str, address: &str, nodes: &[usize]) -> Package {
    let resource = |name: &str, kind| Resource {
        name: ResourceName::new(name).unwrap(),
        start_timeout: Millis(1000),
        stop_timeout: Millis(1000),
        kind,
    };
    let program = ProgramResource {
        command: vec!["/bin/true".into()],
        user: None,
        working_directory: None,
        environment: BTreeMap::new(),
        stop_signal: 15,
        restarts: 1,
        restart_window: Millis(1000),
    };
    let ip = IpResource { address: address.parse().unwrap(), prefix: 24, device: "eth0".into() };
    Package {
        name: PackageName::new(name).unwrap(),
        description: String::new(),
        nodes: nodes.iter().map(|n| node_name(*n)).collect(),
        resources: vec![resource("ip", Kind::Ip(ip)), resource("program", Kind::Program(program))],
    }
}

impl Log {
    pub fn empty() -> Self {
        let (nodes, sessions, lives) = (Vec::new(), Vec::new(), Vec::new());
        Self { state: State::default(), nodes, sessions, lives, set: SetId(0) }
    }

    pub fn three() -> Self {
        let mut log = Self::empty();
        assert_eq!(log.say(Command::CreateCluster { cluster: cluster(), node: new_node(0) }), Reply::Node(FOUNDER));
        log.nodes.push(FOUNDER);
        for at in 1..3 {
            log.say(Command::IssueToken { digest: digest(1), expires: WallMillis(1_000_000) });
            let request = Nonce(100 + at as u64);
            let reply = log.say(Command::AddNode { node: new_node(at), token: digest(1), request });
            let Reply::Node(id) = reply else { panic!("{reply:?}") };
            log.nodes.push(id);
        }
        let index = log.next();
        apply_membership(&mut log.state, index, log.nodes.iter().copied().collect());
        for at in 0..3 {
            let (life, session) = (log.up(at), log.register(at, None));
            log.lives.push(life);
            log.sessions.push(session);
        }
        let members: BTreeSet<NodeId> = log.nodes.iter().copied().collect();
        let reply = log.say(Command::AddLeaseSet { members, after: None });
        let Reply::Set(set) = reply else { panic!("{reply:?}") };
        log.set = set;
        log.say(Command::DefinePackage { definition: package("p1", "10.0.0.100", &[0, 1]), replaces: None });
        log
    }

    pub fn next(&self) -> LogIndex {
        LogIndex(self.state.applied.0 + 1)
    }

    pub fn apply(&mut self, command: Command) -> Applied {
        let index = self.next();
        let before = self.state.clone();
        let entry = Entry { wall: WallMillis(index.0 * 1000), by: "root@n1".into(), command };
        let applied = apply(&mut self.state, index, &entry);
        if let Reply::Rejected(_) = applied.reply {
            assert_eq!(State { applied: index, ..before }, self.state, "a refusal changes nothing");
            assert_eq!(applied.facts, []);
        }
        applied
    }

    pub fn say(&mut self, command: Command) -> Reply {
        self.apply(command).reply
    }

    pub fn refused(&mut self, command: Command) -> Rejected {
        match self.say(command) {
            Reply::Rejected(why) => why,
            other => panic!("should be refused, got {other:?}"),
        }
    }

    pub fn up(&mut self, at: usize) -> Incarnation {
        let reply = self.say(Command::VoterUp { voter: self.nodes[at], nonce: Nonce(at as u64) });
        let Reply::Incarnation(incarnation) = reply else { panic!("{reply:?}") };
        incarnation
    }

    pub fn register(&mut self, at: usize, supersedes: Option<SessionId>) -> SessionId {
        let (node, nonce) = (self.nodes[at], Nonce(at as u64));
        let reply = self.say(Command::Register { node, nonce, ttl: Millis(1500), supersedes });
        let Reply::Session(session) = reply else { panic!("{reply:?}") };
        session
    }

    pub fn run(&mut self) {
        assert_eq!(self.say(Command::RunPackage { package: p1(), node: None }), Reply::Done);
    }

    pub fn assign(&mut self, at: usize) -> Token {
        let last = self.state.packages[&p1()].last_token;
        let reply = self.say(Command::Assign { package: p1(), last, session: self.sessions[at], why: "first".into() });
        let Reply::Token(token) = reply else { panic!("{reply:?}") };
        token
    }

    pub fn release(&mut self, at: usize, token: Token, outcome: ReleaseOutcome) -> Reply {
        self.say(Command::Release { package: p1(), token, session: self.sessions[at], outcome })
    }

    pub fn stop(&mut self, scope: StopScope) -> Reply {
        self.say(Command::StopPackage { package: p1(), scope })
    }

    pub fn report(&mut self, token: Token, phase: Phase) -> Reply {
        let note = format!("{phase:?}");
        self.say(Command::Report { package: p1(), token, phase, resources: Vec::new(), after: Millis(5), note })
    }

    /// Expires the session of `at`, agreed by the others, with takeovers as given.
    pub fn expire(&self, at: usize, voters: &[usize], moves: Vec<Takeover>) -> Command {
        let agreed = voters.iter().map(|v| (self.nodes[*v], self.lives[*v])).collect();
        Command::ExpireSession { session: self.sessions[at], agreed, moves, timeline: Timeline::default() }
    }

    pub fn takeover(&self, token: Token, to: usize) -> Takeover {
        Takeover { package: p1(), token, to: self.sessions[to], why: "n1 is silent".into() }
    }

    pub fn owner(&self) -> Option<(NodeId, Token)> {
        self.state.packages[&p1()].owner.as_ref().map(|o| (o.node, o.token))
    }

    pub fn whats(&self, since: LogIndex) -> Vec<&str> {
        self.state.events.iter().filter(|e| e.index > since).map(|e| e.what.as_str()).collect()
    }
}
