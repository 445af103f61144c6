//! A node of a minority that goes on alone by an operator's word, and the ways back.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use pkgctl::lab::{Direction, Moment};
use serde_json::Value;

use super::bench::Bench;
use super::remote::{operator, remote};

/// What a node says of something, as JSON; null when it says nothing.
fn told(bench: &Bench, node: &str, words: &[&str]) -> Value {
    let words: Vec<&str> = words.iter().copied().chain(["--json"]).collect();
    let (_, said) = bench.try_ctl(node, &words);
    said.lines().find_map(|line| serde_json::from_str(line).ok()).unwrap_or_default()
}

fn state_of(bench: &Bench, node: &str) -> String {
    told(bench, node, &["status", "testpkg1"])["view"]["state"].as_str().unwrap_or_default().to_owned()
}

fn cluster_id(bench: &Bench, node: &str) -> String {
    told(bench, node, &["status"])["cluster"]["id"].as_str().unwrap_or_default().to_owned()
}

fn kept(bench: &Bench, node: &str) -> Vec<String> {
    let dir = bench.lab.place(node).disk.join("var/lib/pkgctl/removed");
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|found| found.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Switches the majority off.
fn off(bench: &Bench) {
    for node in ["n2", "n3"] {
        bench.lab.power_off(node).unwrap();
    }
}

#[lab]
fn a_node_of_a_minority_goes_on_alone_once_the_others_are_off_and_comes_back_with_its_writes_written_down() {
    let Some(bench) = Bench::new(&["n1", "n2", "n3"]) else { return };
    bench.ctl("n3", &["move", "testpkg1", "--to", "n2"]);
    bench.ctl("n1", &["kv", "set", "a/before", "1"]);
    let old = cluster_id(&bench, "n1");
    let alice = operator(&bench, "alice");
    let n1 = ["--endpoint".to_owned(), format!("{}:7420", bench.lab.address("n1"))];
    let at_n1 = [&alice[..], &n1].concat();
    for words in [&["raft", "force-standalone"][..], &["raft", "whole"], &["cluster", "leave", "--discard"]] {
        let (code, said) = remote(&bench, &at_n1, words);
        assert!(code == 2 && said.contains("root on the node itself"), "{code}: {said}");
    }
    let alone = ["raft", "force-standalone", "--yes-i-know", "test"];
    let (code, said) = bench.try_ctl("n1", &alone);
    assert!(code == 4 && said.contains("a majority of the 3 voters is there"), "{code}: {said}");

    let watch = bench.watch();
    bench.lab.cut("n1", Direction::Both).unwrap();
    bench.until("it knows that it is alone", || {
        let (code, said) = bench.try_ctl("n1", &["raft", "force-standalone", "--dry-run"]);
        code == 0 && said.contains("may go on as the old cluster") && said.contains("n2") && said.contains("n3")
    });
    let (code, said) = bench.try_ctl("n1", &["raft", "force-standalone", "--yes-i-know", "tset"]);
    assert!(code == 4 && said.contains("not 'tset'"), "{code}: {said}");
    let (code, said) = bench.try_ctl("n1", &["raft", "force-standalone"]);
    assert!(code == 2 && said.contains("--yes-i-know test"), "{code}: {said}");
    let said = bench.ctl("n1", &alone);
    assert!(said.contains("is a cluster of one now") && said.contains(&format!("removed/{old}-n1")), "{said}");
    assert!(!said.contains("No majority is left"), "{said}");
    let new = cluster_id(&bench, "n1");
    assert!(new != old && !new.is_empty());

    // The majority goes on; neither takes notice of the other, with the network whole again.
    bench.still_answering(&watch, 200);
    bench.ctl("n2", &["kv", "set", "a/majority", "1"]);
    bench.ctl("n1", &["kv", "set", "a/alone", "1"]);
    bench.lab.heal("n1").unwrap();
    bench.still_answering(&watch, 200);
    let (code, said) = bench.try_ctl("n1", &["run", "testpkg1"]);
    assert!(code == 1 && said.contains("awaiting") && said.contains("n2, n3"), "{code}: {said}");
    assert_eq!((cluster_id(&bench, "n1"), cluster_id(&bench, "n2")), (new, old.clone()));
    assert_eq!(bench.owner_by("n2"), "n2");
    assert_eq!(bench.try_ctl("n1", &["kv", "get", "a/majority"]).0, 10);
    // An operator elsewhere goes on with the old cluster, and never comes to write to the other one.
    for _ in 0..3 {
        assert_eq!(remote(&bench, &alice, &["kv", "get", "a/majority"]).1.trim(), "1");
    }
    assert_eq!(remote(&bench, &at_n1, &["kv", "set", "a/wrong", "1"]).0, 3);

    // Once the others are off, and an operator has said so of each and of whoever else there is, it runs here.
    off(&bench);
    let (code, said) = bench.try_ctl("n1", &["fence", "confirm", "n2"]);
    assert!(code == 2 && said.contains("--yes-i-know n2") && said.contains("two nodes then write"), "{code}: {said}");
    let (code, said) = bench.try_ctl("n1", &["fence", "confirm", "n2", "--yes-i-know", "n3"]);
    assert!(code == 4 && said.contains("called 'n2', not 'n3'"), "{code}: {said}");
    for node in ["n2", "n3"] {
        bench.ctl("n1", &["fence", "confirm", node, "--yes-i-know", node]);
        assert_eq!(state_of(&bench, "n1"), "awaiting");
    }
    let shown = bench.ctl("n1", &["cluster", "status"]);
    assert!(shown.contains("root has confirmed that n3 is off") && shown.contains("others"), "{shown}");
    let (code, said) = bench.try_ctl("n1", &["fence", "confirm", "--unlisted"]);
    assert!(code == 2 && said.contains("--yes-i-know test") && said.contains("beside n2, n3"), "{code}: {said}");
    let at = Moment::now();
    bench.ctl("n1", &["fence", "confirm", "--unlisted", "--yes-i-know", "test"]);
    bench.answered_by(&watch, at, "n1");
    assert!(bench.ctl("n1", &["status"]).contains("stay off or have left it"));

    // Back into the old cluster: what was written alone is written down, and nothing runs here any more.
    let export = bench.lab.scratch().join("export");
    let said = bench.ctl("n1", &["cluster", "leave", "--yes-i-know", "test", "--export", export.to_str().unwrap()]);
    assert!(said.contains("keys are in") && said.contains("has left cluster test"), "{said}");
    let keys = std::fs::read_to_string(export.join("kv.jsonl")).unwrap();
    assert!(keys.contains("a/alone") && keys.contains("a/before") && !keys.contains("a/majority"), "{keys}");
    assert!(std::fs::read_to_string(export.join("packages/testpkg1.toml")).unwrap().contains("kind = \"program\""));
    for node in ["n2", "n3"] {
        bench.lab.power_on(node).unwrap();
    }
    bench.until("the old cluster runs it", || state_of(&bench, "n2") == "running");
    assert_eq!(bench.ctl("n2", &["kv", "get", "a/majority"]).trim(), "1");
    assert_eq!(bench.try_ctl("n2", &["kv", "get", "a/alone"]).0, 10, "nothing is merged");
    bench.ctl("n2", &["cluster", "remove", "n1"]);
    let token = bench.ctl("n2", &["cluster", "token"]).lines().next().unwrap().to_owned();
    bench.ctl("n1", &["cluster", "join", &token]);
    bench.whole();
    assert_eq!(cluster_id(&bench, "n1"), old);
    assert_eq!(bench.ctl("n1", &["kv", "get", "a/majority"]).trim(), "1");
    assert_eq!(kept(&bench, "n1").len(), 2, "as a member of the old cluster, and alone");
    bench.no_double_activity(watch);
}

/// A fence agent that writes down what it was told to do.
fn fence_agent(bench: &Bench) -> PathBuf {
    let (agent, power) = (bench.lab.scratch().join("fence_test"), bench.lab.scratch().join("power"));
    let body = format!(
        "#!/bin/sh\noptions=$(cat)\ncase $options in\n*action=off*) echo off > {power:?};;\n*action=status*) \
         grep -q off {power:?} && exit 2;;\nesac\nexit 0\n"
    );
    std::fs::write(&agent, body).unwrap();
    std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755)).unwrap();
    agent
}

