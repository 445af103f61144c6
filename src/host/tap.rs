//! A packet socket on one interface that hears who claims one address and sends our probes and announcements.
//!
//! While an address is probed for it is bound to ETH_P_ALL, whose tap comes before the guard's ingress hook: it hears
//! replies that the guard drops. A filter in the kernel keeps everything else away from us. What it sends passes the
//! egress hook (no PACKET_QDISC_BYPASS), so a thawed keeper cannot announce an address whose element is gone (rule 23).

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};

use super::{arp, nd};

/// Longest packet looked at; claims are far shorter.
const PACKET_BYTES: usize = 256;
/// Ancillary loads of classic BPF: the packet's protocol, and whether it is our own.
const AD_PROTOCOL: u32 = 0xffff_f000;
const AD_PACKET_TYPE: u32 = 0xffff_f004;
const PACKET_OUTGOING: u32 = 4;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

/// Everyone on the link.
pub const BROADCAST: Mac = Mac([0xff; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A packet to send: everything but the Ethernet header, which the kernel writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Ethernet protocol number.
    pub ethertype: u16,
    /// Where to.
    pub to: Mac,
    /// From the network header on.
    pub bytes: Vec<u8>,
}

/// What a tap hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hears {
    /// Claims, even those that the guard drops; every packet of the interface passes the filter meanwhile.
    BeforeTheGuard,
    /// Claims in ARP that pass the guard, for as long as the address is up. For IPv6 nothing: its claims cannot be
    /// picked out without looking at every IPv6 packet.
    Later,
}

