//! Destroys the sockets of an address, so that their peers see a reset now instead of silence later.
//!
//! Listening sockets are left alone: they carry no connection, and a program that outlives its address (an address
//! restarted in place) must go on accepting.

use std::net::IpAddr;

use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_packet_sock_diag::{SockDiagDestroy, SockDiagMessage};
use nix::errno::Errno;

use super::NetlinkError;
use super::socket::{Protocol, Socket};

const FAMILIES: [u8; 2] = [2, 10]; // AF_INET, AF_INET6
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What [`destroy_sockets`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Destroyed {
    /// Sockets destroyed.
    pub count: usize,
    /// Sockets the kernel refused to destroy.
    pub refused: usize,
}

/// Destroys every connected TCP and UDP socket whose local address is `ip`.
///
/// # Errors
/// When the kernel cannot list sockets or lacks SOCK_DESTROY (CONFIG_INET_DIAG_DESTROY).
pub fn destroy_sockets(ip: IpAddr) -> Result<Destroyed, NetlinkError> {
    let mut socket = Socket::open(Protocol::SockDiag)?;
    let mut done = Destroyed::default();
    for family in FAMILIES {
        for protocol in [TCP, UDP] {
            for id in connected(&mut socket, family, protocol, ip)? {
                let request = request(family, protocol, StateFlags::all(), id);
                let message = SockDiagDestroy::new(SockDiagMessage::InetRequest(request));
                match socket.request("destroy a socket", message, 0) {
                    Ok(()) => done.count += 1,
                    // It ended by itself in the meantime.
                    Err(e) if e.refusal() == Some(Errno::ENOENT) => {}
                    Err(e) if e.refusal() == Some(Errno::EOPNOTSUPP) && done.count == 0 => return Err(e),
                    Err(_) => done.refused += 1,
                }
            }
        }
    }
    Ok(done)
}

fn connected(socket: &mut Socket, family: u8, protocol: u8, ip: IpAddr) -> Result<Vec<SocketId>, NetlinkError> {
    let states = StateFlags::all() - StateFlags::LISTEN - StateFlags::CLOSE - StateFlags::TIME_WAIT;
    let any = if family == FAMILIES[0] { SocketId::new_v4() } else { SocketId::new_v6() };
    let ask = SockDiagMessage::InetRequest(request(family, protocol, states, any));
    let found = socket.dump("list sockets", &ask)?;
    let ids = found.into_iter().filter_map(|message| match message {
        SockDiagMessage::InetResponse(response) => Some(response.header.socket_id),
        SockDiagMessage::InetRequest(_) | SockDiagMessage::UnixRequest(_) | SockDiagMessage::UnixResponse(_) => None,
    });
    Ok(ids.filter(|id| id.source_address.to_canonical() == ip).collect())
}

fn request(family: u8, protocol: u8, states: StateFlags, socket_id: SocketId) -> InetRequest {
    InetRequest { family, protocol, extensions: ExtensionFlags::empty(), states, socket_id }
}
