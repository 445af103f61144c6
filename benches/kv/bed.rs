//! Both clusters in one lab: three nodes, an agent and an etcd on each.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::Signal;
use pkgctl::lab::{CLIENT, Lab, LabSpec, Place, Process, wait_until};
use serde_json::Value;

use crate::figures::{Figures, disk, rss, written};
use crate::gap;
use crate::load::{Measured, Spec};
use crate::target::{Op, Target};

const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// Longest that anything but a measurement may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Clients that fill a tree.
const FILLERS: usize = 64;
/// Seconds of writing across the loss of a leader, and how long after their beginning it is lost.
const GAP_SECONDS: u64 = 5;
const KILL_AFTER: Duration = Duration::from_secs(1);

/// Both clusters.
pub struct Bed {
    lab: Lab,
    binary: PathBuf,
    own: PathBuf,
}

/// Both programs; whichever ends is started again.
fn command(place: &Place) -> Vec<String> {
    let (disk, binary, ip) = (place.disk.display(), place.binary.display(), place.address);
    let peers: Vec<String> = place.nodes.iter().map(|(name, ip)| format!("{name}=http://{ip}:2380")).collect();
    let etcd = format!(
        "while :; do etcd --name {name} --data-dir {disk}/etcd --listen-client-urls http://{ip}:2379 \
         --advertise-client-urls http://{ip}:2379 --listen-peer-urls http://{ip}:2380 \
         --initial-advertise-peer-urls http://{ip}:2380 --initial-cluster {peers} --log-level error >/dev/null 2>&1; done",
        name = place.name,
        peers = peers.join(",")
    );
    let agent = format!("{binary} --root {disk} agent --name {} --listen {ip}:7420", place.name);
    vec!["/bin/sh".into(), "-c".into(), format!("({etcd}) & exec {agent}")]
}

fn is_installed(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(program).exists())
}

impl Bed {
    /// Builds both clusters and waits until both answer.
    pub fn build() -> Result<Self> {
        for program in ["etcd", "etcdctl"] {
            ensure!(is_installed(program), "there is no {program}: `apt install etcd-server etcd-client`");
        }
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_pkgctl"));
        let spec = LabSpec::new(binary.clone(), &NODES).command(command).powered_off();
        let bed = Self { lab: Lab::build(spec)?, binary, own: std::env::current_exe()? };
        for node in NODES {
            let place = bed.lab.place(node);
            let dir = place.disk.join("etc/pkgctl");
            std::fs::create_dir_all(&dir)?;
            let text = format!("http_listen = \"{}:{}\"\n", place.address, Target::Pkgctl.port());
            std::fs::write(dir.join("agent.toml"), text)?;
            bed.lab.power_on(node)?;
        }
        bed.form()?;
        Ok(bed)
    }

    fn form(&self) -> Result<()> {
        for node in NODES {
            let up = wait_until(PATIENCE, || self.verb(node, &["status"]).ok());
            up.with_context(|| format!("the agent of {node} does not answer: {}", self.lab.console(node)))?;
        }
        self.verb(NODES[0], &["cluster", "init"])?;
        for node in &NODES[1..] {
            let token = self.verb(NODES[0], &["cluster", "token"])?;
            self.verb(node, &["cluster", "join", token.lines().next().unwrap_or_default()])?;
        }
        wait_until(PATIENCE, || self.leader(Target::Etcd).ok()).context("etcd has no leader")?;
        wait_until(PATIENCE, || self.leader(Target::Pkgctl).ok()).context("pkgctl has no leader")?;
        Ok(())
    }

    fn verb(&self, node: &str, words: &[&str]) -> Result<String> {
        let (binary, disk) = (self.binary.display().to_string(), self.lab.place(node).disk.display().to_string());
        let argv: Vec<&str> = [binary.as_str(), "--root", &disk].into_iter().chain(words.iter().copied()).collect();
        let output = self.lab.run_in(node, &argv, PATIENCE)?;
        ensure!(output.success(), "pkgctl {} on {node}: {}{}", words.join(" "), output.stdout, output.stderr);
        Ok(output.stdout)
    }

    /// Waits for one, because a machine that stood still for a second has an election behind it.
    fn leader(&self, target: Target) -> Result<String> {
        let mut missing = None;
        let leader = wait_until(PATIENCE, || self.leader_now(target).map_err(|e| missing = Some(e)).ok());
        leader.ok_or_else(|| missing.unwrap_or_else(|| anyhow!("nobody was asked who leads")))
    }

    fn leader_now(&self, target: Target) -> Result<String> {
        match target {
            Target::Pkgctl => {
                let status: Value = serde_json::from_str(self.verb(NODES[0], &["status", "--json"])?.trim())?;
                let leader = status["cluster"]["leader"].as_str().context("no leader is known")?;
                Ok(leader.to_owned())
            }
            Target::Etcd => NODES
                .into_iter()
                .find(|node| self.leads(node).unwrap_or(false))
                .map(str::to_owned)
                .context("no etcd says that it leads"),
        }
    }

