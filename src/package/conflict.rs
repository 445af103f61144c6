//! What two packages cannot both have: the same floating address or device, the same mount point or one below the other's.

use std::fmt;
use std::net::IpAddr;

use super::storage::overlap;
use super::{Kind, Package, PackageName, ResourceName};

/// Something that one package alone can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A floating address.
    Address(IpAddr),
    /// A block device, and every partition of it.
    Device(String),
    /// A mount point.
    Mount(String),
}

impl Claim {
    fn clashes(&self, other: &Claim) -> bool {
        match (self, other) {
            (Claim::Device(one), Claim::Device(other)) => overlap(one, other),
            (Claim::Mount(one), Claim::Mount(other)) => nest(one, other),
            (Claim::Address(_) | Claim::Mount(_) | Claim::Device(_), _) => self == other,
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Claim::Address(_) => "address",
            Claim::Device(_) => "device",
            Claim::Mount(_) => "mount point",
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Claim::Address(address) => address.fmt(f),
            Claim::Device(path) | Claim::Mount(path) => path.fmt(f),
        }
    }
}

/// What two packages both claim. They run on different nodes, so both would be right: clients would be lost between two
/// answers, and a filesystem mounted twice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{claim} of resource '{resource}' {} '{other_resource}' in package '{other}' already: \
     give one of them another {}, or delete the package that has it", self.relation(), self.remedy()
)]
pub struct Conflict {
    /// What is claimed twice.
    pub claim: Claim,
    /// The resource of the package asked about.
    pub resource: ResourceName,
    /// The package that has it already.
    pub other: PackageName,
    /// Its resource.
    pub other_resource: ResourceName,
    /// What that claims; for most claims the same.
    pub taken: Claim,
}

impl Conflict {
    fn relation(&self) -> String {
        let (claim, taken, word) = (&self.claim, &self.taken, self.claim.word());
        if !self.is_nested() {
            return format!("is the {word} of");
        }
        let side = if claim.to_string().len() > taken.to_string().len() { "below" } else { "above" };
        format!(
            "lies {side} {taken}, so that one would hide the other or keep it from being unmounted: that is the {word} of"
        )
    }

    fn remedy(&self) -> String {
        let word = self.claim.word();
        match self.is_nested() {
            false => word.to_owned(),
            true => format!("{word}, neither above nor below, for example mount = \"/srv/{}-data\"", self.other),
        }
    }

    fn is_nested(&self) -> bool {
        matches!((&self.claim, &self.taken), (Claim::Mount(one), Claim::Mount(other)) if one != other)
    }
}

/// Whether two mount points are one, or one of them lies below the other.
fn nest(one: &str, other: &str) -> bool {
    let below =
        |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|r| r.is_empty() || r.starts_with('/'));
    below(one, other) || below(other, one)
}

/// Every conflict of a package with others, in the order of its resources. An earlier definition of the same package
/// among the others does not count.
pub fn conflicts<'p>(package: &Package, others: impl IntoIterator<Item = &'p Package>) -> Vec<Conflict> {
    let others: Vec<&Package> = others.into_iter().filter(|other| other.name != package.name).collect();
    let mut found = Vec::new();
    for (resource, claim) in claims(package) {
        for other in &others {
            // A device may be claimed by a lun and its filesystem there; one of them says it all.
            let clash = claims(other).into_iter().find(|(_, taken)| claim.clashes(taken));
            found.extend(clash.map(|(other_resource, taken)| Conflict {
                claim: claim.clone(),
                resource: resource.clone(),
                other: other.name.clone(),
                other_resource: other_resource.clone(),
                taken,
            }));
        }
    }
    found
}

fn claims(package: &Package) -> Vec<(&ResourceName, Claim)> {
    let of = |kind: &Kind| match kind {
        Kind::Ip(ip) => vec![Claim::Address(ip.address)],
        Kind::Program(_) => vec![],
        Kind::Lun(lun) => vec![Claim::Device(lun.device.clone())],
        Kind::Filesystem(filesystem) => {
            vec![Claim::Device(filesystem.device.clone()), Claim::Mount(filesystem.mount.clone())]
        }
    };
    let all = package.resources.iter();
    all.flat_map(|resource| of(&resource.kind).into_iter().map(|claim| (&resource.name, claim))).collect()
}

