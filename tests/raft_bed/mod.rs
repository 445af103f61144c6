//! A cluster of consensus nodes in one process, generic over the runtime: a seeded network that delays, cuts and loses,
//! nodes that stop, lose power and come back, and a client whose acknowledged commands are remembered.

#![allow(dead_code)] // Each test binary uses its part of the bed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::async_runtime::Instant;
use pkgctl::engine::command::{Command, Entry, NewNode};
use pkgctl::engine::kv::{Change, Key, Txn};
use pkgctl::engine::state::Cluster;
use pkgctl::engine::{ClusterId, FOUNDER, LogIndex, NodeId, Profile, State, WallMillis};
use pkgctl::raft::compact::{KEPT_ENTRIES, KEPT_MAX_BYTES, SNAPSHOT_PERIOD_DEFAULT};
use pkgctl::raft::store::disk::{Disk, Part, RealDisk};
use pkgctl::raft::store::log::LogSize;
use pkgctl::raft::{
    Committed, Consensus, DiskTime, Identity, MembersError, Options, PeerCall, PeerError, Peers, ProposeError,
};

pub const CLUSTER: ClusterId = ClusterId(0xbed);
/// Long enough for any loaded machine; nothing here asserts how fast something is.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub type Node<Rt> = Consensus<Rt, Wire<Rt>>;

/// splitmix64: chance from a seed.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// The network between the nodes.
pub struct Net<Rt: AsyncRuntime> {
    up: Mutex<BTreeMap<NodeId, Node<Rt>>>,
    /// (from, to): messages that way are lost.
    cut: Mutex<BTreeSet<(NodeId, NodeId)>>,
    chance: Mutex<Chance>,
    delay_max: Duration,
    snapshots: Mutex<u64>,
}

/// One node's end of it.
pub struct Wire<Rt: AsyncRuntime> {
    me: NodeId,
    net: Arc<Net<Rt>>,
}

impl<Rt: AsyncRuntime> Clone for Wire<Rt> {
    fn clone(&self) -> Self {
        Self { me: self.me, net: self.net.clone() }
    }
}

impl<Rt: AsyncRuntime> Wire<Rt> {
    async fn deliver(&self, to: NodeId, call: PeerCall, body: Vec<u8>) -> Option<Result<Vec<u8>, ()>> {
        Rt::sleep(self.net.delay()).await;
        if self.net.is_cut(self.me, to) {
            return None;
        }
        let Some(node) = self.net.node(to) else { return Some(Err(())) };
        if call == PeerCall::Snapshot {
            *self.net.snapshots.lock().unwrap() += 1;
        }
        let from = self.me;
        // A node finishes what it was asked even when nobody waits for the answer.
        let answer = Rt::spawn(async move { node.serve(from, call, body).await }).await.ok()?;
        Rt::sleep(self.net.delay()).await;
        if self.net.is_cut(to, self.me) { None } else { Some(Ok(answer)) }
    }
}

impl<Rt: AsyncRuntime> Peers for Wire<Rt> {
    async fn call(
        &self,
        to: NodeId,
        address: SocketAddr,
        call: PeerCall,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<Vec<u8>, PeerError> {
        assert_eq!(address, address_of(to), "calls go where the node is");
        let late = PeerError::Timeout { node: to, within };
        match Rt::timeout(within, self.deliver(to, call, body)).await {
            Ok(Some(Ok(answer))) => Ok(answer),
            Ok(Some(Err(()))) => Err(PeerError::Unreachable { node: to, address, why: "it is down".into() }),
            Ok(None) => {
                // Lost on the way: nobody says so, and the caller waits in vain.
                Rt::sleep(within).await;
                Err(late)
            }
            Err(_) => Err(late),
        }
    }
}

impl<Rt: AsyncRuntime> Net<Rt> {
    fn delay(&self) -> Duration {
        let micros = u64::try_from(self.delay_max.as_micros()).unwrap();
        Duration::from_micros(self.chance.lock().unwrap().below(micros.max(1)))
    }

    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.lock().unwrap().contains(&(from, to))
    }

