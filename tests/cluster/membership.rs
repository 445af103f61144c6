//! Growing, giving nodes up, coming back, tokens, and several operators at once.

use std::thread;

use nix::sys::signal::Signal;
use pkgctl::lab::Direction;
use serde_json::Value;

use super::bench::Bench;
use super::keys::only_key_becomes;

#[lab]
fn growing_from_one_node_to_three_disturbs_nothing() {
    let Some(bench) = Bench::founded(&["n1", "n2", "n3"]) else { return };
    bench.run_package(&["n1"]);
    assert!(bench.ctl("n1", &["status"]).contains("one voter: it survives no failure"));
    let (token, pid) = (bench.token(), bench.program_pid());
    let watch = bench.watch();
    bench.join("n2");
    assert!(bench.ctl("n2", &["status"]).contains("two voters: it survives no failure"));
    bench.join("n3");
    bench.whole();
    assert!(bench.ctl("n3", &["status"]).contains("survives 1 failure"));
    bench.still_answering(&watch, 200);
    assert_eq!((bench.token(), bench.program_pid()), (token, pid));
    bench.nothing_failed(watch);
}

/// A member's session; null when it has none.
pub fn session_of(bench: &Bench, name: &str) -> Value {
    let nodes = bench.cluster()["cluster"]["nodes"].as_array().cloned().unwrap_or_default();
    nodes.iter().find(|n| n["name"] == name).map_or(Value::from(""), |n| n["session"].clone())
}

#[lab]
fn one_of_two_lost_nodes_is_given_up_without_the_other_and_what_a_removal_waits_for_is_told() {
    let Some(bench) = Bench::unhurried(&["n1", "n2", "n3", "n4", "n5"]) else { return };
    ["n2", "n3", "n4", "n5"].into_iter().for_each(|node| bench.join(node));
    for node in ["n4", "n5"] {
        bench.lab.power_off(node).unwrap();
    }
    let members = || bench.cluster()["cluster"]["nodes"].as_array().cloned().unwrap_or_default();
    bench.until("both are known to be down", || ["n4", "n5"].iter().all(|node| session_of(&bench, node).is_null()));

    // Of the four that stay, three must be ready, and one of these is frozen.
    let frozen = bench.freeze_role("n3", "keeper");
    bench.ctl("n1", &["cluster", "remove", "n5", "--no-wait"]);
    let told = "of its members 2 are ready to promise leases, and 3 must be: bring at least 1 of n3, n4 back";
    for node in ["n1", "n2", "n3"] {
        bench.until("every node says what is waited for", || bench.ctl(node, &["cluster", "status"]).contains(told));
    }
    let waits = bench.cluster()["cluster"]["change_waits"].as_str().unwrap_or_default().to_owned();
    assert!(waits.contains(told), "{waits}");
    bench.until("a leader's log says it", || {
        ["n1", "n2", "n3"].iter().any(|node| bench.lab.console(node).contains(told))
    });

    // It goes on without n4, which stays lost, and is given up next.
    frozen.iter().for_each(|process| assert!(process.send(Signal::SIGCONT).unwrap()));
    for lost in ["n5", "n4"] {
        let said = bench.ctl("n2", &["cluster", "remove", lost]);
        assert!(said.contains("is removed"), "{said}");
    }
    // What they knew is worth nothing any more. Each removal is followed by a key of its own; an operator has another made.
    only_key_becomes(&bench, 3);
    bench.run_package(&["n1", "n2"]);
    let (token, pid, watch) = (bench.token(), bench.program_pid(), bench.watch());
    bench.ctl("n3", &["cluster", "rotate-key"]);
    only_key_becomes(&bench, 4);
    bench.still_answering(&watch, 200);
    assert_eq!((bench.token(), bench.program_pid()), (token, pid));
    bench.nothing_failed(watch);
    bench.until("three are left and survive a failure", || {
        members().len() == 3 && bench.ctl("n1", &["status"]).contains("survives 1 failure")
    });
}

