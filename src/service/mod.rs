//! `pkgctl agent` as a process: configuration, identity, and the two lives of a node, outside a cluster and in one.
//!
//! - `passive`: a node that is in no cluster answers so, and waits for `cluster init` or `cluster join`.
//! - `member`: a node in a cluster: consensus, keeper, agent, listeners.
//! - `platform`: the real world around an agent. `removal`: a node that was removed knows it.
//! - `fallback`: going on alone, and leaving.
//! - `admission`: letting others join; `calls`: requests of other members.
//! - `home`: a node that lives in a directory, without systemd.
//! - `doorway`: one local socket for both lives. `logs`: rotation of logs.

mod admission;
mod calls;
mod doorway;
mod fallback;
pub mod home;
mod logs;
mod member;
mod passive;
mod platform;
mod removal;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use self::doorway::Doorway;
use crate::bounded;
use crate::cli::args;
use crate::config::{Config, FILE_LIMIT, PORT_DEFAULT, Places};
use crate::host::own_files;
use crate::host::systemd::Systemd;
use crate::net::identity::{Credentials, IdentityDir};
use crate::package::NodeName;

/// The agent's exit code after its disk failed (EX_IOERR of sysexits.h); its unit is not started again by itself then.
pub const EXIT_DISK_FAILED: u8 = 74;

/// The store has failed, and not for want of room: it must not be opened again before somebody has looked at the disk.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct DiskFailed(String);

/// What an agent starts from.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    places: Places,
    config: Config,
    name: NodeName,
    listen: std::net::SocketAddr,
    /// Start the keeper when none is there (no systemd).
    start_keeper: bool,
    systemd: Arc<Systemd>,
}

/// Runs the agent until it is told to stop; says what is wrong and answers the exit code.
pub fn run(args: &args::Args, verb: &args::Agent) -> ExitCode {
    let start = match prepare(args, verb) {
        Ok(start) => start,
        Err(error) => {
            anstream::eprintln!("pkgctl agent: {error:#}");
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            anstream::eprintln!("pkgctl agent: cannot start its threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(live(start)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            if error.is::<DiskFailed>() { ExitCode::from(EXIT_DISK_FAILED) } else { ExitCode::FAILURE }
        }
    }
}

/// Ends with the process that started this one, also when that is killed.
fn end_with(parent: i32) -> Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM).context("cannot end with the process above")?;
    if nix::unistd::getppid().as_raw() != parent {
        bail!("the process {parent} that started this one has ended");
    }
    Ok(())
}

fn prepare(args: &args::Args, verb: &args::Agent) -> Result<Start> {
    verb.with_parent.map_or(Ok(()), end_with)?;
    let places = Places::under(args.root.as_deref());
    let config = configuration(verb.config.clone().unwrap_or_else(|| places.config_file()), verb.config.is_some())?;
    log_to_stderr(&config.log);
    let name = match verb.name.clone().or_else(|| config.name.clone()) {
        Some(name) => name,
        None => host_name()?,
    };
    let Some(listen) = verb.listen.or(config.listen) else {
        bail!(
            "no address to listen on is configured: write `listen = \"ADDRESS:{PORT_DEFAULT}\"` with this node's own \
             address into {}",
            places.config_file().display()
        );
    };
    // The socket in the one may be a group's to use, and logs are for people to read; the state is nobody else's.
    let run_and_logs = [places.run_dir(), places.log_dir().join("packages")].map(|dir| (dir, 0o755));
    for (dir, mode) in run_and_logs.into_iter().chain([(places.state_dir(), 0o700)]) {
        own_files::dir(&dir, mode).with_context(|| format!("cannot use the directory {}", dir.display()))?;
    }
    Ok(Start {
        places,
        config,
        name,
        listen,
        start_keeper: !verb.no_keeper,
        systemd: Arc::new(Systemd::of_environment()),
    })
}

fn configuration(path: PathBuf, named: bool) -> Result<Config> {
    let shown = path.display().to_string();
    match bounded::read_text(&path, FILE_LIMIT) {
        Ok(text) => Config::parse(&shown, &text).map_err(|problems| anyhow::anyhow!("{problems}")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !named => Ok(Config::default()),
        Err(e) => Err(e).with_context(|| format!("cannot read {shown}")),
    }
}

pub(in crate::service) fn host_name() -> Result<NodeName> {
    let name = nix::unistd::gethostname().context("cannot read the host name")?;
    let name = name.to_string_lossy().into_owned();
    NodeName::new(name)
        .context("the host name cannot be this node's name; write `name = \"n1\"` into the configuration")
}

/// What is logged of crates below us: openraft warns of every heartbeat that a lost node misses, many times a second.
const OTHERS: &str = "warn,openraft=error,sled=error";

fn log_to_stderr(level: &str) {
    let filter = std::env::var("PKGCTL_LOG").unwrap_or_else(|_| format!("{OTHERS},pkgctl={level}"));
    // A second call in one process (tests) keeps the first logger.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
}

async fn live(start: Start) -> Result<()> {
    let state_dir = start.places.state_dir();
    if let Some(gone) = fallback::finish(&state_dir)? {
        tracing::warn!(
            "this node has gone on alone: it was node {} of cluster {}, and is cluster {}",
            gone.node,
            gone.from,
            gone.to
        );
    }
    let files = IdentityDir::open(state_dir.join(removal::IDENTITY_DIR))?;
    let doorway = Doorway::open(start.places.api_socket())?;
    let removed = removal::Record::read(&state_dir)?;
    let known = if removed.is_some() { None } else { files.load()? };
    let credentials: Arc<Credentials> = match known {
        Some(credentials) => Arc::new(credentials),
        None => passive::wait(&start, &files, &doorway, removed).await?,
    };
    match member::live(start, credentials, doorway).await? {
        Ended::Told => Ok(()),
        Ended::Changed => Err(begin_again()),
    }
}

/// How a member's life ended well.
enum Ended {
    /// It was told to stop.
    Told,
    /// It is no member any more, or one of another cluster.
    Changed,
}

/// Puts a fresh process in this one's place, with nothing left of the member that it was; answers why that failed.
fn begin_again() -> anyhow::Error {
    let mut words = std::env::args_os();
    let mut command = std::process::Command::new("/proc/self/exe");
    command.arg0(words.next().unwrap_or_default()).args(words);
    anyhow::Error::new(command.exec())
        .context("the agent cannot begin again after its cluster has changed; start it again")
}
