//! The name of a Unix socket in the file system: which socket it leads to, and whether a live process has it.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::errno::Errno;

/// A file's identity. No other file gets it as long as the socket is open, even after its name is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketFile {
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// What has that name now.
    ///
    /// # Errors
    /// As the system gives them; [`ErrorKind::NotFound`] if nothing has it.
    pub fn at(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self { device: found.dev(), inode: found.ino() })
    }

    /// Whether it has that name, as far as can be seen.
    pub fn is_at(self, path: &Path) -> bool {
        Self::at(path).is_ok_and(|found| found == self)
    }
}

/// What has a name that a socket is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A socket that no process has open.
    Dead,
    /// A socket that a process has open.
    Live,
    /// Another kind of file.
    NotASocket,
}

/// Looks at a name without disturbing who has it: a stream socket refuses a datagram socket before it hears of it, and
/// differently from one that nobody has open.
///
/// # Errors
/// As the system gives them.
pub fn look(path: &Path) -> io::Result<Found> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(e) => return Err(e),
        Ok(found) if !found.file_type().is_socket() => return Ok(Found::NotASocket),
        Ok(_) => {}
    }
    match UnixDatagram::unbound()?.connect(path) {
        Ok(()) => Ok(Found::Live),
        Err(e) if e.raw_os_error() == Some(Errno::EPROTOTYPE as i32) => Ok(Found::Live),
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => Ok(Found::Dead),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Found::Nothing),
        Err(e) => Err(e),
    }
}

/// Waits until nobody has a closed socket open: a process that another test has forked has a copy until its exec.
#[cfg(test)]
pub(crate) fn until_dead(path: &Path) {
    const TRIES: u32 = 10_000;
    for _ in 0..TRIES {
        if look(path).unwrap() == Found::Dead {
            return;
        }
        nix::poll::poll(&mut [], 1u16).unwrap();
    }
    panic!("{} is still open", path.display());
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_name_is_found_live_dead_or_something_else_and_who_serves_it_hears_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        assert_eq!(look(&path).unwrap(), Found::Nothing);
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(look(&path).unwrap(), Found::Live);
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(listener);
        until_dead(&path);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert_eq!(look(&path).unwrap(), Found::NotASocket);
    }

    #[test]
    fn a_name_that_is_gone_or_another_sockets_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let file = SocketFile::at(&path).unwrap();
        assert!(file.is_at(&path));
        fs::remove_file(&path).unwrap();
        assert!(!file.is_at(&path));
        let _other = UnixListener::bind(&path).unwrap();
        assert!(!file.is_at(&path));
    }
}
