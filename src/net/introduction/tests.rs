//! Introductions as they are, and as somebody without the secret, or in between, would have them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::caller::{Proved, prove};
use super::proof::{Side, Transcript};
use super::*;
use crate::net::join::{hear, say};
use crate::net::tls::{self, Service};
use crate::net::token::JoinToken;

const SECRET: [u8; BYTES] = [9; BYTES];
const HERE: [u8; BYTES] = [1; BYTES];

fn secret() -> SharedSecret {
    SharedSecret::of(SECRET)
}

fn token() -> JoinToken {
    JoinToken::issue([1; 32], "127.0.0.1:7420".parse().unwrap())
}

/// A member with a secret, or none, that counts the tokens it gives away.
#[derive(Clone)]
struct Member {
    secret: Option<SharedSecret>,
    given: Arc<AtomicUsize>,
}

impl Member {
    fn with(secret: Option<SharedSecret>) -> Self {
        Self { secret, given: Arc::default() }
    }

    fn given(&self) -> usize {
        self.given.load(Ordering::SeqCst)
    }
}

impl Tokens for Member {
    fn secret(&self) -> Result<Option<SharedSecret>, String> {
        Ok(self.secret.clone())
    }

    async fn token(&self, _: SocketAddr) -> Result<String, String> {
        self.given.fetch_add(1, Ordering::SeqCst);
        Ok(token().to_string())
    }
}

fn there() -> SocketAddr {
    "10.0.0.9:5000".parse().unwrap()
}

/// The caller's proof towards a member, each on its own view of the connection.
async fn between(member: &Member, ours: SharedSecret, theirs: [u8; BYTES]) -> (Proved, Option<String>) {
    let (mut a, mut b): (DuplexStream, DuplexStream) = duplex(1 << 16);
    let (proved, served) =
        tokio::join!(prove(&mut a, HERE, Purpose::Join, &ours), serve_asker(&mut b, theirs, there(), member));
    (proved.unwrap(), served.unwrap())
}

#[tokio::test]
async fn who_has_the_secret_is_proved_to_and_gets_a_token() {
    let member = Member::with(Some(secret()));
    let (proved, refused) = between(&member, secret(), HERE).await;
    assert!(matches!(proved, Proved::Both) && refused.is_none());
    assert_eq!(member.given(), 1);
}

#[tokio::test]
async fn another_secret_another_connection_or_none_gets_no_token_and_no_proof() {
    for (member, ours, channel, words) in [
        (Some(secret()), SharedSecret::of([8; BYTES]), HERE, "do not have the same secret"),
        (Some(secret()), secret(), [2; BYTES], "do not have the same secret"),
        (None, secret(), HERE, "has no secret"),
    ] {
        let member = Member::with(member);
        let (proved, refused) = between(&member, ours, channel).await;
        let Proved::Refused(why) = proved else { panic!("{words}") };
        assert!(why.contains(words) && refused.is_some(), "{why}");
        assert_eq!(member.given(), 0);
    }
}

#[tokio::test]
async fn a_listener_without_the_secret_learns_nothing_that_helps_it() {
    // It sends the caller's own proof back, and one that it heard on an earlier connection.
    for reflected in [true, false] {
        let (mut caller, mut listener) = duplex(1 << 16);
        let listening = async {
            let ToListener::Hello { nonce, .. } = hear(&mut listener, MESSAGE_MAX_BYTES, WORD_TIME_MAX).await.unwrap()
            else {
                panic!("no hello")
            };
            // Even the caller's own nonce does not make its own proof one of the listener's.
            say(&mut listener, &ToCaller::Challenge { nonce }).await.unwrap();
            let ToListener::Proof { mac } = hear(&mut listener, MESSAGE_MAX_BYTES, WORD_TIME_MAX).await.unwrap() else {
                panic!("no proof")
            };
            let earlier = Transcript { purpose: Purpose::Join, channel: HERE, caller: [4; BYTES], listener: nonce };
            let heard = earlier.prove(&secret(), Side::Listener);
            say(&mut listener, &ToCaller::Proof { mac: if reflected { mac } else { heard } }).await.unwrap();
        };
        let ours = secret();
        let (proved, ()) = tokio::join!(prove(&mut caller, HERE, Purpose::Join, &ours), listening);
        assert!(matches!(proved, Ok(Proved::Not)));
    }
}

