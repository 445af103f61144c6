//! A cluster in the lab with `testpkg1` running on its first node, and what tests ask of it.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;
use pkgctl::lab::verdict::{Fault, Verdict, judge};
use pkgctl::lab::{
    Lab, LabError, LabSpec, Moment, Observer, PROBE_EVERY, Place, ProbeResult, floating_address, wait_until,
};
use serde_json::Value;

const PKGCTL: &str = env!("CARGO_BIN_EXE_pkgctl");
const PORT: u16 = 8080;
/// Ten lease times of the default profile, and as much again for a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Bench {
    pub lab: Lab,
    nodes: Vec<String>,
}

/// An observer, and since when it looks.
pub struct Watch {
    observer: Observer,
    since: Moment,
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

fn agent(place: &Place) -> Vec<String> {
    let (disk, listen) = (place.disk.display().to_string(), format!("{}:7420", place.address));
    [PKGCTL, "--root", &disk, "agent", "--name", &place.name, "--listen", &listen].map(str::to_owned).to_vec()
}

fn definition(lab: &Lab, owners: &[String]) -> String {
    let beats = lab.place(&owners[0]).beats.display().to_string();
    format!(
        "name = \"testpkg1\"\nnodes = {owners:?}\n\n[[resource]]\nkind = \"ip\"\naddress = \"{ip}/24\"\ndevice = \
         \"eth0\"\n\n[[resource]]\nkind = \"program\"\ncommand = [{PKGCTL:?}, \"demo-program\", \"--listen\", \
         \"{ip}:{PORT}\", \"--beats\", {beats:?}]\n",
        ip = floating_address(0)
    )
}

impl Bench {
    /// A cluster of these nodes; `testpkg1` may run on the first two. None where namespaces are refused.
    pub fn new(nodes: &[&str]) -> Option<Self> {
        let lab = match Lab::build(LabSpec::new(PKGCTL, nodes).command(agent)) {
            Ok(lab) => lab,
            Err(LabError::NotPermitted { reason }) => {
                let _ = writeln!(std::io::stderr(), "skipped 1 test of a cluster: {reason}");
                return None;
            }
            Err(e) => panic!("{e}"),
        };
        let bench = Self { lab, nodes: nodes.iter().map(|n| (*n).to_owned()).collect() };
        bench.until("the first agent", || bench.try_ctl(nodes[0], &["status"]).0 == 0);
        bench.ctl(nodes[0], &["cluster", "init", "--name", "test"]);
        for node in &nodes[1..] {
            bench.until("an agent", || bench.try_ctl(node, &["status"]).0 == 0);
            let token = bench.ctl(nodes[0], &["cluster", "token"]);
            bench.ctl(node, &["cluster", "join", token.lines().next().unwrap()]);
        }
        let file = bench.lab.scratch().join("testpkg1.toml");
        std::fs::write(&file, definition(&bench.lab, &bench.nodes[..nodes.len().min(2)])).unwrap();
        bench.ctl(nodes[0], &["init", "testpkg1", "-f", file.to_str().unwrap()]);
        bench.ctl(nodes[0], &["run", "testpkg1"]);
        Some(bench)
    }

    /// Runs a verb on a node; its exit code, and what it printed.
    pub fn try_ctl(&self, node: &str, words: &[&str]) -> (i32, String) {
        let disk = self.lab.place(node).disk.display().to_string();
        let argv: Vec<&str> = [PKGCTL, "--root", &disk].into_iter().chain(words.iter().copied()).collect();
        let output = self.lab.run_in(node, &argv, Duration::from_secs(90)).unwrap();
        let said = format!("{}{}", output.stdout, output.stderr);
        (output.code.unwrap_or(-1), said)
    }

    /// Runs a verb that must succeed.
    pub fn ctl(&self, node: &str, words: &[&str]) -> String {
        let (code, said) = self.try_ctl(node, words);
        assert_eq!(code, 0, "pkgctl {words:?} on {node}: {said}");
        said
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

    fn cluster(&self) -> Value {
        self.json(&["status"])
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
        let at = Moment::now();
        let processes = self.lab.processes(node).unwrap();
        let of_role: Vec<_> = processes.iter().filter(|p| p.argv.iter().any(|word| word == role)).collect();
        assert!(!of_role.is_empty(), "no {role} on {node}: {processes:?}");
        for process in of_role {
            process.send(Signal::SIGKILL).unwrap();
        }
        at
    }

    /// Starts to observe, once the package is answered.
    pub fn watch(&self) -> Watch {
        let since = Moment::now();
        let observer = Observer::start(&self.lab, SocketAddr::from((floating_address(0), PORT))).unwrap();
        let watch = Watch { observer, since };
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

    fn verdict(&self, watch: Watch) -> Verdict {
        let (from, to) = (watch.since, Moment::now());
        let probes = watch.observer.finish();
        let fault = Fault { at: from, owner: String::new(), from, to };
        let verdict = judge(&fault, &probes, &self.lab.lives().unwrap(), PROBE_EVERY);
        eprintln!("{verdict:?}");
        verdict
    }

    pub fn no_double_activity(&self, watch: Watch) {
        assert_eq!(self.verdict(watch).double_activity, Duration::ZERO, "two nodes acted at once");
    }

    pub fn nothing_failed(&self, watch: Watch) {
        let verdict = self.verdict(watch);
        assert_eq!((verdict.failed, verdict.double_activity), (0, Duration::ZERO));
    }
}
