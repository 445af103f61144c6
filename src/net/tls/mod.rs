//! TLS 1.3 on the node's one tcp port: who is at the other end, and which service is wanted.
//!
//! The client's ALPN offer chooses the service before anything else is read, and with it whether a certificate of the
//! cluster is demanded. No session is ever resumed: a certificate is proved anew at each connection, and the
//! replicated state is asked anew whether its bearer may come in.
//!
//! - `verifier`: how a client judges the server it reached.

use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{Acceptor, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};

use super::identity::{Bearer, Credentials, IdentityError, Subject};
use crate::config::PORT_DEFAULT;

mod verifier;

pub use verifier::Expect;

/// A TLS stream that a client opened.
pub type ClientStream = tokio_rustls::client::TlsStream<TcpStream>;
/// A TLS stream that a server accepted.
pub type ServerStream = tokio_rustls::server::TlsStream<TcpStream>;

/// What is served behind TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Calls between members; a member's certificate.
    Peer,
    /// The API; a member's or an operator's certificate.
    Http,
    /// Joining; no certificate, a join token instead.
    Join,
    /// Being introduced; no certificate, a shared secret instead.
    Introduction,
}

impl Service {
    /// Its ALPN name.
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Service::Peer => b"pkgctl-peer/1",
            Service::Http => b"http/1.1",
            Service::Join => b"pkgctl-join/1",
            Service::Introduction => b"pkgctl-introduction/1",
        }
    }

    fn of(alpn: &[u8]) -> Option<Self> {
        [Service::Peer, Service::Http, Service::Join, Service::Introduction].into_iter().find(|s| s.alpn() == alpn)
    }
}

/// Why no TLS connection came about.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The handshake failed; the text says why in our words where there are any.
    #[error("{0}")]
    Handshake(String),
    /// The certificates are not usable for TLS.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
    /// The other side does not say who it is.
    #[error(transparent)]
    Unproved(#[from] IdentityError),
    /// Its certificate does not open this service.
    #[error("{who} of cluster {} may not use this service", .who.cluster)]
    NotForYou {
        /// Who asked.
        who: Bearer,
    },
    /// The other side speaks TLS but not our protocol.
    #[error("what answers there does not speak {}: is it a pkgctl agent of this version?", String::from_utf8_lossy(.wanted.alpn()))]
    NotSpoken {
        /// What was wanted.
        wanted: Service,
    },
}

impl std::fmt::Display for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.subject.fmt(f)
    }
}

/// The cryptography: ring, named everywhere, never a process-wide default.
pub(super) fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

