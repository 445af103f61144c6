//! What a node reads back from its disk: records, snapshots, and a whole store that was damaged.

use std::cell::RefCell;
use std::fmt::Debug;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use pkgctl::engine::{NodeId, Profile, codec};
use pkgctl::raft::record::{LogMark, LogRecord, Vote};
use pkgctl::raft::store::disk::{Disk, Part};
use pkgctl::raft::store::load::{OpenError, OpenStore, open};
use pkgctl::raft::store::snapshot::{Snapshot, SnapshotHead};
use pkgctl::raft::store::{Table, Write, key};
use pkgctl::raft::wire::SnapshotPart;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::peers::records;
use super::{choice, chosen, scene};

/// A record as it lies on disk, and the value in it whatever its checksum says.
pub fn record(bytes: &[u8]) -> bool {
    let (which, rest) = choice(bytes);
    match which % 4 {
        0 => read::<LogRecord>(rest),
        1 => read::<Vote>(rest),
        2 => read::<LogMark>(rest),
        _ => read::<SnapshotHead>(rest),
    }
}

fn read<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> bool {
    let whole = codec::open::<T>(bytes).is_ok();
    let Ok(value) = codec::decode::<T>(bytes) else { return whole };
    assert_eq!(codec::open::<T>(&codec::seal(&value)), Ok(value));
    true
}

pub fn record_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = records().iter().map(|record| chosen(0, &codec::encode(record))).collect();
    seeds.extend([chosen(0, &codec::seal(&records()[0])), chosen(1, &codec::encode(&VOTE))]);
    seeds.extend([chosen(2, &codec::encode(&mark(3))), chosen(3, &codec::encode(&SnapshotHead::default()))]);
    seeds
}

/// A snapshot from disk or from another member.
pub fn snapshot(bytes: &[u8]) -> bool {
    let whole = codec::open::<Snapshot>(bytes).is_ok() | codec::decode::<SnapshotPart>(bytes).is_ok();
    let Ok(snapshot) = codec::decode::<Snapshot>(bytes) else { return whole };
    let again: Snapshot = codec::open(&codec::seal(&snapshot)).expect("what was sealed opens");
    assert_eq!(again, snapshot);
    true
}

pub fn snapshot_seeds() -> Vec<Vec<u8>> {
    let snapshot = covering();
    vec![codec::seal(&snapshot), codec::encode(&snapshot)]
}

const VOTE: Vote = Vote { term: 2, node: NodeId(1), committed: true };
/// The last entry that the snapshot covers, and that was purged.
const COVERED: u64 = 2;
const LAST: u64 = 7;
const NODE_FILE: usize = 0;
const TAIL: usize = 1;
const SNAPSHOT: usize = 2;
const FILES: usize = 3;

fn mark(index: u64) -> LogMark {
    LogMark { term: 1, index }
}

fn covering() -> Snapshot {
    let head = SnapshotHead { last: Some(mark(COVERED)), ..SnapshotHead::default() };
    Snapshot { head, state: scene::state() }
}

/// A store in memory: files by [`NODE_FILE`], [`TAIL`] and [`SNAPSHOT`], then the table's records.
#[derive(Clone)]
struct Image {
    files: [Vec<u8>; FILES],
    table: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Serialize)]
struct Slot {
    turn: u64,
    tail: Tail,
}

#[derive(Serialize)]
struct Tail {
    last: Option<LogMark>,
    vote: Option<Vote>,
}

impl Image {
    /// What a store of this version holds after a snapshot, a purge and a few entries more.
    fn whole() -> Self {
        let node = r#"{"version":1,"cluster":"7","node":1,"profile":"default","engine":"memory"}"#;
        let mut tail = vec![0; 1024];
        for (turn, last) in [(8, LAST - 1), (9, LAST)] {
            let sealed = codec::seal(&Slot { turn, tail: Tail { last: Some(mark(last)), vote: Some(VOTE) } });
            let length = u16::try_from(sealed.len()).expect("a slot is small").to_be_bytes();
            let at = if turn % 2 == 0 { 0 } else { 512 };
            tail[at..at + 2].copy_from_slice(&length);
            tail[at + 2..at + 2 + sealed.len()].copy_from_slice(&sealed);
        }
        let identity = pkgctl::raft::Identity { cluster: scene::CLUSTER, node: NodeId(1), profile: Profile::Default };
        let mut table = vec![
            (key::ABOUT.to_vec(), codec::seal(&identity)),
            (key::VOTE.to_vec(), codec::seal(&VOTE)),
            (key::COMMITTED.to_vec(), codec::seal(&mark(LAST - 1))),
            (key::PURGED.to_vec(), codec::seal(&mark(COVERED))),
        ];
        for index in COVERED + 1..=LAST {
            let (writes, _) = key::put(&LogRecord { mark: mark(index), ..entry(index) });
            table.extend(writes.into_iter().map(|write| match write {
                Write::Put(key, value) => (key, value),
                Write::Delete(key) => panic!("{key:?} is deleted"),
            }));
        }
        Self { files: [node.into(), tail, codec::seal(&covering())], table }
    }

