//! Faults to single processes of a node: freezing them, thawing them, killing them.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::front::{Lab, LabError};
use super::moment::{Moment, wait_until};
use super::process::Process;

/// Within this time a stopped process is seen as stopped, or something is wrong.
const STOP_LIMIT: Duration = Duration::from_secs(10);

impl Lab {
    /// Freezes these processes (SIGSTOP) and returns when each has stopped or ended. The moment is just before the
    /// first signal.
    pub fn freeze(&self, processes: &[Process]) -> Result<Moment, LabError> {
        let at = Moment::now();
        for process in processes {
            signal(process, Signal::SIGSTOP)?;
        }
        let stopped = |p: &Process| p.again().is_none_or(|now| matches!(now.state, 'T' | 't' | 'D'));
        wait_until(STOP_LIMIT, || processes.iter().all(stopped).then_some(())).ok_or_else(|| LabError::Refused {
            reason: format!("not all of {} processes stopped within {STOP_LIMIT:?}", processes.len()),
        })?;
        Ok(at)
    }

    /// Freezes every process of ours on the node (agent, keeper, leashes and their inits), and nothing of the user's.
    /// Returns whom, for [`Lab::thaw`].
    pub fn freeze_ours(&self, node: &str) -> Result<(Moment, Vec<Process>), LabError> {
        let at = Moment::now();
        let mut frozen: Vec<Process> = Vec::new();
        loop {
            // One that forked between the look and the signal leaves a child: look again until nobody new turns up.
            let known = |p: &Process| frozen.iter().any(|f| f.pid == p.pid);
            let new: Vec<Process> = self.processes(node)?.into_iter().filter(|p| p.is_ours() && !known(p)).collect();
            if new.is_empty() {
                return Ok((at, frozen));
            }
            self.freeze(&new)?;
            frozen.extend(new);
        }
    }

    /// Lets frozen processes go on; those that have ended meanwhile stay ended.
    pub fn thaw(&self, processes: &[Process]) -> Result<Moment, LabError> {
        let at = Moment::now();
        for process in processes {
            signal(process, Signal::SIGCONT)?;
        }
        Ok(at)
    }

    /// Kills one process (SIGKILL) and returns at once. The moment is just before the signal.
    pub fn kill(&self, process: &Process) -> Result<Moment, LabError> {
        let at = Moment::now();
        signal(process, Signal::SIGKILL)?;
        Ok(at)
    }
}

fn signal(process: &Process, signal: Signal) -> Result<bool, LabError> {
    process.send(signal).map_err(|source| LabError::Io { what: "signal a process", source })
}
