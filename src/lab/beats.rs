//! The map of beats: a file shared by all demo programs of a lab, in which each records the moments at which it lived.
//!
//! A client's probes alone miss double activity: its ARP cache points at one node only, and gratuitous ARP hides the
//! other. So every program writes down, about once a millisecond, that it lives. All nodes share one kernel, hence one
//! monotonic clock, and their beats can be compared.
//!
//! Layout, in 64-bit words: one page of header (magic, number of lives begun), then per life one page (ready, token,
//! pid, number of beats, length and bytes of the node's name) and a ring of the newest [`RING`] beats. The file is
//! sparse: only what is written takes memory.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Error, ErrorKind, Result};
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::moment::Moment;

const MAGIC: u64 = 0x706b_6762_6561_7431;
const PAGE: usize = 512;
/// Beats kept per life, a little more than a minute's worth.
const RING: usize = 1 << 16;
/// Program starts that one map can record.
const MAX_LIVES: usize = 1024;
const LIFE: usize = PAGE + RING;
const WORDS: usize = PAGE + MAX_LIVES * LIFE;
const MAX_NAME_BYTES: usize = 64;

// Words of a life's page.
const READY: usize = 0;
const TOKEN: usize = 1;
const PID: usize = 2;
const COUNT: usize = 3;
const NAME_LEN: usize = 4;
const NAME: usize = 5;

/// One life of one program, from its start to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    pub node: String,
    /// The fencing token it was started under.
    pub token: u64,
    /// As its own process namespace numbers it.
    pub pid: u64,
    /// When it lived, rising. Between two of them it may have been stopped, so nothing is claimed about that time.
    pub beats: Vec<Moment>,
    /// Older beats that the ring no longer holds.
    pub forgotten: u64,
}

/// Makes an empty map at `path`, writable for programs of every user.
pub(super) fn create(path: &Path) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    file.set_permissions(Permissions::from_mode(0o666))?;
    file.set_len((WORDS * 8) as u64)?;
    Map::of(&file)?.word(0).store(MAGIC, Ordering::Release);
    Ok(())
}

/// Reads all lives recorded so far; programs go on writing meanwhile.
pub fn read_lives(path: &Path) -> Result<Vec<Life>> {
    let map = Map::open(path)?;
    let begun = usize::try_from(map.word(1).load(Ordering::Acquire)).unwrap_or(MAX_LIVES).min(MAX_LIVES);
    Ok((0..begun).filter_map(|index| map.life(index)).collect())
}

/// The pen of one program.
pub(super) struct Pen {
    map: Map,
    base: usize,
}

impl Pen {
    /// Begins a life in the map at `path`.
    pub(super) fn begin(path: &Path, node: &str, token: u64) -> Result<Self> {
        if node.len() > MAX_NAME_BYTES {
            return Err(Error::new(ErrorKind::InvalidInput, format!("a name of more than {MAX_NAME_BYTES} bytes")));
        }
        let map = Map::open(path)?;
        let index = usize::try_from(map.word(1).fetch_add(1, Ordering::AcqRel)).unwrap_or(MAX_LIVES);
        if index >= MAX_LIVES {
            return Err(Error::other(format!("the map is full: it has recorded {MAX_LIVES} starts")));
        }
        let base = PAGE + index * LIFE;
        map.word(base + TOKEN).store(token, Ordering::Relaxed);
        map.word(base + PID).store(u64::from(std::process::id()), Ordering::Relaxed);
        map.word(base + NAME_LEN).store(node.len() as u64, Ordering::Relaxed);
        for (at, bytes) in node.as_bytes().chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            map.word(base + NAME + at).store(u64::from_le_bytes(word), Ordering::Relaxed);
        }
        map.word(base + READY).store(1, Ordering::Release);
        Ok(Self { map, base })
    }

    /// Records that the program lives at `at`. One thread only may call this.
    pub(super) fn beat(&self, at: Moment) {
        let count = self.map.word(self.base + COUNT).load(Ordering::Relaxed);
        self.map.word(self.base + ring(count)).store(at.0, Ordering::Relaxed);
        self.map.word(self.base + COUNT).store(count + 1, Ordering::Release);
    }
}

