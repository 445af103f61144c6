//! Options of our tcp sockets: small writes go out at once, and a connection to a silent node ends within seconds.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// How long sent bytes may stay unacknowledged before the kernel ends a connection. Retransmissions back off to many
/// seconds during a cut; ending the connection lets the next call after the heal start with a fresh one.
const UNACKED_MAX: Duration = Duration::from_secs(5);
/// An idle connection is probed this often, and given up after [`PROBES`] without an answer.
const PROBE_EVERY: Duration = Duration::from_secs(2);
const PROBES: u32 = 3;

/// Sets them.
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
