//! A node joins, over real ports.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use pkgctl::engine::lease::Message;
use pkgctl::engine::state::DatagramKey;
use pkgctl::engine::{NodeId, Nonce};
use pkgctl::net::datagram::{self, JOINER, Keys};
use pkgctl::net::identity::credentials::fingerprint_pem;
use pkgctl::net::identity::{Authority, IdentityDir, PrivateKey, Subject};
use pkgctl::net::introduction::{SharedSecret, Tokens};
use pkgctl::net::join::{JoinError, JoinRequest, JoinService, Joiner, KeeperPort, Member, Welcome};
use pkgctl::net::tls::Service;
use pkgctl::net::token::JoinToken;
use pkgctl::package::NodeName;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::TLS13;
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;

use super::cluster::{CLUSTER, Cluster, Served};

const MEMBER: NodeId = NodeId(2);

fn keys() -> Keys {
    Keys::new(&BTreeMap::from([(1, DatagramKey([5; 32]))]))
}

/// A member that lets one token's bearer in as node 12.
struct Desk {
    authority: Authority,
    keeper: SocketAddr,
    digest: Mutex<String>,
    admitted: Mutex<Vec<Nonce>>,
    /// The authority's certificate in the answer.
    shown: Mutex<String>,
}

impl JoinService for Desk {
    async fn check(&self, token_digest: &str, _: &JoinRequest) -> Result<(), String> {
        let known = *self.digest.lock().unwrap() == token_digest;
        known.then_some(()).ok_or_else(|| "the join token is unknown or already used".into())
    }

    fn keeper(&self) -> Result<KeeperPort, String> {
        Ok(KeeperPort { keys: keys(), cluster: CLUSTER, node: MEMBER, address: self.keeper })
    }

    async fn admit(&self, token_digest: String, ask: JoinRequest) -> Result<Welcome, String> {
        assert_eq!(*self.digest.lock().unwrap(), token_digest);
        self.admitted.lock().unwrap().push(ask.request);
        let node = NodeId(12);
        let certificate = self.authority.sign(&ask.csr, node, &ask.name).map_err(|e| e.to_string())?;
        let me = Member { id: node, name: ask.name, address: ask.address, links: ask.links };
        let authority = self.shown.lock().unwrap().clone();
        Ok(Welcome { node, cluster: CLUSTER, profile: Default::default(), certificate, authority, members: vec![me] })
    }
}

impl Tokens for Desk {
    fn secret(&self) -> Result<Option<SharedSecret>, String> {
        Ok(None)
    }

    async fn token(&self, _: SocketAddr) -> Result<String, String> {
        Err("nobody is introduced here".into())
    }
}

/// A keeper's port that answers pings of joiners as the keeper does.
async fn keeper() -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut buffer = [0; 2000];
        loop {
            let (n, from) = socket.recv_from(&mut buffer).await.unwrap();
            if let Ok((JOINER, Message::Ping { nonce })) = datagram::open(&keys(), CLUSTER, MEMBER, &buffer[..n]) {
                let pong = Message::Pong { nonce, ready: true };
                let sealed = datagram::seal(&keys(), CLUSTER, MEMBER, JOINER, &pong);
                socket.send_to(&sealed, from).await.unwrap();
            }
        }
    });
    (address, task)
}

struct Scene {
    served: Served,
    desk: Arc<Desk>,
    token: JoinToken,
    keeper: tokio::task::JoinHandle<()>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

async fn scene() -> Scene {
    let cluster = Cluster::new();
    let (address, keeper) = keeper().await;
    let authority = Authority::load(CLUSTER, cluster.authority.certificate_pem(), &cluster.authority.key_pem());
    let (digest, admitted) = (Mutex::default(), Mutex::default());
    let shown = Mutex::new(cluster.authority.certificate_pem().to_owned());
    let desk = Arc::new(Desk { authority: authority.unwrap(), keeper: address, digest, admitted, shown });
    let served = Served::with(cluster.node(MEMBER.0), "127.0.0.1:0", desk.clone());
    let fingerprint = fingerprint_pem(cluster.authority.certificate_pem()).unwrap();
    let token = JoinToken::issue(fingerprint, served.address);
    *desk.digest.lock().unwrap() = token.digest();
    Scene { served, desk, token, keeper }
}

/// An address whose tcp and udp port are free, on an address of its own.
async fn free_address() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind("127.0.0.5:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        if UdpSocket::bind(address).await.is_ok() {
            return address;
        }
    }
}

fn joiner(token: &JoinToken, address: SocketAddr, csr: String) -> Joiner {
    let name = NodeName::new("n12").unwrap();
    Joiner { token: token.clone(), name, address, links: vec![], csr, request: Nonce(77) }
}