/// Its floating addresses, each with its resource.
pub fn addresses(package: &Package) -> impl Iterator<Item = (&ResourceName, IpAddr)> {
    package.resources.iter().filter_map(|resource| match &resource.kind {
        Kind::Ip(ip) => Some((&resource.name, ip.address)),
        Kind::Program(_) | Kind::Lun(_) | Kind::Filesystem(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::parse;

    fn package(name: &str, addresses: &[&str]) -> Package {
        let ip = |a: &&str| format!("[[resource]]\nkind = \"ip\"\naddress = \"{a}\"\ndevice = \"eth0\"\n");
        let resources: String = addresses.iter().map(ip).collect();
        parse(name, &format!("name = \"{name}\"\nnodes = [\"n1\"]\n{resources}")).unwrap()
    }

    #[test]
    fn one_address_in_two_packages_is_a_conflict_whatever_its_prefix() {
        let (a, b) = (package("a", &["10.0.0.1/24", "10.0.0.2/24"]), package("b", &["10.0.0.3/24", "10.0.0.2/16"]));
        let found = conflicts(&a, [&b]);
        assert_eq!(found.len(), 1);
        let text = found[0].to_string();
        assert!(text.starts_with("10.0.0.2 of resource 'ip-2' is the address of 'ip-2' in package 'b'"), "{text}");
    }

    #[test]
    fn a_package_does_not_conflict_with_its_own_earlier_definition() {
        let (old, new) = (package("a", &["10.0.0.1/24"]), package("a", &["10.0.0.1/24", "fd00::1/64"]));
        assert_eq!(conflicts(&new, [&old, &package("b", &["10.0.0.9/24"])]), []);
    }

    #[test]
    fn every_other_package_is_told() {
        let taken = [package("b", &["fd00::1/64"]), package("c", &["fd00:0::1/64"])];
        let others: Vec<_> = conflicts(&package("a", &["fd00::1/64"]), &taken).into_iter().map(|c| c.other).collect();
        assert_eq!(others.iter().map(PackageName::as_str).collect::<Vec<_>>(), ["b", "c"]);
    }

    fn stored(name: &str, device: &str, mount: &str) -> Package {
        let lun = format!("[[resource]]\nkind = \"lun\"\ndevice = \"{device}\"\n");
        let on = format!("device = \"{device}-part1\"\nmount = \"{mount}\"\ntype = \"ext4\"\n");
        let text = format!("name = \"{name}\"\nnodes = [\"n1\"]\n{lun}[[resource]]\nkind = \"filesystem\"\n{on}");
        parse(name, &text).unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[test]
    fn one_device_or_mount_point_in_two_packages_is_a_conflict() {
        let (a, b) = (stored("a", "/dev/disk/by-id/x", "/srv/x"), stored("b", "/dev/disk/by-id/y", "/srv/x"));
        let told: Vec<String> = conflicts(&a, [&b]).iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1);
        assert!(
            told[0].starts_with("/srv/x of resource 'filesystem' is the mount point of 'filesystem'"),
            "{}",
            told[0]
        );
        let c = stored("c", "/dev/disk/by-id/x", "/srv/z");
        let claims: Vec<Claim> = conflicts(&a, [&c]).into_iter().map(|c| c.claim).collect();
        let device = |path: &str| Claim::Device(path.to_owned());
        assert_eq!(claims, [device("/dev/disk/by-id/x"), device("/dev/disk/by-id/x-part1")], "and its partition");
        assert_eq!(conflicts(&a, [&stored("d", "/dev/disk/by-id/z", "/srv/z")]), []);
    }

    #[test]
    fn a_mount_point_below_or_above_that_of_another_package_is_a_conflict_with_its_remedy() {
        let a = stored("a", "/dev/disk/by-id/x", "/srv/a");
        for (mount, side) in [("/srv/a/b", "below"), ("/srv", "above")] {
            let told: Vec<String> =
                conflicts(&stored("b", "/dev/disk/by-id/y", mount), [&a]).iter().map(ToString::to_string).collect();
            assert_eq!(told.len(), 1);
            let begins =
                format!("{mount} of resource 'filesystem' lies {side} /srv/a, so that one would hide the other");
            assert!(told[0].starts_with(&begins) && told[0].contains("mount = \"/srv/a-data\""), "{}", told[0]);
        }
        assert_eq!(conflicts(&stored("c", "/dev/disk/by-id/y", "/srv/ab"), [&a]), []);
    }
}