#[tokio::test]
async fn a_proof_that_was_recorded_opens_nothing_later() {
    let member = Member::with(Some(secret()));
    let (mut caller, mut listener) = duplex(1 << 16);
    let replaying = async {
        say(&mut caller, &ToListener::Hello { version: VERSION, purpose: Purpose::Join, nonce: [3; BYTES] })
            .await
            .unwrap();
        let ToCaller::Challenge { nonce } = hear(&mut caller, MESSAGE_MAX_BYTES, WORD_TIME_MAX).await.unwrap() else {
            panic!("no challenge")
        };
        let earlier = Transcript { purpose: Purpose::Join, channel: HERE, caller: [3; BYTES], listener: [5; BYTES] };
        assert_ne!(nonce, earlier.listener);
        let mac = earlier.prove(&secret(), Side::Caller);
        say(&mut caller, &ToListener::Proof { mac }).await.unwrap();
        hear::<ToCaller>(&mut caller, MESSAGE_MAX_BYTES, WORD_TIME_MAX).await.unwrap()
    };
    let (served, heard) = tokio::join!(serve_asker(&mut listener, HERE, there(), &member), replaying);
    assert!(served.unwrap().is_some() && matches!(heard, ToCaller::Refused { .. }));
    assert_eq!(member.given(), 0);
}

#[tokio::test]
async fn words_out_of_turn_another_version_and_another_purpose_end_the_talk() {
    let member = Member::with(Some(secret()));
    let hello = |version, purpose| ToListener::Hello { version, purpose, nonce: [3; BYTES] };
    for (first, words) in [
        (hello(VERSION + 1, Purpose::Join), "install the same pkgctl"),
        (hello(VERSION, Purpose::Invite), "in a cluster already"),
    ] {
        let (mut caller, mut listener) = duplex(1 << 16);
        say(&mut caller, &first).await.unwrap();
        let served = serve_asker(&mut listener, HERE, there(), &member).await.unwrap();
        assert!(served.is_some_and(|why| why.contains(words)), "{words}");
    }
    let (mut caller, mut listener) = duplex(1 << 16);
    say(&mut caller, &ToListener::Proof { mac: [0; BYTES] }).await.unwrap();
    assert!(matches!(serve_asker(&mut listener, HERE, there(), &member).await, Err(TalkError::OutOfTurn)));
    assert_eq!(member.given(), 0);
}

/// Accepts one TLS connection with a certificate of its own, as a node does that is in no cluster.
async fn accept(listener: &TcpListener) -> tls::ServerStream {
    let (stream, _) = listener.accept().await.unwrap();
    TlsAcceptor::from(tls::introduction_server().unwrap()).accept(stream).await.unwrap()
}

