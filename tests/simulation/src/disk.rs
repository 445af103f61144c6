//! A machine's disk: what was synced survives power loss; what was not may, in part.
//!
//! The store's files are real and lie in a scratch directory. The disk remembers what each sync made durable, and at a
//! power loss puts files and names back to that, or to anything between that and what was written since.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use pkgctl::raft::store::disk::{Disk, Part};

use crate::random::Random;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    #[default]
    None,
    /// There is no room for another byte.
    Full,
    /// Every sync fails.
    SyncFails,
}

/// The disk.
#[derive(Default)]
pub struct SimDisk(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    trouble: Trouble,
    /// Every sync says that it is done and does nothing. For a planted bug.
    lies: bool,
    /// Durable content by inode.
    synced: BTreeMap<u64, Synced>,
    /// Durable names by directory.
    names: BTreeMap<PathBuf, BTreeMap<String, u64>>,
}

#[derive(Clone)]
enum Synced {
    /// Of a file that is only appended to.
    Length(u64),
    Bytes(Vec<u8>),
}

impl Disk for SimDisk {
    fn admit(&self, _part: Part, _bytes: usize) -> io::Result<()> {
        match self.lock().trouble {
            Trouble::Full => Err(Errno::ENOSPC.into()),
            Trouble::None | Trouble::SyncFails => Ok(()),
        }
    }

    fn sync(&self, part: Part, file: &File) -> io::Result<()> {
        let mut inner = self.lock();
        match inner.trouble {
            Trouble::SyncFails => return Err(Errno::EIO.into()),
            Trouble::None | Trouble::Full => {}
        }
        if inner.lies {
            return Ok(());
        }
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        match part {
            Part::Log => drop(inner.synced.insert(file.metadata()?.ino(), Synced::Length(file.metadata()?.len()))),
            Part::Tail | Part::Snapshot => {
                let bytes = fs::read(&path)?;
                inner.synced.insert(file.metadata()?.ino(), Synced::Bytes(bytes));
            }
            Part::Directory => drop(inner.names.insert(path.clone(), entries(&path)?)),
        }
        Ok(())
    }
}

impl SimDisk {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is wrong with it from now on, or nothing any more.
    pub fn set_trouble(&self, trouble: Trouble) {
        self.lock().trouble = trouble;
    }

    /// Whether anything is wrong.
    pub fn trouble(&self) -> Trouble {
        self.lock().trouble
    }

    /// From now on it never syncs and says that it did.
    pub fn lie(&self) {
        self.lock().lies = true;
    }

    /// Everything below `root` is durable as it is.
    pub fn settle(&self, root: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        for dir in directories(root)? {
            let names = entries(&dir)?;
            for (name, ino) in &names {
                let path = dir.join(name);
                if path.is_file() {
                    let appended = name == "table";
                    let synced = if appended {
                        Synced::Length(fs::metadata(&path)?.len())
                    } else {
                        Synced::Bytes(fs::read(&path)?)
                    };
                    inner.synced.insert(*ino, synced);
                }
            }
            inner.names.insert(dir, names);
        }
        Ok(())
    }

    /// The power goes, or the kernel drops what a failed sync left: unsynced bytes and names below `root` are lost, all
    /// or some.
    pub fn lose(&self, root: &Path, chance: &mut Random) -> io::Result<()> {
        for dir in directories(root)? {
            self.lose_in(&dir, chance)?;
        }
        self.settle(root)
    }

    fn lose_in(&self, dir: &Path, chance: &mut Random) -> io::Result<()> {
        let inner = self.lock();
        let now = entries(dir)?;
        let durable = inner.names.get(dir).unwrap_or(&now);
        let all: BTreeSet<&String> = now.keys().chain(durable.keys()).collect();
        let mut kept: Vec<(PathBuf, Option<Vec<u8>>)> = Vec::new();
        for name in all {
            let path = dir.join(name);
            if path.is_dir() {
                continue;
            }
            let (there, was) = (now.get(name), durable.get(name));
            // A name that was not synced is on the disk as it was, or as it is.
            let chosen = if there == was || chance.chance(500) { there } else { was };
            let content = match chosen {
                None => None,
                Some(ino) if there == Some(ino) => {
                    Some(content(inner.synced.get(ino), Some(&fs::read(&path)?), chance))
                }
                Some(ino) => Some(content(inner.synced.get(ino), None, chance)),
            };
            kept.push((path, content));
        }
        for (path, content) in kept {
            match content {
                Some(bytes) => fs::write(&path, bytes)?,
                None => fs::remove_file(&path).or_else(|e| if path.exists() { Err(e) } else { Ok(()) })?,
            }
        }
        Ok(())
    }
}

/// What is left of a file.
fn content(synced: Option<&Synced>, written: Option<&[u8]>, chance: &mut Random) -> Vec<u8> {
    match (synced, written) {
        (Some(Synced::Length(length)), Some(written)) => {
            let length = (*length as usize).min(written.len());
            let further = chance.below((written.len() - length) as u64 + 1) as usize;
            let mut left = written[..length + further].to_vec();
            if further > 0 && chance.chance(300) {
                let torn = length + chance.index(further);
                left[torn] ^= 0x5a;
            }
            left
        }
        (Some(Synced::Length(_)), None) | (None, None) => Vec::new(),
        (Some(Synced::Bytes(durable)), Some(written)) if written.len() == durable.len() => {
            // Of what was written over what was there, each sector has arrived or has not.
            let sectors = written.chunks(SECTOR_BYTES).zip(durable.chunks(SECTOR_BYTES));
            sectors.flat_map(|(new, old)| if chance.chance(500) { new } else { old }).copied().collect()
        }
        (Some(Synced::Bytes(durable)), _) => durable.clone(),
        (None, Some(written)) => written[..chance.below(written.len() as u64 + 1) as usize].to_vec(),
    }
}

fn entries(dir: &Path) -> io::Result<BTreeMap<String, u64>> {
    let entry = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        Ok((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.ino()))
    };
    fs::read_dir(dir)?.map(entry).collect()
}

/// `root` and every directory below it, in order.
fn directories(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = vec![root.to_path_buf()];
    let mut at = 0;
    while at < all.len() {
        let dir = all[at].clone();
        all.extend(entries(&dir)?.into_keys().map(|name| dir.join(name)).filter(|path| path.is_dir()));
        at += 1;
    }
    Ok(all)
}
