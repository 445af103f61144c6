//! The lock file that keeps two keepers of one node from living at once (rule 9).

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::{KeeperError, file};
use crate::host::own_files;

/// The lock; held until the process ends, however it ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "it is held, not used")] Flock<File>);

/// Takes the lock and writes this process's number into it, for people.
///
/// # Errors
/// [`KeeperError::Running`] if another process holds it.
pub fn take(run_dir: &Path) -> Result<Lock, KeeperError> {
    let path = path(run_dir);
    let opened = own_files::lock_file(&path).map_err(file("open the lock file", &path))?;
    let mut lock = match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((mut held, _)) => {
            let mut pid = String::new();
            // Only for the message.
            let _ = held.read_to_string(&mut pid);
            return Err(KeeperError::Running { pid: pid.trim().to_owned(), path });
        }
    };
    let write = |lock: &mut File| {
        lock.set_len(0)?;
        lock.rewind()?;
        lock.write_all(std::process::id().to_string().as_bytes())
    };
    write(&mut lock).map_err(file("write the lock file", &path))?;
    Ok(Lock(lock))
}

fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("keeper.lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_keeper_is_refused_with_the_number_of_the_first_until_that_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let first = take(dir.path()).unwrap();
        let refused = take(dir.path()).unwrap_err();
        assert!(refused.to_string().contains(&std::process::id().to_string()), "{refused}");
        drop(first);
        take(dir.path()).unwrap();
    }
}
