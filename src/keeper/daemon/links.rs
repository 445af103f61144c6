//! Datagrams to and from other keepers, one socket per network this node is on. A datagram that cannot be sent now is
//! dropped: the rules bear losses, and never a wait.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

use crate::engine::lease::Message;
use crate::engine::{ClusterId, NodeId};
use crate::keeper::protocol::Configuration;
use crate::net::datagram::{self, Dropped, Drops, JOINER, Keys, MAX_BYTES};

/// The links of this node.
#[derive(Debug, Default)]
pub struct Links {
    known: Option<Known>,
    sockets: Vec<Link>,
    drops: Drops,
    /// What of it was told.
    told: Drops,
    /// The last drop, and where it came from.
    dropped: Option<(Dropped, SocketAddr)>,
    /// Where the last datagram came from, for answers to nodes without an id.
    last: Option<(usize, SocketAddr)>,
}

#[derive(Debug)]
struct Known {
    cluster: ClusterId,
    node: NodeId,
    keys: Keys,
    peers: BTreeMap<NodeId, Vec<SocketAddr>>,
}

#[derive(Debug)]
struct Link {
    address: SocketAddr,
    /// None while the address cannot be bound.
    socket: Option<UdpSocket>,
}

impl Links {
    /// Takes who this node is and whom it talks to. Returns whether the sockets changed.
    pub fn configure(&mut self, new: Configuration) -> bool {
        let mine = new.peers.get(&new.node).cloned().unwrap_or_default();
        let Configuration { cluster, node, keys, sealing_key, peers, .. } = new;
        self.known = Some(Known { cluster, node, keys: Keys::new(&keys).sealing(sealing_key), peers });
        if self.sockets.iter().map(|link| link.address).eq(mine.iter().copied()) {
            return false;
        }
        self.sockets = mine.into_iter().map(|address| Link { address, socket: None }).collect();
        true
    }

    /// Binds what is not bound yet (rule 9: nobody else may have the port). Returns which addresses failed, and why.
    pub fn bind(&mut self) -> Vec<(SocketAddr, io::Error)> {
        let mut failed = Vec::new();
        for link in self.sockets.iter_mut().filter(|link| link.socket.is_none()) {
            match bind(link.address) {
                Ok(socket) => link.socket = Some(socket),
                Err(why) => failed.push((link.address, why)),
            }
        }
        failed
    }

    /// Whether an address is still to be bound.
    pub fn wants_to_bind(&self) -> bool {
        self.sockets.iter().any(|link| link.socket.is_none())
    }

    /// The sockets, to be watched, by their numbers.
    pub fn sockets(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.sockets.iter().enumerate().filter_map(|(n, link)| link.socket.as_ref().map(|s| (n, s.as_fd())))
    }

    /// Sends one copy over every link.
    pub fn send(&self, to: NodeId, message: &Message) {
        let Some(known) = &self.known else { return };
        let sealed = datagram::seal(&known.keys, known.cluster, known.node, to, message);
        if sealed.is_empty() {
            return;
        }
        if to == JOINER {
            if let Some((number, address)) = self.last {
                self.send_from(number, address, &sealed);
            }
            return;
        }
        for (number, address) in known.peers.get(&to).into_iter().flatten().enumerate() {
            self.send_from(number, *address, &sealed);
        }
    }

    /// Over the link of that number, or the last one: a node with more networks than this one hears it on all of its.
    fn send_from(&self, number: usize, to: SocketAddr, bytes: &[u8]) {
        let own = self.sockets.get(number).or(self.sockets.last());
        let able = own.filter(|link| link.address.is_ipv4() == to.is_ipv4());
        let able = able.or_else(|| self.sockets.iter().find(|link| link.address.is_ipv4() == to.is_ipv4()));
        if let Some(socket) = able.and_then(|link| link.socket.as_ref()) {
            // Lost here is lost like anywhere on the way.
            let _ = socket.send_to(bytes, to);
        }
    }

    /// The next datagram of a socket. One call takes one datagram, whatever it is, so that the caller's bound is one on
    /// a stranger's flood as well.
    pub fn receive(&mut self, number: usize) -> Received {
        let Some(socket) = self.sockets.get(number).and_then(|link| link.socket.as_ref()) else {
            return Received::Nothing;
        };
        // One byte more than allowed, so that a longer one is told apart.
        let mut buffer = [0; MAX_BYTES + 1];
        let (bytes, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            // An earlier send was refused by the other host: says nothing about what waits here.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => return Received::Dropped,
            Err(_) => return Received::Nothing,
        };
        let Some(known) = &self.known else { return Received::Nothing };
        match datagram::open(&known.keys, known.cluster, known.node, &buffer[..bytes]) {
            Ok((node, message)) => {
                self.last = Some((number, from));
                Received::Message(node, message)
            }
            Err(why) => {
                self.drops.count(why);
                self.dropped = Some((why, from));
                Received::Dropped
            }
        }
    }

    /// What was dropped since the last call, in one line for people.
    pub fn drops_to_tell(&mut self) -> Option<String> {
        let new = self.drops.since(&self.told);
        let (why, from) = self.dropped.filter(|_| new.total() > 0)?;
        self.told = self.drops;
        let each: Vec<String> = new.counts().map(|(why, count)| format!("{count} {why}")).collect();
        Some(format!(
            "{} datagrams were dropped ({}), {} since the start; the last one, from {from}: {why}",
            new.total(),
            each.join(", "),
            self.drops.total()
        ))
    }
}

/// What waited on a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// Nothing.
    Nothing,
    /// Something that is not for the core.
    Dropped,
    /// An authentic message of that node.
    Message(NodeId, Message),
}

