//! One lab at a time per machine: labs would take each other's CPU and spoil each other's measurements.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Read, Result, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Not in TMPDIR: it must be one file for all users of the machine.
const LOCK: &str = "/tmp/pkgctl-lab.lock";

/// Takes the machine's lab lock, waiting for as long as another lab lives; `waiting` is told who holds it, once.
///
/// Whoever holds the result holds the lock; the kernel releases it when the process ends.
pub(super) fn acquire(waiting: impl FnOnce(&str) -> Result<()>) -> Result<Flock<File>> {
    let file = open(Path::new(LOCK))?;
    let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            waiting(holder.trim())?;
            blocking(file)?
        }
        Err((_, errno)) => return Err(errno.into()),
    };
    // For the message above only; a file of another user may not be writable, and the lock holds all the same.
    lock.rewind()?;
    if lock.set_len(0).is_ok() {
        write!(lock, "pid {}", std::process::id())?;
    }
    Ok(lock)
}

fn blocking(mut file: File) -> Result<Flock<File>> {
    loop {
        match Flock::lock(file, FlockArg::LockExclusive) {
            Ok(lock) => return Ok(lock),
            Err((again, Errno::EINTR)) => file = again,
            Err((_, errno)) => return Err(errno.into()),
        }
    }
}

/// Opens the lock file for all users to share. O_CREAT on another user's file in a sticky directory is refused by
/// fs.protected_regular, so an existing one is opened without.
fn open(path: &Path) -> Result<File> {
    if let Ok(file) = OpenOptions::new().read(true).write(true).open(path) {
        return Ok(file);
    }
    if let Ok(file) = File::open(path) {
        return Ok(file);
    }
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    file.set_permissions(Permissions::from_mode(0o666))?;
    Ok(file)
}
