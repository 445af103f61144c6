//! `first-boot`, `start` and `stop`, as lite-raft's users type them on every node, in a directory with `conf/`.
//!
//! Where pkgctl's units are installed and no other root is named, systemd runs the node, and its files lie where they lie on
//! such a machine. Elsewhere a process of its own serves the directory, with all files below it.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::enter::{Entering, answers, enter, of};
use super::serve::{SAID, can_listen, say};
use super::server::{Started, detach, end, who};
use super::settle::Entry;
use super::{Home, Node, seed};
use crate::cli::args::{Args, FirstBoot, Status, Verb};
use crate::cli::exit::Failed;
use crate::cli::{report, until_it_votes};
use crate::config::Places;
use crate::net::introduction::SharedSecret;
use crate::package::NodeName;

/// How long `stop` waits: packages move, the agent ends, the keeper ends.
const STOP_WITHIN: Duration = Duration::from_secs(180);
/// How long a first boot under systemd asks to be let in; elsewhere the node's own process goes on asking.
const BOOT_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What is shown of a log whose process has ended.
const LOG_LINES: usize = 5;
/// What of a log is shown in one go.
const SHOW_MAX_BYTES: u64 = 64 << 10;
const UNITS: [&str; 2] = ["pkgctl-keeper.service", "pkgctl-agent.service"];

/// `pkgctl first-boot`.
pub fn first_boot(args: &Args, verb: &FirstBoot) -> ExitCode {
    ran(args, async { boot(args, &verb.dir).await })
}

/// `pkgctl node start`.
pub fn start(args: &Args) -> ExitCode {
    ran(args, async {
        let home = here(args)?;
        let home = match home {
            Ruled::Systemd => return systemctl("start"),
            Ruled::Here(home) => home,
        };
        if !home.has_state() {
            return Err(Failed::usage(format!(
                "no node lives in {} yet, so there is none to start: `first-boot` makes it",
                home.dir.display()
            )));
        }
        resume(&home).await
    })
}

/// `pkgctl node stop`.
pub fn stop(args: &Args) -> ExitCode {
    ran(args, async {
        let home = match here(args)? {
            Ruled::Systemd => return systemctl("stop"),
            Ruled::Here(home) => home,
        };
        if let Some(pid) = who(&home)? {
            say(&format!("packages move away first, then this node (process {pid}) ends"));
        }
        match end(&home, STOP_WITHIN).await? {
            true => say("stopped; `start` brings this node back as it is"),
            false => say("no node runs in this directory: nothing was stopped"),
        }
        Ok(())
    })
}

fn ran(args: &Args, work: impl Future<Output = Result<(), Failed>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(|e| Failed::outcome(format!("cannot start: {e}"))).and_then(|rt| rt.block_on(work));
    ended.map_or_else(|failed| report(args, &failed), |()| ExitCode::SUCCESS)
}

/// Who runs the node.
enum Ruled {
    Systemd,
    Here(Home),
}

fn here(args: &Args) -> Result<Ruled, Failed> {
    if args.root.is_none() && has_units() {
        return Ok(Ruled::Systemd);
    }
    Home::open(args.root.as_deref().unwrap_or(Path::new("."))).map(Ruled::Here)
}

fn has_units() -> bool {
    let folders = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
    Path::new("/run/systemd/system").is_dir()
        && UNITS.iter().all(|unit| folders.iter().any(|folder| Path::new(folder).join(unit).exists()))
}

fn systemctl(verb: &str) -> Result<(), Failed> {
    let bad = |why: String| Failed::outcome(format!("`systemctl {verb}` of pkgctl's units: {why}"));
    let ended = Command::new("systemctl").arg(verb).args(UNITS).status().map_err(|e| bad(e.to_string()))?;
    if ended.success() { Ok(()) } else { Err(bad(ended.to_string())) }
}

async fn boot(args: &Args, dir: &Path) -> Result<(), Failed> {
    let seed = seed::read(dir)?;
    let host = nix::unistd::gethostname().map_err(|e| Failed::outcome(format!("cannot read the host's name: {e}")))?;
    let (name, listen) = seed::own(&seed.nodes, &host.to_string_lossy())?;
    let ruled = match here(args)? {
        Ruled::Here(_) if args.root.is_none() => Ruled::Here(Home::open(dir)?),
        other => other,
    };
    let home = match &ruled {
        Ruled::Here(home) => home.clone(),
        Ruled::Systemd => Home { dir: PathBuf::from("/"), places: Places::under(None) },
    };
    is_this_nodes(&home, name)?;
    if home.has_state() {
        say(&format!("{name} has booted before: nothing is made or joined again"));
        return match ruled {
            Ruled::Systemd => systemctl("start"),
            Ruled::Here(home) => resume(&home).await,
        };
    }
    seed.remarks.iter().for_each(|remark| say(remark));
    let node = Node { name: name.clone(), listen, http: None, snapshot_period: seed.snapshot_period };
    if matches!(&ruled, Ruled::Here(home) if who(home)?.is_none()) {
        can_listen(&node)?;
    }
    secret(&home, dir, seed.nodes.len())?;
    let others = seed.nodes.iter().filter(|node| *node != name).map(ToString::to_string).collect::<Vec<_>>();
    home.write(&node)?;
    let founder = seed.founder();
    let founds = founder == name;
    say(&match founds {
        true => format!("{name} is the first of the nodes in conf/cluster_nodes by name, and makes the cluster"),
        false => format!("{name} joins the cluster of {founder}"),
    });
    let (entry, unless) = if founds { (Entry::Init, others) } else { (Entry::Join(others), Vec::new()) };
    let entering = Entering { entry, patient: true, unless, profile: seed.profile };
    match ruled {
        Ruled::Systemd => {
            systemctl("start")?;
            timeout(BOOT_WITHIN, enter(&home, &entering)).await.unwrap_or_else(|_| {
                let when = match founds {
                    true => "what was said above is mended".to_owned(),
                    false => format!("{founder} has booted"),
                };
                Err(Failed::waiting(format!(
                    "{name} is in no cluster after {BOOT_WITHIN:?}: type first-boot here again once {when}"
                )))
            })?;
            until_it_votes(&of(&home, Verb::Status(Status { package: None }))).await?;
        }
        Ruled::Here(home) => {
            let child = match who(&home)? {
                Some(pid) => {
                    say(&format!("process {pid} is at it already; {} says how far", home.log().display()));
                    None
                }
                None => Some(detach(&home, &words(&entering))?),
            };
            followed(&home, child).await?;
        }
    }
    say(&format!("{name} is a voter of the cluster"));
    Ok(())
}

