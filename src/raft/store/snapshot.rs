//! Snapshots as files: written beside their place, synced, renamed, the directory synced; the last two are kept.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::disk::{Disk, Part, settle};
use super::fault::Health;
use super::identity::write_file;
use crate::engine::{State, codec};
use crate::raft::record::{LogMark, Membership};

/// Their directory in the store.
pub const DIR: &str = "snapshots";
/// Snapshots kept: the newest, and one before it for people to look at.
pub const KEPT: usize = 2;
const SUFFIX: &str = ".snapshot";

/// What a snapshot covers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotHead {
    /// The last entry applied in it.
    pub last: Option<LogMark>,
    /// The entry that made its membership.
    pub membership_at: Option<LogMark>,
    /// Its membership.
    pub membership: Membership,
}

/// A snapshot: a prefix of the log as the state it adds up to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What it covers.
    pub head: SnapshotHead,
    /// The state.
    pub state: Arc<State>,
}

/// A snapshot with its bytes, sealed as on disk and wire.
#[derive(Clone, Debug)]
pub struct SealedSnapshot {
    /// The value.
    pub snapshot: Snapshot,
    /// Its bytes.
    pub bytes: Arc<Vec<u8>>,
}

impl SealedSnapshot {
    /// Seals a snapshot.
    pub fn seal(snapshot: Snapshot) -> Self {
        let bytes = Arc::new(codec::seal(&snapshot));
        Self { snapshot, bytes }
    }

    /// Opens bytes from disk or wire.
    ///
    /// # Errors
    /// Every way in which they are not a whole snapshot of a known version.
    pub fn open(bytes: Vec<u8>) -> Result<Self, codec::DecodeError> {
        Ok(Self { snapshot: codec::open(&bytes)?, bytes: Arc::new(bytes) })
    }
}

/// The snapshots of one store.
#[derive(Clone)]
pub struct SnapshotFiles {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    health: Health,
}

impl SnapshotFiles {
    /// The files in a store's directory, and the newest snapshot, verified.
    ///
    /// # Errors
    /// `InvalidData` when the newest is damaged: the log it covers may be gone, so an older one is no substitute.
    pub fn open(store: &Path, disk: Arc<dyn Disk>, health: Health) -> io::Result<(Self, Option<SealedSnapshot>)> {
        let files = Self { dir: store.join(DIR), disk, health };
        if let Some(newest) = files.names()?.pop() {
            settle(&*files.disk, Part::Snapshot, &files.dir.join(newest))?;
        }
        let newest = files.read_newest()?;
        Ok((files, newest))
    }

    /// The newest snapshot.
    ///
    /// # Errors
    /// When it cannot be read or is damaged; then the store has failed.
    pub fn newest(&self) -> io::Result<Option<SealedSnapshot>> {
        self.health.check()?;
        self.read_newest().map_err(|e| self.health.fail("reading the newest snapshot", &e).into())
    }

    /// Whether the newest snapshot is that one.
    ///
    /// # Errors
    /// When the directory cannot be read; then the store has failed.
    pub fn holds(&self, head: &SnapshotHead) -> io::Result<bool> {
        self.health.check()?;
        let names = self.names().map_err(|e| self.health.fail("listing the snapshots", &e))?;
        Ok(names.last() == Some(&name(head)))
    }

    /// Stores a snapshot durably and drops all but the last two.
    ///
    /// # Errors
    /// Whatever the disk says; then the store has failed.
    pub fn save(&self, sealed: &SealedSnapshot) -> io::Result<()> {
        self.health.check()?;
        let path = self.dir.join(name(&sealed.snapshot.head));
        let saved = write_file(&path, &sealed.bytes, &*self.disk).and_then(|()| self.drop_old());
        saved.map_err(|e| self.health.fail("writing a snapshot", &e).into())
    }

    fn drop_old(&self) -> io::Result<()> {
        let names = self.names()?;
        let old = names.len().saturating_sub(KEPT);
        names[..old].iter().try_for_each(|name| std::fs::remove_file(self.dir.join(name)))
    }

    fn read_newest(&self) -> io::Result<Option<SealedSnapshot>> {
        let Some(newest) = self.names()?.pop() else { return Ok(None) };
        let bytes = std::fs::read(self.dir.join(&newest))?;
        let damaged = |what| io::Error::new(io::ErrorKind::InvalidData, format!("snapshot {newest}: {what}"));
        let sealed = SealedSnapshot::open(bytes).map_err(|e| damaged(e.to_string()))?;
        if name(&sealed.snapshot.head) != newest {
            return Err(damaged("its name is not that of its contents".to_owned()));
        }
        Ok(Some(sealed))
    }

    /// Whole snapshots' names, oldest first. Temporary files are not among them and are overwritten in time.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for found in std::fs::read_dir(&self.dir)? {
            if let Ok(name) = found?.file_name().into_string()
                && name.ends_with(SUFFIX)
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

/// The file's name: how many entries it covers, in full width so that names sort, and the last one's term.
fn name(head: &SnapshotHead) -> String {
    let (entries, term) = head.last.map_or((0, 0), |last| (last.index + 1, last.term));
    format!("{entries:020}-{term}{SUFFIX}")
}

#[cfg(test)]
mod tests {
    use super::super::disk::RealDisk;
    use super::*;

    fn sealed(index: u64) -> SealedSnapshot {
        let head = SnapshotHead { last: Some(LogMark { term: 1, index }), ..SnapshotHead::default() };
        SealedSnapshot::seal(Snapshot { head, state: Arc::default() })
    }

    fn files(store: &Path) -> io::Result<(SnapshotFiles, Option<SealedSnapshot>)> {
        SnapshotFiles::open(store, Arc::new(RealDisk), Health::new(store))
    }

    #[test]
    fn the_last_two_are_kept_and_a_damaged_newest_one_is_refused() {
        let store = tempfile::tempdir().unwrap();
        std::fs::create_dir(store.path().join(DIR)).unwrap();
        let (snapshots, none) = files(store.path()).unwrap();
        assert!(none.is_none());
        for index in [5, 99, 100] {
            snapshots.save(&sealed(index)).unwrap();
        }
        assert_eq!(snapshots.names().unwrap().len(), KEPT);
        let (_, newest) = files(store.path()).unwrap();
        assert_eq!(newest.unwrap().snapshot.head.last, Some(LogMark { term: 1, index: 100 }));

        let path = store.path().join(DIR).join(snapshots.names().unwrap().pop().unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let refused = files(store.path()).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        assert!(refused.to_string().contains("checksum"), "{refused}");
    }
}
