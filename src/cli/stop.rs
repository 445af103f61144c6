//! `pkgctl stop` and `pkgctl halt`. The output always says which happened: it respawned elsewhere, or it is down.

use super::args;
use super::client::Client;
use super::exit::Failed;
use super::follow::{Verdict, follow, is_owned_since, owner_name};
use super::print::Out;
use crate::api::types::{StopRequest, Stopped};
use crate::engine::LogIndex;
use crate::engine::command::StopScope;
use crate::engine::state::Desired;
use crate::engine::view::{PackageView, StateWord};
use crate::package::NodeName;

/// `pkgctl stop P [--node N | --everywhere]`.
pub async fn stop(client: &Client, out: &Out, verb: &args::Stop) -> Result<(), Failed> {
    let package = &verb.package;
    let scope = match (&verb.node, verb.everywhere) {
        (_, true) => StopScope::Everywhere,
        (Some(node), false) => StopScope::Node(node.clone()),
        (None, false) => StopScope::Owner,
    };
    let request = StopRequest { scope: scope.clone() };
    let stopped: Stopped = client.call("POST", &format!("/v1/packages/{package}/stop"), &request).await?;
    if verb.no_wait {
        out.say(&format!("package '{package}' is being stopped; `pkgctl status {package}` shows how far it is"));
        out.value(&stopped);
        return Ok(());
    }
    let view = follow(client, out, package, |view| verdict(view, &scope, &stopped)).await?;
    out.value(&view);
    Ok(())
}

fn verdict(view: &PackageView, scope: &StopScope, stopped: &Stopped) -> Verdict {
    let name = &view.name;
    let again = format!("`pkgctl run {name}` starts it again");
    match (scope, &stopped.node, view.state) {
        (_, _, StateWord::Held) => Verdict::Missed(format!("package '{name}' is {}", view.headline())),
        (StopScope::Everywhere, _, StateWord::Halted) => {
            Verdict::Reached(format!("package '{name}' is stopped in the whole cluster; {again}"))
        }
        (StopScope::Everywhere, ..) if view.desired == Desired::Running => {
            Verdict::Missed(format!("package '{name}' was run again by a later change; it is {}", view.headline()))
        }
        (StopScope::Owner | StopScope::Node(_), _, StateWord::Halted | StateWord::Awaiting) => {
            Verdict::Reached(format!("package '{name}' is stopped and runs nowhere: {}; {again}", view.reason))
        }
        (StopScope::Owner | StopScope::Node(_), Some(node), StateWord::Running) => elsewhere(view, node, stopped.index),
        (StopScope::Everywhere | StopScope::Owner | StopScope::Node(_), ..) => Verdict::Wait,
    }
}

/// It runs: elsewhere, as it should, or on the node that was to stay out of it.
fn elsewhere(view: &PackageView, node: &NodeName, stopped: LogIndex) -> Verdict {
    let (name, owner) = (&view.name, owner_name(view));
    let stays_out = format!("{node} stays out of it until `pkgctl run {name}`");
    match view.owner.as_ref() == Some(node) {
        true => Verdict::Missed(format!("package '{name}' runs on {node}: it was run again by a later change")),
        false if is_owned_since(view, stopped) => {
            Verdict::Reached(format!("package '{name}' stopped on {node} and respawned on {owner}; {stays_out}"))
        }
        false => Verdict::Reached(format!("package '{name}' runs on {owner}; {stays_out}")),
    }
}