#[lab]
fn a_node_that_was_cut_off_while_it_was_removed_is_told_and_comes_back_as_a_new_one() {
    let Some(bench) = Bench::founded(&["n1", "n2", "n3", "n4"]) else { return };
    ["n2", "n3", "n4"].into_iter().for_each(|node| bench.join(node));
    let id = |name: &str| {
        let nodes = bench.cluster()["cluster"]["nodes"].as_array().cloned().unwrap_or_default();
        nodes.iter().find(|n| n["name"] == name).and_then(|n| n["id"].as_u64())
    };
    let old = ["n3", "n4"].map(|node| id(node).unwrap());
    // One is cut off and campaigns for all it is worth, the other is down; neither hears of its removal.
    let give_up = |node: &str| {
        bench.until("it is known to be down", || session_of(&bench, node).is_null());
        bench.ctl("n1", &["cluster", "remove", node]);
    };
    bench.lab.cut("n4", Direction::Both).unwrap();
    give_up("n4");
    bench.lab.power_off("n3").unwrap();
    give_up("n3");
    bench.lab.heal("n4").unwrap();
    bench.lab.power_on("n3").unwrap();
    let told = |node: &str| bench.ctl(node, &["cluster", "status"]);
    for (node, old) in ["n3", "n4"].into_iter().zip(old) {
        bench.until("it says that it was removed", || {
            let (code, said) = bench.try_ctl(node, &["cluster", "status"]);
            code == 0 && said.contains(&format!("this node (id {old}) was removed from cluster test"))
        });
        let said = told(node);
        assert!(said.contains("pkgctl cluster join TOKEN") && said.contains("at entry"), "{said}");
        let (code, said) = bench.try_ctl(node, &["run", "testpkg1"]);
        assert!(code == 4 && said.contains("was removed from cluster test"), "{code}: {said}");
        // That its keeper has let its port go is shown by the join below, which binds it.
    }
    let noise: usize = ["n1", "n2"].iter().map(|node| bench.lab.console(node).matches("removed it").count()).sum();
    assert!((1..=4).contains(&noise), "{noise} lines about two removed nodes");

    // It is known after a restart too, a wrong token changes nothing of that, and a good one brings it back.
    bench.lab.power_off("n3").unwrap();
    bench.lab.power_on("n3").unwrap();
    bench.until("it still says so", || bench.try_ctl("n3", &["status"]).1.contains("was removed from cluster test"));
    let used = bench.join_token();
    for (node, old) in ["n4", "n3"].into_iter().zip([old[1], old[0]]) {
        if node == "n3" {
            let (code, said) = bench.try_ctl(node, &["cluster", "join", &used]);
            assert_eq!(code, 4, "{said}");
            assert!(told(node).contains("was removed from cluster test"));
        }
        let token = if node == "n4" { used.clone() } else { bench.join_token() };
        bench.ctl(node, &["cluster", "join", &token]);
        assert!(id(node).unwrap() > old, "under a new id");
        let state = bench.lab.place(node).disk.join("var/lib/pkgctl");
        let aside = std::fs::read_dir(state.join("removed")).unwrap().next().unwrap().unwrap().path();
        assert!(aside.display().to_string().ends_with(&format!("-n{old}")), "{}", aside.display());
        for kept in ["raft", "node.json", "identity/node.key", "removed.json"] {
            assert!(aside.join(kept).exists(), "{kept} is kept");
        }
        assert!(!state.join("removed.json").exists());
    }
    bench.whole();
    for node in ["n3", "n4"] {
        bench.signal_role(node, "agent", Signal::SIGTERM);
        bench.until("it is a member after a restart", || bench.try_ctl(node, &["status"]).1.contains("4 voters"));
    }
}

#[lab]
fn a_leader_that_joined_late_takes_in_a_node_that_has_nothing_yet() {
    let Some(bench) = Bench::founded(&["n1", "n2", "n3", "n4"]) else { return };
    for node in ["n2", "n3"] {
        bench.join(node);
    }
    // Whoever leads hands over until the last to have joined does.
    bench.until("n3 leads", || {
        let leader = bench.leader();
        if !leader.is_empty() && leader != "n3" {
            bench.signal_role(&leader, "agent", Signal::SIGTERM);
            bench.agent_up(&leader);
        }
        leader == "n3"
    });
    bench.join("n4");
    bench.whole();
}

#[lab]
fn a_join_token_lets_one_node_in_and_no_other_under_its_name() {
    let Some(bench) = Bench::founded(&["n1", "n2", "n3"]) else { return };
    let token = bench.join_token();
    bench.agent_up("n2");
    bench.agent_up("n3");
    bench.ctl("n2", &["cluster", "join", &token]);
    let (code, said) = bench.try_ctl("n3", &["cluster", "join", &token]);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("already used") && said.contains("pkgctl cluster token"), "{said}");
    // One character wrong is noticed before anybody is asked.
    let mut wrong = bench.join_token();
    let last = if wrong.pop() == Some('a') { 'b' } else { 'a' };
    wrong.push(last);
    let (code, said) = bench.try_ctl("n3", &["cluster", "join", &wrong]);
    assert!(code == 2 || code == 4, "{code}: {said}");
    let status = bench.cluster();
    assert_eq!(status["cluster"]["nodes"].as_array().unwrap().len(), 2, "{status}");
    assert!(bench.ctl("n3", &["status"]).contains("in no cluster"), "it stays where it was");
    bench.ctl("n3", &["cluster", "join", &bench.join_token()]);
}

#[lab]
fn operators_who_act_at_once_leave_one_owner_and_a_cluster_that_obeys() {
    let Some(bench) = Bench::new(&["n1", "n2", "n3"]) else { return };
    let watch = bench.watch();
    let verbs: [(&str, &[&str]); 4] = [
        ("n1", &["move", "testpkg1", "--to", "n2"]),
        ("n2", &["stop", "testpkg1"]),
        ("n3", &["run", "testpkg1"]),
        ("n3", &["move", "testpkg1"]),
    ];
    for _ in 0..5 {
        thread::scope(|scope| {
            for (node, words) in verbs {
                // Each either happens or is refused by another's; none may hang or break.
                scope.spawn(|| assert!(matches!(bench.try_ctl(node, words).0, 0 | 1 | 4)));
            }
        });
    }
    bench.ctl("n1", &["run", "testpkg1"]);
    bench.until("it runs", || bench.package()["view"]["state"] == "running");
    bench.ctl("n1", &["stop", "testpkg1", "--everywhere"]);
    assert_eq!(bench.package()["view"]["state"], "halted");
    bench.no_double_activity(watch);
}
