//! `pkgctl keeper`, as systemd or an agent starts it: its command line, its log, its exit code.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind as Wrong;
use tracing_subscriber::EnvFilter;

use super::log::Lines;
use super::start::block_signals;
use super::{Options, WatchdogOptions, run};
use crate::bounded;
use crate::config::{Config, FILE_LIMIT, Places, Scheduling, WATCHDOG_TIMEOUT};
use crate::keeper::core::Enforcement;
use crate::package::Millis;

/// The command line is wrong.
const EXIT_USAGE: u8 = 2;

/// Holds this node's lease and runs its programs. Started by systemd or by the agent.
#[derive(Debug, Parser)]
#[command(name = "pkgctl keeper", version)]
struct Arguments {
    /// Directory that every file lies below.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The agent's configuration; what stands in it holds unless an option says otherwise.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Whether real-time scheduling is used: auto, fifo or best-effort.
    #[arg(long, value_name = "WORD", value_parser = scheduling)]
    scheduling: Option<Scheduling>,
    /// Silence of the agent after which the lease is not renewed.
    #[arg(long, value_name = "TIME")]
    agent_grace: Option<Millis>,
    /// The machine's watchdog device; none is used without it.
    #[arg(long, value_name = "PATH")]
    watchdog: Option<PathBuf>,
    /// How long the watchdog bears a keeper that stands still; what the cluster's profile asks for without it.
    #[arg(long, value_name = "TIME", value_parser = watchdog_timeout)]
    watchdog_timeout: Option<Millis>,
    /// Least severity that is logged.
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

impl Arguments {
    /// The configuration file with what the options say put over it. A file that is not there says nothing.
    fn settle(self) -> Result<(Options, String), String> {
        let config = match &self.config {
            Some(path) => match bounded::read_text(path, FILE_LIMIT) {
                Ok(text) => Config::parse(&path.display().to_string(), &text).map_err(|bad| bad.to_string())?,
                Err(why) if why.kind() == ErrorKind::NotFound => Config::default(),
                Err(why) => return Err(format!("{} cannot be read: {why}", path.display())),
            },
            None => Config::default(),
        };
        let timeout = self.watchdog_timeout.or(config.watchdog_timeout);
        let watchdog = self.watchdog.or(config.watchdog).map(|path| WatchdogOptions { path, timeout });
        let options = Options {
            places: Places::under(self.root.as_deref()),
            scheduling: self.scheduling.unwrap_or(config.scheduling),
            agent_grace: self.agent_grace.unwrap_or(config.agent_grace).duration(),
            watchdog,
            enforcement: Enforcement::Kernel,
        };
        Ok((options, self.log.unwrap_or(config.log)))
    }
}

fn watchdog_timeout(text: &str) -> Result<Millis, String> {
    let given = text.parse::<Millis>().map_err(|bad| bad.to_string())?;
    let within = WATCHDOG_TIMEOUT.contains(&given);
    within.then_some(given).ok_or_else(|| format!("{} to {}", WATCHDOG_TIMEOUT.start(), WATCHDOG_TIMEOUT.end()))
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
            let asked = matches!(e.kind(), Wrong::DisplayHelp | Wrong::DisplayVersion);
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(EXIT_USAGE) };
        }
    };
    match arguments.settle() {
        Ok((options, log)) => serve(&options, &log),
        Err(why) => {
            eprintln!("pkgctl keeper: {why}");
            ExitCode::from(EXIT_USAGE)
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(arguments: &[&str]) -> Result<(Options, String), String> {
        Arguments::try_parse_from(std::iter::once(&"pkgctl keeper").chain(arguments)).unwrap().settle()
    }

    #[test]
    fn what_options_do_not_say_the_configuration_does() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        std::fs::write(&file, "agent_grace = \"20s\"\nwatchdog = \"/dev/watchdog1\"\nlog = \"debug\"\n").unwrap();
        let file = file.to_str().unwrap();
        let (options, log) = settled(&["--config", file, "--watchdog-timeout", "30s"]).unwrap();
        let watchdog = WatchdogOptions { path: "/dev/watchdog1".into(), timeout: Some(Millis::from_secs(30)) };
        assert_eq!(options.watchdog, Some(watchdog));
        assert_eq!((Millis::from(options.agent_grace), log.as_str()), (Millis::from_secs(20), "debug"));
        let (options, _) = settled(&["--config", file, "--watchdog", "/dev/watchdog", "--agent-grace", "7s"]).unwrap();
        assert_eq!(options.watchdog.unwrap().path, PathBuf::from("/dev/watchdog"));
        assert_eq!(Millis::from(options.agent_grace), Millis::from_secs(7));
    }

    #[test]
    fn a_file_that_is_not_there_says_nothing_and_a_bad_one_is_told_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        let (options, log) = settled(&["--config", file.to_str().unwrap()]).unwrap();
        assert_eq!((options.watchdog, log.as_str()), (None, "info"));
        std::fs::write(&file, "watchdog = 1\nlog = \"loud\"\n").unwrap();
        let why = settled(&["--config", file.to_str().unwrap()]).unwrap_err();
        assert!(why.contains("agent.toml:1") && why.contains("agent.toml:2"), "{why}");
    }

    #[test]
    fn a_watchdog_that_would_reset_healthy_machines_is_refused() {
        for bad in ["1s", "2h", "ten"] {
            assert!(Arguments::try_parse_from(["pkgctl keeper", "--watchdog-timeout", bad]).is_err(), "{bad}");
        }
    }
}
