//! An independent witness of how far the log went and which vote was given.
//!
//! Storage engines mend a damaged file by dropping its end, and then a voter has silently forgotten entries that it
//! acknowledged. The tail mark is kept in a file of its own, written after each durable commit, so that it never claims
//! more than the table held; opening refuses a table that holds less. It is synced when it must not fall behind: when a
//! vote was given, and *before* the log is truncated, so that it never claims entries that were rightly taken away.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::disk::{Disk, Part, settle, sync_directory};
use super::identity::FILE_MODE;
use crate::engine::codec;
use crate::raft::record::{LogMark, Vote};

const FILE: &str = "tail";
/// Two slots, written in turn, so that a torn write leaves the other whole. A slot is one sector.
const SLOT_BYTES: usize = 512;

/// What the table held at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    /// Last entry, or the purge mark if that is later.
    pub last: Option<LogMark>,
    /// The vote.
    pub vote: Option<Vote>,
}

#[derive(Serialize, Deserialize)]
struct Slot {
    turn: u64,
    tail: Tail,
}

/// The open file.
pub struct TailFile {
    file: File,
    turn: u64,
    disk: Arc<dyn Disk>,
}

impl TailFile {
    /// Makes the file, durably, claiming nothing.
    pub fn create(dir: &Path, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).mode(FILE_MODE).open(dir.join(FILE))?;
        file.set_len(2 * SLOT_BYTES as u64)?;
        let mut made = Self { file, turn: 0, disk };
        made.note(Tail::default())?;
        made.note(Tail::default())?;
        made.sync()?;
        sync_directory(&*made.disk, dir)?;
        Ok(made)
    }

    /// Opens it and reads what it claims. `NotFound` and `InvalidData` as for a table.
    pub fn open(dir: &Path, disk: Arc<dyn Disk>) -> io::Result<(Self, Tail)> {
        let path = dir.join(FILE);
        settle(&*disk, Part::Tail, &path)?;
        let file = File::options().read(true).write(true).open(&path)?;
        let mut bytes = [0; 2 * SLOT_BYTES];
        let whole = file.read_exact_at(&mut bytes, 0);
        let slots = bytes.chunks(SLOT_BYTES).filter_map(read_slot);
        let newest = whole.ok().and_then(|()| slots.max_by_key(|slot| slot.turn));
        let Some(Slot { turn, tail }) = newest else {
            let damaged = format!("neither half of {} is whole", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, damaged));
        };
        Ok((Self { file, turn, disk }, tail))
    }

    /// Writes the mark, without waiting for the disk.
    pub fn note(&mut self, tail: Tail) -> io::Result<()> {
        self.turn += 1;
        let sealed = codec::seal(&Slot { turn: self.turn, tail });
        let length = u16::try_from(sealed.len()).map_err(io::Error::other)?;
        let mut slot = [0; SLOT_BYTES];
        slot[..2].copy_from_slice(&length.to_be_bytes());
        slot[2..2 + sealed.len()].copy_from_slice(&sealed);
        self.disk.admit(Part::Tail, slot.len())?;
        self.file.write_all_at(&slot, (self.turn % 2) * SLOT_BYTES as u64)
    }

    /// Makes the last mark durable.
    pub fn sync(&self) -> io::Result<()> {
        self.disk.sync(Part::Tail, &self.file)
    }
}

fn read_slot(bytes: &[u8]) -> Option<Slot> {
    let (length, rest) = bytes.split_at_checked(2)?;
    let length = u16::from_be_bytes(length.try_into().ok()?);
    codec::open(rest.get(..usize::from(length))?).ok()
}

#[cfg(test)]
mod tests {
    use super::super::disk::RealDisk;
    use super::*;
    use crate::engine::NodeId;

    fn mark(index: u64) -> Tail {
        let vote = Some(Vote { term: u64::MAX, node: NodeId(u64::MAX), committed: true });
        Tail { last: Some(LogMark { term: u64::MAX, index }), vote }
    }

    #[test]
    fn the_newest_mark_comes_back_and_a_torn_one_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut tail = TailFile::create(dir.path(), Arc::new(RealDisk)).unwrap();
        for index in 1..=5 {
            tail.note(mark(index)).unwrap();
        }
        let open = || TailFile::open(dir.path(), Arc::new(RealDisk));
        let (opened, found) = open().unwrap();
        assert_eq!(found, mark(5));
        let torn = (opened.turn % 2) * SLOT_BYTES as u64;
        tail.file.write_all_at(&[0xff; 16], torn + 8).unwrap();
        assert_eq!(open().unwrap().1, mark(4));
        tail.file.write_all_at(&[0xff; 2 * SLOT_BYTES], 0).unwrap();
        assert_eq!(open().err().unwrap().kind(), io::ErrorKind::InvalidData);
    }
}
