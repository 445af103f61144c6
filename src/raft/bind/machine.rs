//! Openraft's state machine on `engine::apply`: in memory, rebuilt at start from the newest snapshot and the log.

use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, PoisonError, RwLock};

use async_channel::Sender;
use futures::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{AsyncRuntime, OptionalSend};

use super::disk_time::DiskTime;
use super::types::{
    LogId, RaftSnapshot, SnapshotMeta, StoredMembers, Types, described, log_id, mark, record, stored_membership,
};
use crate::engine::Applied;
use crate::engine::lease::Rules;
use crate::raft::applied::AppliedState;
use crate::raft::compact::LOOK_EVERY;
use crate::raft::feed::Feed;
use crate::raft::store::snapshot::{Snapshot, SnapshotFile, SnapshotFiles};
use crate::raft::watched::Watched;

/// What was applied, shared with everyone who reads it.
pub struct Shared {
    /// The state. Locked before any line of the feed.
    pub applied: Arc<RwLock<AppliedState>>,
    /// Who follows the log.
    pub feed: Feed,
    /// What was changed of the key/value tree lately.
    pub watched: Watched,
    /// The lease rules that `apply` holds: all of them; simulations drop one.
    pub rules: Rules,
}

/// The state machine.
pub struct Machine<Rt> {
    shared: Arc<Shared>,
    snapshots: SnapshotFiles,
    disk_time: DiskTime,
    /// Rung when so much was applied that somebody should look at the log.
    bell: Sender<()>,
    unseen: u64,
    _runtime: PhantomData<fn() -> Rt>,
}

impl<Rt: AsyncRuntime> Machine<Rt> {
    /// A state machine over that state and those files.
    pub fn new(shared: Arc<Shared>, snapshots: SnapshotFiles, disk_time: DiskTime, bell: Sender<()>) -> Self {
        Self { shared, snapshots, disk_time, bell, unseen: 0, _runtime: PhantomData }
    }

    fn applied_one(&mut self) {
        self.unseen += 1;
        if self.unseen >= LOOK_EVERY {
            self.unseen = 0;
            // Full means that it rings already, closed that nobody listens.
            let _ = self.bell.try_send(());
        }
    }
}

impl<Rt: AsyncRuntime> RaftStateMachine<Types<Rt>> for Machine<Rt> {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder<Rt>;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembers)> {
        let applied = self.shared.applied.read().unwrap_or_else(PoisonError::into_inner);
        let membership = stored_membership(&applied.head).map_err(io::Error::other)?;
        Ok((applied.head.last.map(log_id), membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = Result<EntryResponder<Types<Rt>>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let record = record(entry);
            let reply = {
                let mut applied = self.shared.applied.write().unwrap_or_else(PoisonError::into_inner);
                let Applied { reply, facts, touched } = applied.apply(&self.shared.rules, record.mark, &record.payload);
                match record.payload.is_about_keys() {
                    true => self.shared.feed.quiet(),
                    false => self.shared.feed.step(applied.state.applied, &facts),
                }
                self.shared.watched.touched(&applied.state, touched);
                reply
            };
            if let Some(responder) = responder {
                responder.send(reply);
            }
            self.applied_one();
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder<Rt> {
        let applied = self.shared.applied.read().unwrap_or_else(PoisonError::into_inner);
        Builder {
            applied: applied.clone(),
            snapshots: self.snapshots.clone(),
            disk_time: self.disk_time,
            _runtime: PhantomData,
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: SnapshotFile) -> io::Result<()> {
        let (claimed, found) = (meta.last_log_id.map(mark), data.head.last);
        if claimed != found {
            return Err(io::Error::other(format!("a snapshot said to reach {claimed:?} reaches {found:?}")));
        }
        let snapshots = self.snapshots.clone();
        let place = move || {
            snapshots.place(&data)?;
            Ok(Snapshot { state: data.state()?, head: data.head })
        };
        let snapshot = self.disk_time.aside::<Rt, _>(place).await?;
        let replaced = {
            let mut applied = self.shared.applied.write().unwrap_or_else(PoisonError::into_inner);
            let replaced = std::mem::replace(&mut *applied, snapshot.into());
            self.shared.feed.whole();
            self.shared.watched.replaced(applied.state.applied);
            replaced
        };
        // A large tree takes its time to go.
        let forget = move || {
            drop(replaced);
            Ok(())
        };
        self.disk_time.aside::<Rt, _>(forget).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RaftSnapshot>> {
        self.snapshots.newest().map(|newest| described(newest).map_err(io::Error::other)).transpose()
    }
}

/// One snapshot being made.
pub struct Builder<Rt> {
    applied: AppliedState,
    snapshots: SnapshotFiles,
    disk_time: DiskTime,
    _runtime: PhantomData<fn() -> Rt>,
}

impl<Rt: AsyncRuntime> RaftSnapshotBuilder<Types<Rt>> for Builder<Rt> {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot> {
        let (snapshots, snapshot) = (self.snapshots.clone(), self.applied.snapshot());
        let built = self.disk_time.aside::<Rt, _>(move || snapshots.save(&snapshot)).await?;
        described(built).map_err(io::Error::other)
    }
}
