//! The keeper's end of a process that takes, mounts, unmounts or gives up. Nothing here waits.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::Pid;

use super::role::NO_DEADLINE;
use super::{Answer, Order};
use crate::engine::codec;
use crate::engine::time::BootTime;
use crate::host::packets::{Packets, Wait};
use crate::host::process::{Ended, Process};
use crate::keeper::leash::wire::deadline_bytes;

/// A process with one operation. Its descriptor is readable once it has ended. Dropping it changes nothing.
#[derive(Debug)]
pub struct Child {
    process: Process,
    line: Packets,
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }
}

impl Child {
    /// Starts it. It does nothing before [`Child::begin`], and dies at the deadline if it has one. Call it from a thread
    /// that lives as long as the keeper.
    ///
    /// # Errors
    /// Why it was not started.
    pub fn spawn(exe: &Path, deadline: Option<BootTime>) -> Result<Self, String> {
        let failed = |why: &str| format!("a process for the storage could not be started: {why}");
        let (line, theirs) = Packets::pair().map_err(|e| failed(e.desc()))?;
        let child = Command::new(exe)
            .arg0("pkgctl")
            .arg("storage")
            .arg(std::process::id().to_string())
            .arg(deadline.map_or_else(|| NO_DEADLINE.to_owned(), |at| at.0.to_string()))
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .map_err(|e| failed(&e.to_string()))?;
        let pid = i32::try_from(child.id()).map_err(|e| failed(&e.to_string()))?;
        // The child has not been waited for, so that the number is its own; std's handle does nothing when dropped.
        let process = Process::open(Pid::from_raw(pid)).map_err(|e| failed(e.desc()))?;
        Ok(Self { process, line })
    }

    /// Tells it what to do.
    ///
    /// # Errors
    /// It has ended.
    pub fn begin(&self, order: &Order) -> Result<(), String> {
        let sent = self.line.send(&codec::encode(order), &[], None, Wait::No);
        sent.map_err(|e| format!("a process for the storage does not answer: {}", e.desc()))
    }

    /// Moves its deadline. One that cannot be moved stands.
    pub fn arm(&self, at: BootTime) {
        let _ = self.line.send(&deadline_bytes(at), &[], None, Wait::No);
    }

    /// Ends it, as soon as the system call returns that it is in.
    pub fn kill(&self) {
        // It may have ended by itself.
        let _ = self.process.kill();
    }

    /// Its answer, once it has ended; one that was killed has none of its own.
    pub fn ended(&self) -> Option<Answer> {
        if !self.process.ended() {
            return None;
        }
        let how = self.process.reap();
        let packet = self.line.receive(Wait::No).ok().flatten();
        let answer = packet.and_then(|packet| codec::decode(&packet.bytes).ok());
        Some(answer.unwrap_or_else(|| {
            let why = match how {
                Some(Ended::Signal(nix::libc::SIGKILL)) => "it was not done in time, and was ended".to_owned(),
                how => format!("its process ended without a word ({how:?}); see the keeper's log"),
            };
            Err(why).into()
        }))
    }
}