/// How the serving process is told the same.
fn words(entering: &Entering) -> Vec<String> {
    let profile = clap::ValueEnum::to_possible_value(&entering.profile).map(|word| word.get_name().to_owned());
    let mut words = vec!["--patient".to_owned(), "--profile".to_owned(), profile.unwrap_or_default()];
    match &entering.entry {
        Entry::Init => words.push("--init".to_owned()),
        Entry::Join(others) => words.extend(["--join".to_owned(), others.join(",")]),
        Entry::Wait => words.push("--wait".to_owned()),
        Entry::Settled => {}
    }
    if !entering.unless.is_empty() {
        words.extend(["--unless-known-by".to_owned(), entering.unless.join(",")]);
    }
    words
}

/// A directory that was copied after its node had booted holds another node's life, and must not begin it twice.
fn is_this_nodes(home: &Home, name: &NodeName) -> Result<(), Failed> {
    match home.config()?.and_then(|config| config.name) {
        Some(other) if other != *name => Err(Failed::rejected(format!(
            "{} holds the life of node {other}, and this is {name}; nothing was started. Was the directory copied after {other} \
             had booted? Then take the copy's etc/pkgctl/agent.toml and var/ away, and boot again",
            home.dir.display()
        ))),
        Some(_) | None => Ok(()),
    }
}

/// The secret that was copied with the directory; a cluster of one node needs none from elsewhere.
fn secret(home: &Home, dir: &Path, nodes: usize) -> Result<(), Failed> {
    if SharedSecret::read(&home.places.secret_file())?.is_some() {
        return Ok(());
    }
    let copied = Places::under(Some(dir)).secret_file();
    match SharedSecret::read(&copied)? {
        Some(secret) => Ok(secret.keep(&home.places.secret_file())?),
        None if nodes == 1 => home.secret_or_new().map(drop),
        None => Err(Failed::by_hand(format!(
            "there is no {}, by which the nodes know each other; nothing was started. Before the directory is copied to the \
             other nodes, type in it:\n  ./lite-raft secret\nor, called pkgctl:\n  pkgctl --root . cluster secret",
            copied.display()
        ))),
    }
}

/// Starts the process of a node that has booted, unless it runs.
async fn resume(home: &Home) -> Result<(), Failed> {
    if let Some(pid) = who(home)? {
        say(&format!("it runs already, as process {pid}"));
        return Ok(());
    }
    let started = detach(home, &[])?;
    let there = beside(Some(started), answers(home));
    timeout(BOOT_WITHIN, there).await.unwrap_or_else(|_| {
        Err(Failed::waiting(format!(
            "the agent has not answered within {BOOT_WITHIN:?}; it goes on without this command"
        )))
    })?;
    say("started");
    Ok(())
}

/// Shows how far the node is until it votes.
async fn followed(home: &Home, started: Option<Started>) -> Result<(), Failed> {
    let votes = async {
        answers(home).await?;
        until_it_votes(&of(home, Verb::Status(Status { package: None }))).await
    };
    beside(started, votes).await
}

/// Waits for something that a process is to bring about, unless that process ends. What the process says is shown.
async fn beside(started: Option<Started>, wanted: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    let ended = async {
        let Some(Started { mut child, log, from }) = started else { return std::future::pending().await };
        let mut shown = from;
        loop {
            shown += show(&log, shown);
            alive(&mut child, &log)?;
            sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        outcome = wanted => outcome,
        ended = ended => ended,
    }
}

/// Shows the whole lines that a node's process has written into its log from there on about itself, and answers how many
/// bytes that were. What its agent writes is for the log.
fn show(log: &Path, from: u64) -> u64 {
    let Ok(text) = read_from(log, from) else { return 0 };
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let lines = String::from_utf8_lossy(&text[..whole]);
    lines.lines().filter_map(|line| line.strip_prefix(SAID)).for_each(say);
    whole as u64
}

fn read_from(log: &Path, from: u64) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(log)?;
    file.seek(SeekFrom::Start(from))?;
    let mut text = Vec::new();
    file.take(SHOW_MAX_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

/// Or why not: what it said last.
fn alive(child: &mut Child, log: &Path) -> Result<(), Failed> {
    let Ok(Some(status)) = child.try_wait() else { return Ok(()) };
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
    Err(Failed::outcome(format!("the node's process ended ({status}); {} ends with:\n{last}", log.display())))
}
