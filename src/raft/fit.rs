//! Whether this node's agent may tell its keeper that it is alive: consensus works here, or only waits for an election.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::async_runtime::Instant;

use super::consensus::Consensus;
use super::peers::Peers;
use super::store::log::LogStore;
use crate::engine::LogIndex;

/// A disk that has not answered for so long is as good as failed.
pub const STALL_MAX: Duration = Duration::from_secs(5);

/// Why the agent must not say that it is alive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Final.
    #[error("{why}")]
    Failed {
        /// What failed.
        why: String,
    },
    /// The disk does not answer.
    #[error("the disk has not answered for {0:?}")]
    Stalled(Duration),
    /// Entries that are committed are not applied here.
    #[error("entry {applied} of {committed} committed ones is applied here")]
    Behind {
        /// How far.
        applied: LogIndex,
        /// Of how many.
        committed: LogIndex,
    },
}

impl<Rt: AsyncRuntime, P: Peers> Consensus<Rt, P> {
    /// Whether the store is open and answers, and everything that a known leader committed is applied, or there is no
    /// leader (design section 4). Transiently false under load: the agent asks often and minds the last five seconds.
    ///
    /// # Errors
    /// Why not.
    pub fn fit(&self) -> Result<(), Unfit> {
        let status = self.status();
        if let Some(why) = status.fatal {
            return Err(Unfit::Failed { why });
        }
        self.inner.stall.check()?;
        let (applied, committed) = (status.applied.unwrap_or_default(), status.committed.unwrap_or_default());
        if status.leader.is_some() && applied < committed {
            return Err(Unfit::Behind { applied, committed });
        }
        Ok(())
    }
}

/// Notices a disk that takes writes and never answers.
pub(super) struct StallWatch<Rt: AsyncRuntime> {
    log: LogStore,
    /// How many operations were answered when it was first seen that one waits, and when that was.
    seen: Mutex<Option<(u64, Rt::Instant)>>,
}

impl<Rt: AsyncRuntime> StallWatch<Rt> {
    pub(super) fn new(log: LogStore) -> Self {
        Self { log, seen: Mutex::new(None) }
    }

    fn check(&self) -> Result<(), Unfit> {
        let (queued, answered) = self.log.progress();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if queued == answered {
            *seen = None;
            return Ok(());
        }
        match *seen {
            Some((then, since)) if then == answered => {
                let waited = since.elapsed();
                if waited > STALL_MAX { Err(Unfit::Stalled(waited)) } else { Ok(()) }
            }
            Some(_) | None => {
                *seen = Some((answered, Rt::Instant::now()));
                Ok(())
            }
        }
    }
}
