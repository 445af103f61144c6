//! `pkgctl cluster init|join|token|secret|rotate-key|status`.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::timeout;

use super::args;
use super::client::Client;
use super::exit::Failed;
use super::introduction;
use super::leave;
use super::operators;
use super::print::{Out, when};
use super::status::{outside, warnings};
use crate::api::types::{
    Changed, ClusterStatus, DatagramKeys, InitRequest, IssuedToken, JoinRequest, Joined, NodeStatus, Progress,
    RemoveRequest, Status,
};
use crate::engine::fallback::{Fallback, Former, Word};
use crate::engine::state::Watchdog;
use crate::engine::{NodeId, Reply};
use crate::net::token::TOKEN_PREFIX;
use crate::package::NodeName;

/// How long a join may take until the node votes, and a removal until it is forgotten.
const CHANGE_WITHIN: Duration = Duration::from_secs(60);
/// How long the session of a silent node may take to expire.
const LAPSE_WITHIN: Duration = Duration::from_secs(15);
/// How long a node that was stopped a moment ago may take to be missed.
const SILENT_WITHIN: Duration = Duration::from_secs(4);
/// How long one question for changes may wait.
const STEP_MS: u64 = 500;

/// Dispatches.
pub async fn cluster(client: &Client, out: &Out, verb: &args::Cluster) -> Result<(), Failed> {
    match verb {
        args::Cluster::Init(init) => found(client, out, init).await,
        args::Cluster::Join(join) => enter(client, out, join).await,
        args::Cluster::Token => token(client, out).await,
        args::Cluster::Secret(secret) => introduction::secret(client, out, secret),
        args::Cluster::Remove(remove) => give_up(client, out, remove).await,
        args::Cluster::Leave(leave) => leave::leave(client, out, leave).await,
        args::Cluster::Client(client_of) => operators::issue(client, out, client_of).await,
        args::Cluster::Clients => operators::list(client, out).await,
        args::Cluster::Revoke(revoke) => operators::revoke(client, out, revoke).await,
        args::Cluster::RotateKey => rotate_key(client, out).await,
        args::Cluster::Status => members(client, out).await,
    }
}

/// Makes a cluster of this node alone.
pub(super) async fn found(client: &Client, out: &Out, verb: &args::ClusterInit) -> Result<(), Failed> {
    client.named_one("cluster init")?;
    let request = InitRequest { name: verb.name.clone(), profile: verb.profile.into() };
    let joined: Joined = client.call("POST", "/v1/cluster/init", &request).await?;
    out.progress(&format!("cluster {} ({}) made; this node is its only voter so far", verb.name, joined.cluster));
    wait_for_vote_of(client, out, None).await?;
    out.say("the cluster is up; it survives no failure until two more nodes have joined");
    if verb.no_token {
        out.value(&serde_json::json!({"cluster": joined.cluster, "node": joined.node}));
        return Ok(());
    }
    let issued: IssuedToken = client.call("POST", "/v1/cluster/token", &serde_json::json!({})).await?;
    out.say(&format!(
        "on the next node, within {} minutes:\n  pkgctl cluster join {}",
        issued.valid_s / 60,
        issued.token
    ));
    out.value(&serde_json::json!({"cluster": joined.cluster, "node": joined.node, "token": issued.token}));
    Ok(())
}

async fn enter(client: &Client, out: &Out, verb: &args::ClusterJoin) -> Result<(), Failed> {
    client.named_one("cluster join")?;
    let token = match verb.token.trim() {
        token if token.starts_with(TOKEN_PREFIX) => token.to_owned(),
        address => {
            client.on_this_node("cluster join ADDRESS")?;
            introduction::token_from(&client.places, address).await?.to_string()
        }
    };
    let request = JoinRequest { token };
    let joined: Joined = client.call("POST", "/v1/cluster/join", &request).await?;
    out.progress(&format!("taken in as node {} of cluster {}", joined.node, joined.cluster));
    if !verb.no_wait {
        wait_for_vote_of(client, out, None).await?;
    }
    out.say("this node has joined");
    say_what_it_survives(client, out).await;
    out.value(&joined);
    Ok(())
}

async fn token(client: &Client, out: &Out) -> Result<(), Failed> {
    let issued: IssuedToken = client.call("POST", "/v1/cluster/token", &serde_json::json!({})).await?;
    out.say(&issued.token);
    out.progress(&format!("good for one node and {} minutes: pkgctl cluster join TOKEN", issued.valid_s / 60));
    out.value(&issued);
    Ok(())
}