    fn leads(&self, node: &str) -> Result<bool> {
        let at = self.at(node, Target::Etcd);
        let argv = ["etcdctl", "--endpoints", &at.to_string(), "endpoint", "status", "-w", "json"].map(str::to_owned);
        let argv: Vec<&str> =
            std::iter::once("env").chain(["ETCDCTL_API=3"]).chain(argv.iter().map(String::as_str)).collect();
        let output = self.lab.run_in(node, &argv, PATIENCE)?;
        let said: Value = serde_json::from_str(output.stdout.trim())?;
        let status = &said[0]["Status"];
        Ok(status["leader"].is_u64() && status["leader"] == status["header"]["member_id"])
    }

    fn at(&self, node: &str, target: Target) -> SocketAddr {
        (self.lab.address(node), target.port()).into()
    }

    fn itself(&self, flag: &str, spec: &impl serde::Serialize, within: Duration) -> Result<String> {
        let (own, spec) = (self.own.display().to_string(), serde_json::to_string(spec)?);
        let output = self.lab.run_in(CLIENT, &[&own, flag, &spec], within)?;
        ensure!(output.success(), "the load process: {}{}", output.stdout, output.stderr);
        Ok(output.stdout)
    }

    /// One measurement, at the leader.
    pub fn load(&self, target: Target, op: Op, clients: usize, seconds: u64) -> Result<Measured> {
        let at = self.at(&self.leader(target)?, target);
        let spec = Spec { target, op, at, clients, seconds, fill: None };
        let said = self.itself("--load", &spec, PATIENCE + Duration::from_secs(seconds))?;
        Ok(serde_json::from_str(said.trim())?)
    }

    /// Stores that many distinct keys.
    pub fn fill(&self, target: Target, keys: u64) -> Result<()> {
        let at = self.at(&self.leader(target)?, target);
        let spec = Spec { target, op: Op::Put, at, clients: FILLERS, seconds: 0, fill: Some(keys) };
        self.itself("--load", &spec, 10 * PATIENCE).map(drop)
    }

    /// The processes of one side on one node.
    fn processes(&self, node: &str, target: Target) -> Result<Vec<Process>> {
        let is = |process: &Process| match target {
            Target::Pkgctl => {
                let word = |word: &str| process.argv.iter().any(|w| w == word);
                process.argv.first().is_some_and(|w| w.ends_with("pkgctl")) && (word("agent") || word("keeper"))
            }
            Target::Etcd => process.argv.first().is_some_and(|w| w == "etcd"),
        };
        Ok(self.lab.processes(node)?.into_iter().filter(is).collect())
    }

    /// Memory (agent and keeper together) and disk of the node that has most.
    pub fn figures(&self, target: Target) -> Result<Figures> {
        let mut largest = Figures::default();
        for node in NODES {
            let all = self.processes(node, target)?;
            let memory: u64 = all.iter().map(|process| rss(process.pid)).sum::<Result<u64>>()?;
            let below = match target {
                Target::Pkgctl => "var/lib/pkgctl",
                Target::Etcd => "etcd",
            };
            let files = disk(&self.lab.place(node).disk.join(below));
            largest = Figures { rss: largest.rss.max(memory), disk: largest.disk.max(files) };
        }
        Ok(largest)
    }

    /// What the disk below all nodes has been given to write, in bytes for each node.
    pub fn written(&self) -> Option<u64> {
        written(self.lab.scratch()).map(|bytes| bytes / NODES.len() as u64)
    }

    /// Kills the leader while one client writes; the longest time between two acknowledged writes, in milliseconds.
    pub fn kill_leader(&self, target: Target) -> Result<f64> {
        let leader = self.leader(target)?;
        let others = NODES.into_iter().filter(|node| *node != leader);
        let endpoints = std::iter::once(leader.as_str()).chain(others).map(|node| self.at(node, target)).collect();
        let spec = gap::Spec { target, endpoints, seconds: GAP_SECONDS };
        let said = std::thread::scope(|scope| {
            let writing = scope.spawn(|| self.itself("--gap", &spec, PATIENCE));
            #[allow(clippy::disallowed_methods)] // The leader is to die in the middle of the writing.
            std::thread::sleep(KILL_AFTER);
            let all = self.processes(&leader, target)?;
            let agent = |process: &&Process| target == Target::Etcd || process.argv.iter().any(|w| w == "agent");
            all.iter().find(agent).context("the leader has no process")?.send(Signal::SIGKILL)?;
            match writing.join() {
                Ok(said) => said,
                Err(_) => bail!("the writing thread ended"),
            }
        })?;
        wait_until(PATIENCE, || self.leader(target).ok()).context("no leader again")?;
        Ok(said.trim().parse()?)
    }
}
