//! Letting others join: whoever proves the shared secret is given a token; the token is looked up, the ports are proved by `net::join`, the log gives the id, and this
//! member signs the certificate with the authority's key from the replicated state.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::agent::Agent;
use crate::agent::platform::Platform;
use crate::api::door::Door;
use crate::engine::command::{INTRODUCED_TOKENS_MAX, NewNode};
use crate::engine::state::Cluster;
use crate::engine::{Command, NodeId, Reply, State, WallMillis};
use crate::host::clock::wall_now;
use crate::net::datagram::Keys;
use crate::net::identity::Authority;
use crate::net::introduction::{SharedSecret, Tokens};
use crate::net::join::{JoinRequest, JoinService, KeeperPort, Member, Welcome};

/// This member as one that lets others in.
pub(super) struct Admission<P: Platform> {
    pub(super) agent: Agent<P>,
    /// Where this node's keeper answers.
    pub(super) address: SocketAddr,
    /// Where the secret lies by which others may be introduced.
    pub(super) secret: PathBuf,
}

const NOT_YET: &str = "this member does not know its cluster yet; try again in a moment, or through another member";

/// How long a token is good that is handed to whoever proves the secret, in seconds: it is used at once. Members' clocks may
/// be off by a part of that.
const INTRODUCED_VALID_S: u64 = 300;

/// Whether one more token may be made for somebody who proves the secret: operators find places of their own.
fn room(state: &State, now: WallMillis) -> Result<(), String> {
    if state.tokens_unexpired(now) < INTRODUCED_TOKENS_MAX {
        return Ok(());
    }
    Err(format!(
        "{INTRODUCED_TOKENS_MAX} join tokens are unused, and no more are made by the secret: ask again when some have been used \
         or have expired (after {} minutes), or use one that an operator makes, `pkgctl cluster token`",
        INTRODUCED_VALID_S / 60
    ))
}

impl<P: Platform> Admission<P> {
    fn cluster(&self) -> Result<Cluster, String> {
        self.agent.read(|state| state.cluster.clone()).ok_or_else(|| NOT_YET.to_owned())
    }

    async fn add(&self, digest: String, ask: &JoinRequest) -> Result<NodeId, String> {
        let node = NewNode { name: ask.name.clone(), address: ask.address, links: ask.links.clone() };
        let command = Command::AddNode { node, token: digest, request: ask.request };
        let by = format!("join of {}", ask.name);
        match self.agent.submit(command, by).await.map_err(|e| e.to_string())?.1 {
            Reply::Node(id) => Ok(id),
            Reply::Rejected(rejected) => Err(rejected.to_string()),
            other @ (Reply::Done
            | Reply::Already
            | Reply::Session(_)
            | Reply::Incarnation(_)
            | Reply::Set(_)
            | Reply::Token(_)
            | Reply::Revision(_)
            | Reply::Kv(_)) => Err(format!("the log answered {other:?} to a join; this is a defect of pkgctl")),
        }
    }
}

impl<P: Platform> Tokens for Admission<P> {
    fn secret(&self) -> Result<Option<SharedSecret>, String> {
        SharedSecret::read(&self.secret).map_err(|e| e.to_string())
    }

    async fn token(&self, there: SocketAddr) -> Result<String, String> {
        self.agent.read(|state| room(state, wall_now()))?;
        let offer = self.agent.new_token(INTRODUCED_VALID_S).map_err(|e| e.to_string())?;
        let command = Command::IssueToken { digest: offer.digest, expires: offer.expires };
        let by = format!("the secret, from {}", there.ip());
        let (_, reply) = self.agent.submit(command, by).await.map_err(|e| e.to_string())?;
        reply.accepted().map(|_| offer.token).map_err(|rejected| rejected.to_string())
    }
}

impl<P: Platform> JoinService for Admission<P> {
    async fn check(&self, token_digest: &str, ask: &JoinRequest) -> Result<(), String> {
        self.agent.linearize().await.map_err(|e| e.to_string())?;
        let (usable, repeated) = self.agent.read(|state| {
            let repeated = state.nodes.values().any(|n| n.request == ask.request);
            (state.join_tokens.contains_key(token_digest), repeated)
        });
        let unknown = || crate::engine::Rejected::TokenUnknown.to_string();
        if usable || repeated { Ok(()) } else { Err(unknown()) }
    }

    fn keeper(&self) -> Result<KeeperPort, String> {
        let cluster = self.cluster()?;
        if self.agent.local().keeper_version.is_none() {
            return Err("this member's keeper is not up; try again in a moment, or through another member".to_owned());
        }
        let keys = Keys::new(&cluster.datagram_keys).sealing(self.agent.read(State::sealing_key));
        Ok(KeeperPort { keys, cluster: cluster.id, node: self.agent.me, address: self.address })
    }

    async fn admit(&self, token_digest: String, ask: JoinRequest) -> Result<Welcome, String> {
        let cluster = self.cluster()?;
        let node = self.add(token_digest, &ask).await?;
        let authority = Authority::load(cluster.id, &cluster.ca_certificate, &cluster.ca_key);
        let certificate = authority.and_then(|authority| authority.sign(&ask.csr, node, &ask.name));
        let members = self.agent.read(|state| {
            let member = |(id, n): (&NodeId, &crate::engine::state::Node)| Member {
                id: *id,
                name: n.name.clone(),
                address: n.address,
                links: n.links.clone(),
            };
            state.nodes.iter().map(member).collect()
        });
        Ok(Welcome {
            node,
            cluster: cluster.id,
            profile: cluster.profile,
            certificate: certificate.map_err(|e| e.to_string())?,
            authority: cluster.ca_certificate,
            members,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_by_the_secret_leave_places_to_operators() {
        let mut state = State::default();
        let tokens = |count: usize| (0..count).map(|of| (format!("{of:064x}"), WallMillis(1000))).collect();
        state.join_tokens = tokens(INTRODUCED_TOKENS_MAX - 1);
        assert_eq!(room(&state, WallMillis(1000)), Ok(()));
        state.join_tokens = tokens(INTRODUCED_TOKENS_MAX);
        assert!(room(&state, WallMillis(1000)).unwrap_err().contains("pkgctl cluster token"));
        assert_eq!(room(&state, WallMillis(1001)), Ok(()), "what has expired takes no place");
    }
}
