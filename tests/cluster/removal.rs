//! Nodes that are up are taken out, leaders and owners among them, others take their place, and who has nothing to do with it
//! never notices.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use pkgctl::lab::{LabSpec, Place, floating_address};
use serde_json::Value;

use super::bench::{Bench, PKGCTL, agent, lab_of};
use super::machine::LOST;

/// The key that is written again and again while members change.
const KEY: &str = "load/turn";

/// Writes one key from a node for as long as `act` takes; every write must be acknowledged, and the last one be there after.
fn under_load<T>(bench: &Bench, node: &str, act: impl FnOnce() -> T) -> T {
    let (over, turn) = (AtomicBool::new(false), AtomicU64::new(0));
    let write = || {
        while !over.load(Ordering::Relaxed) {
            let next = (turn.load(Ordering::Relaxed) + 1).to_string();
            bench.ctl(node, &["kv", "set", KEY, &next]);
            turn.fetch_add(1, Ordering::Relaxed);
        }
    };
    let done = thread::scope(|scope| {
        let writing = scope.spawn(write);
        // Ended also when the act fails, or the load would go on for ever.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        over.store(true, Ordering::Relaxed);
        writing.join().expect("a write was not acknowledged");
        done.unwrap_or_else(|failed| std::panic::resume_unwind(failed))
    });
    let turns = turn.into_inner();
    assert!(turns > 0, "nothing was written meanwhile");
    assert_eq!(bench.ctl(node, &["kv", "get", KEY]).trim(), turns.to_string(), "{LOST}");
    done
}

/// The members, as a node that certainly is one shows them.
fn members(bench: &Bench, by: &str) -> Vec<Value> {
    let status: Value = serde_json::from_str(bench.ctl(by, &["status", "--json"]).trim()).unwrap();
    status["cluster"]["nodes"].as_array().cloned().unwrap_or_default()
}

fn member(bench: &Bench, by: &str, name: &str) -> Value {
    members(bench, by).into_iter().find(|node| node["name"] == name).unwrap_or_default()
}

/// Waits until a node that was removed says so.
fn knows_it(bench: &Bench, node: &str) {
    bench.until("it says that it was removed", || {
        let (code, said) = bench.try_ctl(node, &["cluster", "status"]);
        code == 0 && said.contains("was removed from cluster test")
    });
}

/// A package of one program, which nobody asks anything.
fn stores(bench: &Bench, name: &str, nodes: &[&str]) {
    stores_with(bench, name, nodes, "command = [\"/bin/sleep\", \"infinity\"]");
}

fn stores_with(bench: &Bench, name: &str, nodes: &[&str], program: &str) {
    let text = format!("name = \"{name}\"\nnodes = {nodes:?}\n\n[[resource]]\nkind = \"program\"\n{program}\n");
    let file = bench.lab.scratch().join(format!("{name}.toml"));
    std::fs::write(&file, text).unwrap();
    bench.ctl("n1", &["init", name, "-f", file.to_str().unwrap()]);
    bench.ctl("n1", &["run", name]);
}

