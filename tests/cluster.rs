//! Whole clusters of real processes in network namespaces, with real faults and an outside observer.
//!
//! They assert order and absence (no double activity, the same process, no failed request) and recovery within
//! 10·ttl; never tight times. Where namespaces are refused each test says so and passes. `#[lab]` is `#[test]`, and runs a lab
//! again that failed while the machine itself stood still (`machine`).

#[macro_use]
extern crate lab_test;

#[path = "cluster/bench.rs"]
mod bench;
#[path = "cluster/description.rs"]
mod description;
#[path = "cluster/entering.rs"]
mod entering;
#[path = "cluster/fallback.rs"]
mod fallback;
#[path = "cluster/fencing.rs"]
mod fencing;
#[path = "cluster/filesystem.rs"]
mod filesystem;
#[path = "cluster/hostile.rs"]
mod hostile;
#[path = "cluster/introduction.rs"]
mod introduction;
#[path = "cluster/keys.rs"]
mod keys;
#[path = "cluster/kv.rs"]
mod kv;
#[path = "cluster/kv_verbs.rs"]
mod kv_verbs;
#[path = "cluster/leadership.rs"]
mod leadership;
#[path = "cluster/limits.rs"]
mod limits;
#[path = "cluster/machine.rs"]
mod machine;
#[path = "cluster/membership.rs"]
mod membership;
#[path = "cluster/remote.rs"]
mod remote;
#[path = "cluster/removal.rs"]
mod removal;
#[path = "cluster/replays.rs"]
mod replays;
#[path = "cluster/seed_rows.rs"]
mod seed_rows;
#[path = "cluster/seeds.rs"]
mod seeds;
#[path = "cluster/silence.rs"]
mod silence;
#[path = "cluster/store.rs"]
mod store;
#[path = "cluster/watchdog.rs"]
mod watchdog;

use std::time::Duration;

use bench::{Bench, Healed};
use machine::LOST;
use nix::sys::signal::Signal;
use pkgctl::engine::Profile;
use pkgctl::lab::Direction;
use pkgctl::lab::demo::observed::run_unleased;

#[lab]
fn a_package_comes_up_moves_and_respawns_on_its_standby_when_stopped() {
    let Some(bench) = Bench::new(&["n1", "n2", "n3"]) else { return };
    assert_eq!(bench.owner(), "n1");
    let watch = bench.watch();
    bench.ctl("n3", &["move", "testpkg1", "--to", "n2"]);
    assert_eq!(bench.owner(), "n2");
    let said = bench.ctl("n1", &["stop", "testpkg1"]);
    assert!(said.contains("respawned on n1"), "{said}");
    assert_eq!(bench.owner(), "n1");
    let view = bench.package();
    assert_eq!(view["view"]["nodes"][1]["eligible"], false, "{view}");
    bench.ctl("n2", &["run", "testpkg1"]);
    assert_eq!(bench.package()["view"]["nodes"][1]["eligible"], true);
    let said = bench.ctl("n2", &["stop", "testpkg1", "--everywhere"]);
    assert!(said.contains("in the whole cluster"), "{said}");
    assert_eq!(bench.package()["view"]["state"], "halted");
    bench.no_double_activity(watch);
}

#[lab]
fn a_node_that_loses_power_is_replaced_and_comes_back_without_harm() {
    let Some(bench) = Bench::new(&["n1", "n2", "n3"]) else { return };
    let (owner, token) = (bench.owner(), bench.token());
    let watch = bench.watch();
    let at = bench.lab.power_off(&owner).unwrap();
    let next = bench.answered_elsewhere(&watch, at, &owner);
    assert_ne!(next, owner);
    bench.lab.power_on(&owner).unwrap();
    bench.whole();
    assert_eq!(bench.owner(), next, "it does not come back by itself");
    assert!(bench.token() > token, "tokens only rise");
    bench.no_double_activity(watch);
}

