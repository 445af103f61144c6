//! `pkgctl status [P]`.

use super::client::Client;
use super::exit::Failed;
use super::print::{Out, when, word};
use crate::api::types::{ClusterStatus, PackageDetail, Status};
use crate::engine::state::ResourceState;
use crate::engine::view::PackageView;
use crate::package::PackageName;
use crate::resource::guarantee;

/// The cluster in a line and its packages in a table, or one package in detail.
pub async fn status(client: &Client, out: &Out, package: Option<&PackageName>) -> Result<(), Failed> {
    match package {
        None => all(client, out).await,
        Some(package) => one(client, out, package).await,
    }
}

async fn all(client: &Client, out: &Out) -> Result<(), Failed> {
    let status: Status = client.get("/v1/status").await?;
    out.value(&status);
    let Some(cluster) = &status.cluster else {
        out.say(&outside(&status));
        return Ok(());
    };
    out.say(&headline(cluster, &status));
    warnings(out, cluster, status.stale);
    if status.packages.is_empty() {
        out.say("no packages: copy pkg-templates/template.toml, edit it, and `pkgctl init NAME`");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = status.packages.iter().map(row).collect();
    out.table(&["PACKAGE", "STATE", "OWNER", "TOKEN", "SINCE", "REASON"], &rows);
    Ok(())
}

/// What a node says that is in no cluster.
pub fn outside(status: &Status) -> String {
    let never = || {
        "this node is in no cluster yet: `pkgctl cluster init` makes one, `pkgctl cluster join TOKEN` joins one"
            .to_owned()
    };
    status.removed.as_ref().map_or_else(never, |removed| removed.sentence.clone())
}

fn headline(cluster: &ClusterStatus, status: &Status) -> String {
    let voters = cluster.nodes.iter().filter(|n| n.voter).count();
    let leader = cluster.leader.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
    let scheduling = status.local.scheduling.as_deref().unwrap_or("unknown (no keeper)");
    let survives = match cluster.survives {
        0 => "no failure".to_owned(),
        1 => "1 failure".to_owned(),
        n => format!("{n} failures"),
    };
    format!(
        "cluster {} ({}): {voters} voters, leader {leader}, survives {survives}, profile {}, scheduling {scheduling}",
        cluster.name,
        cluster.id,
        cluster.profile.word()
    )
}

/// What is not right.
pub fn warnings(out: &Out, cluster: &ClusterStatus, stale: bool) {
    if stale {
        out.warn("no leader could be asked: this is what this node knew last");
    }
    cluster.warnings.iter().for_each(|text| out.warn(text));
    let silent = cluster.nodes.iter().filter(|n| n.silent);
    silent.for_each(|n| out.warn(&format!("{} is silent", n.name)));
}

fn row(view: &PackageView) -> Vec<String> {
    vec![
        view.name.to_string(),
        word(view.state),
        view.owner.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
        view.token.map_or_else(|| "-".to_owned(), |t| t.to_string()),
        when(view.since),
        view.reason.clone(),
    ]
}

async fn one(client: &Client, out: &Out, package: &PackageName) -> Result<(), Failed> {
    let detail: PackageDetail = client.get(&format!("/v1/packages/{package}")).await?;
    out.value(&detail);
    let view = &detail.view;
    out.table(&["PACKAGE", "STATE", "OWNER", "TOKEN", "SINCE", "REASON"], &[row(view)]);
    out.say("");
    let resources: Vec<Vec<String>> = view
        .resources
        .iter()
        .map(|r| {
            let kind = &r.resource.kind;
            let name = r.resource.name.to_string();
            let guarantee = guarantee(&detail.definition, &r.resource).to_owned();
            vec![name, kind.word().to_owned(), state(r.state).to_owned(), guarantee, r.detail.clone()]
        })
        .collect();
    out.table(&["RESOURCE", "KIND", "STATE", "GUARANTEE", "DETAIL"], &resources);
    out.say("");
    let nodes: Vec<Vec<String>> = view
        .nodes
        .iter()
        .map(|n| {
            vec![n.name.to_string(), if n.eligible { "yes" } else { "no" }.to_owned(), when(n.since), n.why.clone()]
        })
        .collect();
    out.table(&["NODE", "ELIGIBLE", "SINCE", "WHY"], &nodes);
    Ok(())
}

fn state(state: ResourceState) -> &'static str {
    match state {
        ResourceState::Down => "down",
        ResourceState::Starting => "starting",
        ResourceState::Up => "up",
        ResourceState::Stopping => "stopping",
        ResourceState::Dying => "dying",
        ResourceState::Failed => "failed",
    }
}
