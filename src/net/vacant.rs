//! Whether a node's ports can be had, asked before anything is made that needs them.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

/// Why one of them cannot.
#[derive(Debug, thiserror::Error)]
#[error(
    "{protocol} {address} cannot be had: {source}. This node needs it for itself; `{}` shows who has it. Nothing was made: end \
     that program, or give this node another address or port",
    who(.protocol, .address.port())
)]
pub struct Taken {
    /// Which of the two.
    pub protocol: &'static str,
    /// Which address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

fn who(protocol: &str, port: u16) -> String {
    let kind = if protocol == "udp" { "u" } else { "t" };
    format!("ss -l{kind}np 'sport = :{port}'")
}

/// Binds them all and lets them go again: the cluster's port, for its calls and its datagrams, further addresses for
/// datagrams, and plain HTTP's.
///
/// # Errors
/// The first that cannot be had.
pub fn prove(cluster: SocketAddr, links: &[SocketAddr], http: Option<SocketAddr>) -> Result<(), Taken> {
    let tcp = [Some(cluster), http].into_iter().flatten();
    let tcp = tcp.map(|address| ("tcp", address, TcpListener::bind(address).map(drop)));
    let udp = [cluster].into_iter().chain(links.iter().copied());
    let udp = udp.map(|address| ("udp", address, UdpSocket::bind(address).map(drop)));
    for (protocol, address, bound) in tcp.chain(udp) {
        bound.map_err(|source| Taken { protocol, address, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_that_somebody_has_is_named() {
        let free = || loop {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = tcp.local_addr().unwrap();
            if UdpSocket::bind(address).is_ok() {
                return address;
            }
        };
        let (cluster, link, http) = (free(), free(), free());
        prove(cluster, &[link], Some(http)).unwrap();
        for (protocol, address) in [("tcp", cluster), ("tcp", http)] {
            let _held = TcpListener::bind(address).unwrap();
            let taken = prove(cluster, &[link], Some(http)).unwrap_err();
            assert_eq!((taken.protocol, taken.address), (protocol, address));
            assert!(taken.to_string().contains(&format!("ss -ltnp 'sport = :{}'", address.port())), "{taken}");
        }
        for address in [cluster, link] {
            let _held = UdpSocket::bind(address).unwrap();
            let taken = prove(cluster, &[link], Some(http)).unwrap_err();
            assert_eq!((taken.protocol, taken.address), ("udp", address));
            assert!(taken.to_string().contains("ss -lunp"), "{taken}");
        }
    }
}
