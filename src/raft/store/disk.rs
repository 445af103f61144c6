//! The two moments at which a disk says no: room for bytes, and making them durable. Tests inject errors here.

use std::fs::File;
use std::io;
use std::path::Path;

/// Which of the store's files it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Raft's log, vote and marks.
    Log,
    /// The tail mark.
    Tail,
    /// A snapshot file.
    Snapshot,
    /// A directory, after a file in it was made, renamed or removed.
    Directory,
}

/// The disk as the store sees it. An error from here is final for the store.
pub trait Disk: Send + Sync + 'static {
    /// Called before that many bytes are written.
    ///
    /// # Errors
    /// When they may not be (tests: a full disk).
    fn admit(&self, part: Part, bytes: usize) -> io::Result<()>;

    /// Makes everything written to `file` durable.
    ///
    /// # Errors
    /// Whatever the kernel says; after that nothing is known about what was written since the last success.
    fn sync(&self, part: Part, file: &File) -> io::Result<()>;
}

/// The operating system's disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn admit(&self, _part: Part, _bytes: usize) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self, part: Part, file: &File) -> io::Result<()> {
        match part {
            Part::Log | Part::Tail => file.sync_data(),
            Part::Snapshot | Part::Directory => file.sync_all(),
        }
    }
}

/// Makes names in a directory durable.
///
/// # Errors
/// When it cannot be opened or synced.
pub fn sync_directory(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    disk.sync(Part::Directory, &File::open(dir)?)
}

/// Makes a file that an earlier process may have left unsynced durable, then drops it from the page cache, so that
/// what is read next is what the disk holds: after a failed fsync the cache shows bytes that never reached it.
///
/// # Errors
/// When the file cannot be opened or synced.
pub fn settle(disk: &dyn Disk, part: Part, path: &Path) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    disk.sync(part, &file)?;
    let whole = 0;
    nix::fcntl::posix_fadvise(&file, 0, whole, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    Ok(())
}
