//! The member's port for those who share a secret with it: few at a time from one address, and nobody else is kept out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pkgctl::engine::codec;
use pkgctl::net::frame;
use pkgctl::net::introduction::{
    IntroductionError, Knock, Purpose, SharedSecret, ToCaller, ToListener, VERSION, ask_for_token,
};
use pkgctl::net::listener::{JOINS_MAX, JOINS_PER_SOURCE};
use pkgctl::net::tls::{self, ClientStream, Service};
use rustls::version::TLS13;
use tokio::net::TcpSocket;

use super::cluster::{Cluster, NoJoin, Served, ask_to_join, raw};

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

/// Says hello, and what it is answered.
async fn hello(last: u8, to: SocketAddr) -> (ClientStream, ToCaller) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
    let config = tls::introduction_client().unwrap();
    let mut stream = tls::connect(&config, Service::Introduction, socket.connect(to).await.unwrap()).await.unwrap();
    let hello = ToListener::Hello { version: VERSION, purpose: Purpose::Join, nonce: [1; 32] };
    frame::write(&mut stream, 0, &codec::encode(&hello)).await.unwrap();
    let (_, answer) = frame::read(&mut stream, 1000).await.unwrap();
    (stream, codec::decode(&answer).unwrap())
}

/// Hears the challenge, and then says nothing: its place is taken for as long as a word may take.
async fn stalls(last: u8, to: SocketAddr) -> ClientStream {
    let (stream, answer) = hello(last, to).await;
    assert!(matches!(answer, ToCaller::Challenge { .. }), "{answer:?}");
    stream
}

#[tokio::test]
async fn one_address_has_few_places_and_takes_nobody_elses() {
    let served = member(Some(secret(9)));
    let mut stalled = Vec::new();
    for _ in 0..JOINS_PER_SOURCE {
        stalled.push(stalls(9, served.address).await);
    }
    let (_stream, answer) = hello(9, served.address).await;
    assert!(matches!(answer, ToCaller::Busy {}), "{answer:?}");
    ask_for_token(from(8, served.address), &secret(9)).await.expect("another address is served meanwhile");
    // Who is put off asks again, and comes in when there is a place.
    ask_for_token(from(9, served.address), &secret(9)).await.expect("it is served in its turn");
    drop(stalled);
    let refused = ask_for_token(from(7, served.address), &secret(8)).await.unwrap_err();
    assert!(refused.to_string().contains("do not have the same secret"), "{refused}");
}

#[tokio::test]
async fn many_at_once_from_one_address_all_come_to_their_turn() {
    let served = member(Some(secret(9)));
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..3 * JOINS_PER_SOURCE {
        asking.spawn(async move { ask_for_token(from(9, served.address), &secret(9)).await.map(drop) });
    }
    for outcome in asking.join_all().await {
        outcome.expect("it has a token");
    }
}

#[tokio::test]
async fn where_there_is_no_secret_introductions_take_no_places() {
    let served = member(None);
    let mut held = Vec::new();
    for last in 10..10 + u8::try_from(JOINS_MAX).unwrap() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
        let config = tls::introduction_client().unwrap();
        let stream = socket.connect(served.address).await.unwrap();
        held.push(tls::connect(&config, Service::Introduction, stream).await.unwrap());
    }
    // They say nothing. A join is looked at all the same.
    let mut join = raw::connect(served.address, &[Service::Join.alpn()], None, &TLS13).await.unwrap();
    assert!(ask_to_join(&mut join).await.contains("nobody joins here"));
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
    assert!(matches!(gone, IntroductionError::NobodyListens { .. }), "{gone}");
}
