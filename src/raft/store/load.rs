//! Opening a store: everything on it is read and verified, and a store that lacks anything it once promised is refused.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::Table;
use super::disk::Disk;
use super::fault::Health;
use super::identity::{IDENTITY_FILE, Identity, STORE_DIR, StoreLock};
use super::key::{self, Place};
use super::log::{Held, LogStore};
use super::snapshot::{Snapshot, SnapshotFiles};
use super::tail::{Tail, TailFile};
use super::writer::{Purged, Writer};
use crate::engine::codec;
use crate::raft::record::{LogMark, LogRecord, Vote};

const REJOIN: &str = "The other members still hold everything this node acknowledged. Do not start it empty under its \
    old id: stop pkgctl here (agent and keeper), move the state directory away, run `pkgctl cluster remove` for this \
    node on another member, start pkgctl here and `pkgctl cluster join` with a token of that member: it comes back as a \
    new node. If it was the only member, restore the directory from a backup";

/// Why a store is not opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused.
    #[error("{}: {doing} failed: {why}. Nothing was changed; put that right and start the agent again", .path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What it said.
        why: String,
    },
    /// Another process has it.
    #[error("{} is locked: another pkgctl agent runs on this state directory; stop that one first", .path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// This node is not in a cluster.
    #[error(
        "{} holds no node: there is no {IDENTITY_FILE} in it. Run `pkgctl cluster init` for a new cluster or \
         `pkgctl cluster join` for an existing one", .dir.display()
    )]
    NoNode {
        /// The state directory.
        dir: PathBuf,
    },
    /// There is a node here already.
    #[error("{} exists: this directory belongs to a node already; move it away to make another", .path.display())]
    Exists {
        /// What is in the way.
        path: PathBuf,
    },
    /// `node.json` is there and the store is not.
    #[error("{}: {IDENTITY_FILE} names a node but its store is not there: {what}. {REJOIN}", .dir.display())]
    Lost {
        /// The state directory.
        dir: PathBuf,
        /// What is missing.
        what: String,
    },
    /// The store is not what it was.
    #[error("the store in {} is damaged: {what}. {REJOIN}", .dir.display())]
    Damaged {
        /// The state directory.
        dir: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Another build made it.
    #[error(
        "the store in {} was made with {made_by} and this program was built with {this}. Nothing was changed; install \
         the build that made it", .dir.display()
    )]
    Engine {
        /// The state directory.
        dir: PathBuf,
        /// The engine that made it.
        made_by: String,
        /// This program's.
        this: &'static str,
    },
}

impl OpenError {
    /// The system's refusal as an error.
    pub fn io(path: &Path, doing: &'static str, error: &io::Error) -> Self {
        Self::Io { path: path.into(), doing, why: error.to_string() }
    }
}

/// An open store.
pub struct OpenStore<T> {
    /// Whose.
    pub identity: Identity,
    /// Log, vote, marks.
    pub log: LogStore,
    /// Must be run for anything to be written.
    pub writer: Writer<T>,
    /// Snapshots.
    pub snapshots: SnapshotFiles,
    /// The newest snapshot.
    pub newest: Option<Snapshot>,
    /// Whether it still works.
    pub health: Health,
}

/// Opens and verifies the store of the node that `node.json` names.
///
/// # Errors
/// Every way in which it is not whole, or not this node's, or in use.
pub fn open<T: Table>(dir: &Path, disk: Arc<dyn Disk>) -> Result<OpenStore<T>, OpenError> {
    if !dir.is_dir() {
        return Err(OpenError::NoNode { dir: dir.into() });
    }
    let lock = StoreLock::take(dir)?;
    let identity = Identity::read::<T>(dir)?.ok_or_else(|| OpenError::NoNode { dir: dir.into() })?;
    let store = dir.join(STORE_DIR);
    let health = Health::new(dir);
    let because = |part: &'static str| move |e: io::Error| explain(dir, part, &e);
    if !store.is_dir() {
        return Err(OpenError::Lost { dir: dir.into(), what: format!("{} is missing", store.display()) });
    }
    let (snapshots, newest) =
        SnapshotFiles::open(&store, disk.clone(), health.clone()).map_err(because("the snapshots"))?;
    let (tail_file, tail) = TailFile::open(&store, disk.clone()).map_err(because("the tail mark"))?;
    let table = T::open(&store, disk).map_err(because("the log"))?;

    let damaged = |what: String| OpenError::Damaged { dir: dir.into(), what };
    let covered = newest.as_ref().and_then(|snapshot| snapshot.head.last);
    let mut gathered = Gathered::default();
    table.scan(&mut |key, value| gathered.take(key, value)).map_err(because("the log"))?;
    let mut loaded = gathered.verify(identity, covered, tail).map_err(damaged)?;

    let (writer, queue) = Writer::new(table, tail_file, health.clone(), lock);
    queue
        .purge(std::mem::take(&mut loaded.leftovers))
        .map_err(|e| OpenError::io(dir, "clearing purged entries", &e))?;
    let log = LogStore::new(loaded, queue, health.clone());
    Ok(OpenStore { identity, log, writer, snapshots, newest, health })
}