async fn rotate_key(client: &Client, out: &Out) -> Result<(), Failed> {
    let changed: Changed = client.call("POST", "/v1/cluster/rotate-key", &serde_json::json!({})).await?;
    out.say("the key of the datagrams is being replaced; `pkgctl cluster status` shows the key and what is waited for");
    out.value(&changed);
    Ok(())
}

/// Gives a node up.
pub(super) async fn give_up(client: &Client, out: &Out, verb: &args::ClusterRemove) -> Result<(), Failed> {
    if verb.undo {
        return keep(client, out, &verb.node).await;
    }
    let (name, shown) = (&verb.node, Cell::new(String::new()));
    // A refusal would come a moment too early; when this takes too long, the answer says why.
    let _ = timeout(LAPSE_WITHIN, watch(client, out, &shown, |status| lapsing(status, name))).await;
    let request = RemoveRequest { node: name.clone() };
    let removal = async || client.call::<_, Changed>("POST", "/v1/cluster/remove", &request).await;
    let changed = match removal().await {
        Err(failed) if failed.is_refusal() && falls_silent(client, out, name).await => {
            let _ = timeout(LAPSE_WITHIN, watch(client, out, &shown, |status| lapsing(status, name))).await;
            removal().await?
        }
        outcome => outcome?,
    };
    if verb.no_wait {
        out.say(&format!("{name} is being removed; `pkgctl cluster status` shows how far it is"));
        say_who_knows_the_secret(client, out, name);
        out.value(&changed);
        return Ok(());
    }
    let asking = client.after_change();
    match timeout(CHANGE_WITHIN, watch(&asking, out, &shown, |status| removing(status, name))).await {
        Ok(removed) => removed?,
        Err(_) => {
            return Err(Failed::waiting(format!(
                "{name} is still being removed ({}) after {CHANGE_WITHIN:?}; it goes on without this command: \
                 `pkgctl cluster status` shows how, `pkgctl cluster remove {name} --undo` has it stay",
                shown.take()
            )));
        }
    }
    out.say(&format!("{name} is removed; `pkgctl cluster join` brings that machine back as a new node"));
    say_who_knows_the_secret(client, out, name);
    out.value(&changed);
    Ok(())
}

/// Who was taken out knows the secret that the nodes share, where they do, and could come in again by it.
fn say_who_knows_the_secret(client: &Client, out: &Out, name: &NodeName) {
    // Whether the nodes share one shows on a node alone; one that cannot be read is no matter of this removal.
    let shared = client.is_on_this_node().then(|| matches!(introduction::read(&client.places), Ok(Some(_))));
    if shared != Some(false) {
        out.warn(&who_knows_the_secret(name, shared.is_some()));
    }
}

/// This may be said on the very machine that is to be shut out: a new secret is never made there.
fn who_knows_the_secret(name: &NodeName, is_certain: bool) -> String {
    let has = if is_certain {
        format!("{name} still has the secret that the nodes share")
    } else {
        format!("if the nodes share a secret, {name} still has it")
    };
    format!(
        "{has}, and whoever has it can become a member: on a node that stays, `pkgctl cluster secret --renew` makes another \
         one; copy that node's file to every other node that stays, and never to {name}"
    )
}

/// Takes a removal back.
async fn keep(client: &Client, out: &Out, name: &NodeName) -> Result<(), Failed> {
    let request = RemoveRequest { node: name.clone() };
    let changed: Changed = client.call("POST", "/v1/cluster/keep", &request).await?;
    out.say(&if changed.reply == Reply::Already {
        format!("{name} was not being removed; nothing was changed")
    } else {
        format!("{name} stays; `pkgctl cluster status` shows its vote and its session")
    });
    out.value(&changed);
    Ok(())
}

/// What a look at the status says: the step to show, if any, and whether the wait is over.
type Look = (Option<String>, bool);

/// Looks at the status after every change until the wait is over; each new step is shown, and left in `shown`.
async fn watch(
    client: &Client,
    out: &Out,
    shown: &Cell<String>,
    look: impl Fn(Option<&Status>) -> Look,
) -> Result<(), Failed> {
    let mut seen = 0;
    loop {
        let status: Option<Status> = client.get_if_any("/v1/status").await?;
        let (step, over) = look(status.as_ref());
        if let Some(step) = step {
            if step != shown.take() {
                out.progress(&format!("  {step}"));
            }
            shown.set(step);
        }
        if over {
            return Ok(());
        }
        let path = format!("/v1/changes?after={seen}&within_ms={STEP_MS}");
        seen = client.get_if_any::<Progress>(&path).await?.map_or(seen, |p| p.applied.0);
    }
}

