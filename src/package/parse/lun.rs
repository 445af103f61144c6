//! The `lun` resource of a package file: a device with persistent reservations.

use super::super::LunResource;
use super::super::problem::quoted;
use crate::package::file::{At, Keys, Report};

/// Keys of a lun resource beside those of every resource.
pub const KEYS: &[&str] = &["device", "abort", "preempt_foreign"];
/// Longest path of a device or mount point, in bytes.
pub const PATH_MAX_BYTES: usize = 512;

const DEVICE: &str = "device = \"/dev/disk/by-id/wwn-0x5000c500a1b2c3d4\"";

/// Reads a lun resource; none when something was reported.
pub fn read(keys: &Keys<'_>, report: &mut Report) -> Option<LunResource> {
    let device = device(keys, report);
    let abort = keys.truth("abort", true, report);
    let preempt_foreign = keys.truth("preempt_foreign", false, report);
    Some(LunResource { device: device?, abort, preempt_foreign })
}

/// A block device by its path.
pub fn device(keys: &Keys<'_>, report: &mut Report) -> Option<String> {
    let given = keys.need_text("device", DEVICE, report)?;
    let path = plain_path(&given, report)?;
    if path.starts_with("/dev/") {
        return Some(path);
    }
    let what = format!("{} is not below /dev", quoted(&path));
    report.add(given.span(), what, format!("name the block device, the same on every node of the list: {DEVICE}"));
    None
}

/// A path with one way to write it, so that the same path is the same text.
pub fn plain_path(given: &At<&str>, report: &mut Report) -> Option<String> {
    let path = *given.get_ref();
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    let (what, remedy) = if !path.starts_with('/') {
        ("is not an absolute path", "write the whole path, from / on")
    } else if path.len() > PATH_MAX_BYTES {
        ("is longer than a path may be here", "use a shorter path")
    } else if path.chars().any(|c| c.is_whitespace() || c.is_control()) {
        ("has a blank or a control character in it", "use a path without them")
    } else if path[1..].split('/').any(odd) {
        ("is not written in the shortest way", "write it without '//', '.', '..' and a '/' at the end")
    } else {
        return Some(path.to_owned());
    };
    report.add(given.span(), format!("{} {what}", quoted(path)), remedy);
    None
}
