//! A node in a cluster: consensus, keeper, agent, listeners, until it is told to stop.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use super::Start;
use super::admission::Admission;
use super::calls::Calls;
use super::doorway::Doorway;
use super::platform::HostPlatform;
use crate::agent::{Agent, Parts};
use crate::api::routes::routes;
use crate::host::keeper_link::{self, KeeperStart};
use crate::net::identity::{Credentials, Subject};
use crate::net::listener::{Doors, Listener};
use crate::net::peers::TlsPeers;
use crate::net::tls::ServerTls;
use crate::raft::{Consensus, Options};

/// Lives as a member until SIGTERM, SIGINT or a fatal error.
pub(super) async fn live(start: Start, credentials: Arc<Credentials>, doorway: Doorway) -> Result<()> {
    let Subject::Node(me) = credentials.bearer().subject.clone() else {
        bail!("the certificate in {} is an operator's, not a node's", start.places.state_dir().display());
    };
    let state_dir = start.places.state_dir();
    let Some(identity) = crate::raft::identity(&state_dir)? else {
        bail!(
            "{} has this node's certificate but not its store; the store is gone, and starting empty under the old id \
             could lose what was acknowledged: move the directory away and join again with `pkgctl cluster join`",
            state_dir.display()
        );
    };
    let peers = TlsPeers::new(credentials.clone(), identity.profile.into());
    let consensus = Consensus::start(Options::new(state_dir), peers.clone()).await?;
    let link = keeper_link::open(KeeperStart {
        places: start.places.clone(),
        scheduling: start.config.scheduling,
        agent_grace: start.config.agent_grace,
        start: start.start_keeper,
    });
    let platform = HostPlatform::new(start.places.clone());
    let parts = Parts { me, name: start.name.clone(), address: start.listen, platform, peers, consensus, keeper: link };
    let agent = Agent::start(parts);
    let router = routes(agent.clone());
    doorway.lead_to(router.clone());
    let listener = Listener::bind(start.listen)?;
    let doors = Doors {
        admits: admits(&agent),
        peers: Arc::new(Calls(agent.clone())),
        join: Arc::new(Admission { agent: agent.clone(), address: start.listen }),
        router,
    };
    let serving = tokio::spawn(listener.serve(ServerTls::new(&credentials)?, doors));
    notify_ready();
    tracing::info!(node = %start.name, id = %me, listen = %start.listen, "member of the cluster");
    let outcome = until_told(&agent).await;
    serving.abort();
    agent.consensus.shutdown().await;
    outcome
}

/// Members by their id, operators by the authority's signature alone. A node that has not got the log yet admits every
/// node that the authority has signed: it could not join otherwise.
fn admits(agent: &Agent<HostPlatform>) -> crate::net::listener::Admits {
    let consensus = agent.consensus.clone();
    Arc::new(move |subject| match subject {
        Subject::Node(id) => consensus.read(|state| state.cluster.is_none() || state.nodes.contains_key(id)),
        Subject::Client(_) => true,
    })
}

async fn until_told(agent: &Agent<HostPlatform>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        why = agent.retired() => bail!(
            "this node's store has failed and the node has retired: {why}; its packages have gone to other nodes; repair \
             the disk and start the agent again, or join as a new node"
        ),
    }
}

/// Tells systemd that the agent is up, if systemd asked to be told.
pub(super) fn notify_ready() {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::debug!("systemd was not told: {error}");
    }
}
