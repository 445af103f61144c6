//! A node that is in no cluster: it says so, and waits for `cluster init`, `cluster join` or, where it has the shared secret,
//! an invitation.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, response::IntoResponse};
use openraft::impls::TokioRuntime;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Start;
use super::doorway::Doorway;
use super::member::http_address;
use super::removal::{IDENTITY_DIR, Record};
use crate::api::failure::Refusal;
use crate::api::local::Local;
use crate::api::routes::{Body, describe, no_such_method};
use crate::api::types::{
    InitRequest, JoinRequest, Joined, MEMBER_UNREACHABLE, Progress, RemovedNode, Status, TOKEN_REFUSED,
};
use crate::engine::command::{Entry, NewNode};
use crate::engine::state::Cluster;
use crate::engine::{Command, FOUNDER, LogIndex, NodeId, Rejected};
use crate::host::clock::wall_now;
use crate::net::identity::{Authority, Credentials, IdentityDir};
use crate::net::introduction::{Invitation, Invitee, Newcomer, SharedSecret, Waiting};
use crate::net::join::{JoinError, Joiner};
use crate::net::{random, vacant};
use crate::raft::{self, Consensus, Identity, Options, PeerCall, PeerError, Peers};

/// How long a cluster of one may take to commit its first entry.
const FOUND_WITHIN: Duration = Duration::from_secs(15);

/// What a node says that was never in a cluster.
const WAITING: &str = "in no cluster yet: waiting for `pkgctl cluster init` or `pkgctl cluster join TOKEN` here, or for \
                       `pkgctl raft add` on a member";

/// How long a question for changes is kept waiting by a node in no cluster.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Longest time between two turns of a passive node's loop.
const TURN_WITHIN: Duration = Duration::from_secs(10);

/// What the passive routes share.
#[derive(Clone)]
struct Outside {
    start: Start,
    files: Arc<IdentityDir>,
    /// The cluster that this node was removed from; its store is set aside before it becomes something else.
    removed: Option<Record>,
    /// One `init` or `join` at a time.
    busy: Arc<tokio::sync::Mutex<()>>,
    done: mpsc::Sender<Arc<Credentials>>,
    /// The cluster's port, which a join needs for itself.
    waiting: Waiting,
    /// Names this node's attempts to join, so that a repeated one finds the id that it was given.
    request: Arc<Mutex<Option<crate::engine::Nonce>>>,
}

/// Serves until the node is in a cluster; answers its credentials.
pub(super) async fn wait(
    start: &Start,
    files: &IdentityDir,
    doorway: &Doorway,
    removed: Option<Record>,
) -> Result<Arc<Credentials>> {
    let said = removed.as_ref().map_or_else(|| WAITING.to_owned(), Record::sentence);
    let (done, mut ready) = mpsc::channel(1);
    let outside = Outside {
        start: start.clone(),
        files: Arc::new(files.clone()),
        removed,
        busy: Arc::default(),
        done,
        waiting: Waiting::default(),
        request: Arc::default(),
    };
    let (waiting, invitee) = (outside.waiting.clone(), outside.clone());
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/changes", get(changes))
        .route("/v1/openapi.json", get(describe))
        .route("/v1/cluster/init", post(init))
        .route("/v1/cluster/join", post(join))
        .fallback(outside_any_cluster)
        .method_not_allowed_fallback(no_such_method)
        .with_state(outside);
    doorway.lead_to(router);
    tracing::info!("{said}");
    start.systemd.status(&said);
    start.systemd.ready();
    let turns = async {
        loop {
            match timeout(start.systemd.turn_within().unwrap_or(TURN_WITHIN), ready.recv()).await {
                Ok(joined) => return joined.context("the routes of the passive node ended"),
                Err(_elapsed) => start.systemd.turned(),
            }
        }
    };
    // With the answer the listener is gone, and the port free for the member.
    tokio::select! {
        joined = turns => joined,
        () = waiting.serve(start.listen, invitee) => bail!("nobody listens for invitations any more"),
    }
}

async fn status(State(outside): State<Outside>) -> Json<Status> {
    let local = Local { agent_version: env!("CARGO_PKG_VERSION").to_owned(), ..Local::default() };
    let node = outside.start.name.clone();
    let removed = outside.removed.as_ref().map(|record| RemovedNode {
        cluster: record.cluster,
        node: record.node,
        index: record.index,
        since: record.since,
        sentence: record.sentence(),
    });
    Json(Status { cluster: None, removed, local, node, applied: LogIndex(0), stale: false, packages: Vec::new() })
}

