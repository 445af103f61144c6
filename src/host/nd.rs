//! IPv6 neighbour discovery for an address: the probe before it is taken, the announcement after, and who else claims
//! it. Bytes only; `tap` carries them.

use std::net::Ipv6Addr;

use super::tap::{Frame, Mac};

/// Ethernet protocol number.
pub const ETHERTYPE: u16 = 0x86dd;
/// Offsets in a packet without extension headers (neighbour discovery has none), in bytes.
pub const NEXT_HEADER_OFFSET: u32 = 6;
/// The ICMPv6 type.
pub const TYPE_OFFSET: u32 = 40;
/// The target address.
pub const TARGET_OFFSET: u32 = 48;
/// Next header ICMPv6.
pub const ICMPV6: u8 = 58;
/// ICMPv6 type of an advertisement.
pub const ADVERTISEMENT: u8 = 136;
const SOLICITATION: u8 = 135;
/// Neighbour discovery is only valid with this hop limit: nothing has forwarded it.
const HOP_LIMIT: u8 = 255;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const OVERRIDE: u8 = 0x20;
const OPTION_TARGET_MAC: [u8; 2] = [2, 1];

/// Asks who has `ip` without claiming it: from the unspecified address (RFC 4862, section 5.4.2).
pub fn probe(ip: Ipv6Addr) -> Frame {
    let [.., a, b, c] = ip.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    frame(Ipv6Addr::UNSPECIFIED, group, [SOLICITATION, 0], ip, &[])
}

/// Claims `ip` for `mac` to everyone, overriding what they have cached.
pub fn announcement(mac: Mac, ip: Ipv6Addr) -> Frame {
    let option = [&OPTION_TARGET_MAC[..], &mac.0].concat();
    frame(ip, ALL_NODES, [ADVERTISEMENT, OVERRIDE], ip, &option)
}

/// Who claims `ip` in this packet: the sender of an advertisement with this target. `from` is the frame's source.
pub fn claimant(packet: &[u8], from: Mac, ip: Ipv6Addr) -> Option<Mac> {
    let claims = packet.get(NEXT_HEADER_OFFSET as usize) == Some(&ICMPV6)
        && packet.get(TYPE_OFFSET as usize) == Some(&ADVERTISEMENT)
        && packet.get(48..64)? == ip.octets();
    let option = packet.get(64..72).filter(|option| option.starts_with(&OPTION_TARGET_MAC));
    claims.then(|| option.and_then(|o| o[2..].try_into().ok()).map_or(from, Mac))
}

fn frame(from: Ipv6Addr, to: Ipv6Addr, kind_and_flags: [u8; 2], target: Ipv6Addr, option: &[u8]) -> Frame {
    let mut message = vec![kind_and_flags[0], 0, 0, 0, kind_and_flags[1], 0, 0, 0];
    message.extend(target.octets());
    message.extend(option);
    let sum = checksum(from, to, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(u16::try_from(message.len()).unwrap_or(0).to_be_bytes());
    bytes.extend([ICMPV6, HOP_LIMIT]);
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    bytes.extend(message);
    let [.., a, b, c, d] = to.octets();
    Frame { ethertype: ETHERTYPE, to: Mac([0x33, 0x33, a, b, c, d]), bytes }
}

/// The Internet checksum over the pseudo-header and the message.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap_or(0).to_be_bytes();
    let whole = [&from.octets()[..], &to.octets(), &length, &[0, 0, 0, ICMPV6], message].concat();
    let mut sum: u32 = whole.chunks(2).map(|w| u32::from(w[0]) << 8 | w.get(1).map_or(0, |b| u32::from(*b))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);

    fn ip() -> Ipv6Addr {
        "fd00::12:3456".parse().unwrap()
    }

    #[test]
    fn a_probe_goes_to_the_solicited_node_group_and_claims_nothing() {
        let frame = probe(ip());
        assert_eq!(frame.to, Mac([0x33, 0x33, 0xff, 0x12, 0x34, 0x56]));
        assert_eq!(frame.bytes.len(), 40 + 24);
        assert_eq!(claimant(&frame.bytes, MAC, ip()), None);
    }

    #[test]
    fn an_announcement_claims_its_address_for_the_mac_it_carries() {
        let frame = announcement(MAC, ip());
        assert_eq!(claimant(&frame.bytes, Mac::default(), ip()), Some(MAC));
        assert_eq!(claimant(&frame.bytes, MAC, "fd00::1".parse().unwrap()), None);
        assert_eq!(claimant(&frame.bytes[..60], MAC, ip()), None);
    }

    #[test]
    fn a_finished_message_sums_to_zero() {
        let frame = announcement(MAC, ip());
        assert_eq!(checksum(ip(), ALL_NODES, &frame.bytes[40..]), 0);
    }
}
