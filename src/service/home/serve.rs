//! `pkgctl serve`: runs the agent of a directory, which starts the keeper, until it is told to end; then it ends both in
//! good order. An agent that dies is started again, as systemd would; its keeper disturbs nothing meanwhile.

use std::io::Write;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, setsid};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

use super::enter::{Entering, enter, of};
use super::server::{Serving, take};
use super::settle::{Entry, Terminal, is_own, settle};
use super::{Home, Node};
use crate::cli::args::{self, Args, Leave, Serve, Verb};
use crate::cli::exit::Failed;
use crate::cli::{perform, report};
use crate::host::keeper_link;
use crate::net::vacant;
use crate::service::EXIT_DISK_FAILED;

/// systemd's pause between the end of an agent and the start of the next.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// How long packages may take to move away.
const LEAVE_WITHIN: Duration = Duration::from_secs(60);
/// How long the agent may take to end.
const AGENT_ENDS_WITHIN: Duration = Duration::from_secs(30);
/// How long the keeper may take to stop what is left and end.
const KEEPER_ENDS_WITHIN: Duration = Duration::from_secs(60);
/// The agent's exit code for a configuration that it cannot use.
const EXIT_UNUSABLE: i32 = 2;

/// What its lines begin with.
pub(super) const SAID: &str = "pkgctl: ";

/// A line for whoever looks on.
pub(super) fn say(text: &str) {
    let _ = writeln!(anstream::stderr(), "{SAID}{text}");
}

/// Runs until told to end; says what is wrong and answers the exit code.
pub fn run(args: &Args, verb: &Serve) -> ExitCode {
    let ended = prepare(args, verb).and_then(|(home, serving, entering)| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Failed::outcome(format!("cannot start: {e}")))?;
        runtime.block_on(supervise(&home, serving, &entering))
    });
    match ended {
        Ok(code) => code,
        Err(failed) => report(args, &failed),
    }
}

fn prepare(args: &Args, verb: &Serve) -> Result<(Home, Serving, Entering), Failed> {
    if verb.detached {
        // Nothing that happens to a terminal is this process's business.
        setsid().map_err(|e| Failed::outcome(format!("cannot leave the terminal: {e}")))?;
    }
    let dir = verb.dir.as_ref().or(args.root.as_ref());
    let home = Home::open(dir.map_or(std::path::Path::new("."), std::path::PathBuf::as_path))?;
    let serving = take(&home)?.map_err(|pid| {
        Failed::rejected(format!("{} is served already, by process {pid}; nothing was started", home.dir.display()))
    })?;
    let (node, entry) = settle(&home, verb, &mut Terminal)?;
    if !is_own(node.listen) {
        return Err(Failed::rejected(format!(
            "node {} in {} is reached at {}, which is no address of this machine now; nothing was started. Was the directory \
             copied from another machine? A node must live once: take the copy's etc/pkgctl/agent.toml and var/ away",
            node.name,
            home.dir.display(),
            node.listen.ip()
        )));
    }
    if entry != Entry::Settled {
        can_listen(&node)?;
    }
    share(&home, &entry, verb)?;
    home.write(&node)?;
    told(&home, &node, &entry, verb);
    let entering =
        Entering { entry, patient: verb.patient, unless: verb.unless_known_by.clone(), profile: verb.profile };
    Ok((home, serving, entering))
}

/// Before anything is made: a node whose ports somebody else has could not come up.
pub(super) fn can_listen(node: &Node) -> Result<(), Failed> {
    vacant::prove(node.listen, &[], node.http).map_err(|taken| Failed::rejected(taken.to_string()))
}

/// The secret: made with a cluster, needed for a join.
fn share(home: &Home, entry: &Entry, verb: &Serve) -> Result<(), Failed> {
    match entry {
        Entry::Init => {
            let secret = home.secret_or_new()?;
            let (mark, file) = (secret.mark(), home.places.secret_file());
            say(&format!("secret {mark}: nodes with a copy of {} may join", file.display()));
            Ok(())
        }
        Entry::Join(_) => match home.secret()? {
            Some(_) => Ok(()),
            None if verb.patient => Ok(()),
            None => Err(Failed::by_hand(format!(
                "there is no secret by which a member would let this node in, neither in {} nor in ~/.config/pkgctl/secret; \
                 nothing was started. Copy it from the member's machine: from either place, or `pkgctl cluster secret` there \
                 makes one",
                home.places.secret_file().display()
            ))),
        },
        Entry::Wait => home.secret().map(drop),
        // Who has taken the secret away from a member meant it.
        Entry::Settled => Ok(()),
    }
}