#[lab]
fn an_agent_that_is_killed_on_the_owner_disturbs_nothing() {
    let Some(bench) = Bench::new(&["n1", "n2", "n3"]) else { return };
    let (owner, token, pid) = (bench.owner(), bench.token(), bench.program_pid());
    let watch = bench.watch();
    bench.kill_role(&owner, "agent");
    bench.whole();
    bench.still_answering(&watch, 100);
    assert_eq!((bench.owner(), bench.token(), bench.program_pid()), (owner, token, pid));
    bench.nothing_failed(watch);
}

#[lab]
fn an_agent_that_is_told_to_end_on_the_leading_owner_disturbs_nothing_and_hands_leadership_over() {
    let Some(bench) = Bench::new(&["n1", "n2", "n3"]) else { return };
    let (owner, token, pid) = (bench.owner(), bench.token(), bench.program_pid());
    assert_eq!(bench.leader(), owner);
    let watch = bench.watch();
    // As `systemctl restart pkgctl-agent` does.
    bench.signal_role(&owner, "agent", Signal::SIGTERM);
    bench.whole();
    bench.still_answering(&watch, 300);
    assert_ne!(bench.leader(), owner);
    assert_eq!((bench.owner(), bench.token(), bench.program_pid()), (owner, token, pid));
    bench.nothing_failed(watch);
}

#[lab]
fn the_loss_of_the_leader_alone_disturbs_no_package() {
    let Some(bench) = Bench::new(&["n1", "n2", "n3"]) else { return };
    // The package goes to a node that does not lead.
    let leader = bench.leader();
    let other = ["n1", "n2"].into_iter().find(|n| *n != leader).unwrap();
    if bench.owner() == leader {
        bench.ctl("n3", &["move", "testpkg1", "--to", other]);
    }
    let (owner, token, pid) = (bench.owner(), bench.token(), bench.program_pid());
    assert_ne!(owner, leader);
    let watch = bench.watch();
    bench.lab.power_off(&leader).unwrap();
    bench.new_leader_than(&owner, &leader);
    bench.still_answering(&watch, 200);
    assert_eq!((bench.owner_by(&owner), bench.program_pid()), (owner, pid));
    assert_eq!(bench.token(), token);
    bench.nothing_failed(watch);
}

#[lab]
fn a_program_that_is_killed_is_restarted_in_place() {
    let Some(bench) = Bench::new(&["n1", "n2", "n3"]) else { return };
    let (owner, token, pid) = (bench.owner(), bench.token(), bench.program_pid());
    let watch = bench.watch();
    let at = bench.kill_role(&owner, "demo-program");
    bench.answered_by(&watch, at, &owner);
    bench.until("the restart is reported", || bench.program_pid() != pid);
    assert_eq!((bench.owner(), bench.token()), (owner, token));
    bench.no_double_activity(watch);
}

fn cut(direction: Direction) {
    let Some(bench) = Bench::new(&["n1", "n2", "n3"]) else { return };
    let owner = bench.owner();
    let watch = bench.watch();
    let at = bench.lab.cut(&owner, direction).unwrap();
    let next = bench.answered_elsewhere(&watch, at, &owner);
    let healed = bench.lab.heal(&owner).unwrap();
    bench.whole();
    bench.answered_by(&watch, healed, &next);
    assert_eq!(bench.owner(), next);
    bench.no_double_activity(watch);
}

#[lab]
fn an_owner_cut_off_both_ways_has_stopped_before_the_next_one_starts() {
    cut(Direction::Both);
}

#[lab]
fn an_owner_that_is_not_heard_has_stopped_before_the_next_one_starts() {
    cut(Direction::Out);
}

#[lab]
fn an_owner_that_hears_nothing_has_stopped_before_the_next_one_starts() {
    cut(Direction::In);
}

