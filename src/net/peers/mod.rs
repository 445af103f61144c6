//! Calls between members: `raft::peers` over mutual TLS, one request at a time on a connection, a pool per node.
//!
//! On a new connection the server first says whether the client may come in, so that a refusal is known before any
//! request is sent. Then requests (kind = the call's byte) and answers alternate, each a frame.
//!
//! - `link`: the pool of connections to one node.
//! - `serve`: the other end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::identity::Credentials;
use super::removed::{Removed, Told};
use super::tls::{self, Expect, Service};
use crate::engine::{NodeId, Profile};
use crate::raft::peers::{PeerCall, PeerError, Peers};
use link::{Ear, Link};

mod link;
mod serve;

pub use serve::{not_a_member, refuse, serve, turn_away};

/// Largest body of a call or an answer, in bytes; snapshots go in parts.
pub const BODY_MAX_BYTES: usize = 8 << 20;

/// Kinds of frames from server to client.
mod reply {
    /// You may come in; or the answer.
    pub const OK: u8 = 0;
    /// You may not, or the request cannot be served; the body says why.
    pub const REFUSED: u8 = 1;
    /// You were removed; the body is [`super::Removed`] as text.
    pub const REMOVED: u8 = 2;
}
/// Largest refusal read, in bytes.
const REFUSAL_MAX_BYTES: usize = 4 << 10;

/// Calls that share a pool. Proposals wait for commits; a crowd of them must not keep a heartbeat from a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Consensus,
    Work,
}

impl Lane {
    fn of(call: PeerCall) -> Self {
        match call {
            PeerCall::Append | PeerCall::Vote | PeerCall::PreVote | PeerCall::Transfer => Lane::Consensus,
            PeerCall::Snapshot | PeerCall::Propose | PeerCall::Ask | PeerCall::ReadIndex | PeerCall::LedIndex => {
                Lane::Work
            }
        }
    }

    /// Connections to one node, at most.
    fn open_max(self) -> usize {
        match self {
            Lane::Consensus => 8,
            Lane::Work => 32,
        }
    }
}

/// How long the steps of a connection may take. A connection is made independently of the call that wanted it, whose
/// own time may be shorter than a handshake.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the tcp connection. A lost SYN is sent again after 1 s only, so a new attempt beats waiting for it.
    pub connect: Duration,
    /// For TLS and the server's word.
    pub handshake: Duration,
    /// How long after its caller has given up an answer may still come before the connection is dropped.
    pub linger: Duration,
}

impl From<Profile> for Patience {
    fn from(profile: Profile) -> Self {
        let (connect, handshake, linger) = match profile {
            Profile::Default | Profile::Fast => (250, 1000, 250),
            Profile::Vm => (500, 2500, 500),
            Profile::Wan => (900, 5000, 1000),
        };
        let ms = Duration::from_millis;
        Self { connect: ms(connect), handshake: ms(handshake), linger: ms(linger) }
    }
}

/// Calls to other members, with the connections they use. Cloning shares them. Lives inside a tokio runtime.
#[derive(Clone, Debug)]
pub struct TlsPeers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    credentials: Arc<Credentials>,
    patience: Patience,
    told: Arc<Told>,
    links: Mutex<BTreeMap<(NodeId, Lane), Arc<Link>>>,
}

impl TlsPeers {
    /// Calls as the bearer of these credentials.
    pub fn new(credentials: Arc<Credentials>, patience: Patience) -> Self {
        Self(Arc::new(Inner { credentials, patience, told: Arc::default(), links: Mutex::default() }))
    }

    /// Waits until a member says that this node was removed; answers its word, and which member that is.
    pub async fn removed(&self) -> (Removed, NodeId) {
        self.0.told.heard().await
    }

    /// Drops the connections to a node that is no longer a member.
    pub fn forget(&self, node: NodeId) {
        self.links().retain(|(to, _), _| *to != node);
    }

    fn links(&self) -> std::sync::MutexGuard<'_, BTreeMap<(NodeId, Lane), Arc<Link>>> {
        self.0.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self, to: NodeId, address: SocketAddr, lane: Lane) -> Result<Arc<Link>, tls::TlsError> {
        let mut links = self.links();
        if let Some(link) = links.get(&(to, lane)).filter(|link| link.address() == address) {
            return Ok(link.clone());
        }
        let cluster = self.0.credentials.bearer().cluster;
        let tls = tls::client(&self.0.credentials, Service::Peer, Expect::Node(cluster, to))?;
        let ear = Ear { me: self.0.credentials.bearer().clone(), told: self.0.told.clone() };
        let link = Arc::new(Link::new(to, address, tls, self.0.patience, lane.open_max(), ear));
        links.insert((to, lane), link.clone());
        Ok(link)
    }
}

impl Peers for TlsPeers {
    async fn call(
        &self,
        to: NodeId,
        address: SocketAddr,
        call: PeerCall,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<Vec<u8>, PeerError> {
        let unsent = |why: String| PeerError::Unreachable { node: to, address, why };
        if body.len() > BODY_MAX_BYTES {
            return Err(unsent(format!("the request has {} bytes, {BODY_MAX_BYTES} are accepted", body.len())));
        }
        let link = self.link(to, address, Lane::of(call)).map_err(|e| unsent(e.to_string()))?;
        link.call(call, body, within).await
    }
}
