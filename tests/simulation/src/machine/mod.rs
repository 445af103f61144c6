//! One machine: clock, disk, kernel, and the processes that its init keeps up.
//!
//! - [`power`]: on and off; `init`: what systemd does.

pub mod init;
pub mod power;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pkgctl::engine::{HolderTime, NodeId, WallMillis};
use pkgctl::keeper::core::Now;
use pkgctl::keeper::protocol::Configuration;
use pkgctl::package::NodeName;
use pkgctl::raft::store::identity::IDENTITY_FILE;

use crate::agent::AgentLife;
use crate::clock::Clock;
use crate::disk::SimDisk;
use crate::keeper::Keeper;
use crate::kernel::Kernel;
use crate::world::now;

/// A machine.
pub struct Machine {
    /// Its place among the machines.
    pub index: usize,
    /// Its name.
    pub name: NodeName,
    /// Where it answers.
    pub address: SocketAddr,
    /// Its clocks.
    pub clock: Clock,
    /// Its disk.
    pub disk: Arc<SimDisk>,
    /// Its state directory.
    pub dir: PathBuf,
    kernel: Mutex<Kernel>,
    running: Mutex<Running>,
    breaks: (async_channel::Sender<()>, async_channel::Receiver<()>),
}

/// What runs on it.
#[derive(Default)]
struct Running {
    power: bool,
    /// Counts power-ons, so that what belonged to an earlier one ends.
    boot: u64,
    frozen: bool,
    keeper: Option<Keeper>,
    agent: Option<AgentLife>,
    /// Which node it is; none before it has joined.
    node: Option<NodeId>,
    /// Which node its keeper has been told it is, and the datagram keys.
    configured: Option<Box<Configuration>>,
    /// An operator has not yet looked after its failed disk.
    out_of_order: bool,
    /// The link between its agent and its keeper is not made again.
    link_held: bool,
    disk_takes: Duration,
    wall_offset_ms: i64,
}

/// The wall clock at the beginning of every run, in milliseconds.
const WALL_ORIGIN_MS: i64 = 1_800_000_000_000;

impl Machine {
    /// A machine without power.
    pub fn new(index: usize, clock: Clock, dir: PathBuf) -> Self {
        let name = NodeName::new(format!("n{}", index + 1)).expect("a name");
        let address = SocketAddr::from(([10, 0, 0, index as u8 + 1], 7420));
        let running = Running { disk_takes: Duration::from_micros(300), ..Running::default() };
        let (kernel, running) = (Mutex::default(), Mutex::new(running));
        let breaks = async_channel::bounded(1);
        Self { index, name, address, clock, disk: Arc::default(), dir, kernel, running, breaks }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its kernel.
    pub fn kernel(&self) -> MutexGuard<'_, Kernel> {
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its clocks, read now.
    pub fn times(&self) -> Now {
        Now { holder: self.clock.holder(now()), voter: self.clock.voter(now()) }
    }

    /// Its wall clock.
    pub fn wall(&self) -> WallMillis {
        let ms = WALL_ORIGIN_MS + (now() / 1_000_000) as i64 + self.running().wall_offset_ms;
        WallMillis(ms.max(0) as u64)
    }

    /// Somebody sets its wall clock.
    pub fn step_wall(&self, by_ms: i64) {
        self.running().wall_offset_ms += by_ms;
    }

    /// How far its timers' rate is off, in millionths.
    pub fn ppm(&self) -> i64 {
        let span = 1_000_000_000_000;
        self.clock.voter(span).0.wrapping_sub(self.clock.voter(0).0) as i64 / 1_000_000 - 1_000_000
    }

    /// By which part its slower clock lags behind the faster one.
    pub fn slowness(&self) -> f64 {
        let span = 1_000_000_000_000;
        let fast = self.clock.holder(span).since(self.clock.holder(0)).as_secs_f64();
        let slow = self.clock.voter(span).since(self.clock.voter(0)).as_secs_f64();
        1.0 - slow / fast
    }

    /// The true time of a reading of its holder's clock.
    pub fn instant(&self, reading: HolderTime) -> u64 {
        self.clock.holder_instant(reading)
    }

    /// Breaks the link between its agent and its keeper; it is made again.
    pub fn break_link(&self) {
        let _ = self.breaks.0.try_send(());
    }

    /// Breaks it and keeps it broken, or lets it be made again.
    pub fn hold_link(&self, held: bool) {
        self.running().link_held = held;
        if held {
            self.break_link();
        }
    }

    /// Whether it is kept broken.
    pub fn is_link_held(&self) -> bool {
        self.running().link_held
    }

    /// Waits until somebody breaks it.
    pub async fn link_broken(&self) {
        let _ = self.breaks.1.recv().await;
    }

    /// Its keeper, if one runs.
    pub fn keeper(&self) -> Option<Keeper> {
        self.running().keeper.clone()
    }

    /// Its agent, if one runs.
    pub fn agent(&self) -> Option<AgentLife> {
        self.running().agent.clone()
    }

    /// Whether it has power.
    pub fn has_power(&self) -> bool {
        self.running().power
    }

    /// Which node it is.
    pub fn node(&self) -> Option<NodeId> {
        self.running().node
    }

    /// It has become that node, or none.
    pub fn set_node(&self, node: Option<NodeId>) {
        self.running().node = node;
    }

    /// Its keeper has been told which node it is.
    pub fn configured(&self, configuration: Box<Configuration>) {
        self.running().configured = Some(configuration);
    }

    /// Which node its keeper knows it is.
    pub fn configured_as(&self) -> Option<NodeId> {
        self.running().configured.as_ref().map(|as_told| as_told.node)
    }

    /// The key that its keeper seals with.
    pub fn sealing_key(&self) -> Option<u32> {
        self.running().configured.as_ref().and_then(|as_told| as_told.sealing_key)
    }

    /// The newest key that its keeper has.
    pub fn newest_key(&self) -> Option<u32> {
        self.running().configured.as_ref()?.keys.last_key_value().map(|(id, _)| *id)
    }

    /// Whether its keeper accepts what is sealed with that key.
    pub fn accepts_key(&self, key: u32) -> bool {
        self.running().configured.as_ref().is_some_and(|as_told| as_told.keys.contains_key(&key))
    }

    /// Whether it has a store, so that an agent can be a member here.
    pub fn has_store(&self) -> bool {
        self.dir.join(IDENTITY_FILE).exists()
    }

    /// Its disk answers after so long from the agent's next start on.
    pub fn set_disk_takes(&self, takes: Duration) {
        self.running().disk_takes = takes;
    }
}
