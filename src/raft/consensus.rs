//! Consensus on one node: opened from its directory, asked and told by the agent, ended in good order.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use openraft::async_runtime::{Instant, Select2, WatchReceiver};
use openraft::{AsyncRuntime, Raft};

use super::applied::AppliedState;
use super::arrival::Arrivals;
pub use super::bind::disk_time::DiskTime;
use super::bind::log::{RaftLog, durable};
use super::bind::machine::{Machine, Shared};
use super::bind::network::Network;
use super::bind::settings;
use super::bind::types::Types;
use super::commit_mark::keep_marked;
use super::compact::{SNAPSHOT_PERIOD_DEFAULT, Sendings, keep_compact};
use super::feed::{Changes, Feed};
use super::peers::Peers;
use super::record::LogMark;
use super::status::{LeadershipWatch, RaftStatus, status_of};
use super::store::disk::{Disk, RealDisk};
use super::store::fault::Health;
use super::store::identity::{Identity, create};
use super::store::load::{OpenError, OpenStore, open};
use super::store::log::{LogSize, LogStore};
use super::store::snapshot::SnapshotFiles;
use super::store::{Chosen, Table};
use super::watched::{Watch, Watched};
use crate::engine::kv::Range;
use crate::engine::lease::Rules;
use crate::engine::{LogIndex, NodeId, Profile, State};

/// How often it is looked whether those who watch have gone.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How a node's consensus runs.
#[derive(Clone)]
pub struct Options {
    /// The node's state directory, which holds `node.json` and the store.
    pub dir: PathBuf,
    /// The disk; tests inject errors here.
    pub disk: Arc<dyn Disk>,
    /// Where waiting for it happens.
    pub disk_time: DiskTime,
    /// The lease rules that `apply` holds: all of them; simulations drop one.
    pub rules: Rules,
    /// Entries between two snapshots, where size does not decide.
    pub snapshot_period: u32,
}

impl Options {
    /// On the real disk, on threads.
    pub fn new(dir: PathBuf) -> Self {
        let (disk, disk_time) = (Arc::new(RealDisk), DiskTime::Threads);
        Self { dir, disk, disk_time, rules: Rules::ALL, snapshot_period: SNAPSHOT_PERIOD_DEFAULT }
    }
}

/// Why consensus did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store was refused.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The rest failed.
    #[error("Raft does not start on the store in {}: {why}", .dir.display())]
    Raft {
        /// The state directory.
        dir: PathBuf,
        /// What openraft or the system said.
        why: String,
    },
}

/// Why a node can take part no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What happened, what still holds, and what to do.
    pub why: String,
    /// The disk failed, and not for want of room: the store must not be opened again before somebody has looked at it.
    pub disk: bool,
}

/// Makes the empty store of a new node; see [`create`].
///
/// # Errors
/// When the directory already belongs to a node, or the disk refuses.
pub fn create_store(dir: &Path, identity: Identity) -> Result<(), OpenError> {
    create_store_on::<Chosen>(dir, identity, Arc::new(RealDisk))
}

/// The same on another engine or disk than this build's.
///
/// # Errors
/// As for [`create_store`].
pub fn create_store_on<T: Table>(dir: &Path, identity: Identity, disk: Arc<dyn Disk>) -> Result<(), OpenError> {
    create::<T>(dir, identity, disk)
}

/// Which node the directory belongs to; none before it has joined a cluster.
///
/// # Errors
/// When `node.json` is damaged or of another build.
pub fn identity(dir: &Path) -> Result<Option<Identity>, OpenError> {
    Identity::read::<Chosen>(dir)
}

/// Consensus on one node. Clones share it.
pub struct Consensus<Rt: AsyncRuntime, P: Peers> {
    pub(super) inner: Arc<Inner<Rt, P>>,
}

impl<Rt: AsyncRuntime, P: Peers> Clone for Consensus<Rt, P> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