/// The socket.
#[derive(Debug)]
pub struct Tap {
    socket: Socket,
    index: u32,
    mac: Mac,
    ip: IpAddr,
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Tap {
    /// Listens for claims of `ip` on an interface whose own hardware address is `mac`.
    ///
    /// # Errors
    /// When the kernel refuses the socket (it needs CAP_NET_RAW) or the interface is gone.
    pub fn open(index: u32, mac: Mac, ip: IpAddr, hears: Hears) -> io::Result<Self> {
        // Protocol 0 hears nothing until the filter is in place and the socket bound.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))?;
        socket.set_nonblocking(true)?;
        socket.attach_filter(&filter(ip))?;
        let ethertype = match (hears, ip) {
            (Hears::BeforeTheGuard, _) => u16::try_from(libc::ETH_P_ALL).ok(),
            (Hears::Later, IpAddr::V4(_)) => Some(arp::ETHERTYPE),
            (Hears::Later, IpAddr::V6(_)) => None,
        };
        if let Some(ethertype) = ethertype {
            socket.bind(&address(index, ethertype, Mac::default()))?;
        }
        Ok(Self { socket, index, mac, ip })
    }

    /// Sends the duplicate address probe.
    ///
    /// # Errors
    /// When the interface does not take it.
    pub fn probe(&self) -> io::Result<()> {
        match self.ip {
            IpAddr::V4(ip) => self.send(&arp::probe(self.mac, ip)),
            IpAddr::V6(ip) => self.send(&nd::probe(ip)),
        }
    }

    /// Tells everyone on the link that the address is here.
    ///
    /// # Errors
    /// ENOBUFS when the guard is shut; other errors when the interface does not take it.
    pub fn announce(&self) -> io::Result<()> {
        match self.ip {
            IpAddr::V4(ip) => arp::announcements(self.mac, ip).iter().try_for_each(|frame| self.send(frame)),
            IpAddr::V6(ip) => self.send(&nd::announcement(self.mac, ip)),
        }
    }

    /// Someone else who claims the address, if one has been heard since the last call; reads up to `limit` packets.
    /// `is_ours` says whether another interface of this host has a hardware address: on a network on which the host has
    /// two, each hears what the other says.
    ///
    /// # Errors
    /// When the interface is gone or down.
    pub fn claimant(&self, limit: usize, mut is_ours: impl FnMut(Mac) -> bool) -> io::Result<Option<Mac>> {
        for _ in 0..limit {
            let mut bytes = [0; PACKET_BYTES];
            let (length, from) = match self.receive(&mut bytes) {
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            let packet = bytes.get(..length).unwrap_or(&bytes);
            let claimant = match self.ip {
                IpAddr::V4(ip) => arp::claimant(packet, ip),
                IpAddr::V6(ip) => nd::claimant(packet, from, ip),
            };
            if let Some(other) = claimant.filter(|mac| *mac != self.mac && from != self.mac && !is_ours(*mac)) {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }

    /// Sends any packet on the interface.
    ///
    /// # Errors
    /// As [`Tap::announce`].
    pub fn send(&self, frame: &Frame) -> io::Result<()> {
        self.socket.send_to(&frame.bytes, &address(self.index, frame.ethertype, frame.to)).map(|_| ())
    }

    fn receive(&self, bytes: &mut [u8; PACKET_BYTES]) -> io::Result<(usize, Mac)> {
        use nix::sys::socket::{LinkAddr, recvfrom};
        use std::os::fd::AsRawFd;
        let (length, from) =
            recvfrom::<LinkAddr>(self.socket.as_raw_fd(), bytes).map_err(|e: Errno| io::Error::from(e))?;
        Ok((length, Mac(from.and_then(|link| link.addr()).unwrap_or_default())))
    }
}

fn address(index: u32, ethertype: u16, to: Mac) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: a sockaddr_ll is smaller than a sockaddr_storage, and all its bit patterns are valid.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = libc::AF_PACKET.cast_unsigned().try_into().unwrap_or(0);
    link.sll_protocol = ethertype.to_be();
    link.sll_ifindex = index.cast_signed();
    link.sll_halen = 6;
    link.sll_addr[..6].copy_from_slice(&to.0);
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or(0);
    // SAFETY: the storage holds an address of that family and length.
    unsafe { SockAddr::new(storage, length) }
}

/// Classic BPF: packets of others that claim `ip`, and nothing else.
fn filter(ip: IpAddr) -> Vec<SockFilter> {
    let mut tests = vec![Test { width: Width::Half, offset: AD_PACKET_TYPE, value: PACKET_OUTGOING, wanted: false }];
    let mut must = |width, offset, value| tests.push(Test { width, offset, value, wanted: true });
    match ip {
        IpAddr::V4(ip) => {
            must(Width::Half, AD_PROTOCOL, u32::from(arp::ETHERTYPE));
            must(Width::Word, arp::SENDER_IP_OFFSET, ip.to_bits());
        }
        IpAddr::V6(ip) => {
            must(Width::Half, AD_PROTOCOL, u32::from(nd::ETHERTYPE));
            must(Width::Byte, nd::NEXT_HEADER_OFFSET, u32::from(nd::ICMPV6));
            must(Width::Byte, nd::TYPE_OFFSET, u32::from(nd::ADVERTISEMENT));
            for (word, offset) in ip.octets().as_chunks::<4>().0.iter().zip((nd::TARGET_OFFSET..).step_by(4)) {
                must(Width::Word, offset, u32::from_be_bytes(*word));
            }
        }
    }
    program(&tests)
}

/// Widths of classic BPF loads.
#[derive(Clone, Copy)]
enum Width {
    Byte,
    Half,
    Word,
}

struct Test {
    width: Width,
    offset: u32,
    value: u32,
    wanted: bool,
}

fn program(tests: &[Test]) -> Vec<SockFilter> {
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let mut program = Vec::new();
    for (at, test) in tests.iter().enumerate() {
        let load = match test.width {
            Width::Byte => 0x30,
            Width::Half => 0x28,
            Width::Word => 0x20,
        };
        // Two instructions per later test, then "take it", then "drop it".
        let drop = u8::try_from(2 * (tests.len() - at - 1) + 1).unwrap_or(u8::MAX);
        let (if_equal, if_not) = if test.wanted { (0, drop) } else { (drop, 0) };
        program.push(SockFilter::new(load, 0, 0, test.offset));
        program.push(SockFilter::new(JUMP_IF_EQUAL, if_equal, if_not, test.value));
    }
    program.push(SockFilter::new(RETURN, 0, 0, u32::MAX));
    program.push(SockFilter::new(RETURN, 0, 0, 0));
    program
}