#[tokio::test]
async fn a_node_joins_and_its_certificate_fits_its_key() {
    let scene = scene().await;
    let dir = tempfile::tempdir().unwrap();
    let identity = IdentityDir::open(dir.path().join("identity")).unwrap();
    let csr = identity.key().unwrap().request();
    let address = free_address().await;
    // What is typed is the token's text.
    let token: JoinToken = scene.token.to_string().parse().unwrap();
    let welcome = joiner(&token, address, csr.clone()).join().await.unwrap();
    assert_eq!((welcome.node, welcome.members[0].address), (NodeId(12), address));
    let credentials = identity.store(&welcome.certificate, &welcome.authority).unwrap();
    assert_eq!(credentials.bearer().subject, Subject::Node(NodeId(12)));
    // Both ports are free again, and asking again with the same nonce shows the same attempt.
    joiner(&token, address, csr).join().await.unwrap();
    assert_eq!(*scene.desk.admitted.lock().unwrap(), [Nonce(77), Nonce(77)]);
}

#[tokio::test]
async fn an_unknown_secret_is_refused_in_the_members_words() {
    let scene = scene().await;
    let other = JoinToken::issue(scene.token.authority, scene.served.address);
    let refused = joiner(&other, free_address().await, String::new()).join().await.unwrap_err();
    assert!(matches!(&refused, JoinError::Refused(why) if why.contains("unknown or already used")), "{refused}");
    assert!(scene.desk.admitted.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_token_of_another_cluster_shows_its_secret_to_nobody() {
    let scene = scene().await;
    let other = fingerprint_pem(Cluster::new().authority.certificate_pem()).unwrap();
    let token = JoinToken { authority: other, ..scene.token.clone() };
    let refused = joiner(&token, free_address().await, String::new()).join().await.unwrap_err();
    assert!(matches!(refused, JoinError::Member { .. }), "the handshake failed, before the request");
    assert!(refused.to_string().contains("not belong to the cluster that the join token is for"), "{refused}");
}

#[tokio::test]
async fn showing_the_authority_without_being_signed_by_it_is_not_enough() {
    let scene = scene().await;
    let impostor = Cluster::new().node(MEMBER.0);
    let authority = scene.desk.authority.certificate_pem();
    let chain = vec![impostor.chain()[0].clone(), CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]).unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(chain, impostor.key()).unwrap();
    config.alpn_protocols = vec![Service::Join.alpn().to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let token = JoinToken { address: listener.local_addr().unwrap(), ..scene.token.clone() };
    let accept = async { TlsAcceptor::from(Arc::new(config)).accept(listener.accept().await.unwrap().0).await };
    let (outcome, accepted) = tokio::join!(joiner(&token, free_address().await, String::new()).join(), accept);
    let refused = outcome.unwrap_err();
    assert!(matches!(refused, JoinError::Member { .. }), "{refused}");
    assert!(accepted.is_err(), "the joiner says nothing to it");
}

#[tokio::test]
async fn an_answer_with_another_authority_than_the_tokens_is_not_taken() {
    let scene = scene().await;
    *scene.desk.shown.lock().unwrap() = Cluster::new().authority.certificate_pem().to_owned();
    let csr = PrivateKey::generate().request();
    let refused = joiner(&scene.token, free_address().await, csr).join().await.unwrap_err();
    assert!(matches!(&refused, JoinError::Answer(why) if why.contains("authority")), "{refused}");
}

#[tokio::test]
async fn a_keeper_that_cannot_be_reached_keeps_the_node_out() {
    let scene = scene().await;
    scene.keeper.abort();
    let refused = joiner(&scene.token, free_address().await, String::new()).join().await.unwrap_err().to_string();
    assert!(refused.contains(&format!("udp port {} of the member", scene.desk.keeper.port())), "{refused}");
    assert!(!refused.contains("cannot be reached"), "the joiner's own ports work: {refused}");
    assert!(scene.desk.admitted.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_bad_certificate_request_is_refused_in_words() {
    let scene = scene().await;
    let refused = joiner(&scene.token, free_address().await, "rubbish".into()).join().await.unwrap_err();
    assert!(matches!(&refused, JoinError::Refused(why) if why.contains("certificate request")), "{refused}");
}

#[tokio::test]
async fn a_port_of_the_joiner_that_is_taken_is_named() {
    let scene = scene().await;
    let address = free_address().await;
    let tcp = TcpListener::bind(address).await.unwrap();
    let refused = joiner(&scene.token, address, String::new()).join().await.unwrap_err().to_string();
    assert!(refused.contains(&format!("tcp {address} of this node cannot be used")), "{refused}");
    drop(tcp);
    let _udp = UdpSocket::bind(address).await.unwrap();
    let refused = joiner(&scene.token, address, String::new()).join().await.unwrap_err().to_string();
    assert!(refused.contains(&format!("udp {address} of this node cannot be used")), "{refused}");
}

#[tokio::test]
async fn nobody_at_the_tokens_address_is_told_with_what_to_look_at() {
    let scene = scene().await;
    let token = JoinToken { address: free_address().await, ..scene.token.clone() };
    let refused = joiner(&token, free_address().await, String::new()).join().await.unwrap_err().to_string();
    assert!(refused.contains("pkgctl-agent runs there"), "{refused}");
}
