//! How a client judges a server: signed by the cluster's authority, and the very node that was called; or, where
//! nothing is known of it yet, only that the key of the certificate that it shows is its own.
//!
//! Chains and signatures are checked by webpki; only what the name must be is ours.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::engine::{ClusterId, NodeId};
use crate::net::identity::credentials::fingerprint;
use crate::net::identity::{Bearer, Subject};

/// Whom a client means to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// This node and no other.
    Node(ClusterId, NodeId),
    /// Any member of this cluster.
    Member(ClusterId),
}

#[derive(Debug)]
enum Trust {
    /// The authority is known; any member, or the expected one.
    Anchored(Arc<RootCertStore>, Expect),
    /// Only the SHA-256 of the authority's certificate is known, which the server shows in its chain; any member.
    Fingerprint([u8; 32]),
    /// Nothing is known: any server that has the key of the certificate that it shows. Who it is must be proved by other
    /// means, on this very connection.
    Whoever,
}

#[derive(Debug)]
pub(super) struct MemberVerifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl MemberVerifier {
    pub(super) fn anchored(authority: &CertificateDer<'static>, expect: Expect) -> Result<Self, Error> {
        let roots = store(authority)?.into();
        Ok(Self { trust: Trust::Anchored(roots, expect), algorithms: algorithms() })
    }

    pub(super) fn fingerprinted(authority: [u8; 32]) -> Self {
        Self { trust: Trust::Fingerprint(authority), algorithms: algorithms() }
    }

    pub(super) fn whoever() -> Self {
        Self { trust: Trust::Whoever, algorithms: algorithms() }
    }
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    super::provider().signature_verification_algorithms
}

fn store(authority: &CertificateDer<'_>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    Ok(roots)
}

fn check_name(bearer: &Bearer, expect: Option<Expect>) -> Result<(), Error> {
    let Subject::Node(id) = bearer.subject else {
        return Err(Error::General(format!("it proved to be {}, not a member", bearer.subject)));
    };
    let (cluster, node) = match expect {
        None => return Ok(()),
        Some(Expect::Member(cluster)) => (cluster, id),
        Some(Expect::Node(cluster, node)) => (cluster, node),
    };
    if bearer.cluster != cluster {
        return Err(Error::General(format!("it belongs to cluster {}, not {cluster}", bearer.cluster)));
    }
    if id != node {
        return Err(Error::General(format!(
            "it proved to be node {id}, not node {node}: the address is another node's"
        )));
    }
    Ok(())
}

impl ServerCertVerifier for MemberVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let check = |roots: &RootCertStore| {
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, &[], now, self.algorithms.all)
        };
        let expect = match &self.trust {
            Trust::Anchored(roots, expect) => {
                check(roots)?;
                Some(*expect)
            }
            Trust::Fingerprint(wanted) => {
                let shown = intermediates.iter().find(|c| fingerprint(c) == *wanted).ok_or_else(|| {
                    Error::General("it does not belong to the cluster that the join token is for".into())
                })?;
                check(&store(shown)?)?;
                None
            }
            Trust::Whoever => return Ok(ServerCertVerified::assertion()),
        };
        let bearer =
            Bearer::of(end_entity).map_err(|_| Error::InvalidCertificate(CertificateError::NotValidForName))?;
        check_name(&bearer, expect)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
