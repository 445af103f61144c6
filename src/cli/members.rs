//! `pkgctl raft add`: the first node makes a cluster of itself, and then adds the others.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::time::sleep;

use super::args::{self, ClusterInit};
use super::client::Client;
use super::cluster;
use super::exit::Failed;
use super::introduction::{explained, read, resolve};
use super::print::Out;
use crate::api::types::{ClusterStatus, IssuedToken, Status};
use crate::net::introduction::{IntroductionError, Invitation, Knock, Newcomer, SharedSecret, invite};
use crate::package::NodeName;

/// How often somebody is called who does not listen yet, with [`PAUSE`] in between: a node that has just been started, or
/// whose secret has just been copied.
const CALLS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// `pkgctl raft add NAME [ADDRESS]`.
pub async fn add(client: &Client, out: &Out, verb: &args::RaftAdd) -> Result<(), Failed> {
    client.named_one("raft add")?;
    let addresses = resolve(verb.address.as_deref().unwrap_or(verb.node.as_str())).await?;
    let status: Status = client.get("/v1/status").await?;
    match &status.cluster {
        None => found(client, out, verb, &status, &addresses).await,
        Some(cluster) => match cluster.nodes.iter().find(|node| node.name == verb.node) {
            Some(node) => {
                out.say(&format!("{} is a member already (node {}, {})", node.name, node.id, node.address));
                out.value(node);
                Ok(())
            }
            None => admit(client, out, &verb.node, &addresses, cluster).await,
        },
    }
}

/// In no cluster: under its own name and at its own address this node makes one.
async fn found(
    client: &Client,
    out: &Out,
    verb: &args::RaftAdd,
    status: &Status,
    addresses: &[SocketAddr],
) -> Result<(), Failed> {
    if let Some(removed) = &status.removed {
        return Err(Failed::rejected(removed.sentence.clone()));
    }
    let (own, given) = (&status.node, &verb.node);
    if own != given {
        return Err(Failed::rejected(format!(
            "this node is {own} and unconfigured, so it can add itself only, or be added from a member; nothing was changed: \
             `pkgctl raft add {own} ADDRESS` makes a cluster of it, `pkgctl raft add {own} ADDRESS` on a member takes it in"
        )));
    }
    // Only this machine's own addresses can be bound.
    if !addresses.iter().any(|address| UdpSocket::bind((address.ip(), 0)).is_ok()) {
        return Err(Failed::rejected(format!(
            "{} is no address of this machine, and {own} is this node; nothing was changed",
            addresses[0].ip()
        )));
    }
    cluster::found(client, out, &ClusterInit { name: verb.cluster.clone(), profile: verb.profile, no_token: false })
        .await
}

async fn admit(
    client: &Client,
    out: &Out,
    name: &NodeName,
    addresses: &[SocketAddr],
    cluster: &ClusterStatus,
) -> Result<(), Failed> {
    if let Some(node) = cluster.nodes.iter().find(|node| addresses.contains(&node.address)) {
        return Err(Failed::rejected(format!(
            "{} is where the member {} answers; nothing was changed. Is the address of {name} another one?",
            node.address, node.name
        )));
    }
    let Some(secret) = read(&client.places)? else { return Err(by_hand(client, name)) };
    let newcomer = called(client, out, name, addresses, &secret).await?;
    out.progress(&format!("{name} was taken in as node {}", newcomer.node));
    cluster::wait_for_vote_of(client, out, Some(newcomer.node)).await?;
    out.say(&format!("{name} is a voter of the cluster"));
    cluster::say_what_it_survives(client, out).await;
    out.value(&newcomer);
    Ok(())
}

/// Calls until somebody answers; who answers is invited.
async fn called(
    client: &Client,
    out: &Out,
    name: &NodeName,
    addresses: &[SocketAddr],
    secret: &SharedSecret,
) -> Result<Newcomer, Failed> {
    let token = async || -> Result<Invitation, Failed> {
        let issued: IssuedToken = client.call("POST", "/v1/cluster/token", &serde_json::json!({})).await?;
        Ok(Invitation { name: name.clone(), token: issued.token })
    };
    for call in 1..=CALLS {
        for address in addresses {
            if call == 1 {
                out.progress(&format!("inviting {name} at {address}"));
            }
            match invite(Knock { to: *address, from: None }, secret, &token).await? {
                Ok(newcomer) => return Ok(newcomer),
                Err(error @ (IntroductionError::Unreachable { .. } | IntroductionError::NotOurs { .. })) => {
                    if call == CALLS {
                        return Err(explained(&error).and(&format!(
                            "is pkgctl running there, in no cluster, and does it have this node's secret ({})? Without the \
                             secret it does not listen. Or type:\n{}",
                            client.places.secret_file().display(),
                            lines(name)
                        )));
                    }
                }
                Err(error) => return Err(explained(&error)),
            }
        }
        sleep(PAUSE).await;
    }
    Err(Failed::unreachable(format!("{name} has no address")))
}

fn by_hand(client: &Client, name: &NodeName) -> Failed {
    Failed::by_hand(format!(
        "there is no secret in {}, by which {name} would know this cluster; nothing was changed. `pkgctl cluster secret` makes \
         one, to be copied to every node; or type:\n{}",
        client.places.secret_file().display(),
        lines(name)
    ))
}

fn lines(name: &NodeName) -> String {
    let there = format!("on {name}:");
    format!("  {:<2$}  pkgctl cluster token\n  {}  pkgctl cluster join TOKEN", "here:", there, there.len())
}
