//! Which packets are about an address: the rules of the chain `addresses`, and what may leave although the guard is
//! shut.

use netlink_packet_netfilter::nftables::MetaKey;

use super::expr::{Base, Expression, Judgement, judge, judge_by, meta_is, meta_is_not, payload, payload_is};
use super::shape::{HOMES, MAP4, MAP6};

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// `NFPROTO_IPV4` and `NFPROTO_IPV6`: the inet family's word for the protocol.
const HOST_IPV4: [u8; 1] = [2];
const HOST_IPV6: [u8; 1] = [10];
const ICMPV6: [u8; 1] = [58];
const NEIGHBOUR_SOLICITATION: [u8; 1] = [135];
const NEIGHBOUR_ADVERTISEMENT: [u8; 1] = [136];
const ARP_REQUEST: [u8; 2] = [0, 1];

/// Offsets and lengths in bytes.
const IPV4_SOURCE: u32 = 12;
const IPV4_DESTINATION: u32 = 16;
const IPV6_SOURCE: u32 = 8;
const IPV6_DESTINATION: u32 = 24;
const ARP_OPERATION: u32 = 6;
const ARP_SENDER: u32 = 14;
const ARP_TARGET: u32 = 24;
const ND_TYPE: u32 = 0;
const ND_TARGET: u32 = 8;

/// netdev: IP, ARP and neighbour discovery, by either end.
pub fn on_a_device() -> Vec<Vec<Expression>> {
    let ethertype = |value: [u8; 2]| meta_is(MetaKey::EtherTypeProtocol, &value);
    let mut rules = Vec::new();
    for offset in [IPV4_DESTINATION, IPV4_SOURCE] {
        rules.push(by_map(ethertype(ETHERTYPE_IPV4).to_vec(), Base::Network, offset, MAP4));
    }
    for offset in [ARP_TARGET, ARP_SENDER] {
        rules.push(by_map(ethertype(ETHERTYPE_ARP).to_vec(), Base::Network, offset, MAP4));
    }
    for offset in [IPV6_DESTINATION, IPV6_SOURCE] {
        rules.push(by_map(ethertype(ETHERTYPE_IPV6).to_vec(), Base::Network, offset, MAP6));
    }
    for kind in [NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT] {
        let mut head = ethertype(ETHERTYPE_IPV6).to_vec();
        head.extend(meta_is(MetaKey::L4Proto, &ICMPV6));
        head.extend(payload_is(Base::Transport, ND_TYPE, &kind));
        rules.push(by_map(head, Base::Transport, ND_TARGET, MAP6));
    }
    rules
}

/// inet: IP by either end, for local clients and for traffic of other interfaces.
pub fn on_this_host() -> Vec<Vec<Expression>> {
    let mut rules = Vec::new();
    for (proto, offsets, map) in
        [(HOST_IPV4, [IPV4_DESTINATION, IPV4_SOURCE], MAP4), (HOST_IPV6, [IPV6_DESTINATION, IPV6_SOURCE], MAP6)]
    {
        for offset in offsets {
            rules.push(by_map(meta_is(MetaKey::Nfproto, &proto).to_vec(), Base::Network, offset, map));
        }
    }
    rules
}

/// arp: what this host's own ARP says and hears about an address, on every interface, by either end.
pub fn on_any_link() -> Vec<Vec<Expression>> {
    [ARP_TARGET, ARP_SENDER].map(|offset| by_map(Vec::new(), Base::Network, offset, MAP4)).into()
}

/// arp: sends a question about an address to the chain of the address's interface.
pub fn to_its_home() -> Vec<Expression> {
    vec![payload(Base::Network, ARP_TARGET, 4), judge_by(HOMES)]
}

/// arp: drops what came in on any other interface. While the lease holds, too: two hardware addresses in answer to one
/// question are a conflict to whoever asks. What is *asked* on another interface with the address as sender is left to
/// the lease: replies of connections may be routed that way.
pub fn elsewhere(index: u32) -> Vec<Expression> {
    // An interface index is loaded in this machine's order.
    let mut rule = meta_is_not(MetaKey::Iif, &index.to_ne_bytes()).to_vec();
    rule.push(judge(&Judgement::Drop));
    rule
}

/// What passes the egress hook although the address is shut: ARP probes (requests whose sender is 0.0.0.0) and
/// solicitations of duplicate address detection (from ::). Otherwise the guard would eat our own probe. Neither claims
/// the address.
pub fn probes() -> Vec<Vec<Expression>> {
    let mut arp = meta_is(MetaKey::EtherTypeProtocol, &ETHERTYPE_ARP).to_vec();
    arp.extend(payload_is(Base::Network, ARP_OPERATION, &ARP_REQUEST));
    arp.extend(payload_is(Base::Network, ARP_SENDER, &[0; 4]));
    arp.push(judge(&Judgement::Accept));
    let mut nd = meta_is(MetaKey::EtherTypeProtocol, &ETHERTYPE_IPV6).to_vec();
    nd.extend(payload_is(Base::Network, IPV6_SOURCE, &[0; 16]));
    nd.extend(meta_is(MetaKey::L4Proto, &ICMPV6));
    nd.extend(payload_is(Base::Transport, ND_TYPE, &NEIGHBOUR_SOLICITATION));
    nd.push(judge(&Judgement::Accept));
    vec![arp, nd]
}

fn by_map(mut head: Vec<Expression>, base: Base, offset: u32, map: &str) -> Vec<Expression> {
    head.push(payload(base, offset, if map == MAP4 { 4 } else { 16 }));
    head.push(judge_by(map));
    head
}
