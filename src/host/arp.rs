//! ARP for an IPv4 address: the probe before it is taken, the announcements after, and who else claims it. Bytes only;
//! `tap` carries them.

use std::net::Ipv4Addr;

use super::tap::{BROADCAST, Frame, Mac};

/// Ethernet protocol number.
pub const ETHERTYPE: u16 = 0x0806;
/// Offset of the sender's IPv4 address in a packet.
pub const SENDER_IP_OFFSET: u32 = 14;
/// Hardware type Ethernet, protocol type IPv4, their address lengths.
const HEAD: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: u8 = 1;
const REPLY: u8 = 2;

/// Asks who has `ip` without claiming it: the sender's address is 0.0.0.0 (RFC 5227, section 1.1).
pub fn probe(mac: Mac, ip: Ipv4Addr) -> Frame {
    frame(packet(REQUEST, mac, Ipv4Addr::UNSPECIFIED, Mac::default(), ip))
}

/// Claims `ip` for `mac`, as a request and as a reply: some devices listen only to one of them.
pub fn announcements(mac: Mac, ip: Ipv4Addr) -> [Frame; 2] {
    [frame(packet(REQUEST, mac, ip, Mac::default(), ip)), frame(packet(REPLY, mac, ip, BROADCAST, ip))]
}

/// Who claims `ip` in this packet: the sender of any ARP packet whose sender address it is.
pub fn claimant(packet: &[u8], ip: Ipv4Addr) -> Option<Mac> {
    let packet: &[u8; 28] = packet.first_chunk()?;
    let claims = packet.starts_with(&HEAD) && packet[14..18] == ip.octets();
    claims.then(|| Mac(packet[8..14].try_into().unwrap_or_default()))
}

fn frame(bytes: Vec<u8>) -> Frame {
    Frame { ethertype: ETHERTYPE, to: BROADCAST, bytes }
}

fn packet(operation: u8, sender: Mac, sender_ip: Ipv4Addr, target: Mac, target_ip: Ipv4Addr) -> Vec<u8> {
    let mut bytes = HEAD.to_vec();
    bytes.extend([0, operation]);
    bytes.extend(sender.0);
    bytes.extend(sender_ip.octets());
    bytes.extend(target.0);
    bytes.extend(target_ip.octets());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);

    #[test]
    fn a_probe_claims_nothing_and_an_announcement_claims_the_address() {
        assert_eq!(claimant(&probe(MAC, IP).bytes, IP), None);
        assert_eq!(claimant(&probe(MAC, IP).bytes, Ipv4Addr::UNSPECIFIED), Some(MAC));
        for frame in announcements(MAC, IP) {
            assert_eq!(claimant(&frame.bytes, IP), Some(MAC));
            assert_eq!(frame.bytes.len(), 28);
            assert_eq!(frame.to, BROADCAST);
        }
        assert_eq!(claimant(&announcements(MAC, IP)[0].bytes[..27], IP), None);
        assert_eq!(claimant(&[], IP), None);
    }
}
