//! A crash of the operating system under a writing store: the file system is shut down at once, as by a panic, without
//! writing anything more; it is mounted again, its journal replayed, and everything that was acknowledged must be there.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use pkgctl::raft::store::Table;
use tempfile::TempDir;

use crate::promises::Promises;
use crate::{writer, writing_process};

/// Crashes of one run, all of one file system.
const CRASHES: u64 = 6;
/// Bytes of the file system.
const IMAGE_BYTES: u64 = 512 << 20;
/// `_IOR('X', 125, __u32)` of ext4.
const EXT4_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587d;
/// Nothing more is written, not even the journal.
const NOLOGFLUSH: u32 = 2;

/// An ext4 file system in a file of its own.
struct Crashable {
    place: TempDir,
    mounted: bool,
}

impl Crashable {
    fn make() -> Result<Self, String> {
        let place = tempfile::tempdir().map_err(|e| e.to_string())?;
        std::fs::create_dir(place.path().join("mnt")).map_err(|e| e.to_string())?;
        let image = place.path().join("image");
        File::create(&image).and_then(|file| file.set_len(IMAGE_BYTES)).map_err(|e| e.to_string())?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        let mut made = Self { place, mounted: false };
        made.mount()?;
        Ok(made)
    }

    fn dir(&self) -> PathBuf {
        self.place.path().join("mnt")
    }

    fn mount(&mut self) -> Result<(), String> {
        let image = self.place.path().join("image");
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(self.dir()))?;
        self.mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> Result<(), String> {
        self.mounted = false;
        run(Command::new("umount").arg(self.dir()))
    }

    /// From here on nothing reaches the disk.
    fn crash(&self) {
        let root = File::open(self.dir()).unwrap();
        let how = NOLOGFLUSH;
        // SAFETY: the request reads one u32, which lives until the call has returned.
        let done = unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_SHUTDOWN, &raw const how) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }
}

impl Drop for Crashable {
    fn drop(&mut self) {
        if self.mounted {
            let _ = self.unmount();
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{name}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Crashes the system under a writing store again and again.
pub fn survives_crashes<T: Table>() {
    let mut disk = match Crashable::make() {
        Ok(disk) => disk,
        Err(why) => {
            println!("skipped: 1 test needs root, mkfs.ext4 and a loop device, which are not to be had here: {why}");
            return;
        }
    };
    let store = disk.dir().join("store");
    writer::make::<T>(&store);
    // The directory's own name is the operator's to have made; everything below it is the store's to make durable.
    File::open(disk.dir()).unwrap().sync_all().unwrap();
    let mut promises = Promises::default();
    for crash in 1..=CRASHES {
        write_until_crash::<T>(&disk, &store, &mut promises, 50 * crash);
        disk.unmount().unwrap();
        disk.mount().unwrap();
        promises.check::<T>(&store).unwrap_or_else(|broken| panic!("after crash {crash}: {broken}"));
    }
}

fn write_until_crash<T: Table>(disk: &Crashable, store: &Path, promises: &mut Promises, lines: u64) {
    let mut child = writing_process::<T>(store, u64::MAX).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let until = promises.said + lines;
    while promises.said < until {
        promises.hear(&said.next().expect("the child writes until the crash").unwrap());
    }
    disk.crash();
    // What it said before the crash still counts; after it every sync fails, and it says nothing more.
    said.map_while(Result::ok).for_each(|line| promises.hear(&line));
    child.wait().unwrap();
}
