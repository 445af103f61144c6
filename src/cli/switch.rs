//! `pkgctl move`: a planned switchover, one act.

use super::args;
use super::client::Client;
use super::exit::Failed;
use super::follow::{Verdict, follow, is_owned_since, owner_name};
use super::print::Out;
use crate::api::types::{MoveRequest, Moving};
use crate::engine::view::{PackageView, StateWord};

/// `pkgctl move P [--to N]`.
pub async fn switch(client: &Client, out: &Out, verb: &args::Move) -> Result<(), Failed> {
    let package = &verb.package;
    let request = MoveRequest { to: verb.to.clone() };
    let moving: Moving = client.call("POST", &format!("/v1/packages/{package}/move"), &request).await?;
    if verb.no_wait {
        out.say(&format!("package '{package}' is moving from {} to {}", moving.from, moving.to));
        out.value(&moving);
        return Ok(());
    }
    let view = follow(client, out, package, |view| verdict(view, &moving)).await?;
    out.value(&view);
    Ok(())
}

fn verdict(view: &PackageView, moving: &Moving) -> Verdict {
    let name = &view.name;
    let reason = &view.reason;
    match view.state {
        StateWord::Running if !is_owned_since(view, moving.index) => Verdict::Missed(format!(
            "package '{name}' stays on {}: the move was called off by a later change",
            moving.from
        )),
        StateWord::Running if view.owner.as_ref() == Some(&moving.to) => {
            Verdict::Reached(format!("package '{name}' moved from {} to {}", moving.from, moving.to))
        }
        StateWord::Running => {
            let (to, owner) = (&moving.to, owner_name(view));
            Verdict::Missed(format!(
                "package '{name}' did not come up on {to} or is there no more; it runs on {owner} ({reason})"
            ))
        }
        StateWord::Halted | StateWord::Held | StateWord::Awaiting => {
            Verdict::Missed(format!("package '{name}' is {}", view.headline()))
        }
        StateWord::Starting | StateWord::Stopping | StateWord::Moving | StateWord::FailingOver => Verdict::Wait,
    }
}
