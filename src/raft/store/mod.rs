//! The durable store of one node: Raft's log, vote and marks, and its snapshots. docs/storage.md is the operator's side.
//!
//! - [`Table`]: what differs between key-value engines: an ordered table with atomic, durable batches. `sled` and `redb`
//!   implement it; [`Chosen`] is the one line that chooses.
//! - [`log`]: the log above a table: in memory for reading, grouped commits, purge in the background.
//! - [`writer`]: the one place that writes and syncs; `tail` is its independent witness of how far the log went.
//! - [`load`]: opening, which verifies everything and refuses damage.
//! - [`snapshot`]: snapshots as files, `sealed` piece by piece; [`identity`]: whose store this is, and the lock.
//! - [`disk`] and [`fault`]: where errors come from, and what one error ends.

pub mod disk;
pub mod fault;
pub mod identity;
pub mod key;
pub mod load;
pub mod log;
pub mod redb;
mod sealed;
pub mod sled;
pub mod snapshot;
mod tail;
pub mod writer;

#[cfg(test)]
mod conformance;

use std::io;
use std::path::Path;
use std::sync::Arc;

use disk::Disk;

/// The key-value engine of this build.
#[cfg(not(feature = "store-redb"))]
pub type Chosen = sled::SledTable;
/// The key-value engine of this build.
#[cfg(feature = "store-redb")]
pub type Chosen = redb::RedbTable;

/// One change of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Stores a value.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key, if it is there.
    Delete(Vec<u8>),
}

impl Write {
    /// Bytes it adds to what is written.
    pub fn bytes(&self) -> usize {
        match self {
            Write::Put(key, value) => key.len() + value.len(),
            Write::Delete(key) => key.len(),
        }
    }
}

/// An ordered table of bytes on disk.
///
/// One thread uses it at a time, and after the first error nobody does.
pub trait Table: Sized + Send + 'static {
    /// The engine's name; also part of its files' names.
    const NAME: &'static str;

    /// Makes an empty table in an existing, empty directory, with every file and name durable.
    ///
    /// # Errors
    /// Whatever the disk says.
    fn create(dir: &Path, disk: Arc<dyn Disk>) -> io::Result<Self>;

    /// Opens the table that is there; never makes one.
    ///
    /// # Errors
    /// `NotFound` when its files are missing, `InvalidData` when the engine finds them damaged, else what the disk says.
    fn open(dir: &Path, disk: Arc<dyn Disk>) -> io::Result<Self>;

    /// Shows every key and value in the order of the keys.
    ///
    /// # Errors
    /// `InvalidData` when the engine finds damage, else what the disk says.
    fn scan(&self, visit: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()>;

    /// Applies all of these changes or none. When `durable`, they and everything before them survive power loss once
    /// this returns; otherwise they become durable with a later durable commit at the latest.
    ///
    /// # Errors
    /// Whatever the disk says; then nothing is known about what is on it.
    fn commit(&mut self, writes: &[Write], durable: bool) -> io::Result<()>;
}

/// Runs engine code that may panic on damage or on a full disk, as an error.
fn guarded<T>(run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    caught.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("the storage engine gave up: {said}")))
    })
}

/// Drops an engine that may panic on damage or on a full disk when it is closed.
fn close_guarded<D>(engine: D) -> io::Result<()> {
    guarded(|| {
        drop(engine);
        Ok(())
    })
}