#[lab]
fn a_member_of_the_old_cluster_joins_the_one_that_went_on_once_it_has_left_that() {
    let Some(bench) = Bench::new(&["n1", "n2", "n3"]) else { return };
    bench.ctl("n1", &["fence", "set", "n3", "--agent", fence_agent(&bench).to_str().unwrap(), "--unchecked"]);
    let watch = bench.watch();
    off(&bench);
    bench.until("it knows that it is alone", || bench.try_ctl("n1", &["raft", "force-standalone", "--dry-run"]).0 == 0);
    bench.ctl("n1", &["raft", "force-standalone", "--yes-i-know", "test", "--fence"]);
    let awaits =
        || told(&bench, "n1", &["status", "testpkg1"])["view"]["reason"].as_str().unwrap_or_default().to_owned();
    let n3_is_off = || awaits().contains("old cluster on n2:");
    bench.until("its device has switched n3 off", n3_is_off);
    // It is so after a restart, too.
    bench.kill_role("n1", "agent");
    bench.until("n1 is back and knows it", n3_is_off);

    // It comes back with its store, finds no majority of its own, leaves, and is taken in once that was said.
    bench.lab.power_on("n2").unwrap();
    bench.until("it can leave", || {
        bench.try_ctl("n2", &["cluster", "leave", "--discard", "--yes-i-know", "test"]).0 == 0
    });
    let join = |token: &str| bench.try_ctl("n2", &["cluster", "join", token]);
    let token = bench.join_token();
    let (code, said) = join(&token);
    assert!(code == 4 && said.contains("pkgctl fence confirm n2"), "{code}: {said}");
    bench.ctl("n1", &["fence", "confirm", "n2", "--yes-i-know", "n2"]);
    let (code, said) = join(&token);
    assert_eq!(code, 0, "{said}");
    let (code, said) = bench.try_ctl("n1", &["raft", "whole", "--yes-i-know", "test"]);
    assert!(code == 4 && said.contains("--unlisted"), "{code}: {said}");
    bench.ctl("n1", &["fence", "confirm", "--unlisted", "--yes-i-know", "test"]);
    bench.until("it runs", || state_of(&bench, "n2") == "running");
    bench.ctl("n1", &["raft", "whole", "--yes-i-know", "test"]);
    assert!(told(&bench, "n2", &["status"])["cluster"]["fallback"].is_null());
    assert_eq!(kept(&bench, "n2").len(), 1);
    bench.no_double_activity(watch);
}
