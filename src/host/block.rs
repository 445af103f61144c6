//! Block devices: their numbers, whether anything claims them, what is stacked on them.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{major, minor};

/// A device's number, `major:minor` in the kernel's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceNumber {
    /// Which driver.
    pub major: u64,
    /// Which device of it.
    pub minor: u64,
}

impl std::fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl std::str::FromStr for DeviceNumber {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.split_once(':').ok_or(())?;
        Ok(Self { major: major.parse().map_err(|_| ())?, minor: minor.parse().map_err(|_| ())? })
    }
}

/// A block device's number.
///
/// # Errors
/// As the system says; `InvalidInput` if it is no block device.
pub fn number(path: &Path) -> io::Result<DeviceNumber> {
    let file = fs::metadata(path)?;
    if !file.file_type().is_block_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a block device"));
    }
    Ok(DeviceNumber { major: major(file.rdev()), minor: minor(file.rdev()) })
}

/// A device and every one that it lies on: the disk of a partition, what a map or an array is made of.
pub fn beneath(number: DeviceNumber) -> BTreeSet<DeviceNumber> {
    let (mut found, mut to_see) = (BTreeSet::new(), vec![number]);
    while let Some(number) = to_see.pop() {
        if !found.insert(number) {
            continue;
        }
        let Ok(dir) = fs::canonicalize(format!("/sys/dev/block/{number}")) else { continue };
        let slaves = fs::read_dir(dir.join("slaves")).into_iter().flatten().flatten().map(|entry| entry.path());
        let disk = dir.parent().filter(|_| dir.join("partition").exists()).map(Path::to_owned);
        let read = |dir: PathBuf| fs::read_to_string(dir.join("dev")).ok()?.trim().parse::<DeviceNumber>().ok();
        to_see.extend(slaves.chain(disk).filter_map(read));
    }
    found
}

/// Whether nothing on this node claims a device: no mount, no map or array on top of it, no other exclusive opener.
///
/// # Errors
/// As the system says.
pub fn is_free(path: &Path) -> io::Result<bool> {
    match OpenOptions::new().read(true).custom_flags(libc::O_EXCL | libc::O_CLOEXEC).open(path) {
        Ok(_) => Ok(true),
        Err(e) if e.raw_os_error() == Some(Errno::EBUSY as i32) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether an error says that there is no such device (any more).
pub fn is_absence(e: &io::Error) -> bool {
    let gone = [Errno::ENOENT, Errno::ENXIO, Errno::ENODEV];
    gone.iter().any(|errno| e.raw_os_error() == Some(*errno as i32))
}

/// Names of the devices that are stacked on this one or on a partition of it: maps, arrays.
pub fn stacked_on(number: DeviceNumber) -> Vec<String> {
    let dir = PathBuf::from(format!("/sys/dev/block/{number}"));
    let mut dirs = vec![dir.join("holders")];
    let parts = fs::read_dir(&dir).into_iter().flatten().flatten().map(|e| e.path());
    dirs.extend(parts.filter(|path| path.join("partition").exists()).map(|path| path.join("holders")));
    let entries = dirs.iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Loop devices whose file lies below a directory, with that file.
pub fn loops_below(dir: &str) -> Vec<(String, String)> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let backing = devices.filter_map(|device| {
        let file = fs::read_to_string(device.path().join("loop/backing_file")).ok()?;
        Some((device.file_name().to_string_lossy().into_owned(), file.trim_end().to_owned()))
    });
    backing.filter(|(_, file)| Path::new(file).starts_with(dir)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_kernel_writes_them() {
        let number: DeviceNumber = "253:16".parse().unwrap();
        assert_eq!((number.major, number.minor, number.to_string()), (253, 16, "253:16".to_owned()));
        assert!("253".parse::<DeviceNumber>().is_err() && "a:b".parse::<DeviceNumber>().is_err());
    }

    #[test]
    fn what_is_no_block_device_has_no_number() {
        assert_eq!(number(Path::new("/dev/null")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(is_absence(&number(Path::new("/dev/pkgctl-none")).unwrap_err()));
    }
}