/// Where in a life's words beat number `count` stands.
fn ring(count: u64) -> usize {
    PAGE + (count % RING as u64) as usize
}

struct Map {
    start: NonNull<AtomicU64>,
}

// SAFETY: the words are atomics in shared memory; other processes write them all the time.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if file.metadata()?.len() != (WORDS * 8) as u64 {
            return Err(Error::new(ErrorKind::InvalidData, "not a map of beats of this version"));
        }
        let map = Self::of(&file)?;
        match map.word(0).load(Ordering::Acquire) {
            MAGIC => Ok(map),
            _ => Err(Error::new(ErrorKind::InvalidData, "not a map of beats of this version")),
        }
    }

    fn of(file: &File) -> Result<Self> {
        const LENGTH: NonZeroUsize = NonZeroUsize::new(WORDS * 8).unwrap();
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping of a file that nobody truncates; it is accessed as atomics only.
        let start = unsafe { mmap(None, LENGTH, protection, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Self { start: start.cast() })
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < WORDS);
        // SAFETY: within the mapping, which is page-aligned and lives as long as `self`.
        unsafe { self.start.add(index).as_ref() }
    }

    fn life(&self, index: usize) -> Option<Life> {
        let at = |word: usize| self.word(PAGE + index * LIFE + word);
        if at(READY).load(Ordering::Acquire) == 0 {
            return None;
        }
        let read = |word: usize| at(word).load(Ordering::Relaxed);
        let length = usize::try_from(read(NAME_LEN)).unwrap_or(0).min(MAX_NAME_BYTES);
        let name: Vec<u8> = (0..length).map(|i| read(NAME + i / 8).to_le_bytes()[i % 8]).collect();
        let count = at(COUNT).load(Ordering::Acquire);
        let first = count.saturating_sub(RING as u64);
        let mut beats: Vec<Moment> = (first..count).map(|beat| Moment(read(ring(beat)))).collect();
        // What was overwritten while we read is newer than its place says: drop those, plus the one being written.
        let now = at(COUNT).load(Ordering::Acquire);
        let kept_from = (now + 1).saturating_sub(RING as u64).max(first);
        beats.drain(..usize::try_from(kept_from - first).unwrap_or(0).min(beats.len()));
        let node = String::from_utf8_lossy(&name).into_owned();
        Some(Life { node, token: read(TOKEN), pid: read(PID), beats, forgotten: kept_from })
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `of` mapped; nobody holds a reference into it any more.
        let _ = unsafe { munmap(self.start.cast(), WORDS * 8) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_by_several_pens_is_read_back_life_by_life() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("beats");
        create(&path).unwrap();
        let (one, two) = (Pen::begin(&path, "n1", 7).unwrap(), Pen::begin(&path, "a-longer-name", 9).unwrap());
        one.beat(Moment(10));
        two.beat(Moment(11));
        one.beat(Moment(12));
        let lives = read_lives(&path).unwrap();
        assert_eq!(lives.len(), 2);
        assert_eq!((lives[0].node.as_str(), lives[0].token), ("n1", 7));
        assert_eq!(lives[0].beats, [Moment(10), Moment(12)]);
        assert_eq!((lives[1].node.as_str(), lives[1].token), ("a-longer-name", 9));
        assert_eq!(lives[1].beats, [Moment(11)]);
    }

    #[test]
    fn a_full_ring_forgets_its_oldest_beats_and_says_how_many() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("beats");
        create(&path).unwrap();
        let pen = Pen::begin(&path, "n1", 1).unwrap();
        let written = RING as u64 + 100;
        (0..written).for_each(|beat| pen.beat(Moment(beat)));
        let life = read_lives(&path).unwrap().remove(0);
        assert_eq!(life.forgotten, 101);
        assert_eq!(life.beats.first(), Some(&Moment(101)));
        assert_eq!(life.beats.last(), Some(&Moment(written - 1)));
    }

    #[test]
    fn another_file_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Pen::begin(file.path(), "n1", 1).is_err());
    }
}