fn explain(dir: &Path, part: &'static str, error: &io::Error) -> OpenError {
    match error.kind() {
        io::ErrorKind::NotFound => OpenError::Lost { dir: dir.into(), what: format!("{part}: {error}") },
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            OpenError::Damaged { dir: dir.into(), what: format!("{part}: {error}") }
        }
        // Engines report some damage as errors of no kind; the difference to a disk that cannot be read is its number.
        _ if error.raw_os_error().is_none() => OpenError::Damaged { dir: dir.into(), what: format!("{part}: {error}") },
        _ => OpenError::io(dir, "reading the store", error),
    }
}

/// What a table holds, verified.
pub struct Loaded {
    /// The log after the purge mark, without gaps.
    pub entries: Vec<Held>,
    /// The vote.
    pub vote: Option<Vote>,
    /// The commit mark.
    pub committed: Option<LogMark>,
    /// The purge mark.
    pub purged: Option<LogMark>,
    /// Values of entries at or below the purge mark whose deletion was not finished.
    pub leftovers: Vec<Purged>,
}

/// What a table holds, as read.
#[derive(Default)]
struct Gathered {
    about: Option<Vec<u8>>,
    vote: Option<Vec<u8>>,
    committed: Option<Vec<u8>>,
    purged: Option<Vec<u8>>,
    /// Parts of entries, each with its number.
    entries: BTreeMap<u64, Vec<(u16, Vec<u8>)>>,
    unknown: Option<String>,
}

impl Gathered {
    fn take(&mut self, key: &[u8], value: &[u8]) {
        match key::place(key) {
            Some(Place::About) => self.about = Some(value.to_vec()),
            Some(Place::Vote) => self.vote = Some(value.to_vec()),
            Some(Place::Committed) => self.committed = Some(value.to_vec()),
            Some(Place::Purged) => self.purged = Some(value.to_vec()),
            Some(Place::Entry { index, part }) => self.entries.entry(index).or_default().push((part, value.to_vec())),
            None => self.unknown = Some(String::from_utf8_lossy(key).into_owned()),
        }
    }

    fn verify(mut self, identity: Identity, covered: Option<LogMark>, tail: Tail) -> Result<Loaded, String> {
        if let Some(key) = self.unknown {
            return Err(format!("it holds an unknown key {key:?}"));
        }
        let about: Option<Identity> = unseal("the store's description", self.about.as_deref())?;
        match about {
            None => return Err("its log is empty: not even its own description is left".to_owned()),
            Some(about) if about != identity => {
                return Err(format!(
                    "it was made for node {} of cluster {}, and {IDENTITY_FILE} names node {} of cluster {}",
                    about.node, about.cluster, identity.node, identity.cluster
                ));
            }
            Some(_) => {}
        }
        let vote: Option<Vote> = unseal("the vote", self.vote.as_deref())?;
        let committed: Option<LogMark> = unseal("the commit mark", self.committed.as_deref())?;
        let purged: Option<LogMark> = unseal("the purge mark", self.purged.as_deref())?;
        let first = purged.map_or(0, |mark| mark.index + 1);
        let kept = self.entries.split_off(&first);
        let leftover =
            |index, (part, bytes): (u16, Vec<u8>)| Purged { key: key::entry(index, part), bytes: bytes.len() };
        let half_deleted = self.entries.into_iter();
        let leftovers =
            half_deleted.flat_map(|(index, parts)| parts.into_iter().map(move |part| leftover(index, part)));
        let leftovers = leftovers.collect();
        let entries = decode_entries(purged, kept)?;
        let last = entries.last().map(|held| held.record.mark).or(purged);
        consistent(vote, committed, purged, last, covered)?;
        witnessed(tail, vote, last, &entries, covered)?;
        Ok(Loaded { entries, vote, committed, purged, leftovers })
    }
}

