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
use crate::engine::NodeId;
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
                let given = verb.address.as_ref().map(|_| &addresses[..]);
                if let Some(why) = elsewhere(&node.name, (node.id, node.address), given) {
                    return Err(Failed::rejected(why));
                }
                out.say(&format!("{} is a member already (node {}, {})", node.name, node.id, node.address));
                out.value(node);
                Ok(())
            }
            None => admit(client, out, &verb.node, &addresses, cluster).await,
        },
    }
}

/// Why a member cannot be added again: an address was given, and it answers at another one.
fn elsewhere(name: &NodeName, (id, address): (NodeId, SocketAddr), given: Option<&[SocketAddr]>) -> Option<String> {
    let given = given.filter(|given| !given.contains(&address))?.first()?;
    Some(format!(
        "{name} is a member already (node {id}), at {address}, not at {given}; nothing was changed. To give it another address: \
         `pkgctl cluster remove {name}`, write the new `listen` into its agent.toml and restart its agent, then `pkgctl raft add \
         {name} {given}`. To add another machine, name that"
    ))
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
                Err(
                    error @ (IntroductionError::Unreachable { .. }
                    | IntroductionError::NobodyListens { .. }
                    | IntroductionError::Silent { .. }
                    | IntroductionError::Busy { .. }
                    | IntroductionError::NotOurs { .. }),
                ) => {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_is_added_at_another_address_is_refused_with_the_way_to_move_it() {
        let name = NodeName::new("n4").unwrap();
        let [is, other]: [SocketAddr; 2] = ["10.9.0.4:7420", "10.9.0.7:7420"].map(|at| at.parse().unwrap());
        let said = |given: Option<&[SocketAddr]>| elsewhere(&name, (NodeId(9), is), given);
        assert_eq!(said(None), None);
        assert_eq!(said(Some(&[other, is])), None, "a host name may have several addresses");
        let refused = said(Some(&[other])).unwrap();
        for words in ["at 10.9.0.4:7420, not at 10.9.0.7:7420", "nothing was changed", "`pkgctl cluster remove n4`"] {
            assert!(refused.contains(words), "{refused}");
        }
    }
}
