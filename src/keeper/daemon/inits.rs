//! A record of the namespaces that programs run in, and of the processes that mount and take, so that the next keeper life can make sure that nothing of this
//! one is left (rule 5).
//!
//! One empty file each, named by its (init's) process number and start time, in a directory named by the boot:
//! together they name one process and no other, ever. It is made before anything runs in the namespace. No fsync: it
//! matters after a crash of the keeper, not of the node.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use super::{KeeperError, file};
use crate::host::own_files;
use crate::host::process::Process;

/// Nobody else has a use for it.
const PRIVATE_MODE: u32 = 0o700;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The record.
#[derive(Clone, Debug)]
pub struct Inits {
    dir: PathBuf,
}

/// One namespace in the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry(PathBuf);

impl Inits {
    /// Opens the record. What other boots left in it is deleted.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub fn open(run_dir: &Path) -> Result<Self, KeeperError> {
        let all = run_dir.join("inits");
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
        let dir = all.join(boot.trim());
        own_files::dir(&dir, PRIVATE_MODE).map_err(file("use the directory", &dir))?;
        for other in fs::read_dir(&all).map_err(file("read the directory", &all))?.flatten() {
            if other.path() != dir {
                let _ = fs::remove_dir_all(other.path());
            }
        }
        Ok(Self { dir })
    }

    /// Records the namespace of an init held by descriptor, before anything runs in it.
    ///
    /// # Errors
    /// The init has ended, or the file cannot be made.
    pub fn add(&self, init: BorrowedFd<'_>) -> io::Result<Entry> {
        let pid = pid_of(init)?;
        let path = self.dir.join(format!("{pid}-{}", start_time(pid)?));
        own_files::fresh(&path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
        Ok(Entry(path))
    }

    /// The namespace is gone.
    pub fn remove(&self, entry: &Entry) {
        // A file that stays names a process that is no more, which the next life finds out.
        let _ = fs::remove_file(&entry.0);
    }

    /// The inits of an earlier life that still run. Those that do not are struck off.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn left(&self) -> Result<Vec<Process>, KeeperError> {
        let entries = fs::read_dir(&self.dir).map_err(file("read the directory", &self.dir))?;
        let mut left = Vec::new();
        for entry in entries.flatten() {
            match entry.file_name().to_str().and_then(running) {
                Some(process) => left.push(process),
                None => drop(fs::remove_file(entry.path())),
            }
        }
        Ok(left)
    }
}

/// The process of an entry, if it still runs.
fn running(name: &str) -> Option<Process> {
    let (pid, started) = name.split_once('-')?;
    let pid = pid.parse().ok()?;
    // Opened first and compared then: if the number was used again in between, the start times differ.
    let process = Process::open(Pid::from_raw(pid)).ok()?;
    (start_time(pid).ok()?.to_string() == started && !process.ended()).then_some(process)
}

/// The number of a process held by descriptor, as this process sees it.
fn pid_of(process: BorrowedFd<'_>) -> io::Result<i32> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd()))?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|n| n.trim().parse().ok());
    number.filter(|pid| *pid > 0).ok_or_else(|| io::Error::other("the process has ended"))
}

/// When a process started, in clock ticks since the boot.
fn start_time(pid: i32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name, in parentheses and with anything in it; the start time is field 22.
    let after = text.rsplit_once(')').map(|(_, rest)| rest);
    let field = after.and_then(|rest| rest.split_whitespace().nth(22 - 3));
    field.and_then(|f| f.parse().ok()).ok_or_else(|| io::Error::other("no start time in /proc"))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::{Child, Command};

    use super::*;

    fn child() -> (Child, Process) {
        let child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        let process = Process::open(Pid::from_raw(child.id() as i32)).unwrap();
        (child, process)
    }

    #[test]
    fn a_process_that_still_runs_is_found_by_the_next_life_and_one_that_has_ended_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (mut one, process) = child();
        let entry = Inits::open(dir.path()).unwrap().add(process.as_fd()).unwrap();
        let next = Inits::open(dir.path()).unwrap();
        assert_eq!(next.left().unwrap().len(), 1);
        one.kill().unwrap();
        one.wait().unwrap();
        assert_eq!(next.left().unwrap().len(), 0);
        assert!(!entry.0.exists(), "it is struck off");
    }

    #[test]
    fn a_number_used_again_by_another_process_is_not_taken_for_the_recorded_one() {
        let dir = tempfile::tempdir().unwrap();
        let (mut one, _process) = child();
        let inits = Inits::open(dir.path()).unwrap();
        let other_start = start_time(one.id() as i32).unwrap() + 1;
        fs::write(inits.dir.join(format!("{}-{other_start}", one.id())), "").unwrap();
        assert_eq!(inits.left().unwrap().len(), 0);
        one.kill().unwrap();
        one.wait().unwrap();
    }

    #[test]
    fn the_record_of_another_boot_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("inits/another-boot");
        fs::create_dir_all(&old).unwrap();
        fs::write(old.join("1-1"), "").unwrap();
        Inits::open(dir.path()).unwrap();
        assert!(!old.exists());
    }
}
