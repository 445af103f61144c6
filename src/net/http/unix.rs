//! The agent's Unix socket: 0660 for the group `pkgctl` where there is one, 0600 otherwise.
//!
//! It is made in a fresh private directory, given its owner and mode there, and renamed into place: at no moment can
//! anybody connect whom the mode keeps out. A socket that a dead agent left behind is replaced; a live one is not.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, chown};
use tokio::net::UnixListener;

use crate::net::socket_path::{Found, SocketFile, look};

/// The group whose members may use the socket. Membership is as good as root: a package file is a program run as root.
pub const GROUP: &str = "pkgctl";

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody serves it.
    #[error("{path} is served by a running agent already; stop that one first, or give this one another --root")]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket has its name.
    #[error("{path} exists and is not a socket; move it away")]
    NotASocket {
        /// Its name.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The bound socket; dropping it takes its name away, unless another agent has taken it over.
#[derive(Debug)]
pub struct UnixDoor {
    listener: UnixListener,
    path: PathBuf,
    file: SocketFile,
}

impl UnixDoor {
    /// Binds the socket for the group [`GROUP`]. Lives inside a tokio runtime.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn bind(path: impl Into<PathBuf>) -> Result<Self, SocketError> {
        let group = Group::from_name(GROUP).ok().flatten().map(|group| group.gid);
        Self::bind_for(path.into(), group)
    }

    fn bind_for(path: PathBuf, group: Option<Gid>) -> Result<Self, SocketError> {
        check_free(&path)?;
        let fail = |what| {
            let path = path.clone();
            move |source| SocketError::Io { what, path, source }
        };
        let dir = path.parent().unwrap_or(Path::new("/"));
        // Mode 0700, by tempfile's word.
        let private = tempfile::Builder::new().prefix(".api.").tempdir_in(dir).map_err(fail("make a directory for"))?;
        let fresh = private.path().join("sock");
        let listener = UnixListener::bind(&fresh).map_err(fail("bind"))?;
        let shared = group.is_some_and(|gid| match chown(&fresh, None, Some(gid)) {
            Ok(()) => true,
            Err(e) => {
                tracing::warn!("the local socket is not given to group {GROUP}: {e}; only this user can use it");
                false
            }
        });
        let mode = if shared { 0o660 } else { 0o600 };
        fs::set_permissions(&fresh, Permissions::from_mode(mode)).map_err(fail("set the mode of"))?;
        let file = SocketFile::at(&fresh).map_err(fail("look at"))?;
        fs::rename(&fresh, &path).map_err(fail("put in place"))?;
        Ok(Self { listener, path, file })
    }

    /// Whether its name still leads to it. Whatever cleans the directory may have taken the name away.
    pub(super) fn has_its_name(&self) -> bool {
        self.file.is_at(&self.path)
    }

    /// Binds another socket under the same name, for a door that has lost it. Connections to this one go on.
    ///
    /// # Errors
    /// [`SocketError`]; [`SocketError::InUse`] if another process has the name.
    pub(super) fn bind_again(&self) -> Result<Self, SocketError> {
        if let Some(dir) = self.path.parent() {
            // Whoever took the name may have taken the directory too; if it cannot be made, binding says why.
            let _ = DirBuilder::new().recursive(true).mode(0o755).create(dir);
        }
        Self::bind(&self.path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for UnixDoor {
    fn drop(&mut self) {
        if self.file.is_at(&self.path) {
            // A name that stays behind is replaced at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn check_free(path: &Path) -> Result<(), SocketError> {
    match look(path) {
        Ok(Found::Nothing | Found::Dead) => Ok(()),
        Ok(Found::Live) => Err(SocketError::InUse { path: path.into() }),
        Ok(Found::NotASocket) => Err(SocketError::NotASocket { path: path.into() }),
        Err(source) => Err(SocketError::Io { what: "look at", path: path.into(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::socket_path::until_dead;

    fn block<T>(work: impl FnOnce() -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async { work() })
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn without_the_group_only_the_user_gets_in_and_with_it_the_group_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let own = nix::unistd::getegid();
        block(|| {
            let door = UnixDoor::bind_for(path.clone(), None).unwrap();
            assert_eq!(mode(&path), 0o600);
            drop(door);
            assert!(!path.exists());
            let _door = UnixDoor::bind_for(path.clone(), Some(own)).unwrap();
            assert_eq!(mode(&path), 0o660);
        });
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing stays behind");
    }

    #[test]
    fn a_socket_left_behind_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        until_dead(&path);
        block(|| {
            let door = UnixDoor::bind_for(path.clone(), None).unwrap();
            assert!(matches!(UnixDoor::bind_for(path.clone(), None), Err(SocketError::InUse { .. })));
            drop(door);
        });
    }

    #[test]
    fn a_file_in_the_way_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(block(|| UnixDoor::bind_for(path.clone(), None)), Err(SocketError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_name_taken_over_by_another_agent_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        block(|| {
            let door = UnixDoor::bind_for(path.clone(), None).unwrap();
            fs::remove_file(&path).unwrap();
            let _other = UnixDoor::bind_for(path.clone(), None).unwrap();
            drop(door);
            assert!(path.exists());
        });
    }
}
