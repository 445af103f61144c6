//! Words for people: one file per verb, one file that prints, one that waits.
//!
//! Output is for people by default and JSON with `--json`. Exit codes are in [`exit`].

pub mod alias;
pub mod args;
pub mod exit;
pub mod introduction;
pub mod kv;
pub mod reach;

mod client;
mod cluster;
mod fence;
mod follow;
mod init;
mod leave;
mod logs;
mod members;
mod node;
mod operators;
mod print;
mod raft;
mod run;
mod standalone;
mod status;
mod stop;
mod switch;

use std::process::ExitCode;
use std::time::Duration;

use tokio::time::sleep;

use self::args::{Args, Verb};
use self::client::Client;
use self::exit::Failed;
use self::print::Out;
use crate::api::types::Status;

/// Prints a table for people.
pub fn print_table(head: &[&str], rows: &[Vec<String>]) {
    Out::new(false).table(head, rows);
}

/// Runs a verb that talks to an agent; prints what went wrong and answers the exit code.
pub async fn run_verb(args: Args) -> ExitCode {
    let out = Out::new(args.json);
    dispatch(&args, &out).await.map_or_else(|failed| report(&args, &failed), |()| ExitCode::SUCCESS)
}

/// Prints what went wrong and answers the exit code.
pub fn report(args: &Args, failed: &Failed) -> ExitCode {
    Out::new(args.json).failed(failed);
    failed.code()
}

/// Runs a verb that talks to an agent, for another one.
pub async fn perform(args: &Args) -> Result<(), Failed> {
    dispatch(args, &Out::new(args.json)).await
}

/// How often an agent that is about to start is asked.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Waits until the agent is there and has started.
pub async fn until_it_answers(args: &Args) -> Result<(), Failed> {
    let client = Client::find(args)?;
    while client.get::<Status>("/v1/status").await.is_err() {
        sleep(ASK_EVERY).await;
    }
    Ok(())
}

/// Waits until the node that answers votes; shows each step.
pub async fn until_it_votes(args: &Args) -> Result<(), Failed> {
    cluster::wait_for_vote_of(&Client::find(args)?, &Out::new(args.json), None).await
}

async fn dispatch(args: &Args, out: &Out) -> Result<(), Failed> {
    let client = Client::find(args)?;
    match &args.verb {
        Verb::Init(verb) => init::init(&client, out, verb).await,
        Verb::Run(verb) => run::run(&client, out, verb).await,
        Verb::Stop(verb) => stop::stop(&client, out, verb).await,
        Verb::Halt(verb) => stop::stop(&client, out, &verb.everywhere()).await,
        Verb::Move(verb) => switch::switch(&client, out, verb).await,
        Verb::Clear(verb) => run::clear(&client, out, verb).await,
        Verb::Delete(verb) => init::delete(&client, out, verb).await,
        Verb::Status(verb) => status::status(&client, out, verb.package.as_ref()).await,
        Verb::Logs(verb) => logs::logs(&client, out, verb).await,
        Verb::Cluster(verb) => cluster::cluster(&client, out, verb).await,
        Verb::Fence(verb) => fence::fence(&client, out, verb).await,
        Verb::Raft(verb) => raft::raft(&client, out, verb).await,
        Verb::Kv(verb) => kv::kv(&client, out, verb).await,
        Verb::Node(verb) => node::node(&client, out, verb).await,
        Verb::Agent(_) | Verb::Demo(_) | Verb::Serve(_) | Verb::FirstBoot(_) => {
            Err(Failed::usage("this verb is not for an agent".to_owned()))
        }
    }
}
