//! How a node comes into a cluster: by the words that an operator would type on it, on its own socket.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Home;
use super::settle::Entry;
use crate::cli::args::{Args, Cluster, ClusterInit, ClusterJoin, ProfileArg, Status, Verb};
use crate::cli::exit::Failed;
use crate::cli::{introduction, perform, until_it_answers};

/// How long an agent may take to start: it reads and checks its whole store first.
const STARTS_WITHIN: Duration = Duration::from_secs(300);
/// Pause between two rounds of asking to be let in.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) struct Entering {
    pub(super) entry: Entry,
    /// Ask again and again, until somebody lets this node in.
    pub(super) patient: bool,
    /// Nodes that may have a cluster already; then this one joins it, and makes none.
    pub(super) unless: Vec<String>,
    pub(super) profile: ProfileArg,
}

/// Does it, once the agent is there.
pub(super) async fn enter(home: &Home, entering: &Entering) -> Result<(), Failed> {
    wait_for_agent(home).await?;
    match &entering.entry {
        Entry::Settled => Ok(()),
        Entry::Wait => {
            super::serve::say("in no cluster: waiting to be added from a member (pkgctl raft add NAME ADDRESS)");
            Ok(())
        }
        Entry::Init => {
            if let Some(token) = a_cluster_there(home, &entering.unless).await {
                return join(home, token).await;
            }
            // What is said here may go to a file: no token in it. Others come in by the secret.
            let init = ClusterInit { name: "cluster".to_owned(), profile: entering.profile, no_token: true };
            perform(&args(home, Cluster::Init(init))).await
        }
        Entry::Join(others) => join_any(home, others, entering.patient).await,
    }
}

/// A token of the cluster that one of these nodes is in already; none when each of them is known to be in none: nobody
/// listens there, or what listens is no cluster port. Whatever else is heard may come from a cluster that cannot let this
/// node in now, and a second one must not be made beside it: it is asked again until it is one or the other.
async fn a_cluster_there(home: &Home, others: &[String]) -> Option<String> {
    let mut said = String::new();
    loop {
        let mut unclear = None;
        for other in others {
            match introduction::token_from(&home.places, other).await {
                Ok(token) => {
                    super::serve::say(&format!("{other} is in a cluster already: joining that"));
                    return Some(token.to_string());
                }
                Err(failed) if failed.is_unreachable() => {}
                Err(failed) => unclear = unclear.or(Some(failed)),
            }
        }
        let failed = unclear?;
        if failed.message != said {
            super::serve::say(&format!("no cluster is made while another one may be there: {}", failed.message));
            said.clone_from(&failed.message);
        }
        sleep(ASK_EVERY).await;
    }
}

/// Asks one after the other; says each new reason why it came to nothing once.
async fn join_any(home: &Home, others: &[String], patient: bool) -> Result<(), Failed> {
    let mut said = String::new();
    loop {
        let mut missed = None;
        for other in others {
            match introduction::token_from(&home.places, other).await {
                Ok(token) => match join(home, token.to_string()).await {
                    Ok(()) => return Ok(()),
                    Err(failed) => missed = Some(failed),
                },
                Err(failed) => missed = missed.or(Some(failed)),
            }
        }
        let failed = missed.unwrap_or_else(|| Failed::usage("nobody is named to join".to_owned()));
        if !patient {
            return Err(failed);
        }
        if failed.message != said {
            super::serve::say(&format!("not joined yet, and trying on: {}", failed.message));
            said.clone_from(&failed.message);
        }
        sleep(ASK_EVERY).await;
    }
}

async fn join(home: &Home, token: String) -> Result<(), Failed> {
    perform(&args(home, Cluster::Join(ClusterJoin { token, no_wait: false }))).await
}

/// As if this were typed on the node.
fn args(home: &Home, verb: Cluster) -> Args {
    of(home, Verb::Cluster(verb))
}

/// Any verb, on this node's socket.
pub(super) fn of(home: &Home, verb: Verb) -> Args {
    let socket = Some(home.places.api_socket());
    Args { socket, endpoint: Vec::new(), client: None, root: Some(home.dir.clone()), json: false, verb }
}

async fn wait_for_agent(home: &Home) -> Result<(), Failed> {
    let late = |_| Failed::outcome(format!("the agent has not answered within {STARTS_WITHIN:?}; its log says why"));
    timeout(STARTS_WITHIN, answers(home)).await.map_err(late)?
}

/// Waits until the node's agent is there.
pub(super) async fn answers(home: &Home) -> Result<(), Failed> {
    until_it_answers(&of(home, Verb::Status(Status { package: None }))).await
}
