//! Snapshots as files: written beside their place, synced, renamed, the directory synced; the last two are kept.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::disk::{Disk, Part, settle, sync_directory};
use super::fault::Health;
use super::identity::{FILE_MODE, TEMPORARY, replace_file};
use super::sealed;
use crate::engine::State;
use crate::raft::record::{LogMark, Membership};

/// Their directory in the store.
pub const DIR: &str = "snapshots";
/// Snapshots kept: the newest, and one before it for people to look at.
pub const KEPT: usize = 2;
const SUFFIX: &str = ".snapshot";
/// What a snapshot's name ends with while it arrives.
const ARRIVING: &str = "arriving";
/// What names end with that no other process will go on with.
const UNFINISHED: [&str; 2] = [ARRIVING, TEMPORARY];

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

/// A snapshot that is whole on this node's disk. Clones share the file, which can be read even after its name is gone.
#[derive(Clone, Debug)]
pub struct SnapshotFile {
    /// What it covers.
    pub head: SnapshotHead,
    /// How long the file is.
    pub bytes: u64,
    file: Arc<File>,
    /// Its state, if it was just read.
    state: Option<Arc<State>>,
    /// The name under which it waits for its place.
    waits: Option<Arc<Waiting>>,
}

impl SnapshotFile {
    /// Some of its bytes, at most that many; none at its end.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn read_at(&self, at: u64, most: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.bytes.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; most.min(left)];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// Its state.
    ///
    /// # Errors
    /// `InvalidData` when the file is damaged, else what the disk says.
    pub fn state(&self) -> io::Result<Arc<State>> {
        match &self.state {
            Some(state) => Ok(state.clone()),
            None => Ok(sealed::read::<Snapshot>(&self.file)?.state),
        }
    }
}

/// A file that was not yet given its place; it goes when nobody wants it any more.
#[derive(Debug)]
struct Waiting {
    path: PathBuf,
    inode: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Not there if it was given its place, and not ours if the store was opened again meanwhile. What cannot be
        // removed goes when the store is opened again.
        if std::fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A snapshot that arrives in parts.
pub struct Incoming {
    /// How much of it is there.
    pub at: u64,
    file: File,
    waits: Waiting,
    disk: Arc<dyn Disk>,
    health: Health,
}

impl Incoming {
    /// Adds what follows.
    ///
    /// # Errors
    /// Whatever the disk says; then the store has failed.
    pub fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.health.check()?;
        let admitted = self.disk.admit(Part::Snapshot, bytes.len());
        let written = admitted.and_then(|()| self.file.write_all_at(bytes, self.at));
        written.map_err(|e| self.health.fail("writing a snapshot of the leader's", &e))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// All of it is there: makes it durable and reads it.
    ///
    /// # Errors
    /// `InvalidData` when it is no whole snapshot of a known version; else what the disk says, and the store has failed.
    pub fn finish(self) -> io::Result<SnapshotFile> {
        self.health.check()?;
        let doing = "storing a snapshot of the leader's";
        self.disk.sync(Part::Snapshot, &self.file).map_err(|e| self.health.fail(doing, &e))?;
        let Snapshot { head, state } = sealed::read(&self.file)?;
        let (file, waits) = (Arc::new(self.file), Some(Arc::new(self.waits)));
        Ok(SnapshotFile { head, bytes: self.at, file, state: Some(state), waits })
    }
}

/// The snapshots of one store.
#[derive(Clone)]
pub struct SnapshotFiles {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    health: Health,
    newest: Arc<Mutex<Option<SnapshotFile>>>,
    arrivals: Arc<AtomicU64>,
}

impl SnapshotFiles {
    /// The files in a store's directory, and the newest snapshot, verified. What an earlier process left unfinished is
    /// removed.
    ///
    /// # Errors
    /// `InvalidData` when the newest is damaged: the log it covers may be gone, so an older one is no substitute.
    pub fn open(store: &Path, disk: Arc<dyn Disk>, health: Health) -> io::Result<(Self, Option<Snapshot>)> {
        let files = Self { dir: store.join(DIR), disk, health, newest: Arc::default(), arrivals: Arc::default() };
        for found in std::fs::read_dir(&files.dir)? {
            let path = found?.path();
            if path.extension().is_some_and(|extension| UNFINISHED.iter().any(|one| extension == *one)) {
                std::fs::remove_file(path)?;
            }
        }
        let Some(newest) = files.names()?.pop() else { return Ok((files, None)) };
        settle(&*files.disk, Part::Snapshot, &files.dir.join(&newest))?;
        let damaged = |what| io::Error::new(io::ErrorKind::InvalidData, format!("snapshot {newest}: {what}"));
        let file = File::open(files.dir.join(&newest))?;
        let snapshot: Snapshot = sealed::read(&file).map_err(|e| match e.kind() {
            io::ErrorKind::InvalidData => damaged(e.to_string()),
            _ => e,
        })?;
        if name(&snapshot.head) != newest {
            return Err(damaged("its name is not that of its contents".to_owned()));
        }
        files.placed(&snapshot.head, file.metadata()?.len(), Arc::new(file));
        Ok((files, Some(snapshot)))
    }

    /// The newest snapshot.
    pub fn newest(&self) -> Option<SnapshotFile> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stores a snapshot durably and drops all but the last two. It is encoded on its way to the disk, so that the state
    /// is in memory once.
    ///
    /// # Errors
    /// Whatever the disk says; then the store has failed.
    pub fn save(&self, snapshot: &Snapshot) -> io::Result<SnapshotFile> {
        self.health.check()?;
        let write = || {
            let path = self.dir.join(name(&snapshot.head));
            let mut bytes = 0;
            let file = replace_file(&path, &*self.disk, |file| {
                bytes = sealed::write(snapshot, file, &*self.disk)?;
                Ok(())
            })?;
            self.drop_old()?;
            Ok(self.placed(&snapshot.head, bytes, Arc::new(file)))
        };
        write().map_err(|e: io::Error| self.health.fail("writing a snapshot", &e).into())
    }

