//! What the kernel says of links and addresses, and what anybody on the network says of an address.

use std::net::{Ipv4Addr, Ipv6Addr};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_sock_diag::SockDiagMessage;
use pkgctl::host::netlink::nft::watch::concerns_us;
use pkgctl::host::netlink::socket::{encode, messages};
use pkgctl::host::netlink::watch::change_of;
use pkgctl::host::tap::Mac;
use pkgctl::host::{arp, nd};

use super::{choice, chosen};

/// A datagram from the kernel.
pub fn netlink(bytes: &[u8]) -> bool {
    let (mut seen, mut understood) = (0, false);
    let _ = messages(bytes, "test", |message| {
        seen += message.payload.len();
        understood |= message.acknowledgement().is_some() | change_of(&message).is_some() | concerns_us(&message);
        understood |= message.value::<RouteNetlinkMessage>().is_some() | message.value::<SockDiagMessage>().is_some();
        Ok(())
    });
    assert!(seen <= bytes.len(), "no byte is read twice");
    understood
}

pub fn netlink_seeds() -> Vec<Vec<u8>> {
    let mut link = LinkMessage::default();
    link.header.index = 2;
    link.attributes = vec![LinkAttribute::IfName("eth0".to_owned()), LinkAttribute::Address(vec![2, 0, 0, 0, 0, 7])];
    let mut address = AddressMessage::default();
    address.header.prefix_len = 24;
    address.attributes = vec![AddressAttribute::Local([10, 0, 0, 1].into())];
    let link = |new: fn(LinkMessage) -> RouteNetlinkMessage| encode(new(link.clone()), 0, 1);
    let address = |new: fn(AddressMessage) -> RouteNetlinkMessage| encode(new(address.clone()), 0, 1);
    let all = [
        link(RouteNetlinkMessage::NewLink),
        link(RouteNetlinkMessage::DelLink),
        address(RouteNetlinkMessage::NewAddress),
        address(RouteNetlinkMessage::DelAddress),
    ];
    let mut changed = vec![32, 0, 0, 0, 0, 10, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
    changed.extend([11, 0, 1, 0]);
    changed.extend(b"pkgctl\0\0");
    let together = all.concat();
    all.into_iter().chain([together, changed]).collect()
}

const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const IP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100);

/// A frame of any neighbour: a claim of our address has it in it, and no probe is one.
pub fn neighbour(bytes: &[u8]) -> bool {
    let (mac, rest) = choice(bytes);
    let has = |ip: &[u8]| rest.windows(ip.len()).any(|window| window == ip);
    let claims = (arp::claimant(rest, IP).is_some(), nd::claimant(rest, Mac([mac; 6]), IP6).is_some());
    assert!(!claims.0 || has(&IP.octets()));
    assert!(!claims.1 || has(&IP6.octets()));
    assert_eq!(arp::claimant(&arp::probe(Mac([mac; 6]), IP).bytes, IP), None);
    assert_eq!(nd::claimant(&nd::probe(IP6).bytes, Mac([mac; 6]), IP6), None);
    claims.0 || claims.1
}

pub fn neighbour_seeds() -> Vec<Vec<u8>> {
    let mac = Mac([2, 0, 0, 0, 0, 7]);
    let [ask, say] = arp::announcements(mac, IP);
    let frames = [arp::probe(mac, IP), ask, say, nd::probe(IP6), nd::announcement(mac, IP6)];
    frames.iter().map(|frame| chosen(2, &frame.bytes)).collect()
}