/// Nothing changes here but the node's joining; whoever waits is let go when that may have happened.
async fn changes() -> Json<Progress> {
    tokio::time::sleep(LOOK_AGAIN).await;
    Json(Progress { applied: LogIndex(0) })
}

async fn outside_any_cluster(State(outside): State<Outside>) -> impl IntoResponse {
    if let Some(record) = &outside.removed {
        let text = format!("nothing was changed: {}", record.sentence());
        return Refusal::new(StatusCode::CONFLICT, "removed", text);
    }
    let text = "this node is in no cluster yet; nothing was changed: `pkgctl cluster init` makes one, \
                `pkgctl cluster join TOKEN` joins one";
    Refusal::new(StatusCode::CONFLICT, "no_cluster", text)
}

impl Outside {
    /// Makes room for another life, if this node had one before.
    fn make_room(&self) -> Result<()> {
        let Some(record) = &self.removed else { return Ok(()) };
        let state_dir = self.start.places.state_dir();
        let aside = record.set_aside(&state_dir)?;
        tracing::info!("what node {} was is kept in {}", record.node, aside.display());
        IdentityDir::open(state_dir.join(IDENTITY_DIR))?;
        Ok(())
    }

    /// This node has another life: its removal is over.
    async fn become_member(&self, credentials: Credentials) -> Result<()> {
        if let Some(record) = &self.removed {
            record.close(&self.start.places.state_dir())?;
        }
        self.done.send(Arc::new(credentials)).await.context("the agent is going down")
    }
}

fn not_joined(error: &JoinError) -> Refusal {
    Refusal::new(StatusCode::CONFLICT, code_of(error), error.to_string())
}

/// Says whether another try with the same token may come to more.
fn code_of(error: &JoinError) -> &'static str {
    match error {
        JoinError::Refused(why) if Rejected::is_of_token(why) => TOKEN_REFUSED,
        JoinError::Member { .. } => MEMBER_UNREACHABLE,
        JoinError::Refused(_)
        | JoinError::Busy { .. }
        | JoinError::Port { .. }
        | JoinError::BrokeOff { .. }
        | JoinError::Answer(_) => "not_joined",
    }
}

fn internal(error: &anyhow::Error) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", format!("{error:#}"))
}

async fn init(State(outside): State<Outside>, Body(request): Body<InitRequest>) -> Result<Json<Joined>, Refusal> {
    let _one = outside.busy.lock().await;
    if outside.removed.is_none() && outside.files.load().ok().flatten().is_some() {
        return Err(Refusal::new(StatusCode::CONFLICT, "in_a_cluster", "this node is in a cluster already"));
    }
    // A store whose node cannot come up would stay, and be in the way of whatever is tried next.
    let _port = outside.waiting.free().await;
    let (listen, config) = (outside.start.listen, &outside.start.config);
    let http = config.http_listen.map(|http| http_address(http, listen));
    vacant::prove(listen, &config.links, http)
        .map_err(|taken| Refusal::new(StatusCode::CONFLICT, "port_taken", taken.to_string()))?;
    outside.make_room().map_err(|e| internal(&e))?;
    let cluster = found(&outside, &request).await.map_err(|e| internal(&e))?;
    Ok(Json(Joined { cluster, node: FOUNDER }))
}

/// The store first, with the cluster in its log; the identity last, because it is what makes the node a member.
async fn found(outside: &Outside, request: &InitRequest) -> Result<crate::engine::ClusterId> {
    let id = random::cluster_id();
    let authority = Authority::create(id, request.name.as_str())?;
    let start = &outside.start;
    let key = outside.files.key()?;
    let certificate = authority.sign(&key.request(), FOUNDER, &start.name)?;
    let cluster = Cluster {
        id,
        name: request.name.to_string(),
        profile: request.profile,
        ca_certificate: authority.certificate_pem().to_owned(),
        ca_key: authority.key_pem(),
        datagram_keys: [(1, random::datagram_key())].into(),
    };
    let node = NewNode { name: start.name.clone(), address: start.listen, links: start.config.links.clone() };
    let by = format!("root@{}", start.name);
    let entry = Entry { wall: wall_now(), by, command: Command::CreateCluster { cluster, node } };
    first_entry(start, Identity { cluster: id, node: FOUNDER, profile: request.profile }, entry).await?;
    let credentials = outside.files.store(&certificate, authority.certificate_pem())?;
    outside.become_member(credentials).await?;
    Ok(id)
}

