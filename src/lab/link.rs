//! Network interfaces and addresses by rtnetlink, in the network namespace of the calling thread.

use std::io::Result;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::net::if_::if_nametoindex;

use super::netlink;

const CREATE: u16 = NLM_F_CREATE | NLM_F_EXCL;

fn send(message: RouteNetlinkMessage, flags: u16) -> Result<()> {
    let mut packet = NetlinkMessage::from(message);
    packet.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    netlink::request(NETLINK_ROUTE, vec![packet])
}

/// Creates a bridge that forwards at once: no spanning tree, and no multicast snooping, which without a querier would
/// eat neighbour solicitations.
pub(super) fn add_bridge(name: &str) -> Result<()> {
    let options = vec![InfoBridge::ForwardDelay(0), InfoBridge::MulticastSnooping(false)];
    let mut link = named(name);
    link.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Bridge),
        LinkInfo::Data(InfoData::Bridge(options)),
    ]));
    send(RouteNetlinkMessage::NewLink(link), CREATE)
}

/// Creates a cable: `port` here, attached to `bridge`, and `peer` with address `mac` in the network namespace of
/// process `pid`.
pub(super) fn add_cable(port: &str, bridge: &str, peer: &str, mac: [u8; 6], pid: i32) -> Result<()> {
    let mut far = named(peer);
    far.attributes.push(LinkAttribute::Address(mac.to_vec()));
    far.attributes.push(LinkAttribute::NetNsPid(pid.unsigned_abs()));
    let mut near = named(port);
    near.attributes.push(LinkAttribute::Controller(if_nametoindex(bridge)?));
    near.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
    ]));
    send(RouteNetlinkMessage::NewLink(near), CREATE)
}

/// Sets an interface up or down.
pub(super) fn set_up(name: &str, up: bool) -> Result<()> {
    let mut link = LinkMessage::default();
    link.header.index = if_nametoindex(name)?;
    link.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
    link.header.change_mask = LinkFlags::Up;
    send(RouteNetlinkMessage::SetLink(link), 0)
}

/// Deletes an interface; one that is already gone is no error.
pub(super) fn delete(name: &str) -> Result<()> {
    let Ok(index) = if_nametoindex(name) else { return Ok(()) };
    let mut link = LinkMessage::default();
    link.header.index = index;
    match send(RouteNetlinkMessage::DelLink(link), 0) {
        Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other,
    }
}

/// Adds an IPv4 address to an interface.
pub(super) fn add_address(name: &str, address: Ipv4Addr, prefix_len: u8) -> Result<()> {
    let broadcast = u32::from(address) | u32::MAX.checked_shr(u32::from(prefix_len)).unwrap_or(0);
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix_len;
    message.header.index = if_nametoindex(name)?;
    message.attributes = vec![
        AddressAttribute::Local(IpAddr::V4(address)),
        AddressAttribute::Address(IpAddr::V4(address)),
        AddressAttribute::Broadcast(Ipv4Addr::from(broadcast)),
    ];
    send(RouteNetlinkMessage::NewAddress(message), CREATE)
}

fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}