pub(super) struct Inner<Rt: AsyncRuntime, P: Peers> {
    pub(super) identity: Identity,
    pub(super) raft: Raft<Types<Rt>, Machine<Rt>>,
    pub(super) peers: P,
    /// Until it is over, a restarted voter neither votes nor campaigns.
    pub(super) quiet: Arc<AtomicBool>,
    pub(super) stall: super::fit::StallWatch<Rt>,
    pub(super) log: LogStore,
    pub(super) snapshots: SnapshotFiles,
    pub(super) arrivals: Arrivals,
    /// Of whoever makes snapshots; closed at the end.
    bell: async_channel::Sender<()>,
    pub(super) health: Health,
    pub(super) shared: Arc<Shared>,
}

impl<Rt: AsyncRuntime, P: Peers> Consensus<Rt, P> {
    /// Opens the store and takes part in Raft.
    ///
    /// # Errors
    /// When the store is refused, or openraft does not start on it.
    pub async fn start(options: Options, peers: P) -> Result<Self, StartError> {
        Self::start_on::<Chosen>(options, peers).await
    }

    /// The same on another storage engine than this build's.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub async fn start_on<T: Table>(options: Options, peers: P) -> Result<Self, StartError> {
        let Options { dir, disk, disk_time, rules, snapshot_period } = options;
        let OpenStore { identity, log, writer, snapshots, newest, health } = open::<T>(&dir, disk)?;
        let profile = identity.profile;
        let raft_error = |why: String| StartError::Raft { dir: dir.clone(), why };
        if let Some(cluster) = newest.as_ref().and_then(|snapshot| snapshot.state.cluster.as_ref())
            && cluster.id != identity.cluster
        {
            let what = format!("its snapshot is of cluster {}, node.json of {}", cluster.id, identity.cluster);
            return Err(OpenError::Damaged { dir, what }.into());
        }
        match disk_time {
            DiskTime::Threads => writer.spawn_thread().map_err(|e| raft_error(e.to_string()))?,
            DiskTime::Simulated(latency) => writer.spawn_task::<Rt>(latency),
        }
        let applied = newest.map_or_else(AppliedState::default, AppliedState::from);
        let watched = Watched::new(applied.state.applied);
        let shared =
            Arc::new(Shared { applied: Arc::new(RwLock::new(applied)), feed: Feed::default(), watched, rules });
        // A store that was never used belongs to no earlier life, and no leader can count on its vote.
        let quiet = !log.is_unused();
        let config =
            settings::settings(profile, identity.cluster.to_string(), quiet).map_err(|e| raft_error(e.to_string()))?;
        let sendings = Sendings::default();
        let network = Network {
            me: identity.node,
            peers: peers.clone(),
            append_within: settings::append_within(profile),
            disk_time,
            sendings: sendings.clone(),
            runtime: PhantomData,
        };
        let arrivals = Arrivals::new(snapshots.clone(), disk_time);
        let (bell, rung) = async_channel::bounded(1);
        let machine = Machine::new(shared.clone(), snapshots.clone(), disk_time, bell.clone());
        let raft = Raft::new(identity.node.0, config, network, RaftLog::new(log.clone()), machine).await;
        let raft = raft.map_err(|e| raft_error(e.to_string()))?;
        // Openraft answers this once it runs, after which its metrics are those of this store.
        raft.with_raft_state(|_| ()).await.map_err(|e| raft_error(e.to_string()))?;
        let quiet = Arc::new(AtomicBool::new(quiet));
        end_quiet::<Rt>(&raft, &quiet, settings::quiet_after_restart(profile));
        let stall = super::fit::StallWatch::new(log.clone());
        let inner = Inner { identity, raft, peers, quiet, stall, log, snapshots, arrivals, bell, health, shared };
        let consensus = Self { inner: Arc::new(inner) };
        keep_compact(consensus.clone(), snapshot_period, sendings, rung);
        keep_marked::<Rt>(consensus.inner.log.clone());
        Ok(consensus)
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.inner.identity.node
    }

    /// This node and its cluster.
    pub fn identity(&self) -> Identity {
        self.inner.identity
    }

    /// The cluster's profile.
    pub fn profile(&self) -> Profile {
        self.inner.identity.profile
    }

    /// Looks at what is applied here. Not linearizable by itself: call `linearize` first where that matters.
    ///
    /// `look` runs under a lock that applying waits for: it should be quick and must not wait.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.inner.shared.applied.read().unwrap_or_else(PoisonError::into_inner).state)
    }

    /// What is applied here, as a value of its own.
    pub fn state(&self) -> Arc<State> {
        self.inner.shared.applied.read().unwrap_or_else(PoisonError::into_inner).state.clone()
    }

    /// The last entry applied here, with the term it is of.
    pub(super) fn last_applied(&self) -> Option<LogMark> {
        self.inner.shared.applied.read().unwrap_or_else(PoisonError::into_inner).head.last
    }

    /// Follows the log: the whole knowledge first, then every applied entry in order, the whole again after a snapshot
    /// or when the reader was too slow.
    pub fn changes(&self) -> Changes {
        self.inner.shared.feed.subscribe(self.inner.shared.applied.clone())
    }

    /// Follows the keys of a range: every change after that entry, in the log's order.
    pub fn watch(&self, range: Range, after: LogIndex) -> Watch {
        self.inner.shared.watched.watch(range, after)
    }

    /// Tells those who watch that nothing more will come, and waits until they have gone, but no longer than that.
    pub async fn end_watches(&self, within: Duration) {
        let deadline = Rt::Instant::now() + within;
        self.inner.shared.watched.close();
        while self.inner.shared.watched.is_watched() && Rt::Instant::now() < deadline {
            Rt::sleep(LOOK_AGAIN).await;
        }
    }

    /// Raft on this node, now.
    pub fn status(&self) -> RaftStatus {
        let metrics = self.inner.raft.metrics();
        let fatal = self.inner.health.fault().map(|fault| fault.to_string());
        status_of(&metrics.borrow_watched(), fatal)
    }

    /// How much of the log is in memory, and how long the newest snapshot is in bytes.
    pub fn log_size(&self) -> (LogSize, u64) {
        (self.inner.log.size_after(None), self.inner.snapshots.newest().map_or(0, |newest| newest.bytes))
    }

    /// Wakes whenever role, leader, term or membership change.
    pub fn leadership(&self) -> LeadershipWatch<Rt> {
        LeadershipWatch::new(self.inner.raft.metrics())
    }

    /// Waits until this node can take part no more, and says why. The agent then tells its keeper to retire.
    /// Never returns after an orderly [`shutdown`](Self::shutdown) of a sound store.
    pub async fn failed(&self) -> Failure {
        let stopped = async {
            let ended = self.inner.raft.wait(None).metrics(|m| m.running_state.is_err(), "failure").await;
            match ended.map(|metrics| metrics.running_state) {
                Ok(Err(why @ (openraft::errors::Fatal::StorageError(_) | openraft::errors::Fatal::Panicked))) => {
                    Failure { why: format!("Raft stopped: {why}. Restart pkgctl-agent on this node"), disk: false }
                }
                Ok(Ok(()) | Err(openraft::errors::Fatal::Stopped)) | Err(_) => futures::future::pending().await,
            }
        };
        match Rt::select2(self.inner.health.failed(), stopped).await {
            Select2::First(fault) => Failure { why: fault.to_string(), disk: !fault.full },
            Select2::Second(failure) => failure,
        }
    }

    /// Ends in good order: Raft stops, everything queued is written, the store's files and lock are free.
    pub async fn shutdown(&self) {
        if let Err(e) = self.inner.raft.shutdown().await {
            tracing::warn!("Raft had stopped already: {e}");
        }
        let closed = durable(|done| {
            self.inner.log.close(done);
            Ok(())
        });
        if let Err(e) = closed.await {
            tracing::warn!("closing the store: {e}");
        }
        self.inner.bell.close();
        self.inner.shared.feed.close();
        self.inner.shared.watched.close();
    }

    /// Ends as if the power had gone: what is queued for the disk is never written. For simulations.
    pub async fn cut_power(&self) {
        self.inner.health.fail("running", &std::io::Error::other("the power was cut"));
        self.shutdown().await;
    }
}

fn end_quiet<Rt: AsyncRuntime>(raft: &Raft<Types<Rt>, Machine<Rt>>, quiet: &Arc<AtomicBool>, after: Duration) {
    if !quiet.load(Ordering::Relaxed) {
        return;
    }
    let (raft, quiet) = (raft.clone(), quiet.clone());
    drop(Rt::spawn(async move {
        Rt::sleep(after).await;
        quiet.store(false, Ordering::Release);
        raft.runtime_config().elect(true);
    }));
}
