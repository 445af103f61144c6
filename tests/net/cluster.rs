//! Fixtures: an authority with its members, a served port, a raw client that behaves as badly as a test wants.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use pkgctl::engine::{ClusterId, LogIndex, NodeId, codec};
use pkgctl::net::frame;
use pkgctl::net::http::Caller;
use pkgctl::net::identity::{Authority, ClientName, Credentials, PrivateKey, Subject};
use pkgctl::net::introduction::{SharedSecret, Tokens};
use pkgctl::net::join::{JoinRequest, JoinService, KeeperPort, Welcome};
use pkgctl::net::listener::{Doors, Listener, Standing};
use pkgctl::net::peers::{Patience, TlsPeers};
use pkgctl::net::removed::Removed;
use pkgctl::net::tls::ServerTls;
use pkgctl::package::NodeName;
use pkgctl::raft::peers::{PeerCall, PeerService};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

pub const CLUSTER: ClusterId = ClusterId(0xc1);
/// Long enough for anything that should happen, on a loaded machine.
pub const LONG: Duration = Duration::from_secs(30);

pub struct Cluster {
    pub authority: Authority,
}

impl Cluster {
    pub fn new() -> Self {
        Self::with_id(CLUSTER)
    }

    pub fn with_id(id: ClusterId) -> Self {
        Self { authority: Authority::create(id, "test").unwrap() }
    }

    pub fn node(&self, id: u64) -> Arc<Credentials> {
        let key = PrivateKey::generate();
        let name = NodeName::new(format!("n{id}")).unwrap();
        let certificate = self.authority.sign(&key.request(), NodeId(id), &name).unwrap();
        Arc::new(Credentials::parse(&certificate, &key.pem(), self.authority.certificate_pem()).unwrap())
    }

    pub fn operator(&self, name: &str) -> Arc<Credentials> {
        let key = PrivateKey::generate();
        let certificate = self.authority.sign_client(&key.request(), &ClientName::new(name).unwrap()).unwrap();
        Arc::new(Credentials::parse(&certificate, &key.pem(), self.authority.certificate_pem()).unwrap())
    }

    /// A certificate of this authority that was valid in 1999.
    pub fn expired_node(&self, id: u64) -> Arc<Credentials> {
        let key = rcgen::KeyPair::generate().unwrap();
        let name = format!("n{id}.{}.pkgctl", self.authority.cluster());
        let mut params = rcgen::CertificateParams::new(vec![name]).unwrap();
        params.not_before = rcgen::date_time_ymd(1999, 1, 1);
        params.not_after = rcgen::date_time_ymd(1999, 12, 31);
        params.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let ca_key = rcgen::KeyPair::from_pem(&self.authority.key_pem()).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_pem(self.authority.certificate_pem(), ca_key).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        let authority = self.authority.certificate_pem();
        Arc::new(Credentials::parse(&certificate, &key.serialize_pem(), authority).unwrap())
    }
}

pub fn patience() -> Patience {
    // No test depends on these being short; a loaded machine may be slow.
    Patience { connect: LONG, handshake: LONG, linger: LONG }
}

pub fn peers(credentials: Arc<Credentials>) -> TlsPeers {
    TlsPeers::new(credentials, patience())
}

/// Answers a call with who asked, the call's byte and the body; some bodies make it do other things.
pub struct Echo {
    /// Calls whose body is `hold` wait for a permit here.
    pub gate: Semaphore,
    /// Rings whenever a call with the body `hold` begins to wait.
    pub held: Notify,
    pub holding: AtomicUsize,
    /// Calls so far.
    pub calls: AtomicUsize,
}

impl PeerService for Echo {
    async fn serve(&self, from: NodeId, call: PeerCall, body: Vec<u8>) -> Vec<u8> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if body == b"hold" {
            self.holding.fetch_add(1, Ordering::SeqCst);
            self.held.notify_waiters();
            self.gate.acquire().await.unwrap().forget();
        }
        let mut answer = vec![u8::try_from(from.0).unwrap(), call as u8];
        answer.extend_from_slice(&body);
        answer
    }
}

impl Echo {
    pub fn new() -> Arc<Self> {
        let (holding, calls) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { gate: Semaphore::new(0), held: Notify::new(), holding, calls })
    }

    /// Waits until this many calls are held.
    pub async fn until_held(&self, count: usize) {
        let wait = async {
            loop {
                let rung = self.held.notified();
                if self.holding.load(Ordering::SeqCst) >= count {
                    return;
                }
                rung.await;
            }
        };
        tokio::time::timeout(LONG, wait).await.expect("the calls arrive");
    }
}

/// Lets nobody join; gives tokens that are of no use to whoever has its secret, if it has one.
#[derive(Default)]
pub struct NoJoin(pub Option<SharedSecret>);