/// The first moment at which a certificate is valid.
pub(super) fn first_day(certificate: &CertificateDer<'_>) -> Result<UnixTime, String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|e| e.to_string())?;
    let seconds = u64::try_from(parsed.validity().not_before.timestamp()).unwrap_or(0);
    Ok(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
}

/// The server's side: one configuration per service.
#[derive(Clone, Debug)]
pub struct ServerTls {
    me: Bearer,
    peer: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
    join: Arc<ServerConfig>,
    introduction: Arc<ServerConfig>,
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Accepted {
    /// What the client wants.
    pub service: Service,
    /// Who it proved to be; none for [`Service::Join`] and [`Service::Introduction`] only.
    pub bearer: Option<Bearer>,
    /// The stream.
    pub stream: ServerStream,
}

impl ServerTls {
    /// Serves as the bearer of these credentials.
    ///
    /// # Errors
    /// [`TlsError::Setup`].
    pub fn new(credentials: &Credentials) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add(credentials.authority().clone()).map_err(setup)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider().into());
        let verifier = verifier.build().map_err(setup)?;
        let config = |service: Service| -> Result<Arc<ServerConfig>, TlsError> {
            let builder = ServerConfig::builder_with_provider(provider().into());
            let builder = builder.with_protocol_versions(&[&TLS13]).map_err(setup)?;
            let builder = match service {
                Service::Peer | Service::Http => builder.with_client_cert_verifier(verifier.clone()),
                Service::Join | Service::Introduction => builder.with_no_client_auth(),
            };
            let config = builder.with_single_cert(credentials.chain(), credentials.key()).map_err(setup)?;
            Ok(served(config, service))
        };
        let me = credentials.bearer().clone();
        let (peer, http, join) = (config(Service::Peer)?, config(Service::Http)?, config(Service::Join)?);
        Ok(Self { me, peer, http, join, introduction: config(Service::Introduction)? })
    }

    /// Takes a connection in. The caller bounds how long this may take.
    ///
    /// A client that names no protocol at all is taken for an HTTP client; it needs a certificate like any other.
    ///
    /// # Errors
    /// Why the client does not get in; it has been told as far as TLS can tell it.
    pub async fn accept(&self, stream: TcpStream) -> Result<Accepted, TlsError> {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await.map_err(handshake)?;
        let wanted = match start.client_hello().alpn() {
            Some(mut offers) => offers.find_map(Service::of),
            None => Some(Service::Http),
        };
        // Without a protocol of ours in the offer, any of our configurations makes rustls say so to the client.
        let service = wanted.unwrap_or(Service::Peer);
        let config = match service {
            Service::Peer => &self.peer,
            Service::Http => &self.http,
            Service::Join => &self.join,
            Service::Introduction => &self.introduction,
        };
        let stream = start.into_stream(config.clone()).await.map_err(handshake)?;
        let bearer = match (service, stream.get_ref().1.peer_certificates().and_then(<[_]>::first)) {
            (Service::Join | Service::Introduction, _) => None,
            (Service::Peer | Service::Http, Some(certificate)) => Some(Bearer::of(certificate)?),
            (Service::Peer | Service::Http, None) => {
                return Err(TlsError::Handshake("no certificate was shown".into()));
            }
        };
        match bearer {
            Some(who) if !self.opens(service, &who) => Err(TlsError::NotForYou { who }),
            bearer => Ok(Accepted { service, bearer, stream }),
        }
    }

    fn opens(&self, service: Service, who: &Bearer) -> bool {
        let subject = match (&who.subject, service) {
            (Subject::Node(_), _) => true,
            (Subject::Client(_), service) => service == Service::Http,
        };
        subject && who.cluster == self.me.cluster
    }
}

fn served(mut config: ServerConfig, service: Service) -> Arc<ServerConfig> {
    config.alpn_protocols = vec![service.alpn().to_vec()];
    config.send_tls13_tickets = 0;
    config.into()
}

/// The server's side of [`Service::Introduction`] of a node that is in no cluster: with a certificate of its own making,
/// which proves nothing.
///
/// # Errors
/// [`TlsError::Setup`].
pub fn introduction_server() -> Result<Arc<ServerConfig>, TlsError> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(setup)?;
    let certificate = rcgen::CertificateParams::default().self_signed(&key).map_err(setup)?;
    let builder = ServerConfig::builder_with_provider(provider().into());
    let builder = builder.with_protocol_versions(&[&TLS13]).map_err(setup)?.with_no_client_auth();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let config = builder.with_single_cert(vec![certificate.der().clone()], key).map_err(setup)?;
    Ok(served(config, Service::Introduction))
}

/// The client's side of [`Service::Introduction`]: any server, which must prove later who it is.
///
/// # Errors
/// [`TlsError::Setup`].
pub fn introduction_client() -> Result<Arc<ClientConfig>, TlsError> {
    nameless(verifier::MemberVerifier::whoever(), Service::Introduction)
}

/// Whether a server is a node in no cluster: all others let whoever comes ask for a place in theirs.
pub async fn is_in_no_cluster(stream: TcpStream) -> bool {
    let Ok(config) = nameless(verifier::MemberVerifier::whoever(), Service::Join) else { return false };
    let Ok(address) = stream.peer_addr() else { return false };
    let name = ServerName::IpAddress(address.ip().into());
    let refused = TlsConnector::from(config).connect(name, stream).await.err();
    let why = refused.as_ref().and_then(|e| e.get_ref()?.downcast_ref::<rustls::Error>());
    matches!(why, Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)))
}

/// The client's side of a service without a certificate of its own.
fn nameless(verifier: verifier::MemberVerifier, service: Service) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider().into());
    let builder = builder.with_protocol_versions(&[&TLS13]).map_err(setup)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(finish(builder.with_no_client_auth(), service))
}

