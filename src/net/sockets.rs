//! Our tcp sockets, and their options: small writes go out at once, and a connection to a silent node ends within seconds.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// How long sent bytes may stay unacknowledged before the kernel ends a connection. Retransmissions back off to many
/// seconds during a cut; ending the connection lets the next call after the heal start with a fresh one.
const UNACKED_MAX: Duration = Duration::from_secs(5);
/// An idle connection is probed this often, and given up after [`PROBES`] without an answer.
const PROBE_EVERY: Duration = Duration::from_secs(2);
const PROBES: u32 = 3;

fn of_family(address: SocketAddr) -> io::Result<TcpSocket> {
    if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}

/// Listens, also where the port had connections a moment ago: a join's, or an earlier agent's.
///
/// # Errors
/// The system's own.
pub fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = of_family(address)?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

/// Connects, from that address if one is given.
///
/// # Errors
/// The system's own.
pub async fn connect(from: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = of_family(to)?;
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    socket.connect(to).await
}

/// Sets the options.
///
/// # Errors
/// The system's own.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(UNACKED_MAX))?;
    let probes = TcpKeepalive::new().with_time(PROBE_EVERY).with_interval(PROBE_EVERY).with_retries(PROBES);
    socket.set_tcp_keepalive(&probes)
}