impl JoinService for NoJoin {
    async fn check(&self, _: &str, _: &JoinRequest) -> Result<(), String> {
        Err("nobody joins here".into())
    }

    fn keeper(&self) -> Result<KeeperPort, String> {
        Err("no keeper".into())
    }

    async fn admit(&self, _: String, _: JoinRequest) -> Result<Welcome, String> {
        Err("nobody joins here".into())
    }
}

impl Tokens for NoJoin {
    fn secret(&self) -> Result<Option<SharedSecret>, String> {
        Ok(self.0.clone())
    }

    async fn token(&self, there: SocketAddr) -> Result<String, String> {
        Ok(pkgctl::net::token::JoinToken::issue([1; 32], there).to_string())
    }
}

/// Asks a member to be let in; its answer, as it came.
pub async fn ask_to_join(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> String {
    let ask = serde_json::json!({"ask": {
        "version": 1, "secret": "", "name": "n3", "address": "127.0.0.1:7447", "csr": "", "request": 1, "proof": 1,
    }});
    frame::write(stream, 0, &codec::encode(&ask)).await.unwrap();
    let (_, answer) = frame::read(stream, 1 << 16).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A served port; dropping it ends it.
pub struct Served {
    pub address: SocketAddr,
    pub echo: Arc<Echo>,
    /// How often it was asked whether somebody may come in: at every connection and every call.
    asked: Arc<AtomicUsize>,
    /// The id of a node that was removed meanwhile.
    pub removed: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Served {
    /// Serves node `id`; nodes above 100 and operators other than `alice` are not known.
    pub fn node(cluster: &Cluster, id: u64) -> Self {
        Self::with(cluster.node(id), "127.0.0.1:0", Arc::new(NoJoin::default()))
    }

    pub fn with<J: JoinService + Tokens>(credentials: Arc<Credentials>, at: &str, join: Arc<J>) -> Self {
        Self::serving(credentials, at, join, router())
    }

    /// With other routes than `/who`.
    pub fn serving<J: JoinService + Tokens>(
        credentials: Arc<Credentials>,
        at: &str,
        join: Arc<J>,
        router: axum::Router,
    ) -> Self {
        let (echo, asked) = (Echo::new(), Arc::new(AtomicUsize::new(0)));
        let (counter, removed) = (asked.clone(), Arc::new(AtomicU64::new(0)));
        let (gone, asker) = (removed.clone(), credentials.bearer().cluster);
        let admits = Arc::new(move |who: &Subject| {
            counter.fetch_add(1, Ordering::SeqCst);
            match who {
                Subject::Node(id) if id.0 == gone.load(Ordering::SeqCst) => {
                    Standing::Removed(Removed { cluster: asker, node: *id, index: LogIndex(1000) })
                }
                Subject::Node(id) if id.0 <= 100 => Standing::Known,
                Subject::Client(name) if name.as_str() == "alice" => Standing::Known,
                Subject::Node(_) | Subject::Client(_) => Standing::Unknown,
            }
        });
        let doors = Doors { admits, peers: echo.clone(), join, router };
        let listener = Listener::bind(at.parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let tls = ServerTls::new(&credentials).unwrap();
        Self { address, echo, asked, removed, task: tokio::spawn(listener.serve(tls, doors)) }
    }

    /// How often it was asked whether somebody may (still) come in.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// How many connections asked whether they may come in.
    pub fn connections(&self) -> usize {
        self.asked.load(Ordering::SeqCst) - self.echo.calls.load(Ordering::SeqCst)
    }

    /// Ends it and waits until every connection is closed.
    pub async fn stop(mut self) {
        self.task.abort();
        assert!((&mut self.task).await.unwrap_err().is_cancelled());
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// `/who` tells who asks.
pub fn router() -> axum::Router {
    let who = |axum::Extension(caller): axum::Extension<Caller>| async move { caller.to_string() };
    axum::Router::new().route("/who", axum::routing::get(who))
}

/// A TLS client that believes any server, to see what the server does about the client.
pub mod raw {
    use super::{Arc, Credentials, SocketAddr};
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme, SupportedProtocolVersion};
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;

    #[derive(Debug)]
    struct Believer(rustls::crypto::CryptoProvider);

    impl ServerCertVerifier for Believer {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }

    pub async fn connect(
        to: SocketAddr,
        alpn: &[&[u8]],
        credentials: Option<&Credentials>,
        version: &'static SupportedProtocolVersion,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let provider = rustls::crypto::ring::default_provider();
        let builder = ClientConfig::builder_with_provider(provider.clone().into());
        let builder = builder.with_protocol_versions(&[version]).unwrap();
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Believer(provider)));
        let mut config = match credentials {
            Some(c) => builder.with_client_auth_cert(c.chain(), c.key()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|a| a.to_vec()).collect();
        let stream = TcpStream::connect(to).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::IpAddress(to.ip().into()), stream).await
    }
}
