//! A program's log: a plain file, opened for appending by the keeper. Never a pipe to agent or keeper, whose end would
//! be the program's by SIGPIPE.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::fault::LeashError;
use crate::host::own_files;

/// For the directory, if it is not there yet.
const DIRECTORY_MODE: u32 = 0o750;

/// Opens a log for appending, and makes it if it is not there.
pub fn open(path: &Path) -> Result<File, LeashError> {
    let append = || own_files::append(path);
    let opened = match (append(), path.parent()) {
        (Err(e), Some(directory)) if e.kind() == ErrorKind::NotFound => {
            own_files::dir(directory, DIRECTORY_MODE).and_then(|()| append())
        }
        (opened, _) => opened,
    };
    opened.map_err(|e| error(path, e))
}

/// What a program reads from.
pub fn null() -> Result<File, LeashError> {
    let path = Path::new("/dev/null");
    File::open(path).map_err(|e| error(path, e))
}

fn error(path: &Path, e: io::Error) -> LeashError {
    LeashError::Log { path: path.display().to_string(), why: e.to_string() }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_log_is_made_with_its_directory_and_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("packages/p.log");
        for line in ["one\n", "two\n"] {
            open(&path).unwrap().write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0, "nobody else may read or write it");
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_named() {
        let error = open(Path::new("/proc/no/such.log")).expect_err("nothing can be made in /proc");
        assert!(error.to_string().contains("/proc/no/such.log"), "{error}");
    }
}