/// A socket of exactly that address, whether its interface is up already or not.
fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicU16, Ordering};

    use super::*;
    use crate::engine::state::DatagramKey;
    use crate::engine::{LogIndex, Nonce, Profile};

    /// Loopback addresses that nobody else has: the process's number is in the host's part, the port is below those the
    /// kernel gives away.
    fn addresses() -> Vec<SocketAddr> {
        static NEXT: AtomicU16 = AtomicU16::new(10_000);
        let [_, a, b, c] = std::process::id().to_be_bytes();
        let address = || (Ipv4Addr::new(127, a, b, c), NEXT.fetch_add(1, Ordering::Relaxed)).into();
        std::iter::repeat_with(address).take(4).collect()
    }

    /// Two nodes with two links each, on loopback.
    fn pair() -> (Links, Links) {
        let addresses = addresses();
        let peers = BTreeMap::from([(NodeId(1), addresses[..2].to_vec()), (NodeId(2), addresses[2..].to_vec())]);
        let links = |node: u64| {
            let mut links = Links::default();
            let keys = [(1, DatagramKey([7; 32]))].into();
            let (cluster, profile, peers) = (ClusterId(5), Profile::Default, peers.clone());
            let (sealing_key, keys_at) = (None, LogIndex(0));
            links.configure(Configuration { cluster, node: NodeId(node), profile, keys, sealing_key, keys_at, peers });
            assert_eq!(links.bind().len(), 0);
            links
        };
        (links(1), links(2))
    }

    fn wait(links: &mut Links, number: usize) -> (NodeId, Message) {
        let mut fds = [nix::poll::PollFd::new(links.sockets().nth(number).unwrap().1, nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut fds, 5000u16).unwrap();
        loop {
            match links.receive(number) {
                Received::Message(from, message) => return (from, message),
                Received::Dropped => {}
                Received::Nothing => panic!("no datagram within five seconds"),
            }
        }
    }

    #[test]
    fn a_message_goes_over_every_link() {
        let (one, mut two) = pair();
        let ping = Message::Ping { nonce: Nonce(3) };
        one.send(NodeId(2), &ping);
        assert_eq!(wait(&mut two, 0), (NodeId(1), ping.clone()));
        assert_eq!(wait(&mut two, 1), (NodeId(1), ping));
    }

    #[test]
    fn garbage_is_counted_and_what_comes_after_it_is_still_read() {
        let (one, mut two) = pair();
        let to = two.sockets[0].address;
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        for garbage in [&b""[..], b"PKGD", &[0x50; 1500], b"PKGD\x01\0\0\0\0\0\0\0\x05"] {
            stranger.send_to(garbage, to).unwrap();
        }
        one.send(NodeId(2), &Message::Ping { nonce: Nonce(3) });
        assert_eq!(wait(&mut two, 0).0, NodeId(1));
        assert_eq!(two.drops.total(), 4);
        let line = two.drops_to_tell().unwrap();
        assert!(line.contains("4 datagrams were dropped (1 not a pkgctl datagram, 2 too short"), "{line}");
        assert_eq!(two.drops_to_tell(), None, "it is told once");
    }

    #[test]
    fn a_flood_of_garbage_is_taken_one_by_one_so_that_the_loops_bound_holds() {
        let (_one, mut two) = pair();
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..3 {
            stranger.send_to(b"PKGD", two.sockets[0].address).unwrap();
        }
        for taken in 1..=3 {
            assert_eq!(two.receive(0), Received::Dropped);
            assert_eq!(two.drops.total(), taken);
        }
        assert_eq!(two.receive(0), Received::Nothing);
    }

    /// Sends datagrams to node 2 and counts which of them are taken.
    fn taken(two: &mut Links, datagrams: &[Vec<u8>]) -> usize {
        let to = two.sockets[0].address;
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for bytes in datagrams {
            sender.send_to(bytes, to).unwrap();
        }
        let received = datagrams.iter().map(|_| two.receive(0));
        received.filter(|received| matches!(received, Received::Message(..))).count()
    }

    #[test]
    fn reflected_redirected_and_foreign_datagrams_are_dropped_and_replayed_ones_left_to_the_rules() {
        let (one, mut two) = pair();
        let ping = Message::Ping { nonce: Nonce(3) };
        let keys = |secret| Keys::new(&[(1, DatagramKey([secret; 32]))].into());
        let sealed = |secret, cluster, from, to| datagram::seal(&keys(secret), ClusterId(cluster), from, to, &ping);
        let (first, second) = (NodeId(1), NodeId(2));
        let recorded = sealed(7, 5, first, second);
        let others = [
            sealed(7, 5, second, first),
            sealed(7, 5, first, NodeId(3)),
            sealed(7, 6, first, second),
            sealed(8, 5, first, second),
        ];
        assert_eq!(taken(&mut two, &others), 0, "reflected, for another voter, of another cluster, with another key");
        assert_eq!(
            taken(&mut two, &[recorded.clone(), recorded.clone()]),
            2,
            "told from new ones by the voter (rule 6a)"
        );
        let configured = |keys| Configuration {
            cluster: ClusterId(5),
            node: second,
            profile: Profile::Default,
            keys,
            sealing_key: None,
            keys_at: LogIndex(0),
            peers: BTreeMap::from([(second, vec![two.sockets[0].address])]),
        };
        let rotated = configured([(2, DatagramKey([9; 32]))].into());
        two.configure(rotated);
        two.bind();
        assert_eq!(taken(&mut two, &[recorded]), 0, "with its key gone, what was recorded under it is worth nothing");
        drop(one);
    }

    #[test]
    fn a_port_that_somebody_has_is_not_shared() {
        let (one, _two) = pair();
        let error = bind(one.sockets[0].address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "rule 9");
    }
}
