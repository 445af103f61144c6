//! `pkgctl raft …`.

use super::args;
use super::client::Client;
use super::cluster;
use super::exit::Failed;
use super::members;
use super::print::Out;
use super::standalone;
use crate::api::types::raft::{Leading, RaftMember, RaftView, StepDownRequest};
use crate::engine::LogIndex;
use crate::raft::Role;

/// Dispatches.
pub async fn raft(client: &Client, out: &Out, verb: &args::Raft) -> Result<(), Failed> {
    match verb {
        args::Raft::Status => status(client, out).await,
        args::Raft::Add(verb) => members::add(client, out, verb).await,
        args::Raft::Remove(verb) => cluster::give_up(client, out, verb).await,
        args::Raft::StepDown(verb) => {
            let request = StepDownRequest { to: verb.to.clone() };
            led(out, &client.call("POST", "/v1/raft/step-down", &request).await?);
            Ok(())
        }
        args::Raft::ForceStandalone(verb) => standalone::go_alone(client, out, verb).await,
        args::Raft::Whole(typed) => standalone::whole(client, out, typed).await,
        args::Raft::StartElection => {
            client.named_one("raft start-election")?;
            led(out, &client.call("POST", "/v1/raft/start-election", &serde_json::json!({})).await?);
            Ok(())
        }
    }
}

fn led(out: &Out, leading: &Leading) {
    match &leading.leader {
        Some(leader) => out.say(&format!("{leader} leads now (term {})", leading.term)),
        None => out.say("leadership was handed over; who leads now is not known here yet: `pkgctl raft status`"),
    }
    out.value(leading);
}

async fn status(client: &Client, out: &Out) -> Result<(), Failed> {
    let view: RaftView = match client.get("/v1/raft").await {
        Ok(view) => view,
        Err(failed) => return cluster::unconfigured(client, out, failed).await,
    };
    let cluster = view.cluster.map_or("of no cluster yet".to_owned(), |id| format!("of cluster {id}"));
    out.say(&format!("{} (node {}) {cluster}: {}, term {}", view.node, view.id, role(view.role), view.term));
    if let Some(profile) = view.profile {
        let ((min, max), heartbeat) = (profile.election(), profile.heartbeat());
        out.say(&format!(
            "profile {}: election timeout {} to {} ms, heartbeat {} ms, pre-vote",
            profile.word(),
            min.as_millis(),
            max.as_millis(),
            heartbeat.as_millis()
        ));
    }
    out.say(&format!(
        "log to {}, committed {}, applied {}, snapshot {}",
        index(view.last_log),
        index(view.committed),
        index(view.applied),
        index(view.snapshot)
    ));
    if view.changing {
        out.say("a change of voters is under way: majorities of the old and the new ones are needed until it ends");
    }
    let head = ["ID", "NODE", "ADDRESS", "VOTE", "ROLE", "LOG", "HEARD"];
    let rows: Vec<Vec<String>> = view.members.iter().map(|member| row(member, &view)).collect();
    out.table(&head, &rows);
    if !view.by_the_leader {
        out.warn("no leader answers: how far the others are is not known");
    }
    unfollowed(&view).iter().for_each(|text| out.warn(text));
    out.value(&view);
    Ok(())
}

/// What is to be said of a leader that has no majority behind it.
fn unfollowed(view: &RaftView) -> Option<String> {
    let (leader, profile) = (view.leader.as_ref()?, view.profile?);
    let ago = view.majority_heard.filter(|ago| ago.duration() > profile.election().1)?;
    Some(format!(
        "no majority has answered {leader} for {ago}: nothing is decided here, and beyond a cut network another node may lead by \
         now; ask there, or see why these are not heard"
    ))
}

fn row(member: &RaftMember, view: &RaftView) -> Vec<String> {
    let heard = member.heard.map_or("-".to_owned(), |ago| format!("{ago} ago"));
    let what = if member.leader {
        "leader"
    } else if member.id == view.id {
        role(view.role)
    } else if member.voter {
        "follower"
    } else {
        "learner"
    };
    vec![
        member.id.to_string(),
        member.name.clone(),
        member.address.to_string(),
        if member.voter { "yes" } else { "no" }.to_owned(),
        what.to_owned(),
        index(member.matched),
        heard,
    ]
}

fn index(index: Option<LogIndex>) -> String {
    index.map_or("-".to_owned(), |index| index.to_string())
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Learner => "learner",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
        Role::Down => "down",
    }
}
