//! `pkgctl move`: a planned switchover, one act.

use super::args;
use super::client::Client;
use super::exit::Failed;
use super::follow::{Verdict, follow};
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
    match view.state {
        StateWord::Running if view.owner.as_ref() == Some(&moving.to) => {
            Verdict::Reached(format!("package '{name}' moved from {} to {}", moving.from, moving.to))
        }
        StateWord::Running if view.owner.as_ref() != Some(&moving.from) => {
            let owner = view.owner.as_ref().map(ToString::to_string).unwrap_or_default();
            Verdict::Missed(format!("package '{name}' did not come up on {} and runs on {owner}", moving.to))
        }
        StateWord::Halted | StateWord::Held => Verdict::Missed(format!("package '{name}' is {}", view.headline())),
        StateWord::Running | StateWord::Starting | StateWord::Stopping | StateWord::Moving | StateWord::FailingOver => {
            Verdict::Wait
        }
    }
}