#[lab]
fn a_frozen_owner_is_ended_by_the_kernel_and_does_no_harm_when_it_thaws() {
    let Some(bench) = Bench::new(&["n1", "n2", "n3"]) else { return };
    let owner = bench.owner();
    let watch = bench.watch();
    let (at, frozen) = bench.lab.freeze_ours(&owner).unwrap();
    let next = bench.answered_elsewhere(&watch, at, &owner);
    let left = bench.lab.processes(&owner).unwrap();
    assert!(left.iter().all(|p| p.role() != Some("demo-program")), "its program is dead: {left:?}");
    bench.lab.thaw(&frozen).unwrap();
    bench.whole();
    assert_eq!(bench.owner(), next);
    bench.no_double_activity(watch);
}

#[lab]
fn a_keeper_that_is_killed_takes_its_programs_with_it_and_the_package_comes_back() {
    let Some(bench) = Bench::new(&["n1", "n2", "n3"]) else { return };
    let (owner, token) = (bench.owner(), bench.token());
    let watch = bench.watch();
    let at = bench.kill_role(&owner, "keeper");
    bench.until("a new ownership", || bench.token() > token && bench.package()["view"]["state"] == "running");
    let healed: Healed = bench.answered(&watch, at.after(Duration::from_millis(50)));
    assert!(healed.token > token);
    bench.whole();
    bench.no_double_activity(watch);
}

#[lab]
fn after_the_power_loss_of_all_nodes_everything_acknowledged_is_there() {
    let Some(bench) = Bench::new(&["n1", "n2", "n3"]) else { return };
    let (token, revision) = (bench.token(), bench.package()["view"]["revision"].clone());
    let watch = bench.watch();
    for node in ["n1", "n2", "n3"] {
        bench.lab.power_off(node).unwrap();
    }
    for node in ["n3", "n1", "n2"] {
        bench.lab.power_on(node).unwrap();
    }
    bench.whole();
    // Until the keepers' new lives supersede their old sessions, the log still says what was so before.
    bench.until("a new ownership runs", || bench.token() > token && bench.package()["view"]["state"] == "running");
    assert_eq!(bench.package()["view"]["revision"], revision, "{LOST}");
    bench.no_double_activity(watch);
}

#[lab]
fn without_leases_the_observer_sees_two_nodes_acting() {
    let Some(binary) = bench::binary_where_labs_are_allowed() else { return };
    let seen = run_unleased(binary, &["n1", "n2", "n3"], Profile::Default, &|said| eprintln!("{said}")).unwrap();
    assert!(seen.verdict.double_activity > Duration::from_millis(100), "{:?}", seen.verdict);
}

#[lab]
fn small_clusters_work_and_say_what_they_cannot_survive() {
    let Some(bench) = Bench::new(&["n1", "n2"]) else { return };
    assert!(bench.ctl("n2", &["status"]).contains("two voters: it survives no failure"));
    bench.ctl("n1", &["move", "testpkg1", "--to", "n2"]);
    assert_eq!(bench.owner(), "n2");
}

#[lab]
fn bad_input_is_refused_with_every_problem_and_changes_nothing() {
    let Some(bench) = Bench::new(&["n1"]) else { return };
    assert!(bench.ctl("n1", &["status"]).contains("one voter: it survives no failure"));
    let before = bench.package();
    let file = bench.lab.scratch().join("bad.toml");
    std::fs::write(&file, "name = \"testpkg1\"\nnodes = []\ncolour = 1\n[[resource]]\nkind = \"volume_group\"\n")
        .unwrap();
    let (code, said) = bench.try_ctl("n1", &["init", "testpkg1", "-f", file.to_str().unwrap()]);
    assert_eq!(code, 2, "{said}");
    for line in [":2:", ":3:", ":5:"] {
        assert!(said.contains(line), "{said}");
    }
    let (code, said) = bench.try_ctl("n1", &["cluster", "join", "not-a-token"]);
    assert_ne!(code, 0, "{said}");
    let (code, said) = bench.try_ctl("n1", &["run", "nonesuch"]);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("no package 'nonesuch'"), "{said}");
    assert_eq!(bench.package()["definition"], before["definition"]);
}