    /// One change: which place, what to do, where, with which byte.
    fn damage(&mut self, [which, how, at, with]: [u8; 4]) -> Place {
        let which = usize::from(which);
        if which < FILES {
            alter(&mut self.files[which], how, usize::from(at) * 3, with);
            return Place::File(which);
        }
        let count = self.table.len().max(1);
        let record = (which - FILES) % count;
        match how % 6 {
            0 if !self.table.is_empty() => drop(self.table.remove(record)),
            1 if !self.table.is_empty() => {
                let other = self.table[usize::from(with) % count].1.clone();
                self.table[record].1 = other;
            }
            2 if !self.table.is_empty() => alter(&mut self.table[record].0, with, usize::from(at), with),
            _ if !self.table.is_empty() => alter(&mut self.table[record].1, how, usize::from(at), with),
            _ => {}
        }
        Place::Table
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    File(usize),
    Table,
}

fn alter(bytes: &mut Vec<u8>, how: u8, at: usize, with: u8) {
    let at = at.min(bytes.len().saturating_sub(1));
    match how % 4 {
        0 => bytes.truncate(at),
        1 => bytes.insert(at.min(bytes.len()), with),
        2 => bytes.extend(std::iter::repeat_n(with, 1 + at % 600)),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= with;
            }
        }
    }
}

fn entry(index: u64) -> LogRecord {
    let all = records();
    let which = usize::try_from(index).expect("a small number") % 2;
    all[which].clone()
}

thread_local! {
    static TABLE: RefCell<Vec<(Vec<u8>, Vec<u8>)>> = const { RefCell::new(Vec::new()) };
}

/// A table in this thread's memory.
struct Memory;

impl Table for Memory {
    const NAME: &'static str = "memory";

    fn create(_: &Path, _: Arc<dyn Disk>) -> io::Result<Self> {
        Ok(Self)
    }

    fn open(_: &Path, _: Arc<dyn Disk>) -> io::Result<Self> {
        Ok(Self)
    }

    fn scan(&self, visit: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        TABLE.with_borrow(|table| table.iter().for_each(|(key, value)| visit(key, value)));
        Ok(())
    }

    fn commit(&mut self, _: &[Write], _: bool) -> io::Result<()> {
        Ok(())
    }
}

/// Nothing here outlives the process.
struct Volatile;

impl Disk for Volatile {
    fn admit(&self, _: Part, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self, _: Part, _: &File) -> io::Result<()> {
        Ok(())
    }
}

struct Bed {
    dir: tempfile::TempDir,
    files: [PathBuf; FILES],
}

impl Bed {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let dir = made.expect("a directory can be made");
        let store = dir.path().join("raft");
        fs::create_dir_all(store.join("snapshots")).expect("a directory can be made");
        let snapshot = format!("{:020}-1.snapshot", COVERED + 1);
        let files = [dir.path().join("node.json"), store.join("tail"), store.join("snapshots").join(snapshot)];
        Self { dir, files }
    }

    fn open(&self, image: &Image) -> Result<OpenStore<Memory>, OpenError> {
        for (path, bytes) in self.files.iter().zip(&image.files) {
            fs::write(path, bytes).expect("a file can be written");
        }
        TABLE.set(image.table.clone());
        open(self.dir.path(), Arc::new(Volatile))
    }
}

thread_local! {
    static BED: Bed = Bed::new();
}

/// What a node must not forget.
#[derive(Debug, PartialEq)]
struct Kept {
    vote: Option<Vote>,
    snapshot: Option<Snapshot>,
    entries: Vec<LogRecord>,
}

fn kept(store: &OpenStore<Memory>) -> Kept {
    let entries = store.log.records(0..u64::MAX).expect("an open store is read");
    Kept {
        vote: store.log.vote().expect("an open store is read"),
        snapshot: store.newest.clone(),
        entries: entries.iter().map(|record| LogRecord::clone(record)).collect(),
    }
}

static WHOLE: LazyLock<Image> = LazyLock::new(Image::whole);

/// Damage of one part of a store, its table or one of its files, is refused or changes nothing; of several, it may
/// hide its own witness, and no more can be said than that nothing panics.
pub fn run(bytes: &[u8]) -> bool {
    const DAMAGES_MAX: usize = 16;
    let mut image = WHOLE.clone();
    let places: Vec<Place> = bytes.as_chunks().0.iter().take(DAMAGES_MAX).map(|how| image.damage(*how)).collect();
    let one_part = places.windows(2).all(|two| two[0] == two[1]);
    BED.with(|bed| {
        let found = match bed.open(&image) {
            Ok(store) => kept(&store),
            Err(e) => {
                assert!(!places.is_empty(), "a whole store is refused: {e}");
                return false;
            }
        };
        if one_part {
            let expected = kept(&bed.open(&WHOLE).unwrap_or_else(|e| panic!("a whole store opens: {e}")));
            assert_eq!(found, expected, "something was lost without a word");
        }
        true
    })
}

pub fn seeds() -> Vec<Vec<u8>> {
    let (record, third) = (u8::try_from(FILES).expect("few"), 3);
    vec![
        Vec::new(),
        vec![u8::try_from(TAIL).expect("few"), third, 1, 1],
        vec![u8::try_from(SNAPSHOT).expect("few"), third, 9, 1],
        vec![u8::try_from(NODE_FILE).expect("few"), third, 9, 1],
        vec![record + 1, 0, 0, 0],
        vec![record + 8, 0, 0, 0],
        vec![record + 5, 1, 0, 6],
        vec![record + 3, 3, 9, 1, record + 4, 1, 0, 5],
    ]
}