    fn node(&self, id: NodeId) -> Option<Node<Rt>> {
        self.up.lock().unwrap().get(&id).cloned()
    }
}

/// A disk that fails when told.
#[derive(Default)]
pub struct FailingDisk {
    error: AtomicI32,
}

impl FailingDisk {
    pub fn fail_syncs(&self, error: i32) {
        self.error.store(error, Ordering::Relaxed);
    }
}

impl Disk for FailingDisk {
    fn admit(&self, part: Part, bytes: usize) -> std::io::Result<()> {
        RealDisk.admit(part, bytes)
    }

    fn sync(&self, part: Part, file: &std::fs::File) -> std::io::Result<()> {
        match self.error.load(Ordering::Relaxed) {
            0 => RealDisk.sync(part, file),
            error => Err(std::io::Error::from_raw_os_error(error)),
        }
    }
}

/// The cluster.
pub struct Bed<Rt: AsyncRuntime> {
    root: tempfile::TempDir,
    net: Arc<Net<Rt>>,
    disk_time: DiskTime,
    /// Entries between two snapshots, of nodes started from now on.
    pub snapshot_period: u32,
    disks: Mutex<BTreeMap<NodeId, Arc<FailingDisk>>>,
    /// Acknowledged commands: place in the log and the proposer's stamp.
    acknowledged: Mutex<Vec<(LogIndex, WallMillis)>>,
    next_stamp: Mutex<u64>,
}

pub fn address_of(id: NodeId) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(id.0).unwrap()], 7411))
}

fn digest_of(client: u8) -> String {
    format!("{client:02x}").repeat(32)
}

impl<Rt: AsyncRuntime> Bed<Rt> {
    pub fn new(seed: u64, delay_max: Duration, disk_time: DiskTime) -> Self {
        let net = Net {
            up: Mutex::default(),
            cut: Mutex::default(),
            chance: Mutex::new(Chance::new(seed)),
            delay_max,
            snapshots: Mutex::default(),
        };
        Self {
            root: tempfile::tempdir().unwrap(),
            net: Arc::new(net),
            disk_time,
            snapshot_period: SNAPSHOT_PERIOD_DEFAULT,
            disks: Mutex::default(),
            acknowledged: Mutex::default(),
            next_stamp: Mutex::new(1),
        }
    }

    pub fn dir(&self, id: NodeId) -> PathBuf {
        self.root.path().join(format!("n{id}"))
    }

    pub fn disk(&self, id: NodeId) -> Arc<FailingDisk> {
        self.disks.lock().unwrap().entry(id).or_default().clone()
    }

    /// Starts a node that has a store.
    pub async fn start(&self, id: NodeId) -> Node<Rt> {
        let (disk, disk_time) = (self.disk(id), self.disk_time);
        let options = Options { disk, disk_time, snapshot_period: self.snapshot_period, ..Options::new(self.dir(id)) };
        let node = Consensus::start(options, Wire { me: id, net: self.net.clone() }).await.unwrap();
        self.net.up.lock().unwrap().insert(id, node.clone());
        node
    }

    /// Makes a node's store and starts it.
    pub async fn make(&self, id: NodeId) -> Node<Rt> {
        let identity = Identity { cluster: CLUSTER, node: id, profile: Profile::Default };
        pkgctl::raft::create_store(&self.dir(id), identity).unwrap();
        self.start(id).await
    }

    pub fn node(&self, id: NodeId) -> Node<Rt> {
        self.net.node(id).unwrap_or_else(|| panic!("node {id} is down"))
    }

    pub fn up(&self) -> Vec<Node<Rt>> {
        self.net.up.lock().unwrap().values().cloned().collect()
    }

