//! The port itself: strangers, silence and rubbish.

use std::net::{IpAddr, SocketAddr};

use pkgctl::engine::NodeId;
use pkgctl::net::listener::{HANDSHAKES_PER_SOURCE, JOINS_PER_SOURCE, Listener};
use pkgctl::net::tls::Service;
use pkgctl::raft::peers::{PeerCall, Peers};
use rustls::version::TLS13;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::cluster::{Cluster, LONG, Served, ask_to_join, peers, raw};

async fn silent_from(source: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(source, 0)).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn connections_that_say_nothing_are_closed_and_keep_nobody_out() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    let elsewhere = IpAddr::from([127, 0, 0, 77]);
    let mut silent = JoinSet::new();
    for _ in 0..HANDSHAKES_PER_SOURCE * 3 {
        let mut stream = silent_from(elsewhere, served.address).await;
        silent.spawn(async move {
            let mut byte = [0];
            // A reset is an end as well.
            stream.read(&mut byte).await.unwrap_or(0)
        });
    }
    // What is over the bound is closed without waiting for the handshake's time to run out.
    for _ in 0..HANDSHAKES_PER_SOURCE * 2 {
        let closed = tokio::time::timeout(LONG, silent.join_next()).await.expect("a surplus connection is closed");
        assert_eq!(closed.unwrap().unwrap(), 0);
    }
    let answer = peers(cluster.node(1)).call(NodeId(2), served.address, PeerCall::Ask, vec![], LONG).await;
    answer.expect("another address is served meanwhile");
    while let Some(closed) = tokio::time::timeout(LONG, silent.join_next()).await.expect("the rest is closed in time") {
        assert_eq!(closed.unwrap(), 0);
    }
}

#[tokio::test]
async fn rubbish_is_refused_and_the_port_goes_on() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    let mut state = 1_u64;
    for length in [1, 5, 100, 5000] {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        for head in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &[22, 3, 1, 0x40, 0]] {
            let mut stream = TcpStream::connect(served.address).await.unwrap();
            // The other side may close before everything is written.
            let _ = stream.write_all(&[head, &bytes].concat()).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await.expect("it is closed");
        }
    }
    peers(cluster.node(1)).call(NodeId(2), served.address, PeerCall::Ask, vec![], LONG).await.unwrap();
    assert_eq!(served.connections(), 1);
}

#[tokio::test]
async fn joins_without_a_certificate_are_few_at_a_time_and_small() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    let join = || async { raw::connect(served.address, &[Service::Join.alpn()], None, &TLS13).await.unwrap() };
    let mut waiting = Vec::new();
    for _ in 0..JOINS_PER_SOURCE {
        waiting.push(join().await);
    }
    // One more of the same address is told to ask again, or the bound would not hold.
    assert!(ask_to_join(&mut join().await).await.contains("busy"));
    // One that announces more than a request may have is closed.
    let mut first = waiting.remove(0);
    let mut answer = Vec::new();
    first.write_all(&[0x10, 0, 0, 0, 0]).await.unwrap();
    first.flush().await.unwrap();
    let _ = tokio::time::timeout(LONG, first.read_to_end(&mut answer)).await.expect("it is closed");
    assert!(answer.is_empty());
    // Those within the bound are still being listened to.
    for mut stream in waiting {
        assert!(ask_to_join(&mut stream).await.contains("nobody joins here"));
    }
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_way_to_find_who_has_it() {
    let cluster = Cluster::new();
    let served = Served::node(&cluster, 2);
    let refused = Listener::bind(served.address).unwrap_err().to_string();
    assert!(refused.contains(&served.address.to_string()) && refused.contains("ss -ltnp"), "{refused}");
}
