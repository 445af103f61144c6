//! Logs are rotated by copy and truncate: programs hold theirs open, and nobody restarts them for it.
//!
//! What a program writes between the end of the copy and the truncation is lost: a few microseconds' worth. Whoever
//! follows a log goes on at its new beginning.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A log longer than this is rotated.
const SIZE_MAX_BYTES: u64 = 16 << 20;
/// Rotated logs kept of each: `P.log.1` is the newest.
const KEPT: u32 = 3;
/// How often sizes are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Rotates the logs in these directories, for ever.
pub(super) async fn rotate(directories: Vec<PathBuf>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let directories = directories.clone();
        // Copying takes as long as the disk likes; nobody waits for it here.
        let looked = tokio::task::spawn_blocking(move || directories.iter().for_each(|d| rotate_in(d, SIZE_MAX_BYTES)));
        if let Err(error) = looked.await {
            tracing::warn!("logs were not rotated: {error}");
        }
    }
}

fn rotate_in(directory: &Path, size_max: u64) {
    let Ok(found) = fs::read_dir(directory) else { return };
    let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "log");
    for path in found.filter_map(Result::ok).map(|entry| entry.path()).filter(is_log) {
        if let Err(error) = rotate_one(&path, size_max) {
            tracing::warn!(path = %path.display(), "this log is not rotated and grows on: {error}");
        }
    }
}

fn rotate_one(path: &Path, size_max: u64) -> io::Result<()> {
    let mut log = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let about = log.metadata()?;
    if !about.is_file() || about.len() <= size_max {
        return Ok(());
    }
    let numbered = |number: u32| PathBuf::from(format!("{}.{number}", path.display()));
    let fresh = numbered(0);
    if let Err(error) = copy(&mut log, &fresh) {
        // A half copy on a disk that may be full helps nobody.
        let _ = fs::remove_file(&fresh);
        return Err(error);
    }
    for number in (0..KEPT).rev() {
        match fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    // Again, because a program may have written while the first part was copied.
    let mut copied = OpenOptions::new().append(true).open(numbered(1))?;
    io::copy(&mut log, &mut copied)?;
    log.set_len(0)
}

fn copy(log: &mut File, to: &Path) -> io::Result<()> {
    let mut copied = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW)
        .open(to)?;
    io::copy(log, &mut copied).map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(dir: &Path, name: &str) -> String {
        fs::read_to_string(dir.join(name)).unwrap_or_default()
    }

    #[test]
    fn a_long_log_is_moved_on_under_the_program_that_holds_it_open_and_three_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.log");
        let mut program = OpenOptions::new().append(true).create(true).open(&path).unwrap();
        for round in 1..=5 {
            writeln!(program, "round {round}: {}", "x".repeat(100)).unwrap();
            rotate_in(dir.path(), 100);
        }
        writeln!(program, "short").unwrap();
        rotate_in(dir.path(), 100);
        assert_eq!(read(dir.path(), "p.log"), "short\n");
        for (name, round) in [("p.log.1", "round 5"), ("p.log.2", "round 4"), ("p.log.3", "round 3")] {
            assert!(read(dir.path(), name).starts_with(round), "{name}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    }

    #[test]
    fn only_logs_are_touched_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("other.txt");
        fs::write(&other, "x".repeat(200)).unwrap();
        std::os::unix::fs::symlink(&other, dir.path().join("link.log")).unwrap();
        rotate_in(dir.path(), 100);
        assert_eq!(read(dir.path(), "other.txt").len(), 200);
    }
}
