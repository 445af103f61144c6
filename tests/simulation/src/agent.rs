//! An agent's life: the shipped agent and consensus, on this machine's clock, disk and network.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::channel::oneshot;
use openraft::AsyncRuntime;
use pkgctl::agent::platform::Platform;
use pkgctl::agent::{Agent, Parts};
use pkgctl::engine::state::DatagramKey;
use pkgctl::engine::{NodeId, Nonce, VoterTime, WallMillis};
use pkgctl::package::PackageName;
use pkgctl::raft::{Consensus, DiskTime, Identity, Options, PeerCall, PeerError, Peers, StartError};
use pkgctl::resource::{Credentials, Trouble};

use crate::link;
use crate::machine::Machine;
use crate::process::Process;
use crate::rt::HostRt;
use crate::table::SimTable;
use crate::world::{World, now};

/// The shipped agent in this world.
pub type SimAgent = Agent<SimPlatform>;

/// The world around an agent.
#[derive(Clone)]
pub struct SimPlatform {
    world: Arc<World>,
    machine: Arc<Machine>,
}

impl Platform for SimPlatform {
    type Rt = HostRt;
    type Peers = SimPeers;

    fn now(&self) -> VoterTime {
        self.machine.times().voter
    }

    fn wall(&self) -> WallMillis {
        self.machine.wall()
    }

    fn nonce(&self) -> Nonce {
        Nonce(self.world.chance().next())
    }

    fn datagram_key(&self) -> DatagramKey {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.world.chance().next().to_be_bytes());
        DatagramKey(key)
    }

    fn credentials(&self, _user: &str) -> Result<Credentials, Trouble> {
        Ok(Credentials { uid: 0, gid: 0, groups: Vec::new() })
    }

    fn log_file(&self, package: &PackageName) -> String {
        format!("/log/{package}.log")
    }

    fn turned(&self, _status: &str) {}

    fn log_line(&self, package: &PackageName, line: &str) {
        self.world.log(format_args!("n{} {package}: {line}", self.machine.index + 1));
    }
}

/// How an agent's life ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its store was refused.
    Refused(String),
    /// The disk refused; it is tried again.
    NoDisk(String),
    /// It retired.
    Retired {
        /// Why.
        why: String,
        /// The disk failed, and not for want of room.
        disk: bool,
    },
}

#[derive(Default)]
struct Life {
    agent: Option<SimAgent>,
    ended: Option<Ended>,
}

/// An agent that runs.
#[derive(Clone)]
pub struct AgentLife {
    /// Its process.
    pub process: Arc<Process>,
    life: Arc<Mutex<Life>>,
}

impl AgentLife {
    fn lock(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What others may ask of it, once it serves.
    pub fn agent(&self) -> Option<SimAgent> {
        self.lock().agent.clone()
    }

    /// How it ended.
    pub fn ended(&self) -> Option<Ended> {
        self.lock().ended.clone()
    }

    /// Ends it where it stands.
    pub fn kill(&self) {
        self.process.kill();
        let agent = self.lock().agent.take();
        drop(agent);
    }

    /// Has it do something; none if it was killed meanwhile, or did not answer in time.
    pub async fn ask<T: Send + 'static>(
        &self,
        within: Duration,
        what: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        drop(self.process.spawn(async move {
            let _ = reply.send(what.await);
        }));
        HostRt::timeout(within, answer).await.ok()?.ok()
    }
}

/// Starts an agent's life on a machine that has a store.
pub fn start(world: &Arc<World>, machine: &Arc<Machine>, disk_takes: Duration) -> AgentLife {
    let process = Process::new(machine.ppm(), world.new_chance());
    let life = AgentLife { process, life: Arc::default() };
    let (world, machine, mine) = (world.clone(), machine.clone(), life.clone());
    drop(life.process.spawn(async move {
        let ended = live(&world, &machine, &mine, disk_takes).await;
        world.log(format_args!("n{} agent ends: {ended:?}", machine.index + 1));
        let mut life = mine.lock();
        life.agent = None;
        life.ended = Some(ended);
    }));
    life
}

