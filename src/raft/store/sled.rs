//! The table on sled 0.34.7, with the durability that sled itself does not give.
//!
//! `flush()` of this version hands pages to the kernel with `sync_file_range` and never calls fsync, so every durable
//! commit is followed by our own fdatasync of sled's one data file. Values stay small enough (`key::PART_BYTES`) that
//! sled never spills a page into its `blobs` directory, which it does not sync either; should one appear, we sync it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, Part, settle, sync_directory};
use super::{Table, Write, close_guarded, guarded};

/// Memory that sled may use for pages; our reads come from memory of our own.
const CACHE_BYTES: u64 = 8 << 20;

/// Bytes of a segment of sled's file, and what must not be reached by what is written between two syncs of it.
///
/// Sled writes one segment after another and takes what it has handed to the kernel for safe. A disk that reorders
/// writes may lose a whole segment and keep the header of the next, which says that all before it is there: sled then
/// refuses the file, or takes it for empty. It may also write into the place of an old segment whose contents it moved
/// to one that is lost. With less than a segment between two syncs neither can be: when a segment is begun, the one
/// before it was begun before the last sync; and a place is used again only after a whole later segment.
///
/// One commit holds at most `writer::GROUP_BYTES` and one more operation, which `propose::ENTRY_MAX_BYTES` and the log's
/// own division of appends and truncations bound, and deletes as much of what was purged. Sled writes some times that,
/// because it writes whole pages again, and whole pages of what it moves; tests/raft_power prints the most it saw
/// (2.5 MiB) and holds it under this bound.
pub const SEGMENT_BYTES: usize = 4 << 20;

/// A sled database.
pub struct SledTable {
    /// There until it is dropped.
    db: Option<sled::Db>,
    data: File,
    blobs: PathBuf,
    disk: Arc<dyn Disk>,
}

impl SledTable {
    fn attach(dir: &Path, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let path = dir.join(Self::NAME);
        let db = sled::Config::new()
            .path(&path)
            .flush_every_ms(None)
            .cache_capacity(CACHE_BYTES)
            .mode(sled::Mode::HighThroughput)
            .segment_size(SEGMENT_BYTES)
            .open()
            .map_err(from_sled)?;
        // The handle is opened before the first write, so that no write error can pass between it and us.
        let data = File::options().read(true).write(true).open(path.join("db"))?;
        Ok(Self { db: Some(db), data, blobs: path.join("blobs"), disk })
    }

    fn db(&self) -> io::Result<&sled::Db> {
        self.db.as_ref().ok_or_else(|| io::Error::other("the table is closed"))
    }

    /// One change is all or nothing by itself; a batch has a record of its own before it, and one more write to wait for.
    fn apply(&self, writes: &[Write]) -> sled::Result<()> {
        let db = self.db().map_err(sled::Error::from)?;
        match writes {
            [Write::Put(key, value)] => db.insert(key, value.as_slice()).map(drop),
            [Write::Delete(key)] => db.remove(key).map(drop),
            _ => {
                let mut batch = sled::Batch::default();
                for write in writes {
                    match write {
                        Write::Put(key, value) => batch.insert(key.as_slice(), value.as_slice()),
                        Write::Delete(key) => batch.remove(key.as_slice()),
                    }
                }
                db.apply_batch(batch)
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.db()?.flush().map_err(from_sled)?;
        let mut spilled = false;
        for blob in std::fs::read_dir(&self.blobs)? {
            self.disk.sync(Part::Log, &File::open(blob?.path())?)?;
            spilled = true;
        }
        if spilled {
            sync_directory(&*self.disk, &self.blobs)?;
        }
        self.disk.sync(Part::Log, &self.data)
    }
}

impl Table for SledTable {
    const NAME: &'static str = "sled";

    fn create(dir: &Path, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let table = guarded(|| Self::attach(dir, disk))?;
        let path = dir.join(Self::NAME);
        guarded(|| table.sync())?;
        table.disk.sync(Part::Directory, &File::open(path.join("conf"))?)?;
        for made in [&table.blobs, &path, dir] {
            sync_directory(&*table.disk, made)?;
        }
        Ok(table)
    }

    fn open(dir: &Path, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let path = dir.join(Self::NAME);
        // sled would silently start an empty database in place of a missing file.
        for needed in ["conf", "db"] {
            if !path.join(needed).is_file() {
                let missing = format!("{} is missing", path.join(needed).display());
                return Err(io::Error::new(io::ErrorKind::NotFound, missing));
            }
        }
        settle(&*disk, Part::Log, &path.join("db"))?;
        remove_half_made(&path)?;
        let table = guarded(|| Self::attach(dir, disk))?;
        // Opening may have renamed a file of sled's own.
        sync_directory(&*table.disk, &path)?;
        Ok(table)
    }

    fn scan(&self, visit: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        guarded(|| {
            for item in self.db()?.iter() {
                let (key, value) = item.map_err(from_sled)?;
                visit(&key, &value);
            }
            Ok(())
        })
    }

    fn commit(&mut self, writes: &[Write], durable: bool) -> io::Result<()> {
        self.disk.admit(Part::Log, writes.iter().map(Write::bytes).sum())?;
        guarded(|| {
            self.apply(writes).map_err(from_sled)?;
            if durable { self.sync() } else { Ok(()) }
        })
    }
}

impl Drop for SledTable {
    /// sled's own threads may hold its file for a while after it is dropped; a store that says it is closed can be
    /// opened again, so this waits for sled's lock to go. No other process can have it: the store's own lock is ours.
    fn drop(&mut self) {
        let db = self.db.take();
        match (close_guarded(db), self.data.try_clone()) {
            (Ok(()), Ok(data)) => drop(nix::fcntl::Flock::lock(data, nix::fcntl::FlockArg::LockExclusive)),
            (Err(e), _) | (_, Err(e)) => tracing::warn!("closing the log: {e}"),
        }
    }
}

/// Removes what an opening that was cut short left behind: sled would take its unfinished page map for a damaged one,
/// and refuse a sound database.
fn remove_half_made(path: &Path) -> io::Result<()> {
    for found in std::fs::read_dir(path)? {
        let file = found?.path();
        if file.extension().is_some_and(|extension| extension == "generating") {
            std::fs::remove_file(file)?;
        }
    }
    Ok(())
}

fn from_sled(error: sled::Error) -> io::Error {
    match error {
        sled::Error::Io(error) => error,
        sled::Error::Corruption { .. } => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
        sled::Error::CollectionNotFound(_) | sled::Error::Unsupported(_) | sled::Error::ReportableBug(_) => {
            io::Error::other(error.to_string())
        }
    }
}
