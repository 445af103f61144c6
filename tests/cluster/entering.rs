//! How a directory's node comes into a cluster, or makes one, when the others are slow, silent or many.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use pkgctl::lab::{Direction, LabSpec, Place};

use super::bench::{Bench, PATIENCE, PKGCTL, agent, lab_of};

/// A program that goes on in a node, and what it has said.
struct Served {
    child: Child,
    printed: PathBuf,
}

impl Served {
    fn start(bench: &Bench, node: &str, words: &[&str]) -> Self {
        let printed = bench.lab.scratch().join(format!("served-{node}"));
        let file = std::fs::File::create(&printed).unwrap();
        let (disk, address) = (bench.lab.place(node).disk.display().to_string(), bench.lab.address(node).to_string());
        let argv = [&[PKGCTL, "serve", "--id", node, "--raft-addr", &address][..], words, &[&disk]].concat();
        let mut command = bench.lab.command_in(node, &argv).unwrap();
        let (out, err) = (file.try_clone().unwrap(), file);
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap();
        Self { child, printed }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.printed).unwrap_or_default()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("==== {}\n{}", self.printed.display(), self.said());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A cluster of the first node, which has made the secret; the others run nothing yet, and have it too.
fn founded(nodes: &[&str]) -> Option<Bench> {
    let command = |place: &Place| if place.name == "n1" { agent(place) } else { Vec::new() };
    let bench = Bench::founded_in(lab_of(LabSpec::new(PKGCTL, nodes).command(command))?, nodes, "default")?;
    super::introduction::share(&bench, &nodes[1..]);
    Some(bench)
}

#[lab]
fn no_second_cluster_is_made_beside_a_member_that_is_frozen_or_cut_off() {
    let Some(bench) = founded(&["n1", "n2"]) else { return };
    let other = bench.lab.address("n1").to_string();
    let frozen = bench.freeze_role("n1", "agent");
    let served = Served::start(&bench, "n2", &["--patient", "--init", "--unless-known-by", &other]);
    bench.until("it says why it waits", || served.said().contains("no handshake within"));
    assert!(served.said().contains("no cluster is made while another one may be there"), "{}", served.said());
    assert!(served.said().contains("cluster init --profile default"), "{}", served.said());
    bench.lab.cut("n1", Direction::Both).unwrap();
    frozen.iter().for_each(|process| assert!(process.send(nix::sys::signal::Signal::SIGCONT).unwrap()));
    bench.until("it cannot be reached either", || served.said().contains("nobody answers at"));
    assert!(bench.ctl("n2", &["raft-status"]).contains("unconfigured"));
    bench.lab.heal("n1").unwrap();
    bench.until("it joins", || served.said().contains("this node has joined"));
    assert!(served.said().contains("is in a cluster already: joining that"), "{}", served.said());
    bench.whole();
}

#[lab]
fn who_waits_for_a_silent_node_goes_on_once_a_cluster_is_made_by_hand() {
    let Some(bench) = founded(&["n1", "n2"]) else { return };
    let other = bench.lab.address("n1").to_string();
    bench.lab.cut("n1", Direction::Both).unwrap();
    let mut served = Served::start(&bench, "n2", &["--patient", "--init", "--unless-known-by", &other]);
    bench.until("it says what to do", || served.said().contains("cluster init --profile default"));
    bench.ctl("n2", &["cluster", "init", "--profile", "default"]);
    // What it would have asked next is answered: nobody was asked again, and the node goes on.
    bench.lab.heal("n1").unwrap();
    bench.ctl("n2", &["kv", "set", "a", "1"]);
    assert!(served.child.try_wait().unwrap().is_none(), "{}", served.said());
    assert!(!served.said().contains("joining that"), "{}", served.said());
}

#[lab]
fn several_nodes_that_come_at_the_same_moment_all_come_in() {
    let nodes = ["n1", "n2", "n3", "n4"];
    let Some(bench) = founded(&nodes) else { return };
    let to = bench.lab.address("n1").to_string();
    let served: Vec<Served> = nodes[1..].iter().map(|node| Served::start(&bench, node, &["--join", &to])).collect();
    for served in &served {
        bench.until("it joins", || served.said().contains("this node has joined"));
    }
    bench.whole();
    assert!(bench.ctl("n4", &["status"]).contains("4 voters"));
}

#[lab]
fn a_node_whose_port_is_taken_makes_nothing() {
    let Some(bench) = Bench::bare(&["n1", "n2"]) else { return };
    // The agent in n1's directory listens on nothing yet; somebody else takes the port that is its own.
    let address = bench.lab.address("n1").to_string();
    let (held, beats) = (format!("{address}:7420"), bench.lab.place("n1").beats.display().to_string());
    let printed = bench.lab.scratch().join("holder");
    let file = std::fs::File::create(&printed).unwrap();
    let argv = [PKGCTL, "demo-program", "--listen", &held, "--beats", &beats];
    let mut command = bench.lab.command_in("n1", &argv).unwrap();
    let child = command.stdin(Stdio::null()).stdout(file).stderr(Stdio::null()).spawn().unwrap();
    let holder = Served { child, printed };
    let is_held = || bench.lab.run_in("n1", &["ss", "-lnt"], PATIENCE).unwrap().stdout.contains(&held);
    bench.until("the port is held", is_held);
    let (code, said) = bench.try_ctl("n1", &["cluster", "init"]);
    assert!(
        code == 4 && said.contains(&held) && said.contains("shows who has it") && said.contains("Nothing was made"),
        "{said}"
    );
    assert!(!said.contains("systemctl"), "{said}");
    let other = bench.lab.scratch().join("other");
    let argv = [PKGCTL, "serve", "--init", "--id", "n9", "--raft-addr", &address, other.to_str().unwrap()];
    let served = bench.lab.run_in("n1", &argv, PATIENCE).unwrap();
    assert!(served.code == Some(4) && served.stderr.contains("Nothing was made"), "{served:?}");
    for left in ["etc/pkgctl/agent.toml", "etc/pkgctl/secret", "var/lib/pkgctl"] {
        assert!(!other.join(left).exists(), "{left} is left behind");
    }
    drop(holder);
    bench.until("the port is free", || !is_held());
    // Nothing is in the way of another try.
    bench.ctl("n1", &["cluster", "init"]);
}
