//! What a keeper waits for before it is ready, told to systemd and left in a file for its agent: its socket is not there
//! yet.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

use crate::host::own_files;
use crate::host::systemd::Systemd;

/// Where it is told. The file is gone once nothing is waited for.
#[derive(Debug)]
pub struct Waits<'s> {
    systemd: &'s Systemd,
    path: PathBuf,
}

impl<'s> Waits<'s> {
    /// Nothing yet, whatever an earlier keeper said.
    pub fn none(systemd: &'s Systemd, path: PathBuf) -> Self {
        let waits = Self { systemd, path };
        waits.over();
        waits
    }

    /// Says what is waited for now. A start does not fail for want of being told.
    pub fn say(&self, what: &str) {
        self.systemd.status(what);
        if let Err(error) = self.write(what) {
            tracing::warn!("{} cannot be written, so that the agent cannot say it: {error}", self.path.display());
        }
    }

    /// Whole or not at all: the agent reads it whenever it likes.
    fn write(&self, what: &str) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        own_files::fresh(&beside)?.write_all(what.as_bytes())?;
        fs::rename(beside, &self.path)
    }

    /// Nothing is waited for any more.
    pub fn over(&self) {
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                tracing::warn!("{} cannot be taken away: {e}", self.path.display());
            }
            Ok(()) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_there_to_read_until_it_is_over_and_nothing_older_is() {
        let bed = tempfile::tempdir().unwrap();
        let path = bed.path().join("keeper.waits");
        fs::write(&path, "what an earlier keeper said").unwrap();
        let systemd = Systemd::of_environment();
        let waits = Waits::none(&systemd, path.clone());
        assert!(!path.exists());
        waits.say("unmounting /srv/a");
        waits.say("/srv/a: busy");
        assert_eq!(fs::read_to_string(&path).unwrap(), "/srv/a: busy");
        waits.over();
        assert!(!path.exists());
    }
}
