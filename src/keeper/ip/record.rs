//! The addresses that this keeper life has set, on file in the run directory, so that the next life finds and deletes
//! them even on a kernel that does not keep our mark (rule 5).
//!
//! An address is recorded before it is set and struck off after it is deleted. The file needs no fsync: it matters
//! after a crash of the keeper, not of the node, and it names the boot it belongs to.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host::own_files;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The record.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    content: Content,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    boot: String,
    addresses: Vec<(IpAddr, u8)>,
}

impl Record {
    /// Reads what an earlier life left. A file that cannot be read counts as empty: the marks remain.
    pub fn open(path: &Path) -> Self {
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
        let content = fs::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Content>(&bytes).ok())
            .filter(|content| content.boot == boot)
            .unwrap_or(Content { boot, addresses: Vec::new() });
        Self { path: path.to_owned(), content }
    }

    /// True when it lists this address.
    pub fn lists(&self, ip: IpAddr, prefix: u8) -> bool {
        self.content.addresses.contains(&(ip, prefix))
    }

    /// Adds an address.
    ///
    /// # Errors
    /// When the file cannot be written: the address must not be set then.
    pub fn add(&mut self, ip: IpAddr, prefix: u8) -> io::Result<()> {
        if self.lists(ip, prefix) {
            return self.write();
        }
        self.content.addresses.push((ip, prefix));
        self.write().inspect_err(|_| {
            let _ = self.content.addresses.pop();
        })
    }

    /// Strikes an address off.
    ///
    /// # Errors
    /// When the file cannot be written; the next life then looks for an address that is gone, which does no harm.
    pub fn remove(&mut self, ip: IpAddr, prefix: u8) -> io::Result<()> {
        self.content.addresses.retain(|entry| *entry != (ip, prefix));
        self.write()
    }

    /// Strikes everything off.
    ///
    /// # Errors
    /// As [`Record::remove`].
    pub fn clear(&mut self) -> io::Result<()> {
        self.content.addresses.clear();
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        if self.content.addresses.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            };
        }
        let new = self.path.with_extension("new");
        own_files::fresh(&new)?.write_all(&serde_json::to_vec(&self.content)?)?;
        fs::rename(&new, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_life_reads_what_an_earlier_one_wrote_and_only_of_this_boot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("addresses.json");
        let ip = "10.0.0.100".parse().unwrap();
        let mut record = Record::open(&path);
        record.add(ip, 24).unwrap();
        record.add(ip, 24).unwrap();
        assert!(Record::open(&path).lists(ip, 24));
        assert!(!Record::open(&path).lists(ip, 32));

        let mut other_boot: Content = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        other_boot.boot = "another".into();
        fs::write(&path, serde_json::to_vec(&other_boot).unwrap()).unwrap();
        assert!(!Record::open(&path).lists(ip, 24));

        record.remove(ip, 24).unwrap();
        assert!(!path.exists());
        fs::write(&path, b"not json").unwrap();
        assert!(!Record::open(&path).lists(ip, 24));
    }
}