/// The client's side of [`Service::Peer`] or [`Service::Http`].
///
/// # Errors
/// [`TlsError::Setup`].
pub fn client(credentials: &Credentials, service: Service, expect: Expect) -> Result<Arc<ClientConfig>, TlsError> {
    let verifier = verifier::MemberVerifier::anchored(credentials.authority(), expect).map_err(setup)?;
    let builder = ClientConfig::builder_with_provider(provider().into());
    let builder = builder.with_protocol_versions(&[&TLS13]).map_err(setup)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let config = builder.with_client_auth_cert(credentials.chain(), credentials.key()).map_err(setup)?;
    Ok(finish(config, service))
}

/// The client's side of [`Service::Join`]: trusts whatever member of the cluster whose authority has this SHA-256.
///
/// # Errors
/// [`TlsError::Setup`].
pub fn join_client(authority_fingerprint: [u8; 32]) -> Result<Arc<ClientConfig>, TlsError> {
    nameless(verifier::MemberVerifier::fingerprinted(authority_fingerprint), Service::Join)
}

fn finish(mut config: ClientConfig, service: Service) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![service.alpn().to_vec()];
    config.resumption = Resumption::disabled();
    // The name expected is the verifier's own; nothing about the cluster goes over the wire in the clear.
    config.enable_sni = false;
    config.into()
}

/// Shakes hands with a server. The caller bounds how long this may take.
///
/// # Errors
/// Why not, and [`TlsError::NotSpoken`] when something else than an agent answers.
pub async fn connect(config: &Arc<ClientConfig>, wanted: Service, stream: TcpStream) -> Result<ClientStream, TlsError> {
    let address = stream.peer_addr().map_err(handshake)?.ip();
    let name = ServerName::IpAddress(address.into());
    let stream = TlsConnector::from(config.clone()).connect(name, stream).await.map_err(|e| no_handshake(&e))?;
    match stream.get_ref().1.alpn_protocol() {
        Some(spoken) if spoken == wanted.alpn() => Ok(stream),
        Some(_) | None => Err(TlsError::NotSpoken { wanted }),
    }
}

fn setup(e: impl std::fmt::Display) -> TlsError {
    TlsError::Setup(e.to_string())
}

fn handshake(e: io::Error) -> TlsError {
    TlsError::Handshake(explain(&e))
}

/// What a client is told whose handshake failed.
fn no_handshake(e: &io::Error) -> TlsError {
    let other = e
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>())
        .is_some_and(|tls| matches!(tls, rustls::Error::InvalidMessage(_)));
    let why = explain(e);
    TlsError::Handshake(if other {
        format!(
            "it does not speak TLS ({why}). Is this the port of plain HTTP (`http_listen` in agent.toml)? Name the cluster port \
             (`listen`, {PORT_DEFAULT} where nothing else is set)"
        )
    } else {
        why
    })
}

/// What an error of a TLS stream means, in words for an operator.
pub fn explain(error: &io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => "the other side closed the connection".into(),
            _ => error.to_string(),
        };
    };
    match tls {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "its certificate is not signed by this cluster's authority: it belongs to another cluster".into()
        }
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired, or this node's clock is wrong".into()
        }
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => "it demands a certificate of the cluster".into(),
            AlertDescription::UnknownCA | AlertDescription::DecryptError | AlertDescription::BadCertificate => {
                "it does not accept our certificate: it belongs to another cluster".into()
            }
            AlertDescription::CertificateExpired => "our certificate has expired, or its clock is wrong".into(),
            AlertDescription::NoApplicationProtocol => "it does not offer this service: is its pkgctl older?".into(),
            other => format!("it refused with the TLS alert {other:?}"),
        },
        rustls::Error::NoCertificatesPresented => "no certificate was shown".into(),
        rustls::Error::General(why) => why.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_does_not_speak_tls_is_taken_for_the_one_of_plain_http() {
        let said = |e: rustls::Error| no_handshake(&io::Error::new(io::ErrorKind::InvalidData, e)).to_string();
        let plain = said(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType));
        assert!(plain.contains("port of plain HTTP") && plain.contains("cluster port"), "{plain}");
        assert!(!said(rustls::Error::NoCertificatesPresented).contains("plain HTTP"));
    }
}