    /// A place for a snapshot that comes from the leader.
    ///
    /// # Errors
    /// Whatever the disk says; then the store has failed.
    pub fn incoming(&self) -> io::Result<Incoming> {
        self.health.check()?;
        let arrival = self.arrivals.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("{arrival}.{ARRIVING}"));
        let mut options = File::options();
        let made = options.read(true).write(true).create_new(true).mode(FILE_MODE).open(&path);
        let made = made.and_then(|file| file.metadata().map(|found| (file, found.ino())));
        let (file, inode) = made.map_err(|e| self.health.fail("making room for a snapshot", &e))?;
        let waits = Waiting { path, inode };
        Ok(Incoming { at: 0, file, waits, disk: self.disk.clone(), health: self.health.clone() })
    }

    /// Gives a snapshot that has arrived its place among ours, and drops all but the last two. One that has its place
    /// stays.
    ///
    /// # Errors
    /// Whatever the disk says; then the store has failed.
    pub fn place(&self, arrived: &SnapshotFile) -> io::Result<()> {
        self.health.check()?;
        let place = || {
            let name = name(&arrived.head);
            if self.names()?.contains(&name) {
                return Ok(());
            }
            let path = self.dir.join(name);
            match &arrived.waits {
                Some(waits) => {
                    std::fs::rename(&waits.path, &path)?;
                    sync_directory(&*self.disk, &self.dir)?;
                }
                // Another store's.
                None => drop(replace_file(&path, &*self.disk, |file| copy(arrived, file))?),
            }
            self.drop_old()?;
            self.placed(&arrived.head, arrived.bytes, Arc::new(File::open(&path)?));
            Ok(())
        };
        place().map_err(|e: io::Error| self.health.fail("storing a snapshot of the leader's", &e).into())
    }

    /// Remembers the newest.
    fn placed(&self, head: &SnapshotHead, bytes: u64, file: Arc<File>) -> SnapshotFile {
        let placed = SnapshotFile { head: head.clone(), bytes, file, state: None, waits: None };
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.as_ref().is_none_or(|newest| name(&newest.head) < name(head)) {
            *newest = Some(placed.clone());
        }
        placed
    }

    fn drop_old(&self) -> io::Result<()> {
        let names = self.names()?;
        let old = names.len().saturating_sub(KEPT);
        names[..old].iter().try_for_each(|name| std::fs::remove_file(self.dir.join(name)))
    }

    /// Whole snapshots' names, oldest first.
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

fn copy(from: &SnapshotFile, to: &File) -> io::Result<()> {
    let mut at = 0;
    while at < from.bytes {
        let some = from.read_at(at, 1 << 20)?;
        to.write_all_at(&some, at)?;
        at += some.len() as u64;
    }
    Ok(())
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

    fn snapshot(index: u64) -> Snapshot {
        let head = SnapshotHead { last: Some(LogMark { term: 1, index }), ..SnapshotHead::default() };
        Snapshot { head, state: Arc::default() }
    }

    fn files(store: &Path) -> io::Result<(SnapshotFiles, Option<Snapshot>)> {
        SnapshotFiles::open(store, Arc::new(RealDisk), Health::new(store))
    }

    #[test]
    fn the_last_two_are_kept_and_a_damaged_newest_one_is_refused() {
        let store = tempfile::tempdir().unwrap();
        std::fs::create_dir(store.path().join(DIR)).unwrap();
        let (snapshots, none) = files(store.path()).unwrap();
        assert!(none.is_none());
        for index in [5, 99, 100] {
            snapshots.save(&snapshot(index)).unwrap();
        }
        assert_eq!(snapshots.names().unwrap().len(), KEPT);
        let (_, newest) = files(store.path()).unwrap();
        assert_eq!(newest.unwrap().head.last, Some(LogMark { term: 1, index: 100 }));

        let path = store.path().join(DIR).join(snapshots.names().unwrap().pop().unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let refused = files(store.path()).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        assert!(refused.to_string().contains("checksum"), "{refused}");
    }

    #[test]
    fn one_that_arrives_in_parts_gets_its_place_and_what_is_not_wanted_leaves_nothing_behind() {
        let leader = tempfile::tempdir().unwrap();
        let store = tempfile::tempdir().unwrap();
        for dir in [&leader, &store] {
            std::fs::create_dir(dir.path().join(DIR)).unwrap();
        }
        let sent = files(leader.path()).unwrap().0.save(&snapshot(70)).unwrap();
        let (snapshots, _) = files(store.path()).unwrap();
        let receive = |spoil: bool| {
            let mut incoming = snapshots.incoming().unwrap();
            while incoming.at < sent.bytes {
                let mut part = sent.read_at(incoming.at, 50).unwrap();
                part[0] ^= u8::from(spoil);
                incoming.add(&part).unwrap();
            }
            incoming.finish()
        };
        assert_eq!(receive(true).unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(receive(false).unwrap());
        assert_eq!(std::fs::read_dir(store.path().join(DIR)).unwrap().count(), 0);
        snapshots.place(&receive(false).unwrap()).unwrap();
        assert_eq!(snapshots.newest().unwrap().head, snapshot(70).head);
        std::mem::forget(snapshots.incoming().unwrap());
        let (_, newest) = files(store.path()).unwrap();
        assert_eq!(newest.unwrap(), snapshot(70));
        assert_eq!(std::fs::read_dir(store.path().join(DIR)).unwrap().count(), 1);
    }
}
