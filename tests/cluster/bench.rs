//! A cluster in the lab with `testpkg1` running on its first node, and what tests ask of it.

use std::any::Any;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use pkgctl::lab::verdict::{Fault, judge};
use pkgctl::lab::{
    Lab, LabError, LabSpec, Moment, Observer, PROBE_EVERY, Place, Probe, ProbeResult, Process, Stalls,
    floating_address, wait_until,
};
use serde_json::Value;

pub const PKGCTL: &str = env!("CARGO_BIN_EXE_pkgctl");
const PORT: u16 = 8080;
/// How long anything is waited for. A test that passes waits as long as it takes; this is for emulated machines on a loaded
/// one, where everything takes twenty times as long.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// What is said when the claim that this project lives on does not hold.
pub const DOUBLE: &str = "two nodes acted at once";

/// What a panic said, if it was words.
pub fn words_of(panic: &(dyn Any + Send)) -> Option<&str> {
    panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied())
}

pub struct Bench {
    pub lab: Lab,
    nodes: Vec<String>,
}

/// An observer, and since when it looks; and the machine that both it and the cluster run on.
pub struct Watch {
    observer: Observer,
    since: Moment,
    stalls: Stalls,
}

/// An answer that came.
pub struct Healed {
    pub token: u64,
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for node in &self.nodes {
            let log = |path: &str| {
                let all = std::fs::read_to_string(self.lab.place(node).disk.join(path)).unwrap_or_default();
                all.lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
            };
            let console = self.lab.console(node);
            let tail: Vec<_> = console.lines().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect();
            eprintln!("==== {node}: console\n{}", tail.join("\n"));
            eprintln!("==== {node}: keeper\n{}", log("var/log/pkgctl/keeper.log"));
            eprintln!("==== {node}: testpkg1\n{}", log("var/log/pkgctl/packages/testpkg1.log"));
        }
    }
}

/// What a node runs.
pub fn agent(place: &Place) -> Vec<String> {
    let (disk, listen) = (place.disk.display().to_string(), format!("{}:7420", place.address));
    [PKGCTL, "--root", &disk, "agent", "--name", &place.name, "--listen", &listen].map(str::to_owned).to_vec()
}

/// An address and a program that beats.
pub fn definition(lab: &Lab, owners: &[&str]) -> String {
    let beats = lab.place(owners[0]).beats.display().to_string();
    format!(
        "name = \"testpkg1\"\nnodes = {owners:?}\n\n[[resource]]\nkind = \"ip\"\naddress = \"{ip}/24\"\ndevice = \
         \"eth0\"\n\n[[resource]]\nkind = \"program\"\ncommand = [{PKGCTL:?}, \"demo-program\", \"--listen\", \
         \"{ip}:{PORT}\", \"--beats\", {beats:?}]\n",
        ip = floating_address(0)
    )
}

/// The lab of a test; none where namespaces are refused.
fn lab(nodes: &[&str], command: fn(&Place) -> Vec<String>) -> Option<Lab> {
    lab_of(LabSpec::new(PKGCTL, nodes).command(command))
}

