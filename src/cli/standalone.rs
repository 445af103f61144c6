//! `pkgctl raft force-standalone|whole`: an operator's word that a node goes on alone, and that this is over.

use std::io::{BufRead, IsTerminal, stdin};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::args;
use super::client::Client;
use super::exit::Failed;
use super::print::Out;
use crate::api::types::raft::{OtherMember, StandaloneBegun, StandalonePlan, StandaloneRequest};
use crate::api::types::{Changed, ClusterStatus, Status};
use crate::engine::ClusterId;

/// How long the agent may take to come up as the new cluster: its keeper ends first.
const UP_WITHIN: Duration = Duration::from_secs(60);
/// How long its next keeper may take to be there.
const KEEPER_WITHIN: Duration = Duration::from_secs(15);
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Shows what is given up, asks for the cluster's name, and waits until the node is a cluster of one.
pub async fn go_alone(client: &Client, out: &Out, verb: &args::ForceStandalone) -> Result<(), Failed> {
    client.on_this_node("raft force-standalone")?;
    let plan: StandalonePlan = client.get("/v1/raft/force-standalone").await?;
    show(out, &plan);
    if let Some(why) = &plan.refused {
        return Err(Failed::rejected(why.clone()));
    }
    if verb.dry_run {
        out.value(&plan);
        return Ok(());
    }
    let ask = "To have this node go on alone, answering for all of the others";
    let cluster = typed(out, &verb.typed, &plan.cluster, ask)?;
    let request = StandaloneRequest { cluster, fence: verb.fence };
    let begun: StandaloneBegun = client.call("POST", "/v1/raft/force-standalone", &request).await?;
    out.progress(&format!("the new store is ready; the agent begins again as cluster {}", begun.cluster));
    let leads = |cluster: &ClusterStatus| cluster.leader.is_some();
    let up = timeout(UP_WITHIN, comes_up(client, begun.cluster, leads)).await;
    let up = up.map_err(|_| {
        Failed::waiting(format!(
            "this node is not cluster {} after {UP_WITHIN:?}: `pkgctl cluster status` shows which one it is, and the \
             agent's log why. If a leader was there in that moment, nothing was changed",
            begun.cluster
        ))
    })?;
    // Without its keeper it is one all the same; its warnings then say so.
    let has_session = |cluster: &ClusterStatus| cluster.nodes.iter().any(|node| node.session.is_some());
    let up = timeout(KEEPER_WITHIN, comes_up(client, begun.cluster, has_session)).await.unwrap_or(up);
    out.say(&format!("{} is a cluster of one now, {} ({})", plan.node, up.name, up.id));
    out.say(&format!("what it was as a member of cluster {} is kept in {}", begun.from, begun.kept));
    up.warnings.iter().for_each(|text| out.warn(text));
    out.value(
        &serde_json::json!({"cluster": begun.cluster, "from": begun.from, "kept": begun.kept, "fallback": up.fallback}),
    );
    Ok(())
}

/// Waits until the agent answers as that cluster, and it is so far.
async fn comes_up(client: &Client, id: ClusterId, is_up: impl Fn(&ClusterStatus) -> bool) -> ClusterStatus {
    loop {
        // Whatever else it says, or that it says nothing, is on the way there.
        if let Ok(Some(Status { cluster: Some(cluster), .. })) = client.get_if_any::<Status>("/v1/status").await
            && cluster.id == id
            && is_up(&cluster)
        {
            return cluster;
        }
        sleep(LOOK_EVERY).await;
    }
}

fn show(out: &Out, plan: &StandalonePlan) {
    let upto = plan.last_log.map_or_else(|| "nothing".to_owned(), |last| format!("entry {last}"));
    out.say(&format!(
        "{} is one of {} voters of cluster {} ({}); its log goes to {upto}. Every other node of it:",
        plan.node, plan.voters, plan.cluster, plan.id
    ));
    let row = |other: &OtherMember| {
        let word = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        let owned: Vec<&str> = other.owned.iter().map(|package| package.as_str()).collect();
        vec![
            other.name.to_string(),
            other.address.to_string(),
            word(other.voter),
            word(other.answers),
            word(other.fence_device),
            owned.join(" "),
        ]
    };
    let rows: Vec<Vec<String>> = plan.others.iter().map(row).collect();
    out.table(&["NODE", "ADDRESS", "VOTE", "ANSWERS", "FENCE DEVICE", "OWNED"], &rows);
    out.say("\nIf this node goes on alone:");
    plan.gives_up.iter().for_each(|text| out.say(&format!("  - {text}")));
}

/// The cluster's name as the operator gives it: on the command line, or at the terminal.
pub fn typed(out: &Out, given: &args::Typed, cluster: &str, ask: &str) -> Result<String, Failed> {
    if let Some(name) = &given.cluster {
        return Ok(name.clone());
    }
    if out.is_json() || !stdin().is_terminal() {
        return Err(Failed::usage(format!(
            "nothing was changed: nobody is there to type the cluster's name; add --yes-i-know {cluster} if you know"
        )));
    }
    out.say(&format!("\n{ask}, type the name of the cluster:"));
    let mut line = String::new();
    stdin().lock().read_line(&mut line).map_err(|e| Failed::usage(format!("nothing was changed: {e}")))?;
    match line.trim() {
        name if name == cluster => Ok(name.to_owned()),
        other => Err(Failed::usage(format!("nothing was changed: '{other}' is not '{cluster}'"))),
    }
}

/// `pkgctl raft whole`.
pub async fn whole(client: &Client, out: &Out, given: &args::Typed) -> Result<(), Failed> {
    client.on_this_node("raft whole")?;
    let status: Status = client.get("/v1/status").await?;
    let name = status.cluster.as_ref().map(|cluster| cluster.name.clone()).unwrap_or_default();
    if let Some(fallback) = status.cluster.as_ref().and_then(|cluster| cluster.fallback.as_ref()) {
        let formers: Vec<&str> = fallback.formers.values().map(|former| former.name.as_str()).collect();
        out.say(&format!(
            "this cluster went on from cluster {}. None of these may ever start again with its store of that: {}",
            fallback.from,
            formers.join(", ")
        ));
    }
    let cluster = typed(out, given, &name, "To say that this is so")?;
    if cluster != name {
        return Err(Failed::rejected(format!("the cluster is called '{name}', not '{cluster}'; nothing was changed")));
    }
    let changed: Changed = client.call("POST", "/v1/raft/whole", &serde_json::json!({})).await?;
    out.say("the cluster is whole: nothing is left to be said about the old one");
    out.value(&changed);
    Ok(())
}
