//! Whose store this is (`node.json`, beside it), the lock that keeps a second process out, and the making of a store.
//!
//! A node's id is promised for ever: its vote and its acknowledged entries belong to it. A store that is missing while
//! `node.json` names a node is therefore never replaced by an empty one (leases.md rule 18).

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::disk::{Disk, Part, sync_directory};
use super::fault::Health;
use super::load::OpenError;
use super::snapshot::{Snapshot, SnapshotFiles};
use super::tail::{Tail, TailFile};
use super::{Table, Write, key, snapshot};
use crate::engine::codec::seal;
use crate::engine::{ClusterId, NodeId, Profile};
use crate::raft::record::Vote;

/// The identity's file in a node's state directory.
pub const IDENTITY_FILE: &str = "node.json";
/// The store's directory in a node's state directory.
pub const STORE_DIR: &str = "raft";
/// Mode of every file that is made here.
pub(super) const FILE_MODE: u32 = 0o600;
/// What a file's name ends with until it is whole.
pub(super) const TEMPORARY: &str = "tmp";
const LOCK_FILE: &str = "raft.lock";
const BUILDING_DIR: &str = "raft.new";
const VERSION: u8 = 1;

/// Which node of which cluster, and the intervals that it was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The cluster's profile, fixed at its creation.
    pub profile: Profile,
}

/// `node.json` as written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeFile {
    version: u8,
    cluster: String,
    node: NodeId,
    profile: Profile,
    engine: String,
}

impl Identity {
    /// Who this node is, according to `node.json` in its state directory; none if it has not joined a cluster yet.
    ///
    /// # Errors
    /// When the file is there but cannot be read or understood, or names another storage engine than this build has.
    pub fn read<T: Table>(dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = dir.join(IDENTITY_FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(OpenError::io(&path, "reading it", &e)),
        };
        let damaged = |what: String| OpenError::Damaged { dir: dir.into(), what: format!("{IDENTITY_FILE}: {what}") };
        let file: NodeFile = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        if file.version != VERSION {
            return Err(damaged(format!("version {}, this program reads {VERSION}", file.version)));
        }
        if file.engine != T::NAME {
            return Err(OpenError::Engine { dir: dir.into(), made_by: file.engine, this: T::NAME });
        }
        let cluster = u64::from_str_radix(&file.cluster, 16).map_err(|e| damaged(e.to_string()))?;
        Ok(Some(Self { cluster: ClusterId(cluster), node: file.node, profile: file.profile }))
    }
}

/// Keeps every other process out of a node's state directory while it lives.
pub struct StoreLock {
    _file: Flock<File>,
}

impl StoreLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when another process (or store of this one) has it.
    pub fn take(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(LOCK_FILE);
        let mut options = File::options();
        let open = options.create(true).truncate(false).write(true).mode(FILE_MODE).open(&path);
        let file = open.map_err(|e| OpenError::io(&path, "opening it", &e))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { _file: file }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(OpenError::Locked { path }),
            Err((_, e)) => Err(OpenError::io(&path, "locking it", &e.into())),
        }
    }
}

/// Makes the empty store of a new node and, last of all, its `node.json`. Nothing half made is ever mistaken for a
/// store: it is built beside its place and moved there whole.
///
/// # Errors
/// [`OpenError::Exists`] when this directory already belongs to a node or holds a store that was in use.
pub fn create<T: Table>(dir: &Path, identity: Identity, disk: Arc<dyn Disk>) -> Result<(), OpenError> {
    create_with::<T>(dir, identity, disk, None)
}

