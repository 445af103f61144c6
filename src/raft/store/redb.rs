//! The table on redb, which syncs by itself; we only stand between it and its file, so that tests can fail the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use super::disk::{Disk, Part, settle, sync_directory};
use super::identity::FILE_MODE;
use super::{Table, Write, close_guarded, guarded};

const RECORDS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("raft");
const FILE: &str = "log.redb";
/// Memory that redb may use for pages; our reads come from memory of our own.
const CACHE_BYTES: usize = 8 << 20;

/// A redb database.
pub struct RedbTable {
    /// There until it is dropped.
    db: Option<Database>,
}

impl RedbTable {
    fn attach(file: File, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let db = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(WatchedFile { file, disk })
            .map_err(from_redb)?;
        Ok(Self { db: Some(db) })
    }

    fn db(&self) -> io::Result<&Database> {
        self.db.as_ref().ok_or_else(|| io::Error::other("the table is closed"))
    }
}

impl Table for RedbTable {
    const NAME: &'static str = "redb";

    fn create(dir: &Path, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).mode(FILE_MODE).open(dir.join(FILE))?;
        let mut table = guarded(|| Self::attach(file, disk.clone()))?;
        table.commit(&[], true)?;
        sync_directory(&*disk, dir)?;
        Ok(table)
    }

    fn open(dir: &Path, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let path = dir.join(FILE);
        let file = File::options().read(true).write(true).open(&path);
        let file = file.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
        if file.metadata()?.len() == 0 {
            // redb would start an empty database in it.
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is empty", path.display())));
        }
        settle(&*disk, Part::Log, &path)?;
        guarded(|| {
            let mut table = Self::attach(file, disk)?;
            // Opening looks at checksums only after a crash; ours would not see a damaged allocator.
            let whole = table.db.as_mut().map(Database::check_integrity).transpose().map_err(from_redb)?;
            if whole == Some(false) {
                let mended = format!("{} was damaged and redb had to mend it", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, mended));
            }
            Ok(table)
        })
    }

    fn scan(&self, visit: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        guarded(|| {
            let reading = self.db()?.begin_read().map_err(from_redb)?;
            let table = reading.open_table(RECORDS).map_err(from_redb)?;
            for item in table.iter().map_err(from_redb)? {
                let (key, value) = item.map_err(from_redb)?;
                visit(key.value(), value.value());
            }
            Ok(())
        })
    }

    fn commit(&mut self, writes: &[Write], durable: bool) -> io::Result<()> {
        guarded(|| {
            let mut writing = self.db()?.begin_write().map_err(from_redb)?;
            let durability = if durable { Durability::Immediate } else { Durability::None };
            writing.set_durability(durability).map_err(from_redb)?;
            {
                let mut table = writing.open_table(RECORDS).map_err(from_redb)?;
                for write in writes {
                    match write {
                        Write::Put(key, value) => table.insert(key.as_slice(), value.as_slice()).map_err(from_redb)?,
                        Write::Delete(key) => table.remove(key.as_slice()).map_err(from_redb)?,
                    };
                }
            }
            writing.commit().map_err(from_redb)
        })
    }
}

impl Drop for RedbTable {
    /// redb writes when it is closed, and may panic on a file that was damaged meanwhile.
    fn drop(&mut self) {
        let db = self.db.take();
        if let Err(e) = close_guarded(db) {
            tracing::warn!("closing the log: {e}");
        }
    }
}

/// redb's file, with the disk asked before each write and at each sync.
struct WatchedFile {
    file: File,
    disk: Arc<dyn Disk>,
}

impl std::fmt::Debug for WatchedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchedFile").field("file", &self.file).finish_non_exhaustive()
    }
}

impl StorageBackend for WatchedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.admit(Part::Log, 0)?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.sync(Part::Log, &self.file)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.admit(Part::Log, bytes.len())?;
        self.file.write_all_at(bytes, offset)
    }
}

fn from_redb(error: impl Into<redb::Error>) -> io::Error {
    match error.into() {
        redb::Error::Io(error) => error,
        damage @ redb::Error::Corrupted(_) => io::Error::new(io::ErrorKind::InvalidData, damage.to_string()),
        other => io::Error::other(other.to_string()),
    }
}
