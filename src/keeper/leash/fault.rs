//! What can go wrong with a leash, in words for the operator.

use std::fmt;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::host::packets::PACKET_MAX_BYTES;

/// What the leash or its init was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetupStep {
    /// Binding its life to the keeper's.
    Parent,
    /// Arming the kill timer.
    Timer,
    /// Sorting its own descriptors, session and signals.
    Housekeeping,
    /// Making a PID namespace.
    PidNamespace,
    /// Starting the namespace's init.
    Init,
    /// Making a mount namespace.
    MountNamespace,
    /// Making that namespace follow the host's mounts.
    Propagation,
    /// Mounting a /proc of the namespace's own.
    Proc,
    /// Serving.
    Serving,
}

impl SetupStep {
    /// True for steps that a container or a rootless host refuses as a matter of policy.
    pub fn needs_namespaces(self) -> bool {
        match self {
            SetupStep::PidNamespace | SetupStep::MountNamespace | SetupStep::Propagation | SetupStep::Proc => true,
            SetupStep::Parent | SetupStep::Timer | SetupStep::Housekeeping | SetupStep::Init | SetupStep::Serving => {
                false
            }
        }
    }
}

impl fmt::Display for SetupStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SetupStep::Parent => "binding its life to the keeper's",
            SetupStep::Timer => "arming the kill timer",
            SetupStep::Housekeeping => "setting up its own process",
            SetupStep::PidNamespace => "making a PID namespace",
            SetupStep::Init => "starting the namespace's init",
            SetupStep::MountNamespace => "making a mount namespace",
            SetupStep::Propagation => "making the mount namespace follow the host's",
            SetupStep::Proc => "mounting /proc in the namespace",
            SetupStep::Serving => "serving",
        })
    }
}

/// Where a program's start failed, between init's fork and the program's first instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecStep {
    /// The request was no valid command.
    Request,
    /// Making the process.
    Fork,
    /// Default signals, limits, scheduling, a session of its own.
    Reset,
    /// Its three descriptors.
    Descriptors,
    /// Its supplementary groups.
    Groups,
    /// Its group.
    Group,
    /// Its user.
    User,
    /// Its working directory.
    Directory,
    /// Running the executable.
    Exec,
}

impl ExecStep {
    /// Every step, in the order of the numbers that stand for them on the way out of a failed child.
    pub const ALL: [ExecStep; 9] = [
        ExecStep::Request,
        ExecStep::Fork,
        ExecStep::Reset,
        ExecStep::Descriptors,
        ExecStep::Groups,
        ExecStep::Group,
        ExecStep::User,
        ExecStep::Directory,
        ExecStep::Exec,
    ];
}

/// A program that did not start. Nothing of it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("could not start \"{program}\": {}; nothing of it runs. {}", self.happened(), self.remedy())]
pub struct ExecFault {
    /// The executable as given.
    pub program: String,
    /// The working directory as given.
    pub directory: String,
    /// Where it failed.
    pub step: ExecStep,
    /// What the kernel said.
    pub errno: i32,
}

impl ExecFault {
    fn happened(&self) -> String {
        let said = Errno::from_raw(self.errno).desc();
        match self.step {
            ExecStep::Request => "the command or its environment has a NUL byte, or there is no command".to_owned(),
            ExecStep::Fork => format!("fork: {said}"),
            ExecStep::Reset => format!("resetting signals, limits and scheduling: {said}"),
            ExecStep::Descriptors => format!("opening its standard input and output: {said}"),
            ExecStep::Groups => format!("setgroups: {said}"),
            ExecStep::Group => format!("setgid: {said}"),
            ExecStep::User => format!("setuid: {said}"),
            ExecStep::Directory => format!("chdir to \"{}\": {said}", self.directory),
            ExecStep::Exec => format!("exec: {said}"),
        }
    }

    fn remedy(&self) -> &'static str {
        match self.step {
            ExecStep::Request => "Correct `command` or `environment` in the package file",
            ExecStep::Fork => "This node is out of processes or memory; free some, then `pkgctl run` it again",
            ExecStep::Reset | ExecStep::Descriptors => "This is a fault of the node; see the keeper's log",
            ExecStep::Groups | ExecStep::Group | ExecStep::User => {
                "The keeper may not change to that user here; run it as root, or leave `user` out"
            }
            ExecStep::Directory => "Check that `working_directory` exists on this node and that the user may enter it",
            ExecStep::Exec => match Errno::from_raw(self.errno) {
                Errno::ENOENT => "Check that the file, and its interpreter if it is a script, exist on this node",
                Errno::EACCES => "Check that the file is executable for that user and not on a noexec mount",
                Errno::ENOEXEC => "Check that the file is a program for this machine, or a script that begins with #!",
                _ => "Check the file on this node",
            },
        }
    }
}

