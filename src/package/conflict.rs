//! What two packages cannot both have: the same floating address.

use std::net::IpAddr;

use super::{Kind, Package, PackageName, ResourceName};

/// An address that two packages would answer on. They run on different nodes, so both would be right and clients lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{address} of resource '{resource}' is the address of '{other_resource}' in package '{other}' already: \
     give one of them another address, or delete the package that has it"
)]
pub struct Conflict {
    /// The address.
    pub address: IpAddr,
    /// The resource of the package asked about.
    pub resource: ResourceName,
    /// The package that has the address already.
    pub other: PackageName,
    /// Its resource.
    pub other_resource: ResourceName,
}

/// Every conflict of a package with others, in the order of its resources. An earlier definition of the same package
/// among the others does not count.
pub fn conflicts<'p>(package: &Package, others: impl IntoIterator<Item = &'p Package>) -> Vec<Conflict> {
    let others: Vec<&Package> = others.into_iter().filter(|other| other.name != package.name).collect();
    let mut found = Vec::new();
    for (resource, address) in addresses(package) {
        for other in &others {
            let same = addresses(other).filter(|(_, taken)| *taken == address);
            found.extend(same.map(|(other_resource, _)| Conflict {
                address,
                resource: resource.clone(),
                other: other.name.clone(),
                other_resource: other_resource.clone(),
            }));
        }
    }
    found
}

/// Its floating addresses, each with its resource.
pub fn addresses(package: &Package) -> impl Iterator<Item = (&ResourceName, IpAddr)> {
    package.resources.iter().filter_map(|resource| match &resource.kind {
        Kind::Ip(ip) => Some((&resource.name, ip.address)),
        Kind::Program(_) => None,
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
}
