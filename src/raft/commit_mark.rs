//! Has the commit mark written: soon after it moved, and not for each entry, which would cost as much as the entry itself.
//!
//! With the mark a node that starts again shows what it knew without asking anybody. What is lost of it is learned again
//! from the leader.

use std::time::Duration;

use openraft::AsyncRuntime;

use super::store::log::LogStore;

/// Longest that a mark which moved is not written.
const WRITTEN_WITHIN: Duration = Duration::from_millis(100);

/// Does so until the store is closed or has failed.
pub(super) fn keep_marked<Rt: AsyncRuntime>(log: LogStore) {
    let run = async move {
        while log.write_committed().is_ok() {
            Rt::sleep(WRITTEN_WITHIN).await;
        }
    };
    drop(Rt::spawn(run));
}