fn told(home: &Home, node: &Node, entry: &Entry, verb: &Serve) {
    let http = node.http.map_or_else(|| "none".to_owned(), |http| http.to_string());
    let dir = home.dir.display();
    say(&format!("node {} in {dir}: cluster {} (tcp and udp), HTTP {http}", node.name, node.listen));
    if *entry == Entry::Settled && (verb.init || verb.wait || !verb.join.is_empty()) {
        say("this directory's node is a member already: nothing is initialized or joined again");
    }
}

/// What ends a server, and with what.
enum Over {
    Told,
    Failed(Failed),
    Agent(ExitStatus),
}

async fn supervise(home: &Home, _serving: Serving, entering: &Entering) -> Result<ExitCode, Failed> {
    let stop = |e: std::io::Error| Failed::outcome(format!("cannot listen for signals: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(stop)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(stop)?;
    let mut agent = start(home)?;
    let over = {
        let entry = enter(home, entering);
        tokio::pin!(entry);
        let mut entered = false;
        loop {
            tokio::select! {
                _ = terminate.recv() => break Over::Told,
                _ = interrupt.recv() => break Over::Told,
                outcome = &mut entry, if !entered => match outcome {
                    Ok(()) => entered = true,
                    Err(failed) => break Over::Failed(failed),
                },
                ended = agent.wait() => {
                    let status = ended.map_err(|e| Failed::outcome(format!("the agent's end is not known: {e}")))?;
                    if for_good(status) {
                        break Over::Agent(status);
                    }
                    say(&format!("the agent ended ({status}); starting it again"));
                    sleep(RESTART_AFTER).await;
                    agent = start(home)?;
                }
            }
        }
    };
    let again = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    wind_down(home, &mut agent, matches!(over, Over::Told), again).await;
    match over {
        Over::Told => Ok(ExitCode::SUCCESS),
        Over::Failed(failed) => Err(failed),
        Over::Agent(status) => Err(Failed::outcome(format!(
            "the agent ended for good ({status}), and so does this; what it wrote says why"
        ))),
    }
}

/// What another start would not mend.
fn for_good(status: ExitStatus) -> bool {
    status.code().is_some_and(|code| code == EXIT_UNUSABLE || code == i32::from(EXIT_DISK_FAILED))
}

/// The agent of the directory. What a terminal sends to all that it started does not reach it, and it ends with this
/// process.
fn start(home: &Home) -> Result<Child, Failed> {
    let bad = |e: std::io::Error| Failed::outcome(format!("cannot start the agent: {e}"));
    let mut command = Command::new("/proc/self/exe");
    command.arg0("pkgctl").arg("--root").arg(&home.dir).arg("agent");
    command.args(["--with-parent", &std::process::id().to_string()]);
    command.process_group(0).stdin(Stdio::null()).spawn().map_err(bad)
}

/// Packages move away, unless somebody cannot wait for it; then the agent ends, then the keeper with what is left.
async fn wind_down(home: &Home, agent: &mut Child, in_order: bool, impatient: impl Future<Output = ()>) {
    let member = home.places.state_dir().join(super::CERTIFICATE).exists();
    if in_order && member {
        say("ending: packages move away first (once more to end at once)");
        let leave = Verb::Node(args::Node::Leave(Leave { when_stopping: false }));
        let leave = of(home, leave);
        tokio::select! {
            left = timeout(LEAVE_WITHIN, perform(&leave)) => match left {
                Ok(Ok(())) => {}
                Ok(Err(failed)) => say(&failed.message),
                Err(_) => say("packages have not moved away in time; they end here"),
            },
            () = impatient => {}
        }
    }
    // It has been waited for if it has no number any more.
    if let Some(pid) = agent.id().and_then(|id| i32::try_from(id).ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        if timeout(AGENT_ENDS_WITHIN, agent.wait()).await.is_err() {
            let _ = agent.start_kill();
        }
    }
    let why = "this directory's node was told to end".to_owned();
    keeper_link::end_keeper(&home.places.keeper_socket(), why, KEEPER_ENDS_WITHIN).await;
    say("ended");
}