fn node_named<'a>(status: Option<&'a Status>, name: &NodeName) -> Option<&'a NodeStatus> {
    status?.cluster.as_ref()?.nodes.iter().find(|n| n.name == *name)
}

/// A node that has just fallen silent has its session until that lapses.
fn lapsing(status: Option<&Status>, name: &NodeName) -> Look {
    let silent = node_named(status, name).is_some_and(|n| n.silent);
    (silent.then(|| format!("waiting until the lease of {name} has run out")), !silent)
}

/// Whether a member that seemed to be up falls silent within a moment.
async fn falls_silent(client: &Client, out: &Out, name: &NodeName) -> bool {
    let fell = Cell::new(false);
    let look = |status: Option<&Status>| {
        let node = node_named(status, name);
        fell.set(node.is_some_and(|node| node.silent || node.session.is_none()));
        (None, node.is_none() || fell.get())
    };
    let _ = timeout(SILENT_WITHIN, watch(client, out, &Cell::default(), look)).await;
    fell.get()
}

/// What its removal is at. A node that was removed itself is in no cluster any more.
fn removing(status: Option<&Status>, name: &NodeName) -> Look {
    // Between two lives it says nothing at all.
    let Some(status) = status else { return (None, false) };
    let Some(node) = node_named(Some(status), name).filter(|n| n.leaving) else { return (None, true) };
    let owns: Vec<&str> = node.owns.iter().map(String::as_str).collect();
    let step = match (&owns[..], node.lease_voter, node.voter) {
        ([_, ..], _, _) => &format!("what it owns moves away: {}", owns.join(", ")),
        ([], true, _) => "the lease set without it is being prepared",
        ([], false, true) => "the lease set with it is being retired",
        ([], false, false) => "it has no vote any more",
    };
    (Some(format!("{step}{}", waits(status))), false)
}

/// What the change waits for, if it has waited for a while, to go on a step's line.
fn waits(status: &Status) -> String {
    let waits = status.cluster.as_ref().and_then(|cluster| cluster.change_waits.as_ref());
    waits.map(|why| format!("; {why}")).unwrap_or_default()
}

/// Waits until that node, or the one that answers, votes, and the lease set before it is retired; shows each step.
pub(super) async fn wait_for_vote_of(client: &Client, out: &Out, node: Option<NodeId>) -> Result<(), Failed> {
    let (client, shown) = (&client.after_change(), Cell::new(String::new()));
    match timeout(CHANGE_WITHIN, watch(client, out, &shown, |status| joining(status, node))).await {
        Ok(voted) => voted,
        Err(_) => Err(Failed::waiting(format!(
            "{} is {} after {CHANGE_WITHIN:?}; it goes on without this command: `pkgctl cluster status` shows how",
            node.map_or_else(|| "this node".to_owned(), |id| format!("node {id}")),
            shown.take()
        ))),
    }
}

/// Says that the cluster survives no failure, if it does not.
pub(super) async fn say_what_it_survives(client: &Client, out: &Out) {
    // What was asked for has been done; that this cannot be told changes nothing about it.
    let status = client.get::<Status>("/v1/status").await.ok();
    let cluster = status.and_then(|status| status.cluster).filter(|cluster| cluster.survives == 0);
    cluster.iter().for_each(|cluster| cluster.warnings.iter().for_each(|text| out.warn(text)));
}

/// A node that is in no cluster has no consensus to show, and says so; any other failure stands.
pub(super) async fn unconfigured(client: &Client, out: &Out, failed: Failed) -> Result<(), Failed> {
    let status = client.get::<Status>("/v1/status").await.ok().filter(|status| status.cluster.is_none());
    let Some(status) = status.filter(|_| failed.is_refusal()) else { return Err(failed) };
    let sentence = outside(&status);
    out.say(&format!("{}: unconfigured; {sentence}", status.node));
    out.value(&serde_json::json!({"node": status.node, "configured": false, "message": sentence}));
    Ok(())
}

fn joining(status: Option<&Status>, node: Option<NodeId>) -> Look {
    let step = status.map_or("starting".to_owned(), |status| step_of(status, node.unwrap_or(status.local.node)));
    let votes = step == VOTES;
    let waits = status.filter(|_| !votes).map(waits).unwrap_or_default();
    (Some(format!("{step}{waits}")), votes)
}

const VOTES: &str = "a voter with a lease";

