//! A real cluster in the lab: agents on every node, `testpkg1` on the first two that may own it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::engine::Profile;
use crate::lab::{Lab, LabSpec, Moment, Observer, Place, floating_address, wait_until};

/// The package everybody watches.
pub const PACKAGE: &str = "testpkg1";
/// Where its program answers.
const PORT: u16 = 8080;
/// Restarts in place before the package moves: more than a benchmark kills its program in ten minutes.
const RESTARTS: u32 = 1000;
/// The port of every agent.
const AGENT_PORT: u16 = 7420;
/// Longest that a verb may take.
const VERB_WITHIN: Duration = Duration::from_secs(90);
/// Longest that the cluster may take to be whole again.
pub const WHOLE_WITHIN: Duration = Duration::from_secs(60);

/// A cluster in the lab.
pub struct Cluster {
    /// Its namespaces.
    pub lab: Lab,
    /// Its nodes, in order of preference.
    pub nodes: Vec<String>,
    binary: PathBuf,
}

fn agent(place: &Place) -> Vec<String> {
    let words = [
        place.binary.display().to_string(),
        "--root".into(),
        place.disk.display().to_string(),
        "agent".into(),
        "--name".into(),
        place.name.clone(),
        "--listen".into(),
        format!("{}:{AGENT_PORT}", place.address),
    ];
    words.to_vec()
}

/// A node with leases that end nothing: the agent is told that somebody else runs its keeper.
fn unleased(place: &Place) -> Vec<String> {
    let (binary, root) = (place.binary.display().to_string(), place.disk.display().to_string());
    let role = [binary, "lab-unleased".into(), root];
    role.into_iter().chain(agent(place)).chain(["--no-keeper".into()]).collect()
}

impl Cluster {
    /// Builds the lab, founds the cluster, joins the other nodes and runs the package. `say` hears each step.
    pub fn build(binary: PathBuf, nodes: &[&str], profile: Profile, say: &dyn Fn(&str)) -> Result<Self> {
        Self::build_of(agent, binary, nodes, profile, say)
    }

    /// The same with leases that end nothing: a node that is cut off goes on acting. To show that the observer sees it.
    pub fn build_unleased(binary: PathBuf, nodes: &[&str], profile: Profile, say: &dyn Fn(&str)) -> Result<Self> {
        Self::build_of(unleased, binary, nodes, profile, say)
    }

    fn build_of(
        command: fn(&Place) -> Vec<String>,
        binary: PathBuf,
        nodes: &[&str],
        profile: Profile,
        say: &dyn Fn(&str),
    ) -> Result<Self> {
        let lab = Lab::build(LabSpec::new(binary.clone(), nodes).command(command))?;
        if profile == Profile::Fast && !lab.realtime() {
            bail!("the fast profile needs SCHED_FIFO, which is refused here (not root, or in a container)");
        }
        let cluster = Self { lab, nodes: nodes.iter().map(|n| (*n).to_owned()).collect(), binary };
        let first = nodes.first().context("a cluster needs a node")?;
        cluster.wait_for_agent(first)?;
        cluster.verb(first, &["cluster", "init", "--name", "demo", "--profile", profile.word()])?;
        say(&format!("{first} has made the cluster"));
        for node in &nodes[1..] {
            cluster.wait_for_agent(node)?;
            let token = cluster.verb(first, &["cluster", "token"])?;
            cluster.verb(node, &["cluster", "join", token.lines().next().unwrap_or_default()])?;
            say(&format!("{node} has joined and votes"));
        }
        cluster.define(first)?;
        cluster.verb(first, &["run", PACKAGE])?;
        Ok(cluster)
    }

    fn define(&self, node: &str) -> Result<()> {
        let file = self.lab.scratch().join(format!("{PACKAGE}.toml"));
        let owners: Vec<&String> = self.nodes.iter().take(2).collect();
        let text = format!(
            "name = \"{PACKAGE}\"\nnodes = {owners:?}\n\n[[resource]]\nkind = \"ip\"\naddress = \"{ip}/24\"\ndevice = \
             \"eth0\"\n\n[[resource]]\nkind = \"program\"\ncommand = [{:?}, \"demo-program\", \"--listen\", \
             \"{ip}:{PORT}\", \"--beats\", {:?}]\nrestarts = {RESTARTS}\n",
            self.binary.display().to_string(),
            self.lab.place(node).beats.display().to_string(),
            ip = floating_address(0)
        );
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        self.verb(node, &["init", PACKAGE, "-f", &file.display().to_string()]).map(|_| ())
    }

    fn wait_for_agent(&self, node: &str) -> Result<()> {
        let up = wait_until(WHOLE_WITHIN, || self.verb(node, &["status"]).ok());
        up.map(|_| ()).with_context(|| format!("the agent of {node} does not answer: {}", self.lab.console(node)))
    }

