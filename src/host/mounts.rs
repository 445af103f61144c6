//! Mounts: the kernel's table of them, and making and taking away one.

use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::block::DeviceNumber;

/// One line of /proc/PID/mountinfo, as far as it is used here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// The filesystem's device; an anonymous one for those without, and for some with several (btrfs).
    pub device: DeviceNumber,
    /// Which directory of the filesystem is mounted.
    pub root: String,
    /// Where.
    pub point: String,
    /// Whether what is mounted below it reaches other namespaces.
    pub is_shared: bool,
    /// What it was mounted from, as that was named.
    pub source: String,
}

/// The mounts as a process sees them, in the order in which they were made; as this thread does if none is named.
///
/// # Errors
/// The process is gone, or is nobody's business.
pub fn of_process(pid: Option<i32>) -> io::Result<Vec<Mounted>> {
    let whose = pid.map_or_else(|| "thread-self".to_owned(), |pid| pid.to_string());
    let table = fs::read(format!("/proc/{whose}/mountinfo"))?;
    Ok(String::from_utf8_lossy(&table).lines().filter_map(line).collect())
}

fn line(text: &str) -> Option<Mounted> {
    let (before, after) = text.split_once(" - ")?;
    let mut fields = before.split(' ');
    let (device, root, point) = (fields.nth(2)?, fields.next()?, fields.next()?);
    let is_shared = fields.skip(1).any(|optional| optional.starts_with("shared:"));
    let source = after.split(' ').nth(1)?;
    Some(Mounted {
        device: device.parse().ok()?,
        root: unescape(root),
        point: unescape(point),
        is_shared,
        source: unescape(source),
    })
}

/// Blanks and the like are written in octal: `\040`.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        match after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &after[3..];
            }
            None => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out + rest
}

/// The mount that a path lies on: of those whose mount point it is or lies below the one that is on top.
pub fn covering<'m>(table: &'m [Mounted], path: &str) -> Option<&'m Mounted> {
    let on = table.iter().filter(|mounted| Path::new(path).starts_with(&mounted.point));
    on.max_by_key(|mounted| mounted.point.len())
}

/// Mounts a filesystem.
///
/// # Errors
/// As the kernel gives them.
pub fn mount_device(device: &str, point: &str, filesystem: &str, options: &[String]) -> Result<(), Errno> {
    let (flags, rest) = flags(options);
    mount(Some(device), point, Some(filesystem), flags, Some(rest.as_str()))
}

/// What is a flag of the mount, and what the filesystem itself is told.
fn flags(options: &[String]) -> (MsFlags, String) {
    let mut flags = MsFlags::empty();
    let mut rest: Vec<&str> = Vec::new();
    for option in options {
        match option.as_str() {
            "ro" => flags |= MsFlags::MS_RDONLY,
            "rw" => flags -= MsFlags::MS_RDONLY,
            "noatime" => flags |= MsFlags::MS_NOATIME,
            "nodiratime" => flags |= MsFlags::MS_NODIRATIME,
            "relatime" => flags |= MsFlags::MS_RELATIME,
            "strictatime" => flags |= MsFlags::MS_STRICTATIME,
            "lazytime" => flags |= MsFlags::from_bits_retain(libc::MS_LAZYTIME),
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "sync" => flags |= MsFlags::MS_SYNCHRONOUS,
            "dirsync" => flags |= MsFlags::MS_DIRSYNC,
            "mand" => flags |= MsFlags::MS_MANDLOCK,
            "atime" | "diratime" | "suid" | "dev" | "exec" | "async" | "norelatime" | "nostrictatime" => {}
            other => rest.push(other),
        }
    }
    (flags, rest.join(","))
}

/// Makes a directory a mount of its own whose mounts reach other namespaces, and go from there when they go from here.
///
/// # Errors
/// As the kernel gives them.
pub fn share(directory: &str) -> Result<(), Errno> {
    let nothing = None::<&str>;
    mount(Some(directory), directory, nothing, MsFlags::MS_BIND, nothing)?;
    mount(nothing, directory, nothing, MsFlags::MS_PRIVATE, nothing)
        .and_then(|()| mount(nothing, directory, nothing, MsFlags::MS_SHARED, nothing))
        .inspect_err(|_| {
            let _ = unmount(directory);
        })
}

/// Unmounts what is on top at a mount point. Never lazily: done means that it is gone from this namespace, and from
/// those that follow it.
///
/// # Errors
/// `EBUSY` while something uses it, and others as the kernel gives them.
pub fn unmount(point: &str) -> Result<(), Errno> {
    umount2(point, MntFlags::UMOUNT_NOFOLLOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
29 1 253:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 29 0:35 / /srv rw,nosuid - tmpfs tmpfs rw
41 40 7:0 / /srv/a\\040b rw shared:7 master:3 - ext4 /dev/loop0 rw
";

    #[test]
    fn the_kernels_table_is_read() {
        let table: Vec<Mounted> = TABLE.lines().filter_map(line).collect();
        let points: Vec<(&str, bool)> = table.iter().map(|m| (m.point.as_str(), m.is_shared)).collect();
        assert_eq!(points, [("/", true), ("/srv", false), ("/srv/a b", true)]);
        assert_eq!((table[2].device.to_string(), table[2].source.as_str()), ("7:0".to_owned(), "/dev/loop0"));
        let on = |path| covering(&table, path).map(|m| m.point.as_str());
        assert_eq!((on("/srv/x"), on("/srvx"), on("/srv/a b/c")), (Some("/srv"), Some("/"), Some("/srv/a b")));
    }

    #[test]
    fn flags_are_told_from_what_the_filesystem_reads() {
        let options = ["noatime", "nosuid", "data=ordered", "rw", "barrier=1"].map(str::to_owned);
        let (read, rest) = flags(&options);
        assert_eq!((read, rest.as_str()), (MsFlags::MS_NOATIME | MsFlags::MS_NOSUID, "data=ordered,barrier=1"));
        assert_eq!(flags(&["ro".to_owned(), "rw".to_owned()]).0, MsFlags::empty());
    }
}
