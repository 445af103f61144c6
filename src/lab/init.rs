//! `pkgctl lab-init`: pid 1 of a lab node. It sets the machine up, starts the node's command, restarts it when it ends,
//! as systemd would, and reaps orphans.

use std::io::{BufReader, Result};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, chdir, dup2_stdin, sethostname, setsid};
use serde::{Deserialize, Serialize};

use super::bridge::DEVICE;
use super::link;
use super::order::{receive, send};
use super::spec::Wiring;

/// systemd's RestartSec default.
const RESTART_DELAY: Duration = Duration::from_millis(100);

/// What the bed tells a new init.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InitSpec {
    pub name: String,
    pub wiring: Wiring,
    /// Started and restarted; empty for a node that runs nothing.
    pub command: Vec<String>,
}

/// What init answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum InitReport {
    Up,
    Failed { reason: String },
}

/// Runs as pid 1 until it is killed.
pub fn main(_args: &[String]) -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("lab-init: {e}; it is started by the lab's bed only");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let _ = prctl::set_name(c"lab-init");
    setsid()?;
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    dup2_stdin(std::fs::File::open("/dev/null")?)?;
    // The end of the socket before a word was said: the bed has died.
    let Some(spec) = receive::<InitSpec>(BufReader::new(&socket))? else { return Ok(()) };
    let started = set_up(&spec).and_then(|()| Service::start(spec.command));
    match started {
        Ok(mut service) => {
            send(&socket, &InitReport::Up)?;
            drop(socket);
            service.watch()
        }
        Err(e) => send(&socket, &InitReport::Failed { reason: e.to_string() }),
    }
}

fn set_up(spec: &InitSpec) -> Result<()> {
    sethostname(&spec.name)?;
    mounts()?;
    link::set_up("lo", true)?;
    link::set_up(DEVICE, true)?;
    for address in &spec.wiring.addresses {
        link::add_address(DEVICE, *address, spec.wiring.prefix_len)?;
    }
    chdir("/")?;
    Ok(())
}

/// Mounts as on a machine that systemd has booted: `/` is shared within the node and with nobody else, /proc shows the
/// node's own processes, and /run is empty (so that neither this machine's daemons nor another node's are seen there).
fn mounts() -> Result<()> {
    let propagate = |flag: MsFlags| mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | flag, None::<&str>);
    propagate(MsFlags::MS_PRIVATE)?;
    propagate(MsFlags::MS_SHARED)?;
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), safe, None::<&str>)?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"))?;
    Ok(())
}

/// Keeps one command running.
struct Service {
    command: Vec<String>,
    running: Option<Pid>,
    children: SignalFd,
    delay: TimerFd,
}

impl Service {
    fn start(command: Vec<String>) -> Result<Self> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGCHLD);
        signals.thread_block()?;
        let children = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let delay = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
        let mut service = Self { command, running: None, children, delay };
        service.spawn()?;
        Ok(service)
    }

    fn spawn(&mut self) -> Result<()> {
        let Some((program, arguments)) = self.command.split_first() else { return Ok(()) };
        let child = Command::new(program).args(arguments).stdin(Stdio::null()).spawn()?;
        eprintln!("lab-init: started {program}, pid {}", child.id());
        self.running = Some(Pid::from_raw(child.id().cast_signed()));
        Ok(())
    }

    fn watch(&mut self) -> Result<()> {
        loop {
            let (child, due) = self.wait()?;
            if child {
                while let Ok(Some(_)) = self.children.read_signal() {}
                self.reap()?;
            }
            if due {
                self.delay.unset()?;
                if let Err(e) = self.spawn() {
                    eprintln!("lab-init: {e}; trying again");
                    self.start_again_later()?;
                }
            }
        }
    }

    /// Waits for a child's end or for the time to start the command again.
    fn wait(&self) -> Result<(bool, bool)> {
        let mut fds =
            [PollFd::new(self.children.as_fd(), PollFlags::POLLIN), PollFd::new(self.delay.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok((fds[0].any() == Some(true), fds[1].any() == Some(true)))
    }

    fn reap(&mut self) -> Result<()> {
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if self.running.is_some() && status.pid() == self.running {
                eprintln!("lab-init: the command ended ({status:?}); starting it again in {RESTART_DELAY:?}");
                self.running = None;
                self.start_again_later()?;
            }
        }
    }

    fn start_again_later(&self) -> Result<()> {
        let once = Expiration::OneShot(TimeSpec::from_duration(RESTART_DELAY));
        Ok(self.delay.set(once, TimerSetTimeFlags::empty())?)
    }
}
