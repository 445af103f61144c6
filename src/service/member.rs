//! A node in a cluster: consensus, keeper, agent, listeners, until it is told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::admission::Admission;
use super::calls::Calls;
use super::doorway::Doorway;
use super::fallback::{self, Local, Order};
use super::platform::HostPlatform;
use super::{DiskFailed, Ended, Start, logs, removal};
use crate::agent::{Agent, Parts};
use crate::api::routes::{local_routes, plain_routes, routes};
use crate::engine::lease::Rules;
use crate::host::keeper_link::{self, KeeperStart};
use crate::net::http::serve_plain;
use crate::net::identity::{Credentials, Subject};
use crate::net::listener::{Doors, Listener, Standing};
use crate::net::peers::TlsPeers;
use crate::net::removed::Removed;
use crate::net::tls::ServerTls;
use crate::raft::{Consensus, Options};

const _: () = assert!(
    crate::config::SNAPSHOT_PERIOD_DEFAULT == crate::raft::compact::SNAPSHOT_PERIOD_DEFAULT,
    "what the file's reader says is the default is it"
);

/// How long another node may take to take the lead before this agent ends.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(2);

/// How long those who watch keys may take to hear that this agent ends.
const WATCHES_END_WITHIN: Duration = Duration::from_millis(500);

/// How long the keeper of a removed node may take to stop what is left and end; the kernel has ended its lease already.
const KEEPER_ENDS_WITHIN: Duration = Duration::from_secs(30);

/// Lives as a member until SIGTERM, SIGINT, its removal or a fatal error.
pub(super) async fn live(start: Start, credentials: Arc<Credentials>, doorway: Doorway) -> Result<Ended> {
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
    let options = Options { snapshot_period: start.config.snapshot_period, ..Options::new(state_dir.clone()) };
    let consensus = Consensus::start(options, peers.clone()).await?;
    let link = keeper_link::open(KeeperStart {
        places: start.places.clone(),
        scheduling: start.config.scheduling,
        agent_grace: start.config.agent_grace,
        watchdog: start.config.watchdog.clone().map(|path| (path, start.config.watchdog_timeout)),
        start: start.start_keeper,
    });
    let platform = HostPlatform::new(start.places.clone(), start.systemd.clone());
    let (name, address, rules) = (start.name.clone(), start.listen, Rules::ALL);
    let (peers_too, link_too) = (peers.clone(), link.clone());
    let http = start.config.http_listen.map(|http| http_address(http, address));
    let parts = Parts { me, name, address, http, platform, peers, consensus, keeper: link, rules };
    let agent = Agent::start(parts);
    let router = routes(agent.clone());
    let (orders, mut ordered) = mpsc::channel(1);
    let local = Local {
        agent: agent.clone(),
        peers: peers_too.clone(),
        state_dir: state_dir.clone(),
        address: start.listen,
        orders,
        given: Arc::default(),
    };
    doorway.lead_to(router.clone().merge(local_routes(local)));
    let listener = Listener::bind(start.listen)?;
    let doors = Doors {
        admits: admits(&agent),
        peers: Arc::new(Calls(agent.clone())),
        join: Arc::new(Admission { agent: agent.clone(), address: start.listen, secret: start.places.secret_file() }),
        router,
    };
    let serving = tokio::spawn(listener.serve(ServerTls::new(&credentials)?, doors));
    let plain = start.config.http_listen.map(|http| tokio::spawn(serve_plain(http, plain_routes(agent.clone()))));
    let log_dir = start.places.log_dir();
    let rotating = tokio::spawn(logs::rotate(vec![log_dir.join("packages"), log_dir]));
    start.systemd.ready();
    tracing::info!(node = %start.name, id = %me, listen = %start.listen, "member of the cluster");
    let outcome = tokio::select! {
        told = until_told(&agent) => told.map(|()| None),
        record = removal::learned(&agent, &peers_too, &state_dir) => Ok(Some(Order::Leave(record))),
        // Its sender lives in the doorway.
        Some(order) = ordered.recv() => Ok(Some(order)),
    };
    match &outcome {
        Ok(Some(Order::Leave(record))) => {
            record.keep(&state_dir)?;
            tracing::warn!("{}", record.sentence());
        }
        Ok(Some(Order::Alone(_))) => {}
        Ok(None) | Err(_) => {
            start.systemd.stopping();
            hand_over(&agent).await;
        }
    }
    agent.consensus.end_watches(WATCHES_END_WITHIN).await;
    serving.abort();
    plain.inspect(JoinHandle::abort);
    rotating.abort();
    agent.consensus.shutdown().await;
    let end_keeper = async |why: String| {
        link_too.close();
        keeper_link::end_keeper(&start.places.keeper_socket(), why, KEEPER_ENDS_WITHIN).await;
    };
    match outcome? {
        None => return Ok(Ended::Told),
        Some(Order::Leave(record)) => end_keeper(record.sentence()).await,
        Some(Order::Alone(going)) if agent.consensus.log_end()?.is_where(&going.end) => {
            end_keeper("this node goes on alone, as another cluster".to_owned()).await;
            going.commit(&state_dir)?;
            fallback::finish(&state_dir)?;
        }
        Some(Order::Alone(_)) => {
            tracing::warn!(
                "this node does not go on alone: a leader has been there meanwhile. The old store is in force"
            );
            fallback::discard(&state_dir)?;
        }
    }
    Ok(Ended::Changed)
}

/// Where others reach the plain listener: one on every address is reached at the one that the other nodes use.
pub(super) fn http_address(given: SocketAddr, listen: SocketAddr) -> SocketAddr {
    if given.ip().is_unspecified() { SocketAddr::new(listen.ip(), given.port()) } else { given }
}

/// Leads no more, if it did and another can: then the cluster takes writes while this agent is away.
async fn hand_over(agent: &Agent<HostPlatform>) {
    let status = agent.consensus.status();
    if !status.is_leader() || status.voters.len() < 2 {
        return;
    }
    match timeout(HAND_OVER_WITHIN, agent.consensus.step_down()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::info!("leadership is not handed over: {error}"),
        Err(_elapsed) => tracing::info!("leadership was not taken by another node in {HAND_OVER_WITHIN:?}"),
    }
}

/// Members by their id, operators by their name.
fn admits(agent: &Agent<HostPlatform>) -> crate::net::listener::Admits {
    let consensus = agent.consensus.clone();
    Arc::new(move |subject| match subject {
        Subject::Node(id) => match consensus.read(|state| state.removed(*id)) {
            None => Standing::Known,
            Some(index) => Standing::Removed(Removed { cluster: consensus.identity().cluster, node: *id, index }),
        },
        Subject::Client(name) if consensus.read(|state| state.admits_operator(name)) => Standing::Known,
        Subject::Client(_) => Standing::Unknown,
    })
}

async fn until_told(agent: &Agent<HostPlatform>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        failure = agent.retired() => {
            let why = format!("this node has retired, and its packages have gone to other nodes: {}", failure.why);
            if failure.disk { Err(DiskFailed(why).into()) } else { bail!(why) }
        }
    }
}
