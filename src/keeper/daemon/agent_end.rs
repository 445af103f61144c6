//! The agent's connection: one at a time, a new one replaces the old. Nothing here waits.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};

use super::{KeeperError, RUN_MODE, file};
use crate::engine::frame::{self, FrameError, Frames};
use crate::host::own_files;
use crate::keeper::protocol::{FRAME_MAX_BYTES, FromKeeper, ToKeeper};
use crate::net::socket_path::{Found, SocketFile, look};

/// What may wait to be read by an agent; one that falls further behind is disconnected.
const OUT_MAX_BYTES: usize = 4 * FRAME_MAX_BYTES;
/// Read at one time.
const READ_BYTES: usize = 64 << 10;
/// Only the keeper's own user may connect: whoever can is root here.
const SOCKET_MODE: u32 = 0o600;

/// The listening socket and who is connected.
#[derive(Debug)]
pub struct AgentEnd {
    listener: UnixListener,
    path: PathBuf,
    /// The socket that had the name when it was bound.
    socket: SocketFile,
    current: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    frames: Frames,
    /// Bytes to write, and how many of them have been written.
    out: Vec<u8>,
    written: usize,
    /// Nothing more is read; it is closed once everything is written.
    closing: bool,
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// The other side closed it, or it was told to go.
    #[error("closed")]
    Closed,
    /// It does not speak our protocol.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The system said so.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It does not read what it is told.
    #[error("it has not read {OUT_MAX_BYTES} bytes of what it was told")]
    Slow,
}