/// Makes the store and commits the cluster's first entry in it; nobody else is asked.
async fn first_entry(start: &Start, identity: Identity, entry: Entry) -> Result<()> {
    let dir = start.places.state_dir();
    raft::create_store(&dir, identity)?;
    let consensus: Consensus<TokioRuntime, Nobody> = Consensus::start(Options::new(dir), Nobody).await?;
    let founded = consensus.found(start.listen, entry, FOUND_WITHIN).await;
    consensus.shutdown().await;
    founded?.reply.accepted()?;
    Ok(())
}

/// The other members of a cluster of one.
#[derive(Clone)]
pub(super) struct Nobody;

impl Peers for Nobody {
    async fn call(
        &self,
        node: NodeId,
        address: SocketAddr,
        _call: PeerCall,
        _body: Vec<u8>,
        _within: Duration,
    ) -> Result<Vec<u8>, PeerError> {
        Err(PeerError::Unreachable { node, address, why: "the cluster has one member".to_owned() })
    }
}

async fn join(State(outside): State<Outside>, Body(request): Body<JoinRequest>) -> Result<Json<Joined>, Refusal> {
    let (joined, credentials) = outside.join_by(&request.token).await?;
    outside.become_member(credentials).await.map_err(|e| internal(&e))?;
    Ok(Json(joined))
}

impl Outside {
    /// Joins by a token; answers what makes this node a member.
    async fn join_by(&self, token: &str) -> Result<(Joined, Credentials), Refusal> {
        let _one = self.busy.lock().await;
        let token = token.parse().map_err(|e: crate::net::token::BadToken| Refusal::bad_request(e.to_string()))?;
        self.make_room().map_err(|e| internal(&e))?;
        let key = self.files.key().map_err(|e| internal(&e.into()))?;
        let attempt = {
            let mut kept = self.request.lock().unwrap_or_else(PoisonError::into_inner);
            *kept.get_or_insert_with(random::nonce)
        };
        let start = &self.start;
        let joiner = Joiner {
            token,
            name: start.name.clone(),
            address: start.listen,
            links: start.config.links.clone(),
            csr: key.request(),
            request: attempt,
        };
        let _port = self.waiting.free().await;
        let welcome = joiner.join().await.map_err(|e| not_joined(&e))?;
        let identity = Identity { cluster: welcome.cluster, node: welcome.node, profile: welcome.profile };
        raft::create_store(&start.places.state_dir(), identity).map_err(|e| internal(&e.into()))?;
        let credentials = self.files.store(&welcome.certificate, &welcome.authority);
        let credentials = credentials.map_err(|e| internal(&e.into()))?;
        Ok((Joined { cluster: welcome.cluster, node: welcome.node }, credentials))
    }
}

impl Invitee for Outside {
    type Done = Credentials;

    fn secret(&self) -> Result<Option<SharedSecret>, String> {
        SharedSecret::read(&self.start.places.secret_file()).map_err(|e| e.to_string())
    }

    async fn join(&self, invitation: Invitation) -> Result<(Newcomer, Credentials), String> {
        let name = &self.start.name;
        if *name != invitation.name {
            return Err(format!(
                "the node there is named {name}, and {} was invited: is the address right?",
                invitation.name
            ));
        }
        let (joined, credentials) =
            self.join_by(&invitation.token).await.map_err(|refusal| refusal.message().to_owned())?;
        Ok((Newcomer { cluster: joined.cluster, node: joined.node }, credentials))
    }

    async fn joined(&self, credentials: Credentials) {
        if let Err(e) = self.become_member(credentials).await {
            tracing::error!("{e:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_token_is_told_from_a_refused_node() {
        for void in [Rejected::TokenUnknown, Rejected::TokenExpired] {
            assert_eq!(code_of(&JoinError::Refused(void.to_string())), TOKEN_REFUSED);
        }
        assert_eq!(code_of(&JoinError::Refused(Rejected::NoCluster.to_string())), "not_joined");
        let gone = JoinError::Member { address: "10.0.0.1:1".parse().unwrap(), why: String::new() };
        assert_eq!(code_of(&gone), MEMBER_UNREACHABLE);
    }
}
