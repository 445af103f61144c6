//! Files and directories that are this program's own: made with their mode, never given it afterwards, and refused where
//! somebody else could change what is in them. No name that others may have put there is followed.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::geteuid;

/// Logs: programs may write secrets to them.
const LOG_MODE: u32 = 0o640;
/// What nobody else has a use for.
const PRIVATE_MODE: u32 = 0o600;

/// Why something is not taken for our own.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOurs {
    /// Another user's, who could change it.
    #[error("it belongs to user {owner} and this runs as user {me}: give it to user {me} (chown {me} {path})")]
    Owner {
        /// What it is.
        path: String,
        /// Whose.
        owner: u32,
        /// Who we are.
        me: u32,
    },
    /// Others could change or read it.
    #[error("its mode is {mode:04o}, so that others get at what is in it: chmod {wanted:04o} {path}")]
    Exposed {
        /// What it is.
        path: String,
        /// Its mode.
        mode: u32,
        /// The widest mode that is taken.
        wanted: u32,
    },
    /// Something else has the name.
    #[error("it is not a {wanted}: move it away")]
    Kind {
        /// What it should be.
        wanted: &'static str,
    },
}

impl From<NotOurs> for io::Error {
    fn from(why: NotOurs) -> Self {
        io::Error::new(ErrorKind::PermissionDenied, why)
    }
}

/// Makes a directory with that mode, or checks that the one that is there (a link to it counts) is this user's and no
/// wider.
///
/// # Errors
/// [`NotOurs`], or the system's own.
pub fn dir(path: &Path, mode: u32) -> io::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => NotOurs::Kind { wanted: "directory" }.into(),
        _ => e,
    })?;
    let found = fs::metadata(path)?;
    let (me, name) = (geteuid().as_raw(), path.display().to_string());
    if found.uid() != me {
        return Err(NotOurs::Owner { path: name, owner: found.uid(), me }.into());
    }
    let has = found.mode() & 0o777;
    if has & !mode != 0 {
        return Err(NotOurs::Exposed { path: name, mode: has, wanted: mode }.into());
    }
    Ok(())
}

/// Opens a log for appending, and makes it if it is not there. A link, a pipe or a device under its name is refused, and
/// never waited for.
///
/// # Errors
/// [`NotOurs::Kind`], or the system's own.
pub fn append(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let opened = OpenOptions::new().append(true).create(true).mode(LOG_MODE).custom_flags(flags).open(path);
    let file = opened.map_err(|e| match e.raw_os_error() {
        Some(libc::ELOOP | libc::ENXIO) => NotOurs::Kind { wanted: "plain file" }.into(),
        _ => e,
    })?;
    if !file.metadata()?.is_file() {
        return Err(NotOurs::Kind { wanted: "plain file" }.into());
    }
    // It is passed on to programs, which expect to wait for a full disk.
    fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
    Ok(file)
}

/// Opens a lock file, and makes it if it is not there. Nobody else may even read it: whoever can open a file can lock it
/// and so keep us out.
///
/// # Errors
/// The system's own.
pub fn lock_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(PRIVATE_MODE);
    let file = options.custom_flags(libc::O_NOFOLLOW).open(path)?;
    if file.metadata()?.mode() & 0o777 & !PRIVATE_MODE != 0 {
        file.set_permissions(Permissions::from_mode(PRIVATE_MODE))?;
    }
    Ok(file)
}

/// Makes a file that was not there; whatever has its name is taken away first, and never written through.
///
/// # Errors
/// The system's own.
pub fn fresh(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(PRIVATE_MODE).open(path)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o777
    }

    fn bed() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (precious, name) = (dir.path().join("precious"), dir.path().join("name"));
        fs::write(&precious, "as it was").unwrap();
        (dir, precious, name)
    }

    #[test]
    fn a_directory_is_made_narrow_and_a_wider_one_or_another_kind_is_refused_with_the_remedy() {
        let (bed, precious, name) = bed();
        dir(&name, 0o700).unwrap();
        assert_eq!(mode(&name), 0o700);
        dir(&name, 0o755).unwrap();
        for (has, wanted) in [(0o770, 0o700), (0o705, 0o700), (0o775, 0o755), (0o757, 0o755)] {
            fs::set_permissions(&name, Permissions::from_mode(has)).unwrap();
            let refused = dir(&name, wanted).unwrap_err().to_string();
            assert!(refused.contains(&format!("chmod {wanted:04o} {}", name.display())), "{refused}");
        }
        fs::set_permissions(&name, Permissions::from_mode(0o700)).unwrap();
        let link = bed.path().join("link");
        symlink(&name, &link).unwrap();
        dir(&link, 0o700).unwrap();
        assert!(dir(&precious, 0o700).unwrap_err().to_string().contains("not a directory"));
        if geteuid().is_root() {
            nix::unistd::chown(&name, Some(1234.into()), None).unwrap();
            let refused = dir(&name, 0o700).unwrap_err().to_string();
            assert!(refused.contains("belongs to user 1234"), "{refused}");
        }
    }

    #[test]
    fn a_log_is_made_narrow_and_leads_nowhere_else() {
        let (_bed, precious, name) = bed();
        append(&name).unwrap().write_all(b"one\n").unwrap();
        append(&name).unwrap().write_all(b"two\n").unwrap();
        assert_eq!((fs::read_to_string(&name).unwrap().as_str(), mode(&name) & !LOG_MODE), ("one\ntwo\n", 0));
        fs::remove_file(&name).unwrap();
        symlink(&precious, &name).unwrap();
        assert!(append(&name).unwrap_err().to_string().contains("not a plain file"));
        assert_eq!(fs::read_to_string(&precious).unwrap(), "as it was");
        fs::remove_file(&name).unwrap();
        mkfifo(&name, Mode::S_IRWXU).unwrap();
        assert!(
            append(&name).unwrap_err().to_string().contains("not a plain file"),
            "and it did not wait for a reader"
        );
        let _reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&name).unwrap();
        assert!(append(&name).unwrap_err().to_string().contains("not a plain file"));
    }

    #[test]
    fn a_lock_file_is_nobody_elses_to_open_also_one_that_was_wider() {
        let (_bed, precious, name) = bed();
        lock_file(&name).unwrap();
        assert_eq!(mode(&name), 0o600);
        fs::set_permissions(&name, Permissions::from_mode(0o644)).unwrap();
        lock_file(&name).unwrap();
        assert_eq!(mode(&name), 0o600);
        fs::remove_file(&name).unwrap();
        symlink(&precious, &name).unwrap();
        assert!(lock_file(&name).is_err());
    }

    #[test]
    fn a_fresh_file_is_not_written_through_what_had_its_name() {
        let (_bed, precious, name) = bed();
        symlink(&precious, &name).unwrap();
        fresh(&name).unwrap().write_all(b"new").unwrap();
        let mut text = String::new();
        File::open(&name).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), mode(&name)), ("new", 0o600));
        assert_eq!(fs::read_to_string(&precious).unwrap(), "as it was");
    }
}
