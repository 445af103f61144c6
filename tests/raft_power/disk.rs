//! A disk that is fed recorded calls: what is durable, what is not yet, and what it may look like after a power loss.
//!
//! A write is durable once a sync of its file, begun after the write had returned, has returned. Of every other write
//! the disk may keep nothing, all, or its first sectors, in any combination; so with a new length. Names (creations,
//! renames, removals) are kept in order, as journaling file systems keep them: after a power loss some first part of
//! those that were not made durable by a sync of their directory is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::trace::{Call, What};

const SECTOR: usize = 512;

/// splitmix64: chance from a seed.
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(bound).unwrap()).unwrap()
    }
}

/// Which of the unsynced changes the disk kept.
#[derive(Clone, Copy, Debug)]
pub enum Kept {
    /// None.
    Nothing,
    /// Everything but one write, whose place among the unsynced ones is chance.
    AllButOne,
    /// Only one.
    OnlyOne,
    /// Each of them whole, in part, or not, by chance.
    Some,
}

pub const EVERY_KIND: [Kept; 4] = [Kept::Nothing, Kept::AllButOne, Kept::OnlyOne, Kept::Some];

/// A file whatever its name is.
type Inode = usize;

#[derive(Default)]
struct File {
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

struct Pending {
    ended: u64,
    change: Change,
}

#[derive(Clone)]
enum Change {
    SetLength(u64),
    /// At an offset; none is the file's end.
    Write(Option<u64>, Vec<u8>),
}

enum NameChange {
    Link(PathBuf, Inode),
    Unlink(PathBuf),
}

/// The disk under the calls so far.
#[derive(Default)]
pub struct Disk {
    files: Vec<File>,
    /// All were there, durably, before the first call.
    directories: Vec<PathBuf>,
    /// As the running process sees them.
    names: BTreeMap<PathBuf, Inode>,
    durable_names: BTreeMap<PathBuf, Inode>,
    /// When each ended, and what it changes; a rename is two changes at once.
    pending_names: Vec<(u64, Vec<NameChange>)>,
    /// Syncs that had not returned when the last call began: their files' or directories' names, begin and end.
    syncing: Vec<(PathBuf, u64, u64)>,
}

impl Disk {
    /// A disk with every file below a directory, all durable.
    pub fn holding(dir: &Path) -> Self {
        let mut disk = Self::default();
        disk.take_in(dir, dir);
        disk.durable_names = disk.names.clone();
        disk
    }

    fn take_in(&mut self, root: &Path, dir: &Path) {
        for found in std::fs::read_dir(dir).unwrap() {
            let path = found.unwrap().path();
            if path.is_dir() {
                self.directories.push(path.strip_prefix(root).unwrap().to_path_buf());
                self.take_in(root, &path);
            } else {
                let inode = self.new_file();
                self.files[inode].durable = std::fs::read(&path).unwrap();
                self.names.insert(path.strip_prefix(root).unwrap().to_path_buf(), inode);
            }
        }
    }

    fn new_file(&mut self) -> Inode {
        self.files.push(File::default());
        self.files.len() - 1
    }

    /// The call has begun. Whether it had any effect on the disk is open until a sync returns.
    pub fn begin(&mut self, call: &Call) {
        self.finish_syncs(call.began);
        match &call.what {
            What::Create(path, truncate) => self.create(path, *truncate, call.ended),
            What::Write(path, offset, bytes) => {
                self.change(path, call.ended, Change::Write(*offset, bytes.clone()));
            }
            What::SetLength(path, length) => self.change(path, call.ended, Change::SetLength(*length)),
            What::Rename(from, to) => {
                let Some(inode) = self.names.remove(from) else { return };
                self.names.insert(to.clone(), inode);
                let both = vec![NameChange::Unlink(from.clone()), NameChange::Link(to.clone(), inode)];
                self.pending_names.push((call.ended, both));
            }
            What::Remove(path) => {
                self.names.remove(path);
                self.pending_names.push((call.ended, vec![NameChange::Unlink(path.clone())]));
            }
            What::Sync(path) => self.syncing.push((path.clone(), call.began, call.ended)),
            What::Said(_) => {}
        }
    }

    fn create(&mut self, path: &Path, truncate: bool, ended: u64) {
        if self.names.contains_key(path) {
            if truncate {
                self.change(path, ended, Change::SetLength(0));
            }
            return;
        }
        let inode = self.new_file();
        self.names.insert(path.to_path_buf(), inode);
        self.pending_names.push((ended, vec![NameChange::Link(path.to_path_buf(), inode)]));
    }

