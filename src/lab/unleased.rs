//! `pkgctl lab-unleased ROOT AGENT…`: a lab node whose leases end nothing. It is the node's keeper, with enforcement off,
//! and starts the agent that it is told.
//!
//! The demo and a test use it to show that the observer sees two nodes acting when they do. It refuses to run anywhere
//! but on a lab node, and nothing else in the program can switch the enforcement off: a test reads the sources for that.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::config::{AGENT_GRACE_DEFAULT, Places, Scheduling};
use crate::keeper::core::Enforcement;
use crate::keeper::daemon::{Options, command};

/// Not run at all: the command line is wrong, or this is no lab node.
const REFUSED: u8 = 2;

/// Runs the agent and, in this process, the keeper, until the keeper ends.
pub fn main(args: &[String]) -> ExitCode {
    let [root, agent, arguments @ ..] = args else {
        eprintln!("usage: pkgctl lab-unleased ROOT AGENT [ARGUMENT…]   (on a lab node only); nothing was started");
        return ExitCode::from(REFUSED);
    };
    if !on_a_lab_node() {
        eprintln!("lab-unleased: leases are switched off on the nodes of a lab only; nothing was started");
        return ExitCode::from(REFUSED);
    }
    let mut start = Command::new(agent);
    start.args(arguments);
    // SAFETY: one system call, allowed between fork and exec.
    unsafe {
        start.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?));
    }
    // Never reaped by itself: it ends with this process, and init starts both again.
    let agent = match start.spawn() {
        Ok(agent) => agent,
        Err(e) => {
            eprintln!("lab-unleased: {agent} cannot be started: {e}");
            return ExitCode::FAILURE;
        }
    };
    eprintln!("lab-unleased: leases end nothing on this node; its agent is process {}", agent.id());
    let options = Options {
        places: Places::under(Some(Path::new(root))),
        scheduling: Scheduling::Auto,
        agent_grace: AGENT_GRACE_DEFAULT.duration(),
        watchdog: None,
        enforcement: Enforcement::Off,
    };
    command::serve(&options, "info")
}

/// Whether pid 1 here is a lab's init, of this very program: so it is nowhere but in the namespaces of a lab node.
fn on_a_lab_node() -> bool {
    let file = |of: &str| fs::metadata(format!("/proc/{of}/exe")).map(|m| (m.dev(), m.ino()));
    let same = matches!((file("1"), file("self")), (Ok(init), Ok(own)) if init == own);
    let words = fs::read("/proc/1/cmdline").unwrap_or_default();
    same && words.split(|byte| *byte == 0).nth(1) == Some(b"lab-init")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn here_is_no_lab_node() {
        assert!(!on_a_lab_node());
    }
}
