//! `pkgctl keeper`, as systemd or an agent starts it: its command line, its log, its exit code.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;
use tracing_subscriber::EnvFilter;

use super::log::Lines;
use super::start::block_signals;
use super::{Options, run};
use crate::config::{AGENT_GRACE_DEFAULT, Places, Scheduling};
use crate::keeper::core::Enforcement;

/// The command line is wrong.
const EXIT_USAGE: u8 = 2;

/// Holds this node's lease and runs its programs. Started by systemd or by the agent.
#[derive(Debug, Parser)]
#[command(name = "pkgctl keeper", version)]
struct Arguments {
    /// Directory that every file lies below.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Whether real-time scheduling is used: auto, fifo or best-effort.
    #[arg(long, value_name = "WORD", default_value = "auto", value_parser = scheduling)]
    scheduling: Scheduling,
    /// Silence of the agent after which the lease is not renewed.
    #[arg(long, value_name = "TIME", default_value_t = humantime::Duration::from(AGENT_GRACE_DEFAULT.duration()))]
    agent_grace: humantime::Duration,
    /// Least severity that is logged.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
}

fn scheduling(word: &str) -> Result<Scheduling, String> {
    let known = [Scheduling::Auto, Scheduling::Fifo, Scheduling::BestEffort];
    known.into_iter().find(|s| s.word() == word).ok_or_else(|| "write auto, fifo or best-effort".to_owned())
}

/// Runs a keeper with these arguments, until it is told to end.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let name = OsString::from("pkgctl keeper");
    let arguments = match Arguments::try_parse_from(std::iter::once(&name).chain(arguments)) {
        Ok(arguments) => arguments,
        Err(e) => {
            // Nobody is left to be told that nobody reads.
            let _ = e.print();
            let asked = matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(EXIT_USAGE) };
        }
    };
    let options = Options {
        places: Places::under(arguments.root.as_deref()),
        scheduling: arguments.scheduling,
        agent_grace: Duration::from(arguments.agent_grace),
        enforcement: Enforcement::Kernel,
    };
    serve(&options, &arguments.log)
}

/// Runs a keeper until it is told to end, and answers the exit code. `log` is the least severity that is logged.
pub fn serve(options: &Options, log: &str) -> ExitCode {
    let blocked = block_signals();
    if let Ok(lines) = Lines::start(std::io::stderr()) {
        let filter = EnvFilter::try_new(log).unwrap_or_else(|_| EnvFilter::new("info"));
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines).with_ansi(false).with_target(false).init();
    }
    match blocked.and_then(|()| run(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // Straight to standard error: the queue's thread ends with the process.
            eprintln!("pkgctl keeper: {why}");
            ExitCode::FAILURE
        }
    }
}
