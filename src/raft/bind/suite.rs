//! Openraft's own storage suite, on both engines: the writer as a thread, and as a task of the simulated runtime.

use std::marker::PhantomData;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{AsyncRuntime, StorageError};
use openraft_rt_sim::SimRuntime;
use tempfile::TempDir;

use super::disk_time::DiskTime;
use super::log::RaftLog;
use super::machine::{Machine, Shared};
use super::types::Types;
use crate::engine::lease::Rules;
use crate::engine::{ClusterId, LogIndex, NodeId, Profile};
use crate::raft::feed::Feed;
use crate::raft::store::disk::RealDisk;
use crate::raft::store::identity::{Identity, create};
use crate::raft::store::load::open;
use crate::raft::store::redb::RedbTable;
use crate::raft::store::sled::SledTable;
use crate::raft::store::{Table, load};
use crate::raft::watched::Watched;

struct Bed<T, Rt>(DiskTime, PhantomData<fn() -> (T, Rt)>);

impl<T: Table, Rt: AsyncRuntime> StoreBuilder<Types<Rt>, RaftLog<Rt>, Machine<Rt>, TempDir> for Bed<T, Rt> {
    async fn build(&self) -> Result<(TempDir, RaftLog<Rt>, Machine<Rt>), StorageError<Types<Rt>>> {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity { cluster: ClusterId(1), node: NodeId(0), profile: Profile::Default };
        create::<T>(dir.path(), identity, Arc::new(RealDisk)).unwrap();
        let load::OpenStore { log, writer, snapshots, .. } = open::<T>(dir.path(), Arc::new(RealDisk)).unwrap();
        match self.0 {
            DiskTime::Threads => writer.spawn_thread().unwrap(),
            DiskTime::Simulated(latency) => writer.spawn_task::<Rt>(latency),
        }
        let shared = Arc::new(Shared {
            applied: Arc::new(RwLock::default()),
            feed: Feed::default(),
            watched: Watched::new(LogIndex(0)),
            rules: Rules::ALL,
        });
        Ok((
            dir,
            RaftLog::new(log.with_any_start()),
            Machine::new(shared, snapshots, self.0, async_channel::bounded(1).0),
        ))
    }
}

fn simulated<T: Table>() {
    let bed = Bed::<T, SimRuntime>(DiskTime::Simulated(Duration::from_micros(200)), PhantomData);
    SimRuntime::with_seed(1).block_on(Suite::test_all(bed)).unwrap();
}

fn threaded<T: Table>() {
    type Real = openraft::TokioRuntime;
    Real::run(Suite::test_all(Bed::<T, Real>(DiskTime::Threads, PhantomData))).unwrap();
}

#[test]
fn sled_passes_openrafts_suite_in_simulated_time() {
    simulated::<SledTable>();
}

#[test]
fn redb_passes_openrafts_suite_in_simulated_time() {
    simulated::<RedbTable>();
}

#[test]
fn sled_passes_openrafts_suite_with_threads() {
    threaded::<SledTable>();
}

#[test]
fn redb_passes_openrafts_suite_with_threads() {
    threaded::<RedbTable>();
}
