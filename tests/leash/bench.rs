//! A leash to try things on, and looks at the processes in it from outside.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pkgctl::engine::BootTime;
use pkgctl::host::clock::boot_now;
use pkgctl::keeper::leash::{End, Leash, LeashError, LeashEvent, OpId};
use pkgctl::keeper::protocol::Exit;
use pkgctl::resource::ProgramSpec;

pub const EXE: &str = env!("CARGO_BIN_EXE_pkgctl");
/// Longest that anything here may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn after(ms: u64) -> BootTime {
    boot_now() + Duration::from_millis(ms)
}

pub struct Bench {
    pub leash: Leash,
    pub dir: tempfile::TempDir,
}

impl Bench {
    /// A leash that is ready, or none where namespaces are refused.
    pub fn new(deadline: BootTime) -> Option<Self> {
        let mut bench = Self::unready(deadline);
        match bench.next() {
            LeashEvent::Ready { .. } => Some(bench),
            LeashEvent::Failed(LeashError::NamespacesRefused { step, .. }) => {
                println!("SKIPPED: namespaces are refused here ({step})");
                None
            }
            other => panic!("not ready: {other:?}"),
        }
    }

    /// A leash as spawned, whatever becomes of it.
    pub fn unready(deadline: BootTime) -> Self {
        let leash = Leash::spawn(Path::new(EXE), deadline).unwrap();
        Self { leash, dir: tempfile::tempdir().unwrap() }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub fn spec(&self, command: &[&str]) -> ProgramSpec {
        ProgramSpec {
            command: command.iter().map(|w| (*w).to_owned()).collect(),
            credentials: None,
            working_directory: "/".into(),
            environment: BTreeMap::from([("PKG_TOKEN".into(), "7".into()), ("PATH".into(), "/usr/bin:/bin".into())]),
            log: self.dir.path().join("log").display().to_string(),
        }
    }

    /// Runs a program to its end and answers how that was.
    pub fn run(&mut self, spec: &ProgramSpec) -> Exit {
        self.leash.start(spec).unwrap();
        loop {
            match self.next() {
                LeashEvent::Exited { exit, .. } => return exit,
                LeashEvent::Started { .. } => {}
                other => panic!("it did not run to its end: {other:?}"),
            }
        }
    }

    /// Starts a program and answers its process as the host sees it.
    pub fn start(&mut self, spec: &ProgramSpec) -> (OpId, i32) {
        self.leash.start(spec).unwrap();
        match self.next() {
            LeashEvent::Started { op, pid } => (op, pid),
            other => panic!("not started: {other:?}"),
        }
    }

    pub fn next_gone(&mut self) -> End {
        loop {
            if let LeashEvent::Gone(end) = self.next() {
                return end;
            }
        }
    }

    pub fn shell(&mut self, script: &str) -> i32 {
        let spec = self.spec(&["/bin/sh", "-c", script]);
        self.start(&spec).1
    }

    pub fn next(&mut self) -> LeashEvent {
        let until = boot_now() + PATIENCE;
        loop {
            if let Some(event) = self.leash.next_event() {
                return event;
            }
            assert!(boot_now() < until, "nothing came from the leash");
            wait_readable(self.leash.events_fd());
        }
    }

    /// Lines of the log, once there are so many.
    pub fn lines(&self, count: usize) -> Vec<String> {
        until(|| self.log().lines().count() >= count);
        self.log().lines().map(str::to_owned).collect()
    }
}

pub fn wait_readable(fd: impl AsFd) {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut fds, PollTimeout::from(100u8));
}

/// Looks again and again; a condition of the outside world has no descriptor to wait on.
pub fn until(mut condition: impl FnMut() -> bool) {
    let end = boot_now() + PATIENCE;
    while !condition() {
        assert!(boot_now() < end, "it never came true");
        let _ = poll(&mut [], PollTimeout::from(5u8));
    }
}

/// A field of `/proc/PID/status`; none for a process that is gone.
pub fn status(pid: i32, field: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.map(|value| value.trim().to_owned())
}

/// Which namespace of that type a process is in.
pub fn namespace(pid: i32, kind: &str) -> Option<String> {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok().map(|link| link.display().to_string())
}

/// A zombie is dead: it acts no more.
pub fn alive(pid: i32) -> bool {
    status(pid, "State").is_some_and(|state| !state.starts_with('Z') && !state.starts_with('X'))
}

/// Host-side pids of everything below a process, itself included.
pub fn tree(of: i32) -> Vec<i32> {
    let mut all = vec![of];
    let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|p| p.parse().ok()) {
        all.extend(tree(child));
    }
    all
}

pub fn parent(pid: i32) -> i32 {
    status(pid, "PPid").and_then(|pid| pid.parse().ok()).expect("it runs and has a parent")
}
