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

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::time::sleep;

use self::args::{Args, Node, Verb};
use self::client::Client;
use self::exit::Failed;
use self::print::Out;
use crate::api::types::Status;

/// Reads the command line. What cannot be read is told, in the form that was asked for, and help is printed; the exit code
/// then.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Args, ExitCode> {
    let words: Vec<OsString> = words.into_iter().collect();
    let as_json = wants_json(&words);
    match Args::try_parse_from(words) {
        Ok(args) => match of_this_machine(&args) {
            Ok(()) => Ok(args),
            Err(failed) => Err(report(&args, &failed)),
        },
        Err(error) if as_json && error.use_stderr() => {
            let failed = unusable(&error);
            Out::new(true).failed(&failed);
            Err(failed.code())
        }
        Err(error) => error.exit(),
    }
}

/// Whether JSON is asked for, on a command line that may not be readable otherwise.
fn wants_json(words: &[OsString]) -> bool {
    words.iter().take_while(|word| *word != "--").any(|word| word == "--json")
}

/// A command line that cannot be used, with all that is said to people.
fn unusable(error: &clap::Error) -> Failed {
    let text = error.render().to_string();
    Failed::usage(text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned())
}

/// Refuses to do something on this machine that was meant for another one.
fn of_this_machine(args: &Args) -> Result<(), Failed> {
    let verb = match &args.verb {
        Verb::Agent(_) => "agent",
        Verb::Serve(_) => "serve",
        Verb::FirstBoot(_) => "first-boot",
        Verb::Demo(_) => "demo",
        Verb::Node(Node::Start) => "node start",
        Verb::Node(Node::Stop) => "node stop",
        Verb::Init(_)
        | Verb::Run(_)
        | Verb::Stop(_)
        | Verb::Halt(_)
        | Verb::Move(_)
        | Verb::Clear(_)
        | Verb::Delete(_)
        | Verb::Status(_)
        | Verb::Logs(_)
        | Verb::Cluster(_)
        | Verb::Raft(_)
        | Verb::Kv(_)
        | Verb::Fence(_)
        | Verb::Node(Node::Leave(_)) => return Ok(()),
    };
    if args.endpoint.is_empty() && args.client.is_none() {
        return Ok(());
    }
    Err(Failed::usage(format!(
        "`pkgctl {verb}` is about the machine that it is typed on, and --endpoint and --client name others: type it there, \
         without them; nothing was started or changed"
    )))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_command_line_that_cannot_be_used_is_json_where_that_was_asked_for() {
        for (line, json) in [("pkgctl --json x", true), ("pkgctl kv set a -- --json", false), ("pkgctl run", false)] {
            assert_eq!(wants_json(&words(line)), json, "{line}");
        }
        let error = Args::try_parse_from(words("pkgctl --json cluster remove")).unwrap_err();
        let failed = unusable(&error);
        assert_eq!((failed.number(), failed.word()), (2, "usage"));
        assert!(failed.message.contains("<NODE>") && !failed.message.contains("error:"), "{}", failed.message);
        assert!(!failed.message.contains('\x1b'), "{:?}", failed.message);
    }

    #[test]
    fn what_is_about_this_machine_is_not_done_here_for_another_one() {
        let checked = |line: &str| of_this_machine(&Args::try_parse_from(words(line)).unwrap());
        for verb in ["serve", "node start", "node stop", "agent", "first-boot", "demo"] {
            assert!(checked(&format!("pkgctl {verb}")).is_ok(), "{verb}");
            for way in ["--endpoint n2", "--client a/client.toml"] {
                let refused = checked(&format!("pkgctl {way} {verb}")).unwrap_err();
                assert!(refused.number() == 2 && refused.message.contains(verb), "{}", refused.message);
            }
        }
        assert!(checked("pkgctl --endpoint n2 node leave").is_ok());
    }
}
