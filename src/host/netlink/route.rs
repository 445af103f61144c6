//! Links and addresses of this network namespace: look up, list, add, delete.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use super::NetlinkError;
use super::socket::{Protocol, Socket};

/// Marks our addresses in the kernel (IFA_PROTO, kernel 5.18 and later), so that a later keeper life knows them even
/// without its record. Any number the kernel and routing daemons do not use.
const ADDRESS_PROTOCOL: u8 = 0x70;
/// `infinity` of address lifetimes.
const FOREVER: u32 = u32::MAX;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index: stays while the name may change.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Hardware address; empty when it has none.
    pub mac: Vec<u8>,
    /// Set up by the administrator.
    pub up: bool,
    /// The layer below is up (carrier).
    pub carrier: bool,
    /// It is `lo`.
    pub loopback: bool,
    /// It resolves neighbours (ARP, ND) at all.
    pub resolves: bool,
}

/// An address on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// IPv4 or IPv6.
    pub ip: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
    /// Index of its interface.
    pub index: u32,
    /// It carries our mark.
    pub ours: bool,
}

impl Address {
    /// True when `ip` lies in this address's subnet.
    pub fn covers(&self, ip: IpAddr) -> bool {
        fn same<const N: usize>(a: [u8; N], b: [u8; N], prefix: u8) -> bool {
            let bits = usize::from(prefix).min(N * 8);
            (0..bits).all(|bit| (a[bit / 8] ^ b[bit / 8]) & (0x80 >> (bit % 8)) == 0)
        }
        match (self.ip, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(a.octets(), b.octets(), self.prefix),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.octets(), b.octets(), self.prefix),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// Asks about and changes links and addresses.
#[derive(Debug)]
pub struct Route {
    socket: Socket,
}

impl Route {
    /// Opens the socket in this thread's network namespace.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self { socket: Socket::open(Protocol::Route)? })
    }

    /// Every link.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let ask = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let found = self.socket.dump("list links", &ask)?;
        Ok(found.iter().filter_map(link_of).collect())
    }

    /// The link of that name, if there is one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        Ok(self.links()?.into_iter().find(|link| link.name == name))
    }

    /// Every address of every link.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        let ask = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let found = self.socket.dump("list addresses", &ask)?;
        Ok(found.iter().filter_map(address_of).collect())
    }

    /// Adds an address, marked as ours, without duplicate address detection (the guard is shut, so the kernel's own
    /// probe could not work anyway, and it takes a second).
    ///
    /// The prefix route is left out when the link already reaches the address's subnet: the route that comes with a
    /// second address would give the node's own traffic the floating address as its source, and would go with it.
    /// IPv6 addresses are deprecated from the start for the same reason: they answer, but are not chosen as a source.
    ///
    /// # Errors
    /// `EEXIST` when the link already has the address; ENODEV when it is gone.
    pub fn add_address(&mut self, ip: IpAddr, prefix: u8, index: u32) -> Result<(), NetlinkError> {
        let reached = self.addresses()?.iter().any(|a| a.index == index && a.covers(ip));
        let mut flags = AddressFlags::Permanent | AddressFlags::Nodad;
        if reached {
            flags |= AddressFlags::Noprefixroute;
        }
        let mut message = address_message(ip, prefix, index);
        message.header.flags = AddressHeaderFlags::Nodad | AddressHeaderFlags::Permanent;
        message.attributes.push(AddressAttribute::Flags(flags));
        message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(ADDRESS_PROTOCOL)));
        if ip.is_ipv6() {
            let mut lifetime = CacheInfo::default();
            (lifetime.ifa_preferred, lifetime.ifa_valid) = (0, FOREVER);
            message.attributes.push(AddressAttribute::CacheInfo(lifetime));
        }
        let what = format!("add {ip}/{prefix}");
        self.socket.request(&what, RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Deletes an address; that it is already gone, or its link, is no error.
    ///
    /// # Errors
    /// When the kernel refuses for any other reason: the address is still there.
    pub fn delete_address(&mut self, ip: IpAddr, prefix: u8, index: u32) -> Result<(), NetlinkError> {
        let message = address_message(ip, prefix, index);
        match self.socket.request(&format!("delete {ip}/{prefix}"), RouteNetlinkMessage::DelAddress(message), 0) {
            Err(e) if matches!(e.refusal(), Some(Errno::EADDRNOTAVAIL | Errno::ENODEV)) => Ok(()),
            other => other,
        }
    }

    /// Sends any other route request; the lab builds its networks through it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn request(&mut self, what: &str, message: RouteNetlinkMessage, flags: u16) -> Result<(), NetlinkError> {
        self.socket.request(what, message, flags)
    }
}

fn address_message(ip: IpAddr, prefix: u8, index: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = prefix;
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    message
}

pub(super) fn link_of(message: &RouteNetlinkMessage) -> Option<Link> {
    match message {
        RouteNetlinkMessage::NewLink(m) | RouteNetlinkMessage::DelLink(m) => parse_link(m),
        _ => None,
    }
}

fn parse_link(message: &LinkMessage) -> Option<Link> {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: Vec::new(),
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        loopback: flags.contains(LinkFlags::Loopback),
        resolves: !flags.intersects(LinkFlags::Noarp | LinkFlags::Loopback),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac.clone_from(mac),
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

pub(super) fn address_of(message: &RouteNetlinkMessage) -> Option<Address> {
    let (RouteNetlinkMessage::NewAddress(m) | RouteNetlinkMessage::DelAddress(m)) = message else {
        return None;
    };
    // IPv4 puts the address into Local (Address is the peer's on a point-to-point link), IPv6 into Address alone.
    let (mut local, mut address, mut ours) = (None, None, false);
    for attribute in &m.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Protocol(AddressProtocol::Other(ADDRESS_PROTOCOL)) => ours = true,
            _ => {}
        }
    }
    Some(Address { ip: local.or(address)?, prefix: m.header.prefix_len, index: m.header.index, ours })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_covers_its_own_subnet_and_nothing_else() {
        let at = |ip: &str, prefix| Address { ip: ip.parse().unwrap(), prefix, index: 1, ours: false };
        assert!(at("10.0.0.1", 24).covers("10.0.0.100".parse().unwrap()));
        assert!(!at("10.0.0.1", 24).covers("10.0.1.100".parse().unwrap()));
        assert!(!at("10.0.0.1", 32).covers("10.0.0.2".parse().unwrap()));
        assert!(at("10.0.0.1", 0).covers("192.0.2.1".parse().unwrap()));
        assert!(at("fd00::1", 64).covers("fd00::100".parse().unwrap()));
        assert!(!at("fd00::1", 64).covers("fd00:0:0:1::1".parse().unwrap()));
        assert!(!at("10.0.0.1", 0).covers("fd00::1".parse().unwrap()));
    }
}