impl AgentEnd {
    /// Listens. The lock is held, so that a socket file that is there belongs to nobody.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn listen(path: &Path) -> Result<Self, KeeperError> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(file("remove the old socket", path)(e)),
            Ok(()) | Err(_) => {}
        }
        let (listener, socket) = bind(path).map_err(file("listen on", path))?;
        Ok(Self { listener, path: path.to_owned(), socket, current: None })
    }

    /// Listens again where something has taken the socket's name away; who is connected stays. Returns whether the
    /// listening socket is another one now, to be watched instead of the old one.
    ///
    /// # Errors
    /// The name is lost and cannot be had: another live process has it, or the system refuses.
    pub fn keep_name(&mut self) -> io::Result<bool> {
        if self.socket.is_at(&self.path) {
            return Ok(false);
        }
        if let Some(dir) = self.path.parent() {
            // Whoever took the name may have taken the directory too; if it cannot be made, binding says why.
            let _ = own_files::dir(dir, RUN_MODE);
        }
        match look(&self.path)? {
            Found::Nothing => {}
            Found::Dead => std::fs::remove_file(&self.path)?,
            Found::Live => return Err(io::Error::new(ErrorKind::AddrInUse, "another process listens there")),
            Found::NotASocket => return Err(io::Error::new(ErrorKind::AlreadyExists, "it is not a socket")),
        }
        (self.listener, self.socket) = bind(&self.path)?;
        Ok(true)
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The listening socket, to be watched for connections.
    pub fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// The current connection, to be watched.
    pub fn stream(&self) -> Option<BorrowedFd<'_>> {
        self.current.as_ref().map(|c| c.stream.as_fd())
    }

    /// Whether something waits to be written.
    pub fn wants_to_write(&self) -> bool {
        self.current.as_ref().is_some_and(|c| c.written < c.out.len())
    }

    /// Takes a connection, if one waits; it replaces the current one. Returns whether the current one has changed.
    pub fn accept(&mut self) -> bool {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
            // Out of descriptors, as a rule. The old connection gives one back; who waits is taken at the next turn.
            Err(e) => {
                tracing::error!("a connection cannot be taken: {e}");
                return self.current.take().is_some();
            }
        };
        if let Err(e) = stream.set_nonblocking(true) {
            tracing::error!("a connection cannot be used: {e}");
            return false;
        }
        let frames = Frames::new(FRAME_MAX_BYTES);
        self.current = Some(Connection { stream, frames, out: Vec::new(), written: 0, closing: false });
        true
    }

    /// Reads what has come.
    ///
    /// # Errors
    /// The connection is over.
    pub fn read(&mut self) -> Result<(), Lost> {
        let Some(connection) = &mut self.current else { return Ok(()) };
        let mut buffer = [0; READ_BYTES];
        match connection.stream.read(&mut buffer) {
            Ok(0) => Err(Lost::Closed),
            Ok(_) if connection.closing => Ok(()),
            Ok(bytes) => {
                connection.frames.push(&buffer[..bytes]);
                Ok(())
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// The next frame, if one has come whole.
    ///
    /// # Errors
    /// The connection is over.
    pub fn next_frame(&mut self) -> Result<Option<ToKeeper>, Lost> {
        match &mut self.current {
            Some(connection) if !connection.closing => Ok(connection.frames.pop()?),
            Some(_) | None => Ok(None),
        }
    }

    /// Says something, as soon as the agent reads it.
    ///
    /// # Errors
    /// The connection is over.
    pub fn tell(&mut self, word: &FromKeeper) -> Result<(), Lost> {
        let Some(connection) = &mut self.current else { return Ok(()) };
        connection.out.extend_from_slice(&frame::encode(word, FRAME_MAX_BYTES)?);
        if connection.out.len() - connection.written > OUT_MAX_BYTES {
            return Err(Lost::Slow);
        }
        self.write()
    }

    /// Writes what can be written now.
    ///
    /// # Errors
    /// The connection is over.
    pub fn write(&mut self) -> Result<(), Lost> {
        let Some(connection) = &mut self.current else { return Ok(()) };
        while connection.written < connection.out.len() {
            match connection.stream.write(&connection.out[connection.written..]) {
                Ok(bytes) => connection.written += bytes,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        connection.out.clear();
        connection.written = 0;
        if connection.closing { Err(Lost::Closed) } else { Ok(()) }
    }

    /// Reads no more, and closes the connection once everything is written.
    ///
    /// # Errors
    /// [`Lost::Closed`] if that is now.
    pub fn close_when_written(&mut self) -> Result<(), Lost> {
        if let Some(connection) = &mut self.current {
            connection.closing = true;
        }
        self.write()
    }

    /// The connection is over.
    pub fn close(&mut self) {
        self.current = None;
    }
}

impl Drop for AgentEnd {
    fn drop(&mut self) {
        if self.socket.is_at(&self.path) {
            // The next keeper removes it otherwise.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The only thread that starts processes is this one, so that none of them gets the narrow mask; a file that another
/// thread makes meanwhile is only less readable. Nobody sees the socket with wider permissions.
fn bind(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let before = umask(Mode::from_bits_truncate(0o777 & !SOCKET_MODE));
    let bound = UnixListener::bind(path);
    umask(before);
    let listener = bound?;
    let socket = SocketFile::at(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    listener.set_nonblocking(true)?;
    Ok((listener, socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::socket_path::until_dead;

    fn listening() -> (tempfile::TempDir, PathBuf, AgentEnd) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run").join("keeper.sock");
        std::fs::create_dir(dir.path().join("run")).unwrap();
        let end = AgentEnd::listen(&path).unwrap();
        (dir, path, end)
    }

    #[test]
    fn a_name_that_is_taken_away_is_bound_again_and_the_connected_agent_stays() {
        let (_dir, path, mut end) = listening();
        assert!(!end.keep_name().unwrap());
        let mut agent = UnixStream::connect(&path).unwrap();
        assert!(end.accept());
        for what in
            [|path: &Path| std::fs::remove_file(path), |path: &Path| std::fs::remove_dir_all(path.parent().unwrap())]
        {
            what(&path).unwrap();
            assert!(end.keep_name().unwrap());
            assert!(!end.keep_name().unwrap());
            assert_eq!(std::fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
            end.tell(&FromKeeper::WantsVoterUp).unwrap();
            assert!(agent.read(&mut [0; 64]).unwrap() > 0, "the old connection lives");
        }
        let _next = UnixStream::connect(&path).unwrap();
        assert!(end.accept());
        assert_eq!(agent.read(&mut [0; 64]).unwrap(), 0, "replaced");
        drop(end);
        assert!(!path.exists());
    }

    #[test]
    fn a_name_that_a_live_process_or_a_file_has_is_left_to_it_and_a_dead_socket_is_replaced() {
        let (_dir, path, mut end) = listening();
        std::fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        assert_eq!(end.keep_name().unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(other);
        until_dead(&path);
        assert!(end.keep_name().unwrap());
        assert_eq!(look(&path).unwrap(), Found::Live);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(end.keep_name().unwrap_err().kind(), ErrorKind::AlreadyExists);
        drop(end);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}
