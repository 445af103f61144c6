//! What systemd is told by a process that it started: ready, alive, how it is, going. Nobody ever waits for it: what
//! finds systemd's queue full is told at a later turn. (The crates for it wait, and cannot reach abstract sockets.)

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::clock::boot_now;
use crate::engine::BootTime;

/// What systemd puts into the environment of the process that it talks to, and nobody else may have: a child that was
/// started with it could speak in this process's name.
pub const ENVIRONMENT: [&str; 3] = [NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID];
const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// A part of the watchdog's patience after which it is petted again, so that two pets may be lost.
const PETS_PER_PATIENCE: u32 = 3;
/// Longest status line; systemd shows it in one.
const STATUS_MAX_CHARS: usize = 300;
/// Time between two attempts to tell what could not be told.
const RETRY: Duration = Duration::from_millis(100);

/// The service manager that started this process, if one did.
#[derive(Debug, Default)]
pub struct Systemd {
    line: Option<(UnixDatagram, SocketAddr)>,
    /// Longest silence that the watchdog bears.
    patience: Option<Duration>,
    words: Mutex<Words>,
}

/// What is to be told, and what has been.
#[derive(Debug, Default)]
struct Words {
    /// READY or STOPPING.
    phase: Option<&'static str>,
    /// A status that has not been told.
    status: Option<String>,
    /// The status told last.
    shown: String,
    petted: Option<BootTime>,
    /// After a failure: not before this.
    retry_at: Option<BootTime>,
}

impl Systemd {
    /// As this process's environment says. Without systemd everything here does nothing.
    pub fn of_environment() -> Self {
        let socket = env::var_os(NOTIFY_SOCKET);
        let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        // Without a process id the watchdog is meant for whoever reads it.
        let for_us = number(WATCHDOG_PID).is_none_or(|pid| pid == u64::from(std::process::id()));
        let patience = number(WATCHDOG_USEC).filter(|us| *us > 0 && for_us).map(Duration::from_micros);
        match Self::at(socket.as_deref(), patience) {
            Ok(systemd) => systemd,
            Err(why) => {
                tracing::warn!("systemd cannot be told anything: {why}; it may take this process for dead");
                Self::default()
            }
        }
    }

    fn at(socket: Option<&OsStr>, patience: Option<Duration>) -> io::Result<Self> {
        let Some(socket) = socket.filter(|name| !name.is_empty()) else { return Ok(Self::default()) };
        let address = match socket.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(socket)?,
        };
        let line = UnixDatagram::unbound()?;
        line.set_nonblocking(true)?;
        Ok(Self { line: Some((line, address)), patience, words: Mutex::default() })
    }

    /// The longest time between two calls of [`Systemd::turned`]; none if there is no watchdog.
    pub fn turn_within(&self) -> Option<Duration> {
        self.patience.map(|patience| patience / PETS_PER_PATIENCE)
    }

    /// The process does what it is there for, from now on.
    pub fn ready(&self) {
        self.tell(|words| words.phase = Some("READY=1"), false);
    }

    /// The process is on its way out.
    pub fn stopping(&self) {
        self.tell(|words| words.phase = Some("STOPPING=1"), false);
    }

    /// How it is, in one line for `systemctl status`. What has been said already is not said again.
    pub fn status(&self, text: &str) {
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(STATUS_MAX_CHARS).collect();
        self.tell(|words| words.status = (line != words.shown).then_some(line), false);
    }

    /// To be called by the loop that matters, and by nothing else, each time it has gone round: it lives.
    pub fn turned(&self) {
        self.tell(|_| {}, true);
    }

    fn tell(&self, add: impl FnOnce(&mut Words), alive: bool) {
        let Some((line, address)) = &self.line else { return };
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut words);
        let now = boot_now();
        let pet =
            alive && self.turn_within().is_some_and(|within| words.petted.is_none_or(|petted| now - petted >= within));
        if words.retry_at.is_some_and(|at| now < at) {
            return;
        }
        let Some(text) = words.text(pet) else { return };
        match line.send_to_addr(text.as_bytes(), address) {
            Ok(_) => words.told(pet, now),
            Err(why) => {
                tracing::debug!("systemd was not told: {why}");
                words.retry_at = Some(now + RETRY);
            }
        }
    }
}

impl Words {
    fn text(&self, pet: bool) -> Option<String> {
        let status = self.status.as_ref().map(|status| format!("STATUS={status}"));
        let parts = [self.phase.map(str::to_owned), status, pet.then(|| "WATCHDOG=1".to_owned())];
        let lines: Vec<String> = parts.into_iter().flatten().collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    fn told(&mut self, pet: bool, now: BootTime) {
        self.phase = None;
        self.retry_at = None;
        if let Some(status) = self.status.take() {
            self.shown = status;
        }
        if pet {
            self.petted = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(from: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 4096];
        let count = from.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..count]).into_owned())
    }

    fn pair(patience: Duration) -> (Systemd, UnixDatagram, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        (Systemd::at(Some(path.as_os_str()), Some(patience)).unwrap(), socket, dir)
    }

    #[test]
    fn each_word_is_told_once_and_the_watchdog_is_petted_by_turns_alone() {
        let (systemd, socket, _dir) = pair(Duration::from_secs(3600));
        systemd.status("waiting\nfor it");
        systemd.status("waiting\nfor it");
        systemd.ready();
        assert_eq!(next(&socket).as_deref(), Some("STATUS=waiting for it"));
        assert_eq!(next(&socket).as_deref(), Some("READY=1"));
        assert_eq!(next(&socket), None);
        systemd.turned();
        systemd.turned();
        assert_eq!(next(&socket).as_deref(), Some("WATCHDOG=1"));
        assert_eq!(next(&socket), None, "the next one is not due for twenty minutes");
        systemd.status("x".repeat(2 * STATUS_MAX_CHARS).as_str());
        assert_eq!(next(&socket).unwrap().len(), "STATUS=".len() + STATUS_MAX_CHARS);
    }

    #[test]
    fn a_systemd_that_does_not_read_makes_nobody_wait_and_hears_the_last_word_when_it_reads_again() {
        let (systemd, socket, _dir) = pair(Duration::from_secs(3600));
        let mut said = 0;
        while systemd.words.lock().unwrap().retry_at.is_none() {
            systemd.status(&format!("status {said}"));
            said += 1;
            assert!(said < 1_000_000, "the queue has an end");
        }
        systemd.ready();
        while next(&socket).is_some() {}
        systemd.words.lock().unwrap().retry_at = None;
        systemd.turned();
        let last = next(&socket).unwrap();
        assert_eq!(last, format!("READY=1\nSTATUS=status {}\nWATCHDOG=1", said - 1));
    }

    #[test]
    fn an_abstract_socket_is_reached_and_no_socket_is_no_error() {
        let name = format!("pkgctl-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Systemd::at(Some(OsStr::new(&format!("@{name}"))), None).unwrap().ready();
        assert_eq!(next(&socket).as_deref(), Some("READY=1"));
        let nobody = Systemd::at(None, None).unwrap();
        nobody.ready();
        assert_eq!(nobody.turn_within(), None);
    }
}