async fn live(world: &Arc<World>, machine: &Arc<Machine>, life: &AgentLife, disk_takes: Duration) -> Ended {
    let identity = match Identity::read::<SimTable>(&machine.dir) {
        Ok(Some(identity)) => identity,
        other => return Ended::Refused(format!("no identity: {other:?}")),
    };
    let peers = SimPeers { world: world.clone(), me: machine.index, node: identity.node };
    let options = Options {
        dir: machine.dir.clone(),
        disk: machine.disk.clone(),
        disk_time: DiskTime::Simulated(disk_takes),
        rules: world.rules(),
        snapshot_period: pkgctl::raft::compact::SNAPSHOT_PERIOD_DEFAULT,
    };
    let consensus = match Consensus::<HostRt, SimPeers>::start_on::<SimTable>(options, peers.clone()).await {
        Ok(consensus) => consensus,
        Err(StartError::Store(pkgctl::raft::OpenError::Io { why, .. })) => return Ended::NoDisk(why),
        Err(error) => return Ended::Refused(error.to_string()),
    };
    let agent = Agent::start(Parts {
        http: None,
        me: identity.node,
        name: machine.name.clone(),
        address: machine.address,
        platform: SimPlatform { world: world.clone(), machine: machine.clone() },
        peers,
        consensus: consensus.clone(),
        keeper: link::open(machine.clone()),
        rules: world.rules(),
    });
    world.log(format_args!("n{} agent serves as node {}", machine.index + 1, identity.node));
    life.lock().agent = Some(agent.clone());
    let failure = agent.retired().await;
    consensus.shutdown().await;
    Ended::Retired { why: failure.why, disk: failure.disk }
}

/// The way to other agents.
#[derive(Clone)]
pub struct SimPeers {
    world: Arc<World>,
    me: usize,
    node: NodeId,
}

/// A stream's segment that was lost is sent again after so long, and after twice as long each further time.
const RETRANSMIT: Duration = Duration::from_millis(200);
const RETRANSMIT_MAX: Duration = Duration::from_secs(2);

/// Of a thousand requests so many arrive, however late, though whoever made them has given up or died: what was written
/// to a socket is the kernel's.
const OUTLIVE: u64 = 100;

/// Why a request has no answer.
enum Lost {
    /// Nobody listens there.
    Refused,
    /// Whoever took it is gone.
    Broken,
}

impl SimPeers {
    async fn request(&self, there: &Arc<Machine>, call: PeerCall, body: Vec<u8>) -> Result<Vec<u8>, Lost> {
        let outlives = self.world.chance().chance(OUTLIVE);
        if !outlives {
            return self.deliver(there, call, body).await;
        }
        let (reply, answer) = oneshot::channel();
        let (peers, there) = (self.clone(), there.clone());
        crate::world::spawn(async move {
            let _ = reply.send(peers.deliver(&there, call, body).await);
        });
        answer.await.unwrap_or(Err(Lost::Broken))
    }

    async fn deliver(&self, there: &Arc<Machine>, call: PeerCall, body: Vec<u8>) -> Result<Vec<u8>, Lost> {
        while self.world.net.is_stalled(self.me) {
            crate::world::sleep(RETRANSMIT).await;
        }
        self.travel(self.me, there.index).await;
        self.world.mix(&[now(), self.me as u64, there.index as u64, call as u64]);
        let Some(life) = there.agent() else {
            return if there.has_power() { Err(Lost::Refused) } else { futures::future::pending().await };
        };
        let Some(agent) = life.agent() else { return Err(Lost::Refused) };
        let (from, (reply, answer)) = (self.node, oneshot::channel());
        drop(life.process.spawn(async move {
            let _ = reply.send(serve(&agent, from, call, body).await);
        }));
        drop(life);
        let answer = answer.await.ok().flatten().ok_or(Lost::Broken)?;
        self.travel(there.index, self.me).await;
        Ok(answer)
    }

    /// Nobody says so when nothing passes; what was sent arrives when something does again, however late.
    async fn travel(&self, from: usize, to: usize) {
        let mut again = RETRANSMIT;
        loop {
            match self.world.net.stream(from, to) {
                Some(delay) => return crate::world::sleep(delay).await,
                None => crate::world::sleep(again).await,
            }
            again = (again * 2).min(RETRANSMIT_MAX);
        }
    }
}

/// As the shipped listener and its calls: members only, and what is for the agent goes to the agent.
async fn serve(agent: &SimAgent, from: NodeId, call: PeerCall, body: Vec<u8>) -> Option<Vec<u8>> {
    if !agent.consensus.read(|state| state.admits(from)) {
        return None;
    }
    Some(match call {
        PeerCall::Ask => agent.answer(&body).await,
        other => agent.consensus.serve(from, other, body).await,
    })
}

impl Peers for SimPeers {
    async fn call(
        &self,
        to: NodeId,
        address: SocketAddr,
        call: PeerCall,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<Vec<u8>, PeerError> {
        let unreachable = |why: &str| PeerError::Unreachable { node: to, address, why: why.to_owned() };
        let there = self.world.machines().iter().find(|machine| machine.address == address);
        let there = there.ok_or_else(|| unreachable("no such machine"))?;
        match HostRt::timeout(within, self.request(there, call, body)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Lost::Refused)) => Err(unreachable("connection refused")),
            Ok(Err(Lost::Broken)) => Err(PeerError::Broken { node: to, why: "it was closed".to_owned() }),
            Err(_) => Err(PeerError::Timeout { node: to, within }),
        }
    }
}
