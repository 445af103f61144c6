//! Drives the outside client and collects what it reports, as it happens.

use std::io::{BufRead, BufReader, Error};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::front::{Lab, LabError};
use super::moment::Moment;
use super::probe::PROBE_EVERY;
use super::spec::CLIENT;

pub use super::probe::{Probe, ProbeResult};
pub use super::program::Reply;

/// Kept in memory: more than an hour of probes. Beyond it the older half is forgotten.
const MAX_KEPT: usize = 1 << 20;

/// A client that probes one address until it is finished or dropped.
pub struct Observer {
    process: Child,
    input: Option<ChildStdin>,
    reader: Option<JoinHandle<()>>,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    probes: Mutex<Vec<Probe>>,
    changed: Condvar,
}

impl Seen {
    fn probes(&self) -> MutexGuard<'_, Vec<Probe>> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer {
    /// Starts probing `target` from the lab's client.
    pub fn start(lab: &Lab, target: SocketAddr) -> Result<Self, LabError> {
        Self::start_in(lab, CLIENT, target)
    }

    /// Starts probing `target` from the lab's client, less often than usual: for many packages at once.
    pub fn start_every(lab: &Lab, target: SocketAddr, every: Duration) -> Result<Self, LabError> {
        Self::launch(lab, CLIENT, target, every)
    }

    /// Starts probing `target` from any node.
    pub fn start_in(lab: &Lab, node: &str, target: SocketAddr) -> Result<Self, LabError> {
        Self::launch(lab, node, target, PROBE_EVERY)
    }

    fn launch(lab: &Lab, node: &str, target: SocketAddr, every: Duration) -> Result<Self, LabError> {
        let failed = |source: Error| LabError::Io { what: "start its observer", source };
        let binary = lab.place(node).binary.to_string_lossy().into_owned();
        let mut process = lab
            .command_in(
                node,
                &[
                    &binary,
                    "lab-observe",
                    "--target",
                    &target.to_string(),
                    "--every-ms",
                    &every.as_millis().to_string(),
                ],
            )?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let input = process.stdin.take();
        let output = process.stdout.take().ok_or_else(|| failed(Error::other("it has no output")))?;
        let seen = Arc::new(Seen::default());
        let sink = Arc::clone(&seen);
        let reader = std::thread::Builder::new().name("observer".to_owned()).spawn(move || collect(output, &sink));
        Ok(Self { process, input, reader: Some(reader.map_err(failed)?), seen })
    }

    /// The probes that have ended so far, in the order in which they ended.
    pub fn probes(&self) -> Vec<Probe> {
        self.seen.probes().clone()
    }

    /// Waits until `condition`, asked after every probe that ends, yields something; `None` when it has not by `limit`.
    pub fn wait_for<T>(&self, limit: Duration, mut condition: impl FnMut(&[Probe]) -> Option<T>) -> Option<T> {
        let end = Moment::now().after(limit);
        let mut probes = self.seen.probes();
        loop {
            if let Some(found) = condition(&probes) {
                return Some(found);
            }
            let left = end.since(Moment::now());
            if left.is_zero() {
                return None;
            }
            let woken = self.seen.changed.wait_timeout(probes, left);
            probes = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for an answer to a probe sent at or after `since`, from a node that `from` accepts.
    pub fn wait_for_answer(&self, since: Moment, limit: Duration, from: impl Fn(&Reply) -> bool) -> Option<Probe> {
        let mut looked_at = 0;
        self.wait_for(limit, |probes| {
            let new = probes.get(looked_at.min(probes.len())..).unwrap_or_default();
            looked_at = probes.len();
            let accepted = |p: &&Probe| p.sent >= since && matches!(&p.result, ProbeResult::Answered(r) if from(r));
            new.iter().find(accepted).cloned()
        })
    }

    /// Stops probing, waits for the probes under way, and returns them all by the time they were sent.
    pub fn finish(mut self) -> Vec<Probe> {
        self.stop();
        let mut probes = std::mem::take(&mut *self.seen.probes());
        probes.sort_by_key(|probe| probe.sent);
        probes
    }

    fn stop(&mut self) {
        self.input = None;
        if let Some(reader) = self.reader.take() {
            // Ends with the client's output, and that with the last probe under way.
            let _ = reader.join();
        }
        let _ = self.process.wait();
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn collect(output: ChildStdout, sink: &Seen) {
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { return };
        let Ok(probe) = serde_json::from_str(&line) else {
            eprintln!("the observer printed something else than a probe: {line}");
            continue;
        };
        let mut probes = sink.probes();
        if probes.len() >= MAX_KEPT {
            probes.drain(..MAX_KEPT / 2);
        }
        probes.push(probe);
        drop(probes);
        sink.changed.notify_all();
    }
}