fn owner_of(bench: &Bench, package: &str) -> String {
    let (_, said) = bench.try_ctl("n1", &["status", package, "--json"]);
    let value: Value = said.lines().find_map(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    value["view"]["owner"].as_str().unwrap_or_default().to_owned()
}

#[lab]
fn a_leader_that_owns_packages_is_removed_under_load_another_node_takes_its_place_and_it_comes_back_empty_as_a_new_one()
{
    let Some(bench) = Bench::unhurried(&["n1", "n2", "n3", "n4"]) else { return };
    ["n2", "n3"].into_iter().for_each(|node| bench.join(node));
    bench.run_package(&["n1", "n2"]);
    stores(&bench, "movable", &["n3", "n2"]);
    stores(&bench, "lonely", &["n3"]);
    bench.ctl("n1", &["raft", "step-down", "--to", "n3"]);
    let old = member(&bench, "n1", "n3")["id"].as_u64().unwrap();

    // What nobody else can take keeps it where it is, and it is told.
    let (code, said) = bench.try_ctl("n1", &["cluster", "remove", "n3"]);
    assert!(code == 4 && said.contains("lonely") && said.contains("nothing was changed"), "{code}: {said}");
    assert!(!said.contains("movable"), "{said}");
    assert_eq!(
        (owner_of(&bench, "movable"), member(&bench, "n1", "n3")["leaving"].clone()),
        ("n3".into(), false.into())
    );
    bench.ctl("n1", &["halt", "lonely"]);

    let (token, pid) = (bench.token(), bench.program_pid());
    let watch = bench.watch();
    assert_eq!(bench.leader(), "n3");
    let said = under_load(&bench, "n2", || bench.ctl("n3", &["cluster", "remove", "n3"]));
    assert!(said.contains("n3 is removed"), "{said}");
    knows_it(&bench, "n3");
    assert_eq!(owner_of(&bench, "movable"), "n2");
    assert!(member(&bench, "n1", "n3").is_null());

    under_load(&bench, "n2", || bench.join("n4"));
    let voters =
        members(&bench, "n1").iter().filter(|node| node["voter"] == true && node["lease_voter"] == true).count();
    assert_eq!(voters, 3);

    // With an empty disk it is nobody that anybody knows.
    bench.lab.power_off("n3").unwrap();
    std::fs::remove_dir_all(bench.lab.place("n3").disk.join("var/lib/pkgctl")).unwrap();
    bench.lab.power_on("n3").unwrap();
    bench.join("n3");
    assert!(member(&bench, "n1", "n3")["id"].as_u64().unwrap() > old, "under a new id");
    bench.whole();
    assert_eq!((bench.token(), bench.program_pid()), (token, pid));
    bench.nothing_failed(watch);
}

#[lab]
fn a_cluster_grows_from_one_to_seven_voters_and_shrinks_to_one_again_under_load_and_its_package_never_notices() {
    let all = ["n1", "n2", "n3", "n4", "n5", "n6", "n7"];
    let Some(bench) = Bench::unhurried(&all) else { return };
    bench.run_package(&["n1"]);
    let (token, pid) = (bench.token(), bench.program_pid());
    let watch = bench.watch();
    let voters = || {
        let votes = |node: &&Value| node["voter"] == true && node["lease_voter"] == true && node["leaving"] == false;
        members(&bench, "n1").iter().filter(votes).count()
    };
    under_load(&bench, "n1", || {
        for node in &all[1..] {
            bench.join(node);
        }
        assert_eq!(voters(), 7);
        // Two at once, then whoever leads and is not the owner, one after the other.
        bench.ctl("n1", &["cluster", "remove", "n7", "--no-wait"]);
        bench.ctl("n1", &["cluster", "remove", "n6"]);
        knows_it(&bench, "n7");
        assert_eq!(voters(), 5);
        let mut left = vec!["n5", "n4", "n3", "n2"];
        while !left.is_empty() {
            let leads = bench.leader();
            let next = left.iter().position(|node| *node == leads).unwrap_or(0);
            let next = left.remove(next);
            bench.ctl("n1", &["cluster", "remove", next]);
            knows_it(&bench, next);
            assert_eq!(voters(), left.len() + 1);
        }
    });
    let (code, said) = bench.try_ctl("n1", &["cluster", "remove", "n1"]);
    assert!(code == 4 && said.contains("last voter"), "{code}: {said}");
    assert_eq!((bench.token(), bench.program_pid()), (token, pid));
    bench.nothing_failed(watch);
}

#[lab]
fn an_owner_is_removed_and_its_package_moves_in_good_order() {
    let Some(bench) = Bench::new(&["n1", "n2", "n3", "n4"]) else { return };
    bench.ctl("n1", &["move", "testpkg1", "--to", "n2"]);
    let (token, watch) = (bench.token(), bench.watch());
    let said = under_load(&bench, "n4", || bench.ctl("n4", &["cluster", "remove", "n2"]));
    assert!(said.contains("n2 is removed"), "{said}");
    assert_eq!(bench.owner(), "n1");
    assert!(bench.token() > token);
    // A lease that had lapsed would show as an expiry.
    let events = bench.package()["events"].as_array().cloned().unwrap_or_default();
    let last: Vec<&str> = events.iter().filter_map(|event| event["what"].as_str()).collect();
    assert!(last.contains(&"moved") && !last.contains(&"taken_over"), "{last:?}");
    knows_it(&bench, "n2");
    bench.still_answering(&watch, 50);
    bench.no_double_activity(watch);
}

#[lab]
fn a_removal_that_cannot_go_on_has_taken_no_vote_away_says_what_it_waits_for_and_can_be_taken_back() {
    let Some(bench) = Bench::founded(&["n1", "n2", "n3"]) else { return };
    ["n2", "n3"].into_iter().for_each(|node| bench.join(node));
    let stubborn =
        "command = [\"/bin/sh\", \"-c\", \"trap '' TERM; while :; do sleep 1; done\"]\nstop_timeout = \"600s\"";
    stores_with(&bench, "stubborn", &["n3", "n2"], stubborn);
    let before = member(&bench, "n1", "n3");
    bench.ctl("n1", &["cluster", "remove", "n3", "--no-wait"]);
    bench.until("it is told what is waited for", || {
        bench.ctl("n2", &["cluster", "status"]).contains("stubborn moves away from n3")
    });
    let now = member(&bench, "n1", "n3");
    assert_eq!((&now["leaving"], &now["voter"], &now["lease_voter"]), (&true.into(), &true.into(), &true.into()));
    let (code, said) = bench.try_ctl("n1", &["move", "stubborn", "--to", "n3"]);
    assert!(code == 4, "{code}: {said}");

    assert!(bench.ctl("n2", &["cluster", "remove", "n3", "--undo"]).contains("n3 stays"));
    assert_eq!(member(&bench, "n1", "n3"), before);
    assert!(bench.ctl("n2", &["cluster", "remove", "n3", "--undo"]).contains("nothing was changed"));
    let (code, said) = bench.try_ctl("n1", &["cluster", "remove", "n9", "--undo"]);
    assert!(code == 4 && said.contains("n9"), "{code}: {said}");
    bench.until("nothing is waited for", || bench.cluster()["cluster"]["change_waits"].is_null());
}

#[lab]
fn a_removal_that_would_wait_for_a_voter_that_fell_silent_is_refused_before_its_session_has_ended() {
    // With long leases a node is silent for seconds before its session ends.
    let Some(bench) = Bench::founded_with(&["n1", "n2", "n3"], "wan", agent) else { return };
    ["n2", "n3"].into_iter().for_each(|node| bench.join(node));
    bench.until("n3 has a session", || !member(&bench, "n1", "n3")["session"].is_null());
    bench.lab.power_off("n3").unwrap();
    // The keeper that is asked and the leader must both miss it.
    bench.until("n3 is silent for the leader, too, or has no session any more", || {
        let n3 = member(&bench, "n1", "n3");
        let missed = bench.raft()["members"].as_array().is_some_and(|members| {
            members.iter().any(|m| m["name"] == "n3" && m["heard"].as_u64().is_none_or(|ago| ago > 4000))
        });
        (n3["silent"] == true && missed) || n3["session"].is_null()
    });
    let (code, said) = bench.try_ctl("n1", &["cluster", "remove", "n2"]);
    assert!(code == 4 && said.contains("Bring n3 back") && said.contains("nothing was changed"), "{code}: {said}");
    assert!(!said.contains("secret"), "{said}");
    assert_eq!(member(&bench, "n1", "n2")["leaving"], false);
    // The silent one itself can go.
    let said = bench.ctl("n1", &["cluster", "remove", "n3"]);
    assert!(said.contains("n3 is removed") && !said.contains("secret"), "{said}");
}

#[lab]
fn with_two_nodes_and_a_witness_either_of_the_two_may_lose_power() {
    let Some(bench) = Bench::new(&["n1", "n2", "n3"]) else { return };
    assert!(bench.ctl("n3", &["status"]).contains("survives 1 failure"));
    for _ in 0..2 {
        let owner = bench.owner();
        let watch = bench.watch();
        let at = bench.lab.power_off(&owner).unwrap();
        let next = bench.answered_elsewhere(&watch, at, &owner);
        assert!(next != owner && next != "n3", "{next} took it");
        bench.lab.power_on(&owner).unwrap();
        bench.whole();
        bench.no_double_activity(watch);
    }
}

/// What a node runs that listens where a file on its disk says.
fn agent_that_moves(place: &Place) -> Vec<String> {
    let mut words = agent(place);
    if let Ok(address) = std::fs::read_to_string(place.disk.join("address")) {
        *words.last_mut().unwrap() = format!("{address}:7420");
    }
    words
}

#[lab]
fn a_node_gets_another_address_by_leaving_and_joining_again_and_the_package_elsewhere_never_notices() {
    let (nodes, other) = (["n1", "n2", "n3"], floating_address(50));
    let Some(lab) = lab_of(LabSpec::new(PKGCTL, &nodes).command(agent_that_moves).alias("n3", other)) else { return };
    let bench = Bench::founded_in(lab, &nodes, "vm").unwrap();
    ["n2", "n3"].into_iter().for_each(|node| bench.join(node));
    bench.run_package(&["n1", "n2"]);
    let (token, pid) = (bench.token(), bench.program_pid());
    let watch = bench.watch();
    bench.ctl("n3", &["cluster", "remove", "n3"]);
    knows_it(&bench, "n3");
    bench.lab.power_off("n3").unwrap();
    std::fs::write(bench.lab.place("n3").disk.join("address"), other.to_string()).unwrap();
    bench.lab.power_on("n3").unwrap();
    bench.join("n3");
    bench.whole();
    assert_eq!(member(&bench, "n1", "n3")["address"], format!("{other}:7420"));
    assert!(bench.ctl("n1", &["status"]).contains("survives 1 failure"));
    assert_eq!((bench.token(), bench.program_pid()), (token, pid));
    bench.nothing_failed(watch);
}
