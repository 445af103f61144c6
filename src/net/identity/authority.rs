//! The cluster's authority: made once at `cluster init`, kept in the replicated state, used by any member.
//!
//! What it signs is valid from 1970 to 9999. A node's clock may be years off when it boots without a battery or a time
//! server, and it must still be able to rejoin its quorum; nobody is kept out by a date here. Who is a member is what
//! the replicated state says, asked anew at every connection, and that also keeps out a removed node.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{Bearer, ClientName, IdentityError, Subject};
use crate::engine::{ClusterId, NodeId};
use crate::package::NodeName;

/// Largest certificate request looked at, in bytes; ours have about 400.
pub const REQUEST_MAX_BYTES: usize = 8 << 10;

/// Signs the certificates of one cluster. Its `Debug` shows no key.
pub struct Authority {
    cluster: ClusterId,
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes the authority of a new cluster. `name` is for people who look at certificates.
    ///
    /// # Errors
    /// [`IdentityError::Certificate`] when the name cannot stand in one.
    pub fn create(cluster: ClusterId, name: &str) -> Result<Self, IdentityError> {
        let bad = |e: rcgen::Error| IdentityError::Certificate { which: "authority's certificate", why: e.to_string() };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(bad)?;
        let mut params = params(&format!("pkgctl cluster {name} {cluster}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(bad)?.pem();
        Ok(Self { cluster, certificate, issuer: Issuer::new(params, key) })
    }

    /// Takes the authority out of the replicated state.
    ///
    /// # Errors
    /// When certificate or key do not read, or do not belong together.
    pub fn load(cluster: ClusterId, certificate_pem: &str, key_pem: &str) -> Result<Self, IdentityError> {
        let bad = |why: String| IdentityError::Certificate { which: "authority's certificate", why };
        let key = KeyPair::from_pem(key_pem).map_err(|e| IdentityError::Key { why: e.to_string() })?;
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|e| bad(e.to_string()))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|e| bad(e.to_string()))?;
        if *parsed.public_key().subject_public_key.data != *key.public_key_raw() {
            return Err(bad("its key is another one".into()));
        }
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|e| bad(e.to_string()))?;
        Ok(Self { cluster, certificate: certificate_pem.into(), issuer })
    }

    /// Whose authority this is.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Its certificate, for `Cluster::ca_certificate` and join answers.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// Its key, for `Cluster::ca_key` and nothing else.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Signs a node's request: client and server of this cluster, as node `id`. Of the request only its key is used;
    /// whatever names it asks for are ignored.
    ///
    /// # Errors
    /// [`IdentityError::Request`] when it does not read or its signature does not prove possession of the key.
    pub fn sign(&self, csr_pem: &str, id: NodeId, name: &NodeName) -> Result<String, IdentityError> {
        let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign_as(csr_pem, Subject::Node(id), name.as_str(), both.to_vec())
    }

    /// Signs an operator's request: a client of the API, never a server.
    ///
    /// # Errors
    /// As for [`Self::sign`].
    pub fn sign_client(&self, csr_pem: &str, name: &ClientName) -> Result<String, IdentityError> {
        self.sign_as(csr_pem, Subject::Client(name.clone()), name.as_str(), vec![ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn sign_as(
        &self,
        csr_pem: &str,
        subject: Subject,
        common_name: &str,
        usages: Vec<ExtendedKeyUsagePurpose>,
    ) -> Result<String, IdentityError> {
        let bad = |why: String| IdentityError::Request { why };
        if csr_pem.len() > REQUEST_MAX_BYTES {
            return Err(bad(format!("it has {} bytes, {REQUEST_MAX_BYTES} are allowed", csr_pem.len())));
        }
        let request = CertificateSigningRequestParams::from_pem(csr_pem).map_err(|e| bad(e.to_string()))?;
        if *request.public_key.algorithm() != PKCS_ECDSA_P256_SHA256 {
            return Err(bad("its key is not an ECDSA P-256 key".into()));
        }
        let name = Bearer { cluster: self.cluster, subject }.dns_name();
        let mut params = params(common_name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names =
            vec![SanType::DnsName(name.try_into().map_err(|e: rcgen::Error| bad(e.to_string()))?)];
        let signed = params.signed_by(&request.public_key, &self.issuer).map_err(|e| bad(e.to_string()))?;
        Ok(signed.pem())
    }
}

fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::super::PrivateKey;
    use super::*;

    fn authority() -> Authority {
        Authority::create(ClusterId(0xabcd), "test").unwrap()
    }

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    #[test]
    fn a_signed_certificate_says_who_and_in_which_cluster() {
        let (authority, key) = (authority(), PrivateKey::generate());
        let node = authority.sign(&key.request(), NodeId(7), &NodeName::new("n1").unwrap()).unwrap();
        let bearer = Bearer { cluster: ClusterId(0xabcd), subject: Subject::Node(NodeId(7)) };
        assert_eq!(Bearer::of(&der(&node)).unwrap(), bearer);
        let alice = ClientName::new("alice").unwrap();
        let client = authority.sign_client(&key.request(), &alice).unwrap();
        assert_eq!(Bearer::of(&der(&client)).unwrap().subject, Subject::Client(alice));
    }

    #[test]
    fn what_a_request_asks_for_is_ignored() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut wishes = CertificateParams::new(vec!["n1.000000000000abcd.pkgctl".to_string()]).unwrap();
        wishes.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let csr = wishes.serialize_request(&key).unwrap().pem().unwrap();
        let signed = authority().sign(&csr, NodeId(9), &NodeName::new("n9").unwrap()).unwrap();
        assert_eq!(Bearer::of(&der(&signed)).unwrap().subject, Subject::Node(NodeId(9)));
        let certificate = der(&signed);
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).unwrap();
        assert!(!parsed.is_ca());
    }

    #[test]
    fn an_authority_comes_back_from_its_pem_and_still_signs() {
        let made = authority();
        let loaded = Authority::load(ClusterId(0xabcd), made.certificate_pem(), &made.key_pem()).unwrap();
        let request = PrivateKey::generate().request();
        assert!(loaded.sign(&request, NodeId(1), &NodeName::new("n1").unwrap()).is_ok());
        let other = authority();
        assert!(Authority::load(ClusterId(0xabcd), made.certificate_pem(), &other.key_pem()).is_err());
        assert!(!format!("{made:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_request_whose_signature_is_broken_is_refused() {
        use base64::Engine;
        let pem = PrivateKey::generate().request();
        let body: String = pem.lines().filter(|l| !l.starts_with("--")).collect();
        let mut bytes = base64::engine::general_purpose::STANDARD.decode(body.trim()).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        let body = base64::engine::general_purpose::STANDARD.encode(bytes);
        let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n");
        let refused = authority().sign(&pem, NodeId(1), &NodeName::new("n1").unwrap()).unwrap_err();
        assert!(matches!(refused, IdentityError::Request { .. }), "{refused}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn arbitrary_requests_are_refused_without_panic(der in prop::collection::vec(any::<u8>(), 0..600), raw in any::<bool>()) {
            use base64::Engine;
            let body = base64::engine::general_purpose::STANDARD.encode(&der);
            let pem = if raw { String::from_utf8_lossy(&der).into_owned() } else {
                format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n")
            };
            prop_assert!(authority().sign(&pem, NodeId(1), &NodeName::new("n1").unwrap()).is_err());
        }
    }
}