/// The same with a log that begins after this snapshot, and this vote given.
///
/// # Errors
/// As for [`create`].
pub fn create_with<T: Table>(
    dir: &Path,
    identity: Identity,
    disk: Arc<dyn Disk>,
    begin: Option<(Snapshot, Vote)>,
) -> Result<(), OpenError> {
    make_directory(dir).map_err(|e| OpenError::io(dir, "making it", &e))?;
    let _lock = StoreLock::take(dir)?;
    if Identity::read::<T>(dir)?.is_some() {
        return Err(OpenError::Exists { path: dir.join(IDENTITY_FILE) });
    }
    let (building, place) = (dir.join(BUILDING_DIR), dir.join(STORE_DIR));
    discard_unused(&place, disk.clone())?;
    let build = || -> io::Result<()> {
        if building.exists() {
            std::fs::remove_dir_all(&building)?;
        }
        make_directory(&building)?;
        make_directory(&building.join(snapshot::DIR))?;
        let mut tail = TailFile::create(&building, disk.clone())?;
        let mut table = T::create(&building, disk.clone())?;
        let mut writes = vec![Write::Put(key::ABOUT.to_vec(), seal(&identity))];
        if let Some((snapshot, vote)) = &begin {
            SnapshotFiles::open(&building, disk.clone(), Health::new(dir))?.0.save(snapshot)?;
            writes.push(Write::Put(key::VOTE.to_vec(), seal(vote)));
            writes.extend(snapshot.head.last.map(|last| Write::Put(key::PURGED.to_vec(), seal(&last))));
            tail.note(Tail { last: snapshot.head.last, vote: Some(*vote) })?;
            tail.sync()?;
        }
        table.commit(&writes, true)?;
        drop(table);
        sync_directory(&*disk, &building)?;
        std::fs::rename(&building, &place)?;
        sync_directory(&*disk, dir)
    };
    build().map_err(|e| OpenError::io(&place, "making the store", &e))?;
    write_identity::<T>(dir, identity, &*disk).map_err(|e| OpenError::io(dir, "writing node.json", &e))
}

/// Removes a store that was made but never used: its maker died before `node.json` was written.
fn discard_unused(place: &Path, disk: Arc<dyn Disk>) -> Result<(), OpenError> {
    if !place.exists() {
        return Ok(());
    }
    // A store in use has given a vote, and its tail mark says so durably.
    let unused = TailFile::open(place, disk).is_ok_and(|(_, tail)| tail.vote.is_none() && tail.last.is_none());
    if !unused {
        return Err(OpenError::Exists { path: place.to_path_buf() });
    }
    std::fs::remove_dir_all(place).map_err(|e| OpenError::io(place, "removing the unused store", &e))
}

fn write_identity<T: Table>(dir: &Path, identity: Identity, disk: &dyn Disk) -> io::Result<()> {
    let file = NodeFile {
        version: VERSION,
        cluster: identity.cluster.to_string(),
        node: identity.node,
        profile: identity.profile,
        engine: T::NAME.to_owned(),
    };
    let text = serde_json::to_string_pretty(&file).map_err(io::Error::other)? + "\n";
    write_file(&dir.join(IDENTITY_FILE), text.as_bytes(), disk)
}

/// Replaces a file so that either the old or the new one is there whole after any crash.
///
/// # Errors
/// Whatever the disk says; the old file is then still there.
pub fn write_file(path: &Path, bytes: &[u8], disk: &dyn Disk) -> io::Result<()> {
    disk.admit(Part::Snapshot, bytes.len())?;
    replace_file(path, disk, |mut file| file.write_all(bytes)).map(drop)
}

/// The same with contents that are written as they are made.
///
/// # Errors
/// Whatever the disk or `fill` says; the old file is then still there.
pub fn replace_file(path: &Path, disk: &dyn Disk, fill: impl FnOnce(&File) -> io::Result<()>) -> io::Result<File> {
    let temporary = temporary_name(path);
    match std::fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    // Private from its first moment: a snapshot holds the cluster's keys.
    let file = File::options().read(true).write(true).create_new(true).mode(FILE_MODE).open(&temporary)?;
    fill(&file)?;
    disk.sync(Part::Snapshot, &file)?;
    std::fs::rename(&temporary, path)?;
    sync_directory(disk, path.parent().unwrap_or(Path::new("/")))?;
    Ok(file)
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(TEMPORARY);
    path.with_file_name(name)
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