    /// Runs a verb of ours inside a node; what it printed.
    pub fn verb(&self, node: &str, words: &[&str]) -> Result<String> {
        let (binary, disk) = (self.binary.display().to_string(), self.lab.place(node).disk.display().to_string());
        let argv: Vec<&str> = [binary.as_str(), "--root", &disk].into_iter().chain(words.iter().copied()).collect();
        let output = self.lab.run_in(node, &argv, VERB_WITHIN)?;
        if !output.success() {
            bail!("pkgctl {} on {node}: {}{}", words.join(" "), output.stdout, output.stderr);
        }
        Ok(output.stdout)
    }

    /// A node's answer in JSON, if it can be had and is up to date.
    fn json(&self, node: &str, words: &[&str]) -> Option<Value> {
        let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
        let said = self.verb(node, &words).ok()?;
        let value: Value = said.lines().find_map(|line| serde_json::from_str(line).ok())?;
        (value["stale"] != true).then_some(value)
    }

    /// The answer of whichever node can give one.
    fn ask(&self, words: &[&str]) -> Result<Value> {
        let powered = || self.nodes.iter().filter(|n| self.lab.init_pid(n).is_ok());
        let found = wait_until(WHOLE_WITHIN, || powered().find_map(|node| self.json(node, words)));
        found.with_context(|| format!("no node answers `pkgctl {}`", words.join(" ")))
    }

    /// The package's owner, token and reason.
    pub fn owner(&self) -> Result<(String, u64, String)> {
        let view = self.ask(&["status", PACKAGE])?["view"].clone();
        let text = |key: &str| view[key].as_str().unwrap_or_default().to_owned();
        Ok((text("owner"), view["token"].as_u64().unwrap_or_default(), text("reason")))
    }

    /// What the cluster has written down about the package, oldest first.
    pub fn ledger(&self) -> Result<Vec<Value>> {
        Ok(self.ask(&["status", PACKAGE])?["events"].as_array().cloned().unwrap_or_default())
    }

    /// The same by the word of one node, if it can give it now.
    pub fn ledger_of(&self, node: &str) -> Option<Vec<Value>> {
        self.json(node, &["status", PACKAGE])?["events"].as_array().cloned()
    }

    /// The leader's name.
    pub fn leader(&self) -> Result<String> {
        Ok(self.ask(&["status"])?["cluster"]["leader"].as_str().unwrap_or_default().to_owned())
    }

    /// What the scheduler grants on the owner: `fifo` or `best-effort`.
    pub fn scheduling(&self) -> Result<String> {
        Ok(self.ask(&["status"])?["local"]["scheduling"].as_str().unwrap_or_default().to_owned())
    }

    /// Moves the package to a node, if it is not there already.
    pub fn move_to(&self, node: &str) -> Result<()> {
        if self.owner()?.0 != node {
            self.verb(node, &["move", PACKAGE, "--to", node])?;
        }
        Ok(())
    }

    /// Waits until every node has a live session and is heard, then makes every node eligible again.
    pub fn whole(&self) -> Result<()> {
        let whole = wait_until(WHOLE_WITHIN, || {
            let status = self.ask(&["status"]).ok()?;
            let nodes = status["cluster"]["nodes"].as_array()?.clone();
            let live = nodes.iter().all(|n| n["session"].is_u64() && n["silent"] == false);
            (live && nodes.len() == self.nodes.len() && status["cluster"]["leader"].is_string()).then_some(())
        });
        whole.context("the cluster was not whole again in time")?;
        // The agent of the node asked may just be coming back.
        let ran = wait_until(WHOLE_WITHIN, || self.verb(&self.nodes[0], &["run", PACKAGE]).ok());
        ran.map(|_| ()).with_context(|| format!("the agent of {} does not answer", self.nodes[0]))
    }

    /// Watches the package from the client, from its first answer on.
    pub fn watch(&self) -> Result<Observer> {
        let since = Moment::now();
        let observer = Observer::start(&self.lab, SocketAddr::from((floating_address(0), PORT)))?;
        observer.wait_for_answer(since, WHOLE_WITHIN, |_| true).context("the package does not answer the client")?;
        Ok(observer)
    }

    /// Kills every process with that word on its command line, on one node.
    pub fn kill(&self, node: &str, word: &str) -> Result<Moment> {
        let at = Moment::now();
        let all = self.lab.processes(node)?;
        let mut of_role = all.iter().filter(|p| p.argv.iter().any(|w| w == word)).peekable();
        of_role.peek().with_context(|| format!("no {word} runs on {node}"))?;
        of_role.try_for_each(|process| process.send(Signal::SIGKILL).map(|_| ())).context("cannot kill it")?;
        Ok(at)
    }
}
