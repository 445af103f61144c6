//! A private key, its certificate and the authority's certificate, checked against each other once and then trusted.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use ring::digest::{SHA256, digest};
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;

use super::{Bearer, IdentityError, Subject};
use crate::net::tls;

/// A private key that has no certificate yet. Its `Debug` shows nothing.
pub struct PrivateKey(KeyPair);

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl PrivateKey {
    /// A new ECDSA P-256 key.
    ///
    /// # Panics
    /// When the kernel gives no random numbers.
    pub fn generate() -> Self {
        Self(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("P-256 is supported and the kernel has randomness"))
    }

    /// Reads a key.
    ///
    /// # Errors
    /// [`IdentityError::Key`] when it is none, or not an ECDSA P-256 key.
    pub fn parse(pem: &str) -> Result<Self, IdentityError> {
        let key = KeyPair::from_pem_and_sign_algo(pem, &PKCS_ECDSA_P256_SHA256);
        key.map(Self).map_err(|e| IdentityError::Key { why: e.to_string() })
    }

    /// The key as PEM, for its file.
    pub fn pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// A certificate request for this key, PEM. It carries no names: the authority decides them.
    ///
    /// # Panics
    /// Never: signing with a key of ours does not fail.
    pub fn request(&self) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serialize_request(&self.0).and_then(|csr| csr.pem()).expect("a P-256 key signs its own request")
    }
}

/// What somebody proves itself with, and what it holds others against. Its `Debug` shows no key.
pub struct Credentials {
    bearer: Bearer,
    chain: Vec<CertificateDer<'static>>,
    authority: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("bearer", &self.bearer).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads and checks the three parts: the certificate is for this key, is signed by this authority and says who it
    /// is for. Dates are left to the peers.
    ///
    /// # Errors
    /// Which part is not usable and why.
    pub fn parse(certificate_pem: &str, key_pem: &str, authority_pem: &str) -> Result<Self, IdentityError> {
        let read = |which, pem: &str| {
            CertificateDer::from_pem_slice(pem.as_bytes())
                .map_err(|e| IdentityError::Certificate { which, why: e.to_string() })
        };
        let certificate = read("certificate", certificate_pem)?;
        let authority = read("authority's certificate", authority_pem)?;
        let key =
            PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|e| IdentityError::Key { why: e.to_string() })?;
        let bearer = Bearer::of(&certificate)?;
        let bad = |why: String| IdentityError::Certificate { which: "certificate", why };
        CertifiedKey::from_der(vec![certificate.clone()], key.clone_key(), &tls::provider())
            .map_err(|e| bad(format!("it does not belong to the private key ({e})")))?;
        check_signature(&certificate, &authority, &bearer.subject)
            .map_err(|e| bad(format!("it is not signed by the authority ({e})")))?;
        Ok(Self { bearer, chain: vec![certificate, authority.clone()], authority, key })
    }

    /// Who this is.
    pub fn bearer(&self) -> &Bearer {
        &self.bearer
    }

    /// The certificate and the authority's, as sent to peers.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    /// The authority's certificate: the only anchor of trust.
    pub fn authority(&self) -> &CertificateDer<'static> {
        &self.authority
    }

    /// The private key, for TLS.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

/// A certificate's SHA-256, by which a join token names the authority.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, certificate).as_ref());
    out
}

/// A certificate's SHA-256 from its PEM.
///
/// # Errors
/// [`IdentityError::Certificate`] when it does not read.
pub fn fingerprint_pem(pem: &str) -> Result<[u8; 32], IdentityError> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|e| IdentityError::Certificate { which: "authority's certificate", why: e.to_string() })?;
    Ok(fingerprint(&certificate))
}

/// Checks the chain as of the certificate's own first day: what the wall clock says is no question of ours here.
fn check_signature(
    certificate: &CertificateDer<'_>,
    authority: &CertificateDer<'_>,
    subject: &Subject,
) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned())?;
    let day = tls::first_day(certificate).map_err(rustls::Error::General)?;
    match subject {
        Subject::Node(_) => {
            let parsed = ParsedCertificate::try_from(certificate)?;
            let algorithms = tls::provider().signature_verification_algorithms;
            verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], day, algorithms.all)
        }
        Subject::Client(_) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), tls::provider().into());
            let verifier = verifier.build().map_err(|e| rustls::Error::General(e.to_string()))?;
            verifier.verify_client_cert(certificate, &[], day).map(|_| ())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Authority, ClientName};
    use super::*;
    use crate::engine::{ClusterId, NodeId};
    use crate::package::NodeName;

    fn signed(authority: &Authority, key: &PrivateKey) -> String {
        authority.sign(&key.request(), NodeId(7), &NodeName::new("n7").unwrap()).unwrap()
    }

    #[test]
    fn the_three_parts_must_belong_together() {
        let (ours, other) =
            (Authority::create(ClusterId(1), "a").unwrap(), Authority::create(ClusterId(1), "a").unwrap());
        let (key, stray) = (PrivateKey::generate(), PrivateKey::generate());
        let certificate = signed(&ours, &key);
        let good = Credentials::parse(&certificate, &key.pem(), ours.certificate_pem()).unwrap();
        assert_eq!(good.bearer().subject, Subject::Node(NodeId(7)));
        assert!(!format!("{good:?} {key:?}").contains("PRIVATE"));
        let wrong_key = Credentials::parse(&certificate, &stray.pem(), ours.certificate_pem()).unwrap_err();
        assert!(wrong_key.to_string().contains("does not belong to the private key"), "{wrong_key}");
        let wrong_ca = Credentials::parse(&certificate, &key.pem(), other.certificate_pem()).unwrap_err();
        assert!(wrong_ca.to_string().contains("not signed by the authority"), "{wrong_ca}");
    }

    #[test]
    fn an_operators_parts_are_checked_the_same_way() {
        let (ours, key) = (Authority::create(ClusterId(1), "a").unwrap(), PrivateKey::generate());
        let certificate = ours.sign_client(&key.request(), &ClientName::new("alice").unwrap()).unwrap();
        assert!(Credentials::parse(&certificate, &key.pem(), ours.certificate_pem()).is_ok());
    }

    #[test]
    fn an_authority_is_no_identity() {
        let ours = Authority::create(ClusterId(1), "a").unwrap();
        assert!(Credentials::parse(ours.certificate_pem(), &ours.key_pem(), ours.certificate_pem()).is_err());
    }

    #[test]
    fn broken_parts_are_named() {
        let (ours, key) = (Authority::create(ClusterId(1), "a").unwrap(), PrivateKey::generate());
        let certificate = signed(&ours, &key);
        for (parts, word) in [
            (("", key.pem(), ours.certificate_pem()), "the certificate"),
            ((certificate.as_str(), String::new(), ours.certificate_pem()), "private key"),
            ((certificate.as_str(), key.pem(), "x"), "authority's certificate"),
        ] {
            let refused = Credentials::parse(parts.0, &parts.1, parts.2).unwrap_err().to_string();
            assert!(refused.contains(word), "{refused}");
        }
    }
}
