//! The `filesystem` resource of a package file: mounted where the package runs.

use super::super::FilesystemResource;
use super::super::problem::quoted;
use super::lun::{device, plain_path};
use crate::package::file::{At, Keys, Report};

/// Keys of a filesystem resource beside those of every resource.
pub const KEYS: &[&str] = &["device", "mount", "type", "options", "fsck", "unfenced"];
/// Most mount options.
pub const OPTIONS_MAX: usize = 32;
/// Longest option, in bytes.
pub const OPTION_MAX_BYTES: usize = 100;

const MOUNT: &str = "mount = \"/srv/x\"";
const TYPE: &str = "type = \"ext4\"";
const OPTIONS: &str = "options = [\"noatime\"]";
const TYPE_MAX_BYTES: usize = 32;
/// Types without a block device of their own, or that stand for none.
const NOT_ON_A_DEVICE: &[&str] =
    &["auto", "bind", "cifs", "fuse", "nfs", "nfs4", "none", "overlay", "proc", "smb3", "swap", "sysfs", "tmpfs"];
/// Directories that a system needs to see as they are.
const SYSTEMS_OWN: &[&str] = &[
    "/bin", "/boot", "/etc", "/lib", "/lib64", "/root", "/run", "/sbin", "/tmp", "/usr", "/var", "/var/lib",
    "/var/log", "/var/run",
];
/// Below these there is nothing to mount on: the kernel's, programs', and pkgctl's own.
const NOBODYS: &[&str] = &[
    "/bin",
    "/dev",
    "/etc/pkgctl",
    "/lib",
    "/lib64",
    "/proc",
    "/run/pkgctl",
    "/sbin",
    "/sys",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/sbin",
    "/var/lib/pkgctl",
    "/var/log/pkgctl",
    "/var/run/pkgctl",
];
/// Words that are for fstab or that make of a mount something else.
const NOT_HERE: &[&str] = &[
    "_netdev",
    "auto",
    "bind",
    "defaults",
    "group",
    "loop",
    "move",
    "noauto",
    "nofail",
    "nouser",
    "owner",
    "private",
    "rbind",
    "remount",
    "rprivate",
    "rshared",
    "rslave",
    "shared",
    "slave",
    "unbindable",
    "user",
    "users",
];

/// Reads a filesystem resource; none when something was reported.
pub fn read(keys: &Keys<'_>, report: &mut Report) -> Option<FilesystemResource> {
    let device = device(keys, report);
    let mount = keys.need_text("mount", MOUNT, report).and_then(|given| mount(&given, report));
    let filesystem = keys.need_text("type", TYPE, report).and_then(|given| filesystem(&given, report));
    let options = options(keys, report);
    let fsck = keys.truth("fsck", false, report);
    let unfenced = keys.truth("unfenced", false, report);
    Some(FilesystemResource { device: device?, mount: mount?, filesystem: filesystem?, options, fsck, unfenced })
}

/// Whether a mount at a path would hide what every node needs.
pub fn is_systems_own(path: &str) -> bool {
    let below = |dir: &&str| path.strip_prefix(*dir).is_some_and(|r| r.is_empty() || r.starts_with('/'));
    path == "/" || SYSTEMS_OWN.contains(&path) || NOBODYS.iter().any(below)
}

fn mount(given: &At<&str>, report: &mut Report) -> Option<String> {
    let path = *given.get_ref();
    if is_systems_own(path) {
        let what = format!("{} is the system's own: a mount there would hide what the node needs", quoted(path));
        report.add(given.span(), what, format!("write a directory for this package, for example {MOUNT}"));
        return None;
    }
    plain_path(given, report)
}

fn filesystem(given: &At<&str>, report: &mut Report) -> Option<String> {
    let word = *given.get_ref();
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.');
    let named = !word.is_empty() && word.len() <= TYPE_MAX_BYTES && word.bytes().all(plain);
    let what = if !named {
        format!("{} is no filesystem's name", quoted(word))
    } else if NOT_ON_A_DEVICE.contains(&word) {
        format!("{} is not the type of a filesystem on a block device", quoted(word))
    } else {
        return Some(word.to_owned());
    };
    report.add(given.span(), what, format!("write the type that 'blkid' shows for the device, for example {TYPE}"));
    None
}

fn options(keys: &Keys<'_>, report: &mut Report) -> Vec<String> {
    let Some(given) = keys.texts("options", OPTIONS, report) else { return Vec::new() };
    if given.get_ref().len() > OPTIONS_MAX {
        let what = format!("{} mount options; at most {OPTIONS_MAX} can be", given.get_ref().len());
        report.add(given.span(), what, "keep those that differ from the filesystem's defaults");
    }
    for one in given.get_ref() {
        if let Some((what, remedy)) = unfit(one.get_ref()) {
            report.add(one.span(), format!("{} {what}", quoted(one.get_ref())), remedy);
        }
    }
    given.get_ref().iter().map(|one| (*one.get_ref()).to_owned()).collect()
}

fn unfit(option: &str) -> Option<(&'static str, String)> {
    let word = option.split('=').next().unwrap_or_default();
    if option.contains(',') {
        let words: Vec<String> = option.split(',').map(|w| format!("{:?}", w.trim())).collect();
        return Some(("is more than one option", format!("write {}", words.join(", "))));
    }
    if word.is_empty() || option.len() > OPTION_MAX_BYTES || option.chars().any(|c| c.is_whitespace() || c.is_control())
    {
        return Some(("is no mount option", format!("write for example {OPTIONS}")));
    }
    let here = !NOT_HERE.contains(&word) && !word.starts_with("x-") && !word.starts_with("comment");
    (!here).then(|| ("is not an option of a filesystem: it is for fstab or mount(8)", "take it out".to_owned()))
}
