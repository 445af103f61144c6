//! A disk written and read past every cache, so that an error is told at once and to whoever caused it.

use std::fs::{File, OpenOptions};
use std::io::Result;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::libc;

/// How much is written at once.
pub const BLOCK: u64 = 4096;

pub struct Disk {
    file: File,
}

/// As O_DIRECT wants it.
#[repr(C, align(4096))]
struct Block([u8; BLOCK as usize]);

impl Disk {
    pub fn open(path: &Path) -> Self {
        let flags = libc::O_DIRECT | libc::O_DSYNC;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
        Self { file: file.unwrap_or_else(|e| panic!("{}: {e}", path.display())) }
    }

    /// Fills a block with a number.
    pub fn write(&self, block: u64, number: u64) -> Result<()> {
        let mut bytes = Block([0; BLOCK as usize]);
        bytes.0.as_chunks_mut().0.fill(number.to_le_bytes());
        self.file.write_all_at(&bytes.0, block * BLOCK)
    }

    /// The number that a block is filled with.
    pub fn read(&self, block: u64) -> u64 {
        let mut bytes = Block([0; BLOCK as usize]);
        self.file.read_exact_at(&mut bytes.0, block * BLOCK).unwrap();
        let numbers = bytes.0.as_chunks().0;
        assert!(numbers.iter().all(|number| *number == numbers[0]), "a torn block");
        u64::from_le_bytes(numbers[0])
    }
}
