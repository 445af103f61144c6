//! Who serves a directory: one process at a time, found and told to end by the lock that it holds.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::time::{sleep, timeout};

use super::Home;
use crate::cli::exit::Failed;
use crate::host::own_files;
use crate::host::process::Process;

/// How often the lock is tried while its holder ends.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Held as long as a directory is served.
#[derive(Debug)]
pub(super) struct Serving(Flock<File>);

fn lock_path(home: &Home) -> PathBuf {
    home.places.run_dir().join("serve.lock")
}

fn open(home: &Home) -> Result<File, Failed> {
    let path = lock_path(home);
    own_files::dir(&home.places.run_dir(), 0o755)
        .and_then(|()| own_files::lock_file(&path))
        .map_err(|e| Failed::usage(format!("cannot use {}: {e}", path.display())))
}

/// Takes the directory; the process that has it, if one does.
pub(super) fn take(home: &Home) -> Result<Result<Serving, i32>, Failed> {
    match Flock::lock(open(home)?, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            // Whoever cannot read the number does not find this process; nothing else depends on it.
            let _ =
                lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", std::process::id()));
            Ok(Ok(Serving(lock)))
        }
        Err((mut file, _)) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            Ok(Err(text.trim().parse().unwrap_or(0)))
        }
    }
}

/// Who serves it now. A directory that never was served is left as it is.
pub(super) fn who(home: &Home) -> Result<Option<i32>, Failed> {
    if !lock_path(home).exists() {
        return Ok(None);
    }
    match take(home)? {
        Ok(Serving(lock)) => {
            drop(lock);
            Ok(None)
        }
        Err(pid) => Ok(Some(pid)),
    }
}

/// Tells whoever serves it to end, and waits until it has. False where nobody does.
pub(super) async fn end(home: &Home, within: Duration) -> Result<bool, Failed> {
    let Some(pid) = who(home)? else { return Ok(false) };
    let gone =
        |why: String| Failed::outcome(format!("the process {pid} that serves this directory cannot be told: {why}"));
    let process = Process::open(Pid::from_raw(pid)).map_err(|e| gone(e.to_string()))?;
    // Still the one with the lock, and so not another process that was given its number.
    if who(home)? != Some(pid) {
        return Ok(false);
    }
    process.signal(Signal::SIGTERM as i32).map_err(|e| gone(e.to_string()))?;
    let ended = async {
        while !process.ended() {
            sleep(LOOK_EVERY).await;
        }
    };
    timeout(within, ended).await.map(|()| true).map_err(|_| {
        Failed::waiting(format!("the process {pid} is still ending after {within:?}; it goes on without this command"))
    })
}

/// A process that serves the directory.
pub(super) struct Started {
    pub(super) child: Child,
    /// Where what it says goes.
    pub(super) log: PathBuf,
    /// From which byte on.
    pub(super) from: u64,
}

/// Starts a process that serves the directory and outlives this one.
pub(super) fn detach(home: &Home, words: &[String]) -> Result<Started, Failed> {
    let log = home.log();
    let bad =
        |e: std::io::Error| Failed::usage(format!("cannot start a process that writes to {}: {e}", log.display()));
    own_files::dir(&home.places.log_dir(), 0o755).map_err(bad)?;
    let out = own_files::append(&log).map_err(bad)?;
    let (err, from) = (out.try_clone().map_err(bad)?, out.metadata().map_err(bad)?.len());
    let mut command = Command::new("/proc/self/exe");
    // It must not depend on a name that leads elsewhere by then, nor on a directory that is to be unmounted.
    command.args(["serve", "--detached"]).args(words).arg(&home.dir).current_dir("/");
    let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().map_err(bad)?;
    Ok(Started { child, log, from })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_is_served_once_and_one_that_never_was_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        assert!(!end(&home, Duration::ZERO).await.unwrap());
        assert!(who(&home).unwrap().is_none() && std::fs::read_dir(dir.path()).unwrap().next().is_none());
        let held = take(&home).unwrap().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!((take(&home).unwrap().err(), who(&home).unwrap()), (Some(own), Some(own)));
        drop(held);
        assert_eq!(who(&home).unwrap(), None);
    }
}
