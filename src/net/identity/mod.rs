//! Who somebody is, as a certificate of the cluster's authority says it.
//!
//! A certificate carries exactly one name of ours, a DNS subject alternative name: `n7.<cluster>.pkgctl` for node 7,
//! `client-alice.<cluster>.pkgctl` for an operator. It is proved by TLS and is the only thing that is believed; the
//! common name is for people.
//!
//! - `authority`: makes the cluster's authority and signs requests.
//! - `credentials`: a key, its certificate and the authority's, checked against each other.
//! - `files`: where a node keeps them, and who may read them.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

pub use crate::engine::operator::ClientName;
use crate::engine::{ClusterId, NodeId};

pub mod authority;
pub mod credentials;
pub mod files;

pub use authority::Authority;
pub use credentials::{Credentials, PrivateKey};
pub use files::{IdentityDir, PEM_LIMIT};

const SUFFIX: &str = "pkgctl";
const CLIENT: &str = "client-";

/// What can be wrong with keys, certificates and the files that hold them.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read or written.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read what must be private.
    #[error(
        "{path} has mode {mode:04o}, so that others than its owner can get at the node's key; nothing was started. \
         `chmod {wanted:04o} {path}`; if somebody may have read it, join this node again under a new identity"
    )]
    Exposed {
        /// Which file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// What it should be.
        wanted: u32,
    },
    /// Somebody else owns it.
    #[error(
        "{path} belongs to user {owner}, not to user {me} who runs this program; nothing was started. `chown {me} {path}`"
    )]
    Owner {
        /// Which file or directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The effective user.
        me: u32,
    },
    /// Some of the node's identity is there and some is not.
    #[error(
        "{missing} is missing although {present} is there; restore it, or remove {present} and join this node again"
    )]
    Incomplete {
        /// What is there.
        present: PathBuf,
        /// What is not.
        missing: PathBuf,
    },
    /// A certificate is not one of ours.
    #[error("the {which} is not usable: {why}")]
    Certificate {
        /// Which one.
        which: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A key does not read.
    #[error("the private key is not usable: {why}")]
    Key {
        /// What is wrong; never the key.
        why: String,
    },
    /// A certificate request is not acceptable.
    #[error("the certificate request is not usable: {why}")]
    Request {
        /// What is wrong.
        why: String,
    },
}

/// Whom a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A member.
    Node(NodeId),
    /// An operator.
    Client(ClientName),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Node(id) => write!(f, "node {id}"),
            Subject::Client(name) => write!(f, "operator {name}"),
        }
    }
}

/// Whom a certificate is for, and in which cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Who in it.
    pub subject: Subject,
}

impl Bearer {
    /// The name in the certificate.
    pub fn dns_name(&self) -> String {
        match &self.subject {
            Subject::Node(id) => format!("n{id}.{}.{SUFFIX}", self.cluster),
            Subject::Client(name) => format!("{CLIENT}{name}.{}.{SUFFIX}", self.cluster),
        }
    }

    /// Reads a name; only the one way in which [`Self::dns_name`] writes it.
    fn parse(name: &str) -> Option<Self> {
        let mut labels = name.split('.');
        let (label, cluster, suffix) = (labels.next()?, labels.next()?, labels.next()?);
        let cluster = ClusterId(u64::from_str_radix(cluster, 16).ok()?);
        let subject = match label.strip_prefix(CLIENT) {
            Some(client) => Subject::Client(ClientName::new(client).ok()?),
            None => Subject::Node(NodeId(label.strip_prefix('n')?.parse().ok()?)),
        };
        let bearer = Self { cluster, subject };
        (suffix == SUFFIX && labels.next().is_none() && bearer.dns_name() == name).then_some(bearer)
    }

    /// Reads whom a certificate is for. Says nothing about who signed it: TLS does.
    ///
    /// # Errors
    /// [`IdentityError::Certificate`] unless it carries exactly one name of ours.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let bad = |why: String| IdentityError::Certificate { which: "certificate", why };
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|e| bad(e.to_string()))?;
        let names = parsed.subject_alternative_name().map_err(|e| bad(e.to_string()))?;
        let names = names.map(|n| n.value.general_names.as_slice()).unwrap_or_default();
        let [GeneralName::DNSName(name)] = names else {
            return Err(bad(format!("it carries {} names, not one DNS name of pkgctl", names.len())));
        };
        Self::parse(name).ok_or_else(|| bad(format!("its name '{name}' is not one of pkgctl")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn names_come_back(id in any::<u64>(), cluster in any::<u64>(), client in "[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?") {
            for subject in [Subject::Node(NodeId(id)), Subject::Client(ClientName::new(client.clone()).unwrap())] {
                let bearer = Bearer { cluster: ClusterId(cluster), subject };
                prop_assert_eq!(Bearer::parse(&bearer.dns_name()), Some(bearer));
            }
        }

        #[test]
        fn arbitrary_certificates_are_refused_without_panic(der in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(Bearer::of(&CertificateDer::from(der)).is_err());
        }
    }

    #[test]
    fn a_name_is_read_only_as_it_is_written() {
        for name in [
            "n07.000000000000abcd.pkgctl",
            "n7.abcd.pkgctl",
            "n7.000000000000ABCD.pkgctl",
            "n7.000000000000abcd.pkgctl.",
            "n7.000000000000abcd.pkgctl.org",
            "n7.000000000000abcd",
            "n+7.000000000000abcd.pkgctl",
            "client-.000000000000abcd.pkgctl",
            "client-A.000000000000abcd.pkgctl",
            "",
        ] {
            assert_eq!(Bearer::parse(name), None, "{name}");
        }
    }

    #[test]
    fn an_operator_cannot_be_named_like_a_node() {
        let operator = ClientName::new("n7").unwrap();
        let bearer = Bearer { cluster: ClusterId(1), subject: Subject::Client(operator) };
        assert_eq!(bearer.dns_name(), "client-n7.0000000000000001.pkgctl");
    }
}