fn unseal<V: DeserializeOwned>(what: &str, bytes: Option<&[u8]>) -> Result<Option<V>, String> {
    bytes.map(codec::open).transpose().map_err(|e| format!("{what}: {e}"))
}

/// Puts entries together again and checks that they follow one another.
fn decode_entries(purged: Option<LogMark>, kept: BTreeMap<u64, Vec<(u16, Vec<u8>)>>) -> Result<Vec<Held>, String> {
    let mut entries: Vec<Held> = Vec::with_capacity(kept.len());
    let mut before = purged;
    for (index, parts) in kept {
        let expected = before.map_or(0, |mark| mark.index + 1);
        if index != expected {
            return Err(format!("entries {expected} to {} are missing from its log", index - 1));
        }
        let count = parts.len();
        if parts.iter().map(|(part, _)| usize::from(*part)).ne(0..count) {
            return Err(format!("entry {index} lacks a part"));
        }
        let bytes: Vec<u8> = parts.into_iter().flat_map(|(_, bytes)| bytes).collect();
        let record: LogRecord = codec::open(&bytes).map_err(|e| format!("entry {index}: {e}"))?;
        if record.mark.index != index || before.is_some_and(|mark| record.mark.term < mark.term) {
            return Err(format!("entry {index} says that it is {}", record.mark));
        }
        before = Some(record.mark);
        let parts = u16::try_from(count).map_err(|_| format!("entry {index} has too many parts"))?;
        let before = entries.last().map_or(0, |held| held.upto_bytes);
        entries.push(Held::new(record, parts, bytes.len(), before));
    }
    Ok(entries)
}

/// Checks that vote, marks, log and snapshot fit together.
fn consistent(
    vote: Option<Vote>,
    committed: Option<LogMark>,
    purged: Option<LogMark>,
    last: Option<LogMark>,
    covered: Option<LogMark>,
) -> Result<(), String> {
    let (voted, written) = (vote.map_or(0, |vote| vote.term), last.map_or(0, |mark| mark.term));
    if voted < written {
        return Err(format!("its vote is of term {voted}, but its log was written up to term {written}"));
    }
    if let Some(purged) = purged
        && covered.is_none_or(|covered| covered.index < purged.index)
    {
        return Err(format!("its log begins after entry {purged}, and no snapshot reaches that far"));
    }
    let reach = last.max(covered).map(|mark| mark.index).max(covered.map(|mark| mark.index));
    if let Some(committed) = committed
        && reach < Some(committed.index)
    {
        return Err(format!("entry {committed} was committed here and is gone"));
    }
    Ok(())
}

/// Checks the table against its independent witness: engines mend damage by dropping the end of what was written.
fn witnessed(
    tail: Tail,
    vote: Option<Vote>,
    last: Option<LogMark>,
    entries: &[Held],
    covered: Option<LogMark>,
) -> Result<(), String> {
    if let Some(seen) = tail.vote {
        let kept = vote.is_some_and(|vote| {
            let rank = |vote: Vote| (vote.term, vote.committed);
            rank(vote) >= rank(seen) && (vote.term > seen.term || vote.node == seen.node || vote.committed)
        });
        if !kept {
            return Err(format!("it gave a vote ({seen}) and has forgotten it"));
        }
    }
    let Some(seen) = tail.last else { return Ok(()) };
    if covered.is_some_and(|covered| covered.index >= seen.index) {
        return Ok(());
    }
    if last.is_none_or(|last| last.index < seen.index) {
        let last = last.map_or("nothing".to_owned(), |mark| mark.to_string());
        return Err(format!("its log reached entry {seen} and now holds {last}"));
    }
    let there = entries.iter().rev().find(|held| held.record.mark.index == seen.index);
    if there.is_some_and(|held| held.record.mark != seen) {
        return Err(format!("it held entry {seen} and holds another in its place"));
    }
    Ok(())
}
