//! What this keeper's life has taken or mounted, or is about to, for the next life to undo (rule 5). Written before
//! anything is done; no fsync: it matters after a crash of the keeper, not of the node.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Task;
use crate::host::own_files;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The record.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    content: Content,
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    /// Mounts do not outlive a boot, and a registration that does is ended by the next owner.
    boot: String,
    /// In the order of their starts.
    tasks: Vec<Task>,
}

impl Record {
    /// Opens the record, with what an earlier life of this boot has left in it.
    ///
    /// # Errors
    /// It is there and cannot be read: nobody knows then what is left.
    pub fn open(run_dir: &Path) -> io::Result<Self> {
        let path = run_dir.join("storage.json");
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
        let old = match fs::read(&path) {
            Ok(bytes) => Some(serde_json::from_slice::<Content>(&bytes)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let content = old.filter(|old| old.boot == boot).unwrap_or(Content { boot, tasks: Vec::new() });
        Ok(Self { path, content })
    }

    /// What is recorded, the last first: to be undone in this order.
    pub fn left(&self) -> Vec<Task> {
        self.content.tasks.iter().rev().cloned().collect()
    }

    /// Whether it is recorded.
    pub fn lists(&self, task: &Task) -> bool {
        self.content.tasks.contains(task)
    }

    /// Adds one.
    ///
    /// # Errors
    /// It must not be begun then.
    pub fn add(&mut self, task: &Task) -> io::Result<()> {
        // What is here is on file too, so that an undoing needs no room.
        if self.lists(task) {
            return Ok(());
        }
        self.content.tasks.push(task.clone());
        self.write().inspect_err(|_| drop(self.content.tasks.pop()))
    }

    /// Strikes one off.
    ///
    /// # Errors
    /// The next life then undoes what is undone, which does no harm.
    pub fn remove(&mut self, task: &Task) -> io::Result<()> {
        self.content.tasks.retain(|other| other != task);
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let write = || {
            own_files::fresh(&new)?.write_all(&serde_json::to_vec(&self.content)?)?;
            fs::rename(&new, &self.path)
        };
        write().map_err(|e| {
            // Half of it takes room from others.
            let _ = fs::remove_file(&new);
            io::Error::new(e.kind(), format!("{}: {e}", new.display()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::{FilesystemResource, LunResource};
    use crate::resource::reservation::Key;

    fn tasks() -> [Task; 2] {
        let lun = LunResource { device: "/dev/x".to_owned(), abort: true, preempt_foreign: false };
        let filesystem = FilesystemResource {
            device: "/dev/x".to_owned(),
            mount: "/srv/x".to_owned(),
            filesystem: "ext4".to_owned(),
            options: Vec::new(),
            fsck: false,
            unfenced: false,
        };
        [Task::Lun { lun, key: Key(0xB7) }, Task::Filesystem(filesystem)]
    }

    #[test]
    fn a_later_life_undoes_in_reverse_what_an_earlier_one_of_this_boot_did() {
        let dir = tempfile::tempdir().unwrap();
        let [lun, filesystem] = tasks();
        let mut record = Record::open(dir.path()).unwrap();
        for task in [&lun, &filesystem, &lun] {
            record.add(task).unwrap();
        }
        let mut next = Record::open(dir.path()).unwrap();
        assert_eq!(next.left(), [filesystem.clone(), lun.clone()]);
        next.remove(&filesystem).unwrap();
        assert_eq!(Record::open(dir.path()).unwrap().left(), [lun]);
    }

    #[test]
    fn what_could_not_be_written_is_not_recorded_and_what_is_recorded_needs_no_writing() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("run");
        fs::create_dir(&run_dir).unwrap();
        let [lun, filesystem] = tasks();
        let mut record = Record::open(&run_dir).unwrap();
        record.add(&lun).unwrap();
        fs::remove_dir_all(&run_dir).unwrap();
        let why = record.add(&filesystem).unwrap_err().to_string();
        assert!(why.starts_with(run_dir.join("storage.new").to_str().unwrap()), "{why}");
        assert_eq!(record.left(), std::slice::from_ref(&lun));
        record.add(&lun).unwrap();
    }

    #[test]
    fn another_boots_record_is_nothing_and_one_that_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record::open(dir.path()).unwrap();
        record.content.boot = "another".to_owned();
        record.add(&tasks()[0]).unwrap();
        assert_eq!(Record::open(dir.path()).unwrap().left(), []);
        fs::write(dir.path().join("storage.json"), "not json").unwrap();
        assert!(Record::open(dir.path()).is_err());
    }
}
