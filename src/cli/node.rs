//! `pkgctl node leave`: planned moves of everything here, before this node goes down.

use super::args;
use super::client::Client;
use super::exit::Failed;
use super::follow::{Verdict, follow};
use super::print::Out;
use crate::api::routes::Leaving;
use crate::engine::view::{PackageView, StateWord};
use crate::package::NodeName;

/// What systemd says of the whole system when it is going down.
const STOPPING: &str = "stopping";

/// Moves everything away and waits until it runs elsewhere.
pub async fn node(client: &Client, out: &Out, verb: &args::Node) -> Result<(), Failed> {
    let leave = match verb {
        args::Node::Leave(leave) => leave,
        args::Node::Start | args::Node::Stop => return Err(Failed::usage("this verb is not for an agent".to_owned())),
    };
    if leave.when_stopping {
        client.on_this_node("node leave --when-stopping")?;
    }
    if leave.when_stopping && !system_is_stopping() {
        out.say("the system is not going down: packages stay");
        return Ok(());
    }
    client.named_one("node leave")?;
    let leaving: Leaving = client.call("POST", "/v1/node/leave", &serde_json::json!({})).await?;
    for (package, why) in &leaving.staying {
        out.warn(&format!("{package} ends with this node: {why}"));
    }
    for moving in &leaving.moving {
        follow(client, out, &moving.package, |view| gone(view, &moving.from)).await?;
    }
    out.value(&leaving);
    Ok(())
}

fn gone(view: &PackageView, from: &NodeName) -> Verdict {
    match view.state {
        StateWord::Halted => Verdict::Reached(format!("package '{}' is {}", view.name, view.headline())),
        StateWord::Held | StateWord::Awaiting => {
            Verdict::Missed(format!("package '{}' is {}", view.name, view.headline()))
        }
        StateWord::Running if view.owner.as_ref() != Some(from) => {
            let owner = view.owner.as_ref().map(ToString::to_string).unwrap_or_default();
            Verdict::Reached(format!("package '{}' runs on {owner}", view.name))
        }
        StateWord::Running | StateWord::Starting | StateWord::Stopping | StateWord::Moving | StateWord::FailingOver => {
            Verdict::Wait
        }
    }
}

fn system_is_stopping() -> bool {
    let asked = std::process::Command::new("systemctl").arg("is-system-running").output();
    asked.is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).trim() == STOPPING)
}
