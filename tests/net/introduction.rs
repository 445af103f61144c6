//! The member's port for those who share a secret with it: few at a time from one address, and nobody else is kept out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pkgctl::engine::codec;
use pkgctl::net::frame;
use pkgctl::net::introduction::{
    IntroductionError, Knock, PER_SOURCE, Purpose, SharedSecret, ToCaller, ToListener, VERSION, ask_for_token,
};
use pkgctl::net::tls::{self, ClientStream, Service};
use tokio::net::TcpSocket;

use super::cluster::{Cluster, NoJoin, Served};

fn secret(byte: u8) -> SharedSecret {
    SharedSecret::of([byte; 32])
}

fn member(secret: Option<SharedSecret>) -> Served {
    let cluster = Cluster::new();
    Served::with(cluster.node(2), "127.0.0.1:0", Arc::new(NoJoin(secret)))
}

fn from(last: u8, to: SocketAddr) -> Knock {
    Knock { to, from: Some(IpAddr::from([127, 0, 0, last])) }
}

/// Says hello, hears the challenge, and then nothing: its place is taken for as long as a word may take.
async fn stalls(last: u8, to: SocketAddr) -> ClientStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
    let config = tls::introduction_client().unwrap();
    let mut stream = tls::connect(&config, Service::Introduction, socket.connect(to).await.unwrap()).await.unwrap();
    let hello = ToListener::Hello { version: VERSION, purpose: Purpose::Join, nonce: [1; 32] };
    frame::write(&mut stream, 0, &codec::encode(&hello)).await.unwrap();
    let (_, challenge) = frame::read(&mut stream, 1000).await.unwrap();
    assert!(matches!(codec::decode(&challenge), Ok(ToCaller::Challenge { .. })));
    stream
}

#[tokio::test]
async fn one_address_has_few_places_and_takes_nobody_elses() {
    let served = member(Some(secret(9)));
    let mut stalled = Vec::new();
    for _ in 0..PER_SOURCE {
        stalled.push(stalls(9, served.address).await);
    }
    let dropped = ask_for_token(from(9, served.address), &secret(9)).await.unwrap_err();
    assert!(matches!(dropped, IntroductionError::BrokeOff { .. }), "{dropped}");
    ask_for_token(from(8, served.address), &secret(9)).await.expect("another address is served meanwhile");
    drop(stalled);
    let refused = ask_for_token(from(7, served.address), &secret(8)).await.unwrap_err();
    assert!(refused.to_string().contains("do not have the same secret"), "{refused}");
}

#[tokio::test]
async fn without_a_secret_a_member_says_so_and_what_to_do() {
    let refused = ask_for_token(from(9, member(None).address), &secret(9)).await.unwrap_err();
    assert!(matches!(&refused, IntroductionError::Refused { why, .. } if why.contains("cluster token")), "{refused}");
}

#[tokio::test]
async fn a_port_that_is_none_of_pkgctl_is_told_from_a_silent_one() {
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = other.local_addr().unwrap();
    let speaking = tokio::spawn(async move {
        let (mut stream, _) = other.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream
    });
    let refused = ask_for_token(from(1, address), &secret(9)).await.unwrap_err();
    assert!(matches!(refused, IntroductionError::NotOurs { .. }), "{refused}");
    speaking.await.unwrap();
    let gone = ask_for_token(from(1, address), &secret(9)).await.unwrap_err();
    assert!(matches!(gone, IntroductionError::Unreachable { .. }), "{gone}");
}