/// Any lab; none where namespaces are refused.
pub fn lab_of(spec: LabSpec) -> Option<Lab> {
    match Lab::build(spec) {
        Ok(lab) => Some(lab),
        Err(LabError::NotPermitted { reason }) => {
            let _ = writeln!(std::io::stderr(), "skipped 1 test of a cluster: {reason}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

/// The program, for a test that builds its lab otherwise; none where namespaces are refused.
pub fn binary_where_labs_are_allowed() -> Option<PathBuf> {
    lab(&["n1"], |_| Vec::new()).map(|_| PathBuf::from(PKGCTL))
}

impl Bench {
    /// A cluster of these nodes; `testpkg1` may run on the first two. None where namespaces are refused.
    pub fn new(nodes: &[&str]) -> Option<Self> {
        Some(Self::founded(nodes)?.grown())
    }

    /// All its nodes in the cluster; `testpkg1` may run on the first two.
    pub fn grown(self) -> Self {
        self.nodes[1..].iter().for_each(|node| self.join(node));
        let owners: Vec<&str> = self.nodes.iter().take(2).map(String::as_str).collect();
        self.run_package(&owners);
        self
    }

    /// The same nodes, but only the first is in a cluster, and there is no package.
    pub fn founded(nodes: &[&str]) -> Option<Self> {
        Self::founded_in(lab(nodes, agent)?, nodes, "default")
    }

    /// The same with leases that outlast what holds up a busy machine, for a long lab in which nobody may notice anything.
    pub fn unhurried(nodes: &[&str]) -> Option<Self> {
        Self::founded_with(nodes, "vm", agent)
    }

    /// The same with another profile of lease times, in a lab whose nodes may run something else than the plain agent.
    pub fn founded_with(nodes: &[&str], profile: &str, command: fn(&Place) -> Vec<String>) -> Option<Self> {
        Self::founded_in(lab(nodes, command)?, nodes, profile)
    }

    /// The same nodes, none of them in a cluster.
    pub fn bare(nodes: &[&str]) -> Option<Self> {
        let bench = Self::over(lab(nodes, agent)?, nodes);
        nodes.iter().for_each(|node| bench.agent_up(node));
        Some(bench)
    }

    fn over(lab: Lab, nodes: &[&str]) -> Self {
        Self { lab, nodes: nodes.iter().map(|n| (*n).to_owned()).collect() }
    }

    /// The same in a lab that a test has built itself.
    pub fn founded_in(lab: Lab, nodes: &[&str], profile: &str) -> Option<Self> {
        let bench = Self::over(lab, nodes);
        bench.agent_up(nodes[0]);
        bench.ctl(nodes[0], &["cluster", "init", "--name", "test", "--profile", profile]);
        Some(bench)
    }

    /// Waits until the node's agent answers.
    pub fn agent_up(&self, node: &str) {
        self.until("an agent answers", || self.try_ctl(node, &["status"]).0 == 0);
    }

    /// A new token, from the first node.
    pub fn join_token(&self) -> String {
        self.ctl(&self.nodes[0], &["cluster", "token"]).lines().next().unwrap().to_owned()
    }

    /// Takes a node in, by a token of the first node.
    pub fn join(&self, node: &str) {
        self.agent_up(node);
        self.ctl(node, &["cluster", "join", &self.join_token()]);
    }

    /// Stores the package, which may run on these nodes, and runs it.
    pub fn run_package(&self, owners: &[&str]) {
        self.run_definition(&definition(&self.lab, owners));
    }

    /// The same with a file of the test's own for `testpkg1`.
    pub fn run_definition(&self, text: &str) {
        let file = self.lab.scratch().join("testpkg1.toml");
        std::fs::write(&file, text).unwrap();
        self.ctl(&self.nodes[0], &["init", "testpkg1", "-f", file.to_str().unwrap()]);
        self.ctl(&self.nodes[0], &["run", "testpkg1"]);
    }

    /// Runs a verb on a node; its exit code, and what it printed.
    pub fn try_ctl(&self, node: &str, words: &[&str]) -> (i32, String) {
        let disk = self.lab.place(node).disk.display().to_string();
        let argv: Vec<&str> = [PKGCTL, "--root", &disk].into_iter().chain(words.iter().copied()).collect();
        let output = self.lab.run_in(node, &argv, PATIENCE * 2).unwrap();
        let said = format!("{}{}", output.stdout, output.stderr);
        (output.code.unwrap_or(-1), said)
    }

    /// Runs a verb that must succeed.
    pub fn ctl(&self, node: &str, words: &[&str]) -> String {
        let (code, said) = self.try_ctl(node, words);
        assert_eq!(code, 0, "pkgctl {words:?} on {node}: {said}");
        said
    }

    /// The status of the answer to one request on a node's own socket; none when nobody listens there.
    pub fn request(&self, node: &str, method: &str, path: &str, body: &str) -> Option<u16> {
        let socket = self.lab.place(node).disk.join("run/pkgctl/api.sock");
        let mut stream = UnixStream::connect(socket).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: pkgctl\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
            body.len()
        );
        // A server that refuses a body without reading it may close the connection under its own answer.
        let written = stream.write_all(format!("{head}{body}").as_bytes());
        let mut said = Vec::new();
        let ended = stream.read_to_end(&mut said);
        assert!((written.is_ok() && ended.is_ok()) || !said.is_empty(), "{written:?}, {ended:?}");
        let said = String::from_utf8_lossy(&said);
        let code = said.split(' ').nth(1).and_then(|code| code.parse().ok());
        Some(code.unwrap_or_else(|| panic!("no answer: {said}")))
    }

    fn json(&self, words: &[&str]) -> Value {
        // Whoever can be asked: nodes may be down or cut off.
        for node in &self.nodes {
            if self.lab.init_pid(node).is_err() {
                continue;
            }
            let all: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
            let (code, said) = self.try_ctl(node, &all);
            let value = said.lines().find_map(|l| serde_json::from_str::<Value>(l).ok());
            if let Some(value) = value.filter(|v| code == 0 && v["stale"] != true) {
                return value;
            }
        }
        Value::Null
    }

    pub fn package(&self) -> Value {
        self.json(&["status", "testpkg1"])
    }

    pub fn cluster(&self) -> Value {
        self.json(&["status"])
    }

    /// Raft's members, as the leader sees them.
    pub fn raft(&self) -> Value {
        self.json(&["raft", "status"])
    }

    pub fn owner(&self) -> String {
        self.package()["view"]["owner"].as_str().unwrap_or_default().to_owned()
    }

    /// The owner as this node knows it.
    pub fn owner_by(&self, node: &str) -> String {
        let (_, said) = self.try_ctl(node, &["status", "testpkg1", "--json"]);
        let value: Value = said.lines().find_map(|l| serde_json::from_str(l).ok()).unwrap_or_default();
        value["view"]["owner"].as_str().unwrap_or_default().to_owned()
    }

    pub fn token(&self) -> u64 {
        self.package()["view"]["token"].as_u64().unwrap_or_default()
    }

    pub fn leader(&self) -> String {
        self.cluster()["cluster"]["leader"].as_str().unwrap_or_default().to_owned()
    }

    /// The program's process, by the owner's word.
    pub fn program_pid(&self) -> String {
        self.package()["view"]["resources"][1]["detail"].as_str().unwrap_or_default().to_owned()
    }

    pub fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let came = wait_until(PATIENCE * 2, || condition().then_some(()));
        assert!(came.is_some(), "waited in vain: {what}");
    }

    /// Waits until every node has a live session, is not silent, and a leader is known.
    pub fn whole(&self) {
        self.until("every node is back", || {
            let status = self.cluster();
            let nodes = status["cluster"]["nodes"].as_array().cloned().unwrap_or_default();
            let live = |n: &Value| n["session"].is_u64() && n["silent"] == false;
            nodes.len() == self.nodes.len() && nodes.iter().all(live) && status["cluster"]["leader"].is_string()
        });
    }

    /// Waits until `by` knows a leader that is not the one that was lost.
    pub fn new_leader_than(&self, by: &str, lost: &str) {
        self.until("another leader", || {
            let (_, said) = self.try_ctl(by, &["status", "--json"]);
            let value: Value = said.lines().find_map(|l| serde_json::from_str(l).ok()).unwrap_or_default();
            value["cluster"]["leader"].as_str().is_some_and(|leader| leader != lost) && value["stale"] == false
        });
    }

    /// Kills every process of that role on a node.
    pub fn kill_role(&self, node: &str, role: &str) -> Moment {
        self.signal_role(node, role, Signal::SIGKILL)
    }

    pub fn signal_role(&self, node: &str, role: &str, signal: Signal) -> Moment {
        let at = Moment::now();
        let processes = self.lab.processes(node).unwrap();
        let of_role: Vec<_> = processes.iter().filter(|p| p.argv.iter().any(|word| word == role)).collect();
        assert!(!of_role.is_empty(), "no {role} on {node}: {processes:?}");
        for process in of_role {
            process.send(signal).unwrap();
        }
        at
    }

    /// Stops every process of that role on a node; to be thawed.
    pub fn freeze_role(&self, node: &str, role: &str) -> Vec<Process> {
        let mut processes = self.lab.processes(node).unwrap();
        processes.retain(|p| p.argv.iter().any(|word| word == role));
        assert!(!processes.is_empty(), "no {role} on {node}");
        assert!(processes.iter().all(|process| process.send(Signal::SIGSTOP).unwrap()));
        processes
    }

    /// The words of the ledger about the package since a moment, by one node.
    pub fn ledger_by(&self, node: &str, since: Moment) -> Vec<String> {
        let (_, said) = self.try_ctl(node, &["status", "testpkg1", "--json"]);
        let value: Value = said.lines().find_map(|l| serde_json::from_str(l).ok()).unwrap_or_default();
        let events = value["events"].as_array().cloned().unwrap_or_default();
        let after = events.into_iter().filter(|e| e["wall"].as_f64().is_some_and(|wall| wall + 1.0 >= since.wall()));
        after.map(|e| e["what"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Starts to observe, once the package is answered.
    pub fn watch(&self) -> Watch {
        let (since, stalls) = (Moment::now(), Stalls::watch());
        let observer = Observer::start(&self.lab, SocketAddr::from((floating_address(0), PORT))).unwrap();
        let watch = Watch { observer, since, stalls };
        self.answered(&watch, since);
        Watch { since: Moment::now(), ..watch }
    }

    /// Waits for an answer to a probe sent after that moment.
    pub fn answered(&self, watch: &Watch, since: Moment) -> Healed {
        let probe = watch.observer.wait_for_answer(since, PATIENCE, |_| true).expect("no answer");
        match probe.result {
            ProbeResult::Answered(reply) => Healed { token: reply.token },
            other => panic!("not an answer: {other:?}"),
        }
    }

    pub fn answered_by(&self, watch: &Watch, since: Moment, node: &str) {
        let probe = watch.observer.wait_for_answer(since, PATIENCE, |reply| reply.node == node);
        assert!(probe.is_some(), "{node} did not answer");
    }

    /// Waits until another node answers; which.
    pub fn answered_elsewhere(&self, watch: &Watch, since: Moment, owner: &str) -> String {
        let probe = watch.observer.wait_for_answer(since, PATIENCE, |reply| reply.node != owner);
        match probe.expect("no other node answered").result {
            ProbeResult::Answered(reply) => reply.node.clone(),
            other => panic!("not an answer: {other:?}"),
        }
    }

    /// Waits until so many more probes have been answered.
    pub fn still_answering(&self, watch: &Watch, count: usize) {
        let since = Moment::now();
        let enough = watch.observer.wait_for(PATIENCE, |probes| {
            let answered = probes.iter().filter(|p| p.sent >= since && matches!(p.result, ProbeResult::Answered(_)));
            (answered.count() >= count).then_some(())
        });
        assert!(enough.is_some(), "it is not answering any more");
    }

    pub fn no_double_activity(&self, watch: Watch) {
        self.judged(watch.observer, watch.since);
    }

    /// Ends the observation; what it saw since then.
    fn judged(&self, observer: Observer, from: Moment) -> Vec<Probe> {
        let to = Moment::now();
        let mut probes = observer.finish();
        let fault = Fault { at: from, owner: String::new(), from, to };
        let verdict = judge(&fault, &probes, &self.lab.lives().unwrap(), PROBE_EVERY);
        eprintln!("{verdict:?}");
        assert_eq!(verdict.double_activity, Duration::ZERO, "{DOUBLE}");
        probes.retain(|probe| from <= probe.sent && probe.sent <= to);
        probes
    }

    /// Every probe was answered, but for those whose packets a core may have held that stood still just then.
    pub fn nothing_failed(&self, watch: Watch) {
        let mut probes = self.judged(watch.observer, watch.since);
        probes.retain(|probe| !matches!(probe.result, ProbeResult::Answered(_)));
        probes.retain(|probe| !watch.stalls.met(&(probe.sent..probe.ended)));
        assert!(probes.is_empty(), "{} probes failed while the machine ran: {probes:?}", probes.len());
    }
}
