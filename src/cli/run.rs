//! `pkgctl run` and `pkgctl clear`.

use super::args;
use super::client::Client;
use super::exit::Failed;
use super::follow::{Verdict, follow};
use super::print::Out;
use crate::api::types::{Changed, NodeRequest};
use crate::engine::Reply;
use crate::engine::view::{PackageView, StateWord};

/// `pkgctl run P [--node N]`.
pub async fn run(client: &Client, out: &Out, verb: &args::Run) -> Result<(), Failed> {
    let package = &verb.package;
    let request = NodeRequest { node: verb.node.clone() };
    let changed: Changed = client.call("POST", &format!("/v1/packages/{package}/run"), &request).await?;
    if verb.no_wait {
        out.say(&format!("package '{package}' shall run; `pkgctl status {package}` shows how far it is"));
        out.value(&changed);
        return Ok(());
    }
    let view = follow(client, out, package, running).await?;
    out.value(&view);
    Ok(())
}

/// Whether it runs, or cannot.
pub fn running(view: &PackageView) -> Verdict {
    let owner = view.owner.as_ref().map(ToString::to_string).unwrap_or_default();
    let token = view.token.map(|t| t.to_string()).unwrap_or_default();
    match view.state {
        StateWord::Running => Verdict::Reached(format!("package '{}' runs on {owner} (token {token})", view.name)),
        StateWord::Awaiting => Verdict::Missed(format!(
            "package '{}' is {}. It starts by itself once that is done",
            view.name,
            view.headline()
        )),
        StateWord::Halted | StateWord::Held => Verdict::Missed(format!(
            "package '{}' is {}; `pkgctl logs {}` on the node shows why, `pkgctl run {}` tries again",
            view.name,
            view.headline(),
            view.name,
            view.name
        )),
        StateWord::Starting | StateWord::Stopping | StateWord::Moving | StateWord::FailingOver => Verdict::Wait,
    }
}

/// `pkgctl clear P --node N`.
pub async fn clear(client: &Client, out: &Out, verb: &args::Clear) -> Result<(), Failed> {
    let request = NodeRequest { node: Some(verb.node.clone()) };
    let changed: Changed = client.call("POST", &format!("/v1/packages/{}/clear", verb.package), &request).await?;
    match changed.reply {
        Reply::Already => out.say(&format!(
            "package '{}' has not failed on {}: nothing to clear; `pkgctl run {}` makes a stopped node eligible again",
            verb.package, verb.node, verb.package
        )),
        _ => out.say(&format!("package '{}' may be tried on {} again", verb.package, verb.node)),
    }
    out.value(&changed);
    Ok(())
}