/// Why a leash could not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeashError {
    /// The leash process could not be started.
    #[error("could not start a leash from \"{exe}\": {why}; nothing runs")]
    Spawn {
        /// Which executable.
        exe: String,
        /// What the system said.
        why: String,
    },
    /// This host lets nobody make the namespaces that end a program with its lease.
    #[error(
        "namespaces are refused here ({step}: {}); nothing runs. Run the keeper as root, or allow user namespaces",
        Errno::from_raw(*errno).desc()
    )]
    NamespacesRefused {
        /// Which of them.
        step: SetupStep,
        /// What the kernel said.
        errno: i32,
    },
    /// The leash or its init failed otherwise.
    #[error("the leash failed while {step}: {}; whatever ran in it is ended", Errno::from_raw(*errno).desc())]
    Setup {
        /// While doing what.
        step: SetupStep,
        /// What the kernel said.
        errno: i32,
    },
    /// Command and environment are too large for one message.
    #[error(
        "command and environment are {bytes} bytes, more than {PACKET_MAX_BYTES}; nothing was started. Shorten them"
    )]
    TooLarge {
        /// How large.
        bytes: usize,
    },
    /// The program's log could not be opened.
    #[error("could not open the log \"{path}\": {why}; nothing was started. Check the directory and its file system")]
    Log {
        /// Which file.
        path: String,
        /// What the system said.
        why: String,
    },
    /// It is dead or dying: the deadline came, or it was killed.
    #[error("the leash is gone; everything in it is ended")]
    Gone,
    /// It has not read what it was sent before; its deadline stands as it was armed.
    #[error("the leash does not answer; it ends at its deadline if it stays so")]
    Busy,
    /// No such operation runs.
    #[error("operation {op} does not run (any more)")]
    NotRunning {
        /// Which operation.
        op: u64,
    },
    /// The kernel refused something else.
    #[error("{what}: {}", Errno::from_raw(*errno).desc())]
    System {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        errno: i32,
    },
}

impl LeashError {
    /// A failure reported by the leash or its init.
    pub(super) fn setup(step: SetupStep, errno: i32) -> Self {
        match (step.needs_namespaces(), Errno::from_raw(errno)) {
            (true, Errno::EPERM | Errno::EACCES | Errno::ENOSYS | Errno::EINVAL | Errno::ENOSPC) => {
                LeashError::NamespacesRefused { step, errno }
            }
            _ => LeashError::Setup { step, errno },
        }
    }

    /// A failed send to the leash or its init.
    pub(super) fn send(errno: Errno) -> Self {
        match errno {
            Errno::EPIPE | Errno::ECONNRESET | Errno::ECONNREFUSED => LeashError::Gone,
            Errno::EAGAIN | Errno::ENOBUFS => LeashError::Busy,
            other => LeashError::System { what: "send to the leash", errno: other as i32 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_what_happened_what_holds_and_what_to_do() {
        let fault = |step, errno: Errno| {
            let (program, directory) = ("/usr/sbin/x".to_owned(), "/srv/x".to_owned());
            ExecFault { program, directory, step, errno: errno as i32 }.to_string()
        };
        assert_eq!(
            fault(ExecStep::Exec, Errno::ENOENT),
            "could not start \"/usr/sbin/x\": exec: No such file or directory; nothing of it runs. Check that the file, \
             and its interpreter if it is a script, exist on this node"
        );
        assert_eq!(
            fault(ExecStep::Directory, Errno::EACCES),
            "could not start \"/usr/sbin/x\": chdir to \"/srv/x\": Permission denied; nothing of it runs. Check that \
             `working_directory` exists on this node and that the user may enter it"
        );
        for step in ExecStep::ALL {
            assert!(fault(step, Errno::EPERM).contains("nothing of it runs. "), "{step:?}");
        }
    }

    #[test]
    fn a_refused_namespace_is_told_from_another_failure() {
        let refused = LeashError::setup(SetupStep::PidNamespace, Errno::EPERM as i32);
        assert!(matches!(refused, LeashError::NamespacesRefused { .. }));
        assert!(refused.to_string().contains("making a PID namespace: Operation not permitted"), "{refused}");
        let other = LeashError::setup(SetupStep::Timer, Errno::EAGAIN as i32);
        assert!(matches!(other, LeashError::Setup { .. }));
    }
}
