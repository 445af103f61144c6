//! Devices and mount points by name: which device lies on which LUN.

use serde::{Deserialize, Serialize};

use super::{Kind, Package, Resource};

/// A LUN of a storage array, reserved for the package's owner (SCSI-3 persistent reservations).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LunResource {
    /// Its device, by a name that is the same on every node: `/dev/disk/by-id/…` or `/dev/mapper/…`.
    pub device: String,
    /// Whether commands that the last owner has under way are ended when it is preempted.
    pub abort: bool,
    /// Whether keys that are not this cluster's may be preempted.
    #[serde(default, skip_serializing_if = "is_false")]
    pub preempt_foreign: bool,
}

/// A filesystem on a block device.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FilesystemResource {
    /// The device that it is on.
    pub device: String,
    /// Where it is mounted; the directory is made if it is not there.
    pub mount: String,
    /// `ext4`, `xfs` …
    #[serde(rename = "type")]
    pub filesystem: String,
    /// Mount options, one each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Whether it is checked before it is mounted.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fsck: bool,
    /// It lies on no LUN of the package, and nothing enforces the end of the lease for it: the operator knows.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unfenced: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands it a reference")]
fn is_false(word: &bool) -> bool {
    !word
}

/// Whether a device is a LUN or a partition of it, by their names: `X`, `X-part1`, `/dev/sda1`, `/dev/nvme0n1p1`.
pub fn lies_on(device: &str, lun: &str) -> bool {
    let Some(rest) = device.strip_prefix(lun) else { return false };
    if rest.is_empty() {
        return true;
    }
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let name = lun.strip_prefix("/dev/").unwrap_or_default();
    let is_kernels = !name.contains('/');
    match rest.strip_prefix("-part").or_else(|| rest.strip_prefix('p').filter(|_| is_kernels)) {
        Some(rest) => number(rest),
        // Only where no digit can be the end of the disk's own name.
        None => is_kernels && name.ends_with(|c: char| c.is_ascii_lowercase()) && number(rest),
    }
}

/// Whether two names are of one device, or of a device and its partition.
pub fn overlap(one: &str, other: &str) -> bool {
    lies_on(one, other) || lies_on(other, one)
}

/// The LUN, among the resources started before, that keeps a device from being written by anyone else.
pub fn fencing<'p>(earlier: &'p [Resource], device: &str) -> Option<&'p Resource> {
    earlier.iter().find(|resource| match &resource.kind {
        Kind::Lun(lun) => lies_on(device, &lun.device),
        Kind::Ip(_) | Kind::Program(_) | Kind::Filesystem(_) => false,
    })
}

/// Whether the storage itself refuses what this resource of the package would write after its lease.
pub fn is_fenced(package: &Package, resource: &Resource) -> bool {
    let at = package.resources.iter().position(|other| other.name == resource.name).unwrap_or(0);
    match &resource.kind {
        Kind::Lun(_) => true,
        Kind::Filesystem(filesystem) => fencing(&package.resources[..at], &filesystem.device).is_some(),
        Kind::Ip(_) | Kind::Program(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_lies_on_its_disk_and_a_longer_name_does_not() {
        for (device, lun) in [
            ("/dev/disk/by-id/wwn-0x50", "/dev/disk/by-id/wwn-0x50"),
            ("/dev/disk/by-id/wwn-0x50-part12", "/dev/disk/by-id/wwn-0x50"),
            ("/dev/mapper/mpatha-part1", "/dev/mapper/mpatha"),
            ("/dev/sda1", "/dev/sda"),
            ("/dev/nvme0n1p3", "/dev/nvme0n1"),
        ] {
            assert!(lies_on(device, lun) && overlap(lun, device), "{device} {lun}");
        }
        for (device, lun) in [
            ("/dev/disk/by-id/wwn-0x501", "/dev/disk/by-id/wwn-0x50"),
            ("/dev/disk/by-id/wwn-0x50-partx", "/dev/disk/by-id/wwn-0x50"),
            ("/dev/mapper/mpath12", "/dev/mapper/mpath1"),
            ("/dev/mapper/mpathb", "/dev/mapper/mpath"),
            ("/dev/sdab", "/dev/sda"),
            ("/dev/nvme0n12", "/dev/nvme0n1"),
            ("/dev/sda", "/dev/sda1"),
        ] {
            assert!(!lies_on(device, lun), "{device} {lun}");
        }
    }
}