#[tokio::test]
async fn who_stands_in_between_with_a_certificate_of_its_own_gets_neither_proof_nor_token() {
    let member = Member::with(Some(secret()));
    let (real, between) =
        (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let (to_real, to_between) = (real.local_addr().unwrap(), between.local_addr().unwrap());
    let serving = async {
        let mut stream = accept(&real).await;
        let channel = channel(stream.get_ref().1).unwrap();
        let served = serve_asker(&mut stream, channel, there(), &member).await.unwrap();
        assert!(served.is_some_and(|why| why.contains("does not have this node's secret")));
    };
    let relaying = async {
        let mut inner = accept(&between).await;
        let stream = TcpStream::connect(to_real).await.unwrap();
        let config = tls::introduction_client().unwrap();
        let mut outer = tls::connect(&config, Service::Introduction, stream).await.unwrap();
        // Every byte goes both ways as it comes.
        let _ = tokio::io::copy_bidirectional(&mut inner, &mut outer).await;
    };
    let ours = secret();
    let asking = ask_for_token(Knock { to: to_between, from: None }, &ours);
    let refused = tokio::select! {
        outcome = async { tokio::join!(asking, serving).0 } => outcome.unwrap_err(),
        () = async { relaying.await; std::future::pending().await } => unreachable!("it pends"),
    };
    assert!(matches!(refused, IntroductionError::Refused { .. }), "{refused}");
    assert_eq!(member.given(), 0);
    // Without anybody in between the same two understand each other.
    let serving = async {
        let mut stream = accept(&real).await;
        let channel = channel(stream.get_ref().1).unwrap();
        serve_asker(&mut stream, channel, there(), &member).await.unwrap()
    };
    let (token, served) = tokio::join!(ask_for_token(Knock { to: to_real, from: None }, &ours), serving);
    assert!(token.is_ok() && served.is_none() && member.given() == 1);
}

/// A node that may be invited; it joins by binding its port, as a real join does.
#[derive(Clone)]
struct Guest {
    address: SocketAddr,
    waiting: Waiting,
    joined: Arc<AtomicUsize>,
    refuses: bool,
}

impl Invitee for Guest {
    type Done = ();

    fn secret(&self) -> Result<Option<SharedSecret>, String> {
        Ok(Some(secret()))
    }

    async fn join(&self, invitation: Invitation) -> Result<(Newcomer, ()), String> {
        let _port = self.waiting.free().await;
        let _bound = TcpListener::bind(self.address).await.map_err(|e| e.to_string())?;
        assert_eq!(invitation.token, token_text());
        if self.refuses { Err("not now".to_owned()) } else { Ok((newcomer(), ())) }
    }

    async fn joined(&self, (): ()) {
        self.joined.fetch_add(1, Ordering::SeqCst);
    }
}

fn newcomer() -> Newcomer {
    Newcomer { cluster: ClusterId(7), node: NodeId(9) }
}

fn token_text() -> String {
    "a token".to_owned()
}

async fn invited(guest: Guest, ours: &SharedSecret) -> Result<Newcomer, IntroductionError> {
    let (waiting, address) = (guest.waiting.clone(), guest.address);
    let serving = tokio::spawn(async move { waiting.serve(address, guest).await });
    let invitation = async || Ok::<_, ()>(Invitation { name: NodeName::new("n9").unwrap(), token: token_text() });
    let outcome = loop {
        // Its listener may still be about to open.
        match invite(Knock { to: address, from: None }, ours, invitation).await.unwrap() {
            Err(IntroductionError::NobodyListens { .. }) => tokio::task::yield_now().await,
            outcome => break outcome,
        }
    };
    serving.abort();
    outcome
}

async fn guest(refuses: bool) -> Guest {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    Guest { address: free, waiting: Waiting::default(), joined: Arc::default(), refuses }
}

#[tokio::test]
async fn an_invited_node_has_its_port_for_the_join_and_says_what_came_of_it() {
    let guest = guest(false).await;
    assert_eq!(invited(guest.clone(), &secret()).await.unwrap(), newcomer());
    let refuses = self::guest(true).await;
    let refused = invited(refuses.clone(), &secret()).await.unwrap_err();
    assert!(refused.to_string().ends_with("refused: not now"), "{refused}");
    assert_eq!(refuses.joined.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn nobody_is_invited_by_another_secret() {
    let guest = guest(false).await;
    let refused = invited(guest.clone(), &SharedSecret::of([8; BYTES])).await.unwrap_err();
    assert!(matches!(refused, IntroductionError::Refused { .. }), "{refused}");
    assert_eq!(guest.joined.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_wants_the_port_has_it_however_often_and_whenever() {
    let guest = guest(false).await;
    let (waiting, address) = (guest.waiting.clone(), guest.address);
    let serving = tokio::spawn({
        let waiting = waiting.clone();
        async move { waiting.serve(address, guest).await }
    });
    for round in 0..300 {
        // Sometimes in the middle of its opening, sometimes while it listens.
        for _ in 0..round % 7 {
            tokio::task::yield_now().await;
        }
        let free = tokio::time::timeout(WORD_TIME_MAX, waiting.free()).await.expect("the listener gives way");
        TcpListener::bind(address).await.expect("nobody listens there");
        drop(free);
    }
    serving.abort();
}

#[test]
fn an_invitation_does_not_show_its_token() {
    let invitation = Invitation { name: NodeName::new("n9").unwrap(), token: "c0ffee".to_owned() };
    assert!(!format!("{:?}", ToListener::Invitation(invitation)).contains("c0ffee"));
}