    fn change(&mut self, path: &Path, ended: u64, change: Change) {
        let inode = *self.names.get(path).unwrap_or_else(|| panic!("{} was never made", path.display()));
        self.files[inode].pending.push(Pending { ended, change });
    }

    /// Makes durable what syncs that returned before `now` promise.
    fn finish_syncs(&mut self, now: u64) {
        let (done, open) = std::mem::take(&mut self.syncing).into_iter().partition(|(_, _, ended)| *ended < now);
        self.syncing = open;
        for (path, began, _) in Vec::from_iter::<Vec<(PathBuf, u64, u64)>>(done) {
            match self.names.get(&path) {
                Some(inode) => {
                    let file = &mut self.files[*inode];
                    let pending = std::mem::take(&mut file.pending);
                    let (durable, open) = pending.into_iter().partition(|pending| pending.ended <= began);
                    file.pending = open;
                    let durable: Vec<Pending> = durable;
                    durable.iter().for_each(|pending| apply(&pending.change, &mut file.durable));
                }
                None => self.sync_names(&path, began),
            }
        }
    }

    fn sync_names(&mut self, dir: &Path, began: u64) {
        let touches = |change: &NameChange| {
            let (NameChange::Link(path, _) | NameChange::Unlink(path)) = change;
            path.parent() == Some(dir)
        };
        let last =
            self.pending_names.iter().rposition(|(ended, changes)| *ended <= began && changes.iter().any(touches));
        for (_, changes) in self.pending_names.drain(..last.map_or(0, |last| last + 1)) {
            rename(&changes, &mut self.durable_names);
        }
    }

    /// How many writes and lengths are open now.
    pub fn open_changes(&self) -> usize {
        self.files.iter().map(|file| file.pending.len()).sum()
    }

    /// Puts the disk as it is after a power loss now into a directory.
    pub fn lose_power(&self, kept: Kept, chance: &mut Chance, root: &Path) {
        let names_kept = match kept {
            Kept::Nothing => 0,
            Kept::AllButOne => self.pending_names.len(),
            Kept::OnlyOne | Kept::Some => chance.below(self.pending_names.len() + 1),
        };
        let mut names = self.durable_names.clone();
        self.pending_names[..names_kept].iter().for_each(|(_, changes)| rename(changes, &mut names));
        let chosen = chance.below(self.open_changes().max(1));
        let mut place = 0;
        let mut contents = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let mut bytes = None;
            for pending in &file.pending {
                let change = kept_part(&pending.change, kept, place == chosen, chance);
                place += 1;
                if let Some(change) = change {
                    apply(&change, bytes.get_or_insert_with(|| file.durable.clone()));
                }
            }
            contents.push(bytes);
        }
        self.directories.iter().for_each(|made| std::fs::create_dir_all(root.join(made)).unwrap());
        for (path, inode) in names {
            let path = root.join(path);
            let bytes = contents[inode].as_ref().unwrap_or(&self.files[inode].durable);
            std::fs::write(path, bytes).unwrap();
        }
    }
}

fn kept_part(change: &Change, kept: Kept, chosen: bool, chance: &mut Chance) -> Option<Change> {
    match (kept, change) {
        (Kept::Nothing, _) => None,
        (Kept::AllButOne, change) => (!chosen).then(|| change.clone()),
        (Kept::OnlyOne, change) => chosen.then(|| change.clone()),
        (Kept::Some, Change::SetLength(_)) => (chance.below(2) == 0).then(|| change.clone()),
        (Kept::Some, Change::Write(offset, bytes)) => match chance.below(3) {
            0 => None,
            1 => Some(change.clone()),
            _ => {
                let sectors = chance.below(bytes.len().div_ceil(SECTOR) + 1);
                Some(Change::Write(*offset, bytes[..(sectors * SECTOR).min(bytes.len())].to_vec()))
            }
        },
    }
}

fn apply(change: &Change, file: &mut Vec<u8>) {
    match change {
        Change::SetLength(length) => file.resize(usize::try_from(*length).unwrap(), 0),
        Change::Write(offset, bytes) => {
            let start = offset.map_or(file.len(), |offset| usize::try_from(offset).unwrap());
            if file.len() < start + bytes.len() {
                file.resize(start + bytes.len(), 0);
            }
            file[start..start + bytes.len()].copy_from_slice(bytes);
        }
    }
}

fn rename(changes: &[NameChange], names: &mut BTreeMap<PathBuf, Inode>) {
    for change in changes {
        match change {
            NameChange::Link(path, inode) => drop(names.insert(path.clone(), *inode)),
            NameChange::Unlink(path) => drop(names.remove(path)),
        }
    }
}
