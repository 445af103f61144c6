//! Whose a device or a mount point is on this node, whatever it is called: names that differ may lead to one device, and a
//! symbolic link to a place that is another package's, the system's or pkgctl's own.
//!
//! Package files are compared by name when they are stored; where a name leads is each node's own matter.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Task;
use crate::host::block::{self, DeviceNumber};
use crate::package::{PackageName, is_systems_own};

/// What a package has here, or is about to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Whose.
    pub package: PackageName,
    /// What.
    pub task: Task,
}

/// What an operation must leave alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Others {
    /// What other packages had here before this operation's own start.
    pub earlier: Vec<Claim>,
    /// Directories of pkgctl's own.
    pub own: Vec<PathBuf>,
}

impl Others {
    /// Says which package has a device, or one that it lies on or that lies on it.
    ///
    /// # Errors
    /// The sentence that says so. A device that is not there is nobody's.
    pub fn leave_device(&self, device: &str) -> Result<(), String> {
        let Ok(number) = block::number(Path::new(device)) else { return Ok(()) };
        let below = block::beneath(number);
        let is_same = |claim: &&Claim| {
            let other = block::number(Path::new(claim.task.device()));
            other.is_ok_and(|other| overlap((number, &below), (other, &block::beneath(other))))
        };
        match self.earlier.iter().find(is_same) {
            None => Ok(()),
            Some(Claim { package, task }) => Err(format!(
                "{device} is, on this node, the device {number} of package '{package}' ({}) or lies on it. Give each \
                 package devices of its own, under whatever name, or stop one of the two",
                task.device()
            )),
        }
    }

    /// Says which package has a filesystem at a directory, or at one below or above it.
    ///
    /// # Errors
    /// The sentence that says so.
    pub fn leave_place(&self, mount: &str) -> Result<(), String> {
        let place = resolve(Path::new(mount));
        let theirs = self.earlier.iter().find_map(|claim| {
            let point = claim.task.mount().map(|point| resolve(Path::new(point)))?;
            nest(&place, &point).then_some((&claim.package, point))
        });
        match theirs {
            None => Ok(()),
            Some((package, point)) => Err(format!(
                "{} is, or lies above or below, {}, where package '{package}' has a filesystem. Mounts of two packages \
                 must not nest: give one of them another mount point",
                shown(mount, &place),
                point.display()
            )),
        }
    }

    /// As [`Others::leave_place`], and says whether the system or pkgctl itself needs a directory.
    ///
    /// # Errors
    /// The sentence that says so.
    pub fn admit_place(&self, mount: &str) -> Result<(), String> {
        self.leave_place(mount)?;
        let place = resolve(Path::new(mount));
        let shown = shown(mount, &place);
        if let Some(own) = self.own.iter().map(PathBuf::as_path).map(resolve).find(|own| nest(&place, own)) {
            let own = own.display();
            return Err(format!("{shown} would hide, or lie in, {own}, which pkgctl itself needs. Mount it elsewhere"));
        }
        match place.to_str().is_some_and(is_systems_own) {
            false => Ok(()),
            true => Err(format!("{shown} is the system's own: a mount would hide what it needs. Mount it elsewhere")),
        }
    }
}

fn shown(mount: &str, place: &Path) -> String {
    match place == Path::new(mount) {
        true => mount.to_owned(),
        false => format!("{mount} leads to {} on this node, which", place.display()),
    }
}

/// Whether two devices are one, or one of them lies on the other: a partition, a map.
fn overlap(one: (DeviceNumber, &BTreeSet<DeviceNumber>), other: (DeviceNumber, &BTreeSet<DeviceNumber>)) -> bool {
    one.1.contains(&other.0) || other.1.contains(&one.0)
}

fn nest(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Where a path leads, as far as it is there; what is not there yet is made as it is written.
fn resolve(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|above| Some((above, fs::canonicalize(above).ok()?)));
    let resolved = there.and_then(|(above, real)| Some(real.join(path.strip_prefix(above).ok()?)));
    // Joining nothing leaves a slash at the end, which paths do not count.
    resolved.map_or_else(|| path.to_owned(), |real| real.components().collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::package::FilesystemResource;

    fn claim(package: &str, device: &str, mount: &Path) -> Claim {
        let filesystem = FilesystemResource {
            device: device.to_owned(),
            mount: mount.display().to_string(),
            filesystem: "ext4".to_owned(),
            options: Vec::new(),
            fsck: false,
            unfenced: true,
        };
        Claim { package: PackageName::new(package).unwrap(), task: Task::Filesystem(filesystem) }
    }

    #[test]
    fn a_link_that_leads_to_another_packages_mount_point_or_beside_it_is_seen_through() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("srv/a")).unwrap();
        symlink(at("srv"), at("link")).unwrap();
        let others = Others { earlier: vec![claim("a", "/dev/x", &at("srv/a"))], own: Vec::new() };
        for taken in ["srv/a", "link/a", "link/a/deeper/still", "srv"] {
            let why = others.leave_place(at(taken).to_str().unwrap()).unwrap_err();
            assert!(why.contains("package 'a'") && why.contains("another mount point"), "{taken}: {why}");
        }
        for free in ["link/b", "srv/ab", "other"] {
            assert_eq!(others.leave_place(at(free).to_str().unwrap()), Ok(()), "{free}");
        }
    }

    #[test]
    fn a_link_to_a_place_of_pkgctls_own_or_of_the_systems_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("root/run/pkgctl")).unwrap();
        symlink(at("root/run"), at("data")).unwrap();
        symlink("/usr", at("usr")).unwrap();
        let others = Others { earlier: Vec::new(), own: vec![at("root/run/pkgctl")] };
        for own in ["data", "data/pkgctl", "data/pkgctl/x", "root"] {
            let why = others.admit_place(at(own).to_str().unwrap()).unwrap_err();
            assert!(why.contains("pkgctl itself needs"), "{own}: {why}");
        }
        assert!(others.admit_place(at("usr").to_str().unwrap()).unwrap_err().contains("the system's own"));
        assert_eq!(others.admit_place(at("data/other").to_str().unwrap()), Ok(()));
    }

    #[test]
    fn devices_are_told_apart_by_what_they_lie_on_and_one_that_is_not_there_is_nobodys() {
        let number = |minor| DeviceNumber { major: 8, minor };
        let (disk, first, second) = (number(0), number(1), number(2));
        let below = |own| BTreeSet::from([disk, own]);
        assert!(overlap((disk, &below(disk)), (first, &below(first))), "a disk and its partition");
        assert!(overlap((first, &below(first)), (first, &below(first))));
        assert!(!overlap((first, &below(first)), (second, &below(second))), "two partitions of a disk");
        let others = Others { earlier: vec![claim("a", "/dev/pkgctl-none", Path::new("/srv/a"))], own: Vec::new() };
        assert_eq!(others.leave_device("/dev/pkgctl-none"), Ok(()));
    }
}
