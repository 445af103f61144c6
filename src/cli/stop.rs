//! `pkgctl stop` and `pkgctl halt`. The output always says which happened: it respawned elsewhere, or it is down.

use super::args;
use super::client::Client;
use super::exit::Failed;
use super::follow::{Verdict, follow};
use super::print::Out;
use crate::api::types::{Changed, Owner, StopRequest};
use crate::engine::command::StopScope;
use crate::engine::view::{PackageView, StateWord};
use crate::package::NodeName;

/// `pkgctl stop P [--node N | --everywhere]`.
pub async fn stop(client: &Client, out: &Out, verb: &args::Stop) -> Result<(), Failed> {
    let package = &verb.package;
    let before: Owner = client.get(&format!("/v1/packages/{package}/owner")).await?;
    let scope = match (&verb.node, verb.everywhere) {
        (_, true) => StopScope::Everywhere,
        (Some(node), false) => StopScope::Node(node.clone()),
        (None, false) => StopScope::Owner,
    };
    let request = StopRequest { scope: scope.clone() };
    let changed: Changed = client.call("POST", &format!("/v1/packages/{package}/stop"), &request).await?;
    if verb.no_wait {
        out.say(&format!("package '{package}' is being stopped; `pkgctl status {package}` shows how far it is"));
        out.value(&changed);
        return Ok(());
    }
    let view = follow(client, out, package, |view| verdict(view, &scope, before.node.as_ref())).await?;
    out.value(&view);
    Ok(())
}

fn verdict(view: &PackageView, scope: &StopScope, owner_before: Option<&NodeName>) -> Verdict {
    let name = &view.name;
    let again = format!("`pkgctl run {name}` starts it again");
    match (scope, view.state) {
        (_, StateWord::Held) => Verdict::Missed(format!("package '{name}' is {}", view.headline())),
        (StopScope::Everywhere, StateWord::Halted) => {
            Verdict::Reached(format!("package '{name}' is stopped in the whole cluster; {again}"))
        }
        (StopScope::Everywhere, _) => Verdict::Wait,
        (StopScope::Owner | StopScope::Node(_), StateWord::Halted) => {
            Verdict::Reached(format!("package '{name}' is stopped and runs nowhere: {}; {again}", view.reason))
        }
        (StopScope::Node(node), StateWord::Running) if view.owner.as_ref() != Some(node) => {
            let owner = view.owner.as_ref().map(ToString::to_string).unwrap_or_default();
            Verdict::Reached(format!(
                "package '{name}' runs on {owner}; {node} stays out of it until `pkgctl run {name}`"
            ))
        }
        (StopScope::Owner, StateWord::Running) if view.owner.as_ref() != owner_before => {
            let from = owner_before.map(ToString::to_string).unwrap_or_default();
            let to = view.owner.as_ref().map(ToString::to_string).unwrap_or_default();
            Verdict::Reached(format!(
                "package '{name}' stopped on {from} and respawned on {to}; {from} stays out of it until `pkgctl run {name}`"
            ))
        }
        (StopScope::Owner | StopScope::Node(_), _) => Verdict::Wait,
    }
}