    /// Ends a node in good order.
    pub async fn stop(&self, id: NodeId) {
        let node = self.net.up.lock().unwrap().remove(&id).unwrap();
        node.shutdown().await;
    }

    /// Ends a node as a crash does.
    pub async fn crash(&self, id: NodeId) {
        let node = self.net.up.lock().unwrap().remove(&id).unwrap();
        node.cut_power().await;
    }

    pub fn cut_way(&self, from: NodeId, to: NodeId) {
        self.net.cut.lock().unwrap().insert((from, to));
    }

    /// Cuts a node off from all others, both ways.
    pub fn isolate(&self, id: NodeId) {
        for other in (1..=9).map(NodeId).filter(|other| *other != id) {
            self.cut_way(id, other);
            self.cut_way(other, id);
        }
    }

    pub fn heal(&self) {
        self.net.cut.lock().unwrap().clear();
    }

    /// Makes a snapshot of all that a node has applied, and waits until its log is as short as that allows.
    pub async fn compact(&self, node: &Node<Rt>) {
        let (upto, deadline) = (node.status().applied, Rt::Instant::now() + PATIENCE);
        while node.status().snapshot < upto {
            assert!(Rt::Instant::now() < deadline, "no snapshot: {:#?}", self.statuses());
            node.trigger_snapshot().await.unwrap();
            Rt::sleep(Duration::from_millis(20)).await;
        }
        let short = |log: LogSize| log.entries < KEPT_ENTRIES + 10 && log.bytes < KEPT_MAX_BYTES + (1 << 20);
        self.eventually("what the snapshot covers is dropped", || short(node.log_size().0)).await;
    }

    /// Parts of snapshots sent so far.
    pub fn snapshot_parts_sent(&self) -> u64 {
        *self.net.snapshots.lock().unwrap()
    }

    /// Makes the first node and the cluster.
    pub async fn found(&self) -> Node<Rt> {
        let node = self.make(FOUNDER).await;
        let cluster = Cluster {
            id: CLUSTER,
            name: "bed".into(),
            profile: Profile::Default,
            ca_certificate: String::new(),
            ca_key: String::new(),
            datagram_keys: BTreeMap::new(),
        };
        let new = NewNode { name: "n1".parse().unwrap(), address: address_of(FOUNDER), links: Vec::new() };
        let command = Command::CreateCluster { cluster, node: new };
        let entry = Entry { wall: WallMillis(0), by: "root@n1".into(), command };
        node.found(address_of(FOUNDER), entry, PATIENCE).await.unwrap();
        node
    }

    /// Adds a node as learner, then voter.
    pub async fn join(&self, id: NodeId) -> Node<Rt> {
        let node = self.make(id).await;
        self.through_the_leader(async |leader: Node<Rt>| leader.add_learner(id, address_of(id)).await).await;
        self.eventually("the learner has caught up", || {
            let caught_up = |status: &pkgctl::raft::RaftStatus| {
                status.peers.get(&id).is_some_and(|peer| peer.matched == status.last_log)
            };
            self.statuses().iter().any(caught_up)
        })
        .await;
        self.through_the_leader(async |leader: Node<Rt>| leader.promote(id).await).await;
        node
    }

    /// Changes members through whoever leads: on a busy machine that may change at any time.
    async fn through_the_leader(&self, change: impl AsyncFn(Node<Rt>) -> Result<LogIndex, MembersError>) {
        let deadline = Rt::Instant::now() + PATIENCE;
        loop {
            match change(self.leader().await).await {
                Ok(_) => return,
                Err(e @ (MembersError::NotLeader { .. } | MembersError::Busy | MembersError::Behind { .. })) => {
                    assert!(Rt::Instant::now() < deadline, "{e}: {:#?}", self.statuses());
                    Rt::sleep(Duration::from_millis(20)).await;
                }
                Err(e) => panic!("{e}"),
            }
        }
    }

    /// A cluster of that many voters.
    pub async fn cluster(&self, voters: u64) {
        self.found().await;
        for id in 2..=voters {
            self.join(NodeId(id)).await;
        }
    }