fn step_of(status: &Status, node: NodeId) -> String {
    let Some(cluster) = &status.cluster else {
        let outside = status.local.node == NodeId::default();
        return if outside { "in no cluster yet" } else { "waiting for the log" }.to_owned();
    };
    let changing = cluster.lease_sets_changing;
    let me = cluster.nodes.iter().find(|n| n.id == node);
    match me {
        None => "waiting for the log".to_owned(),
        Some(me) if !me.voter => "a learner: its log is catching up".to_owned(),
        Some(me) if !me.lease_voter => "a voter: its lease set is being prepared".to_owned(),
        Some(_) if changing => "in the new lease set: waiting until the one before it is retired".to_owned(),
        Some(me) if me.session.is_none() => "a voter: its session is being registered".to_owned(),
        Some(_) => VOTES.to_owned(),
    }
}

async fn members(client: &Client, out: &Out) -> Result<(), Failed> {
    let status: Status = client.get("/v1/status").await?;
    let Some(cluster) = &status.cluster else {
        out.value(&status.removed.as_ref().map(|removed| serde_json::json!({"removed": removed})));
        out.say(&outside(&status));
        return Ok(());
    };
    out.value(&status.cluster);
    out.say(&format!("cluster {} ({})", cluster.name, cluster.id));
    warnings(out, cluster, status.stale);
    cluster.datagram_keys.as_ref().and_then(rotation).into_iter().for_each(|line| out.say(&line));
    out.table(&["NODE", "ID", "ADDRESS", "ROLE", "SESSION", "WATCHDOG", "OWNS"], &rows(cluster));
    if let Some(fallback) = &cluster.fallback {
        out.say(&format!("\nwhat is known of the nodes of cluster {}, which this one went on from:", fallback.from));
        out.table(&["NODE", "ID", "ADDRESS", "OFF", "SINCE"], &formers(fallback));
    }
    Ok(())
}

fn formers(fallback: &Fallback) -> Vec<Vec<String>> {
    let said = |word: Option<&Word>| match word {
        Some(word) => [word.how.clone(), when(Some(word.at))],
        None => ["not known".to_owned(), String::new()],
    };
    let row = |(id, former): (&NodeId, &Former)| {
        let [off, since] = said(former.off.as_ref());
        vec![former.name.to_string(), id.to_string(), former.address.to_string(), off, since]
    };
    let [off, since] = said(fallback.unlisted.as_ref());
    let others = vec!["others".to_owned(), "-".to_owned(), "-".to_owned(), off, since];
    fallback.formers.iter().map(row).chain([others]).collect()
}

/// What is under way with the key of the datagrams, if anything.
fn rotation(keys: &DatagramKeys) -> Option<String> {
    let used = keys.used.map_or_else(|| "none".to_owned(), |id| id.to_string());
    let accepted: Vec<String> = keys.accepted.iter().map(u32::to_string).collect();
    let replaced = keys.wanted || accepted.len() > 1;
    replaced.then(|| {
        format!("the key of the datagrams is being replaced: {used} is used, {} accepted", accepted.join(" and "))
    })
}

fn rows(cluster: &ClusterStatus) -> Vec<Vec<String>> {
    let row = |n: &crate::api::types::NodeStatus| {
        let role = match (cluster.leader.as_ref() == Some(&n.name), n.voter) {
            _ if n.leaving => "being removed",
            (true, _) => "leader",
            (false, true) => "voter",
            (false, false) => "learner",
        };
        let session = match (n.session, n.silent) {
            (Some(id), true) => format!("{id} (silent)"),
            (Some(id), false) => id.to_string(),
            (None, _) => "down".to_owned(),
        };
        let owns: Vec<&str> = n.owns.iter().map(String::as_str).collect();
        let watchdog = match &n.watchdog {
            None => "-".to_owned(),
            Some(Watchdog::Armed { timeout }) => timeout.to_string(),
            Some(Watchdog::Unusable { .. }) => "not in use".to_owned(),
            Some(Watchdog::Starved { .. }) => "resets it".to_owned(),
        };
        let (name, id, address) = (n.name.to_string(), n.id.to_string(), n.address.to_string());
        vec![name, id, address, role.to_owned(), session, watchdog, owns.join(" ")]
    };
    cluster.nodes.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_removed_is_shut_out_by_a_secret_that_is_made_elsewhere() {
        let name = NodeName::new("n1").unwrap();
        for is_certain in [true, false] {
            let said = who_knows_the_secret(&name, is_certain);
            assert!(said.contains("on a node that stays, `pkgctl cluster secret --renew`"), "{said}");
            assert!(said.contains("never to n1") && !said.contains("/etc"), "{said}");
            assert_eq!(said.contains("if the nodes share"), !is_certain);
        }
    }
}