    /// Whoever leads, once all that are up agree and it has proved itself.
    pub async fn leader(&self) -> Node<Rt> {
        let deadline = Rt::Instant::now() + PATIENCE;
        loop {
            for node in self.up() {
                if node.status().is_leader() && node.linearize(Duration::from_millis(500)).await.is_ok() {
                    return node;
                }
            }
            assert!(Rt::Instant::now() < deadline, "no leader: {:#?}", self.statuses());
            Rt::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn statuses(&self) -> Vec<pkgctl::raft::RaftStatus> {
        self.up().iter().map(Consensus::status).collect()
    }

    /// Waits for something to become true.
    pub async fn eventually(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Rt::Instant::now() + PATIENCE;
        while !holds() {
            assert!(Rt::Instant::now() < deadline, "never: {what}: {:#?}", self.statuses());
            Rt::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A command whose trace in the state can be found again.
    pub fn command(&self, client: u8) -> Entry {
        let stamp = {
            let mut next = self.next_stamp.lock().unwrap();
            *next += 1;
            WallMillis(*next)
        };
        let command = Command::IssueToken { digest: digest_of(client), expires: WallMillis(stamp.0 + 1_000_000) };
        Entry { wall: stamp, by: format!("client{client}"), command }
    }

    /// A command that gives a key a value.
    pub fn put(key: &str, value: Vec<u8>) -> Entry {
        let then = vec![Change::Put { key: Key::new(key).unwrap(), value: value.into() }];
        Entry { wall: WallMillis(1), by: "client".into(), command: Command::Kv(Txn { then, ..Txn::default() }) }
    }

    /// Sends a command through a node and remembers it if it was acknowledged.
    pub async fn submit(&self, via: &Node<Rt>, client: u8, within: Duration) -> Result<Committed, ProposeError> {
        let entry = self.command(client);
        let stamp = entry.wall;
        let outcome = via.submit(entry, within).await;
        if let Ok(committed) = &outcome {
            self.acknowledged.lock().unwrap().push((committed.index, stamp));
        }
        outcome
    }

    /// Sends that many commands through a node; all must be acknowledged.
    pub async fn write(&self, via: &Node<Rt>, count: u64) {
        for _ in 0..count {
            self.submit(via, 1, PATIENCE).await.unwrap();
        }
    }

    pub fn acknowledged(&self) -> Vec<(LogIndex, WallMillis)> {
        self.acknowledged.lock().unwrap().clone()
    }

    /// Everything acknowledged is in every node's state, and all states are equal.
    pub async fn all_agree(&self) {
        let leader = self.leader().await;
        let last = leader.linearize(PATIENCE).await.unwrap();
        let mut states: Vec<Arc<State>> = Vec::new();
        for node in self.up() {
            node.applied(last, PATIENCE).await.unwrap_or_else(|e| panic!("{e}: {:#?}", self.statuses()));
            self.holds_all_acknowledged(&node.state());
            states.push(node.state());
        }
        // A write under way may have reached one and not yet another; states at one place are equal (I6).
        for pair in states.windows(2).filter(|pair| pair[0].applied == pair[1].applied) {
            assert_eq!(pair[0], pair[1]);
        }
    }

    /// The ledger holds every acknowledged command at its place, as far back as it goes.
    pub fn holds_all_acknowledged(&self, state: &State) {
        let Some(oldest) = state.events.front().map(|event| event.index) else {
            assert!(self.acknowledged().is_empty());
            return;
        };
        let ledger: BTreeMap<LogIndex, WallMillis> = state.events.iter().map(|e| (e.index, e.wall)).collect();
        for (index, stamp) in self.acknowledged().into_iter().filter(|(index, _)| *index >= oldest) {
            assert_eq!(ledger.get(&index), Some(&stamp), "acknowledged entry {index} is gone");
        }
    }
}
