//! Who leads, as an operator asks for it; the package never notices.

use super::bench::Bench;

/// Consensus as a node shows it.
fn raft(bench: &Bench, node: &str) -> serde_json::Value {
    serde_json::from_str(bench.ctl(node, &["raft", "status", "--json"]).trim()).unwrap()
}

#[lab]
fn leadership_goes_where_an_operator_wants_it_and_no_request_of_the_packages_fails() {
    let Some(bench) = Bench::new(&["n1", "n2", "n3"]) else { return };
    let (owner, token) = (bench.owner(), bench.token());
    let watch = bench.watch();
    let first = bench.leader();
    let others: Vec<&str> = ["n1", "n2", "n3"].into_iter().filter(|node| *node != first).collect();

    bench.ctl(others[0], &["raft", "step-down"]);
    bench.until("another leader", || bench.leader() != first);
    bench.ctl(others[1], &["raft", "step-down", "--to", &first]);
    assert_eq!(bench.leader(), first);
    let said = bench.ctl(others[1], &["raft", "start-election"]);
    assert!(said.contains(&format!("{} leads now", others[1])), "{said}");
    assert_eq!(bench.leader(), others[1]);
    bench.ctl(others[1], &["raft", "start-election"]);
    assert_eq!(bench.leader(), others[1], "who leads already has nothing to win");

    let (code, said) = bench.try_ctl("n1", &["raft", "step-down", "--to", "n9"]);
    assert!(code == 4 && said.contains("no node 'n9'"), "{code}: {said}");

    for node in ["n1", "n2", "n3"] {
        let view = raft(&bench, node);
        assert_eq!((&view["leader"], &view["by_the_leader"]), (&others[1].into(), &true.into()), "{view}");
        let members = view["members"].as_array().unwrap();
        let known = |member: &serde_json::Value| {
            member["voter"] == true
                && member["matched"].is_u64()
                && (member["leader"] == true || member["heard"].is_u64())
        };
        assert!(members.len() == 3 && members.iter().all(known), "every member's progress, by {node}: {view}");
    }
    assert_eq!((bench.owner(), bench.token()), (owner, token));
    bench.nothing_failed(watch);
}

#[lab]
fn without_a_majority_nobody_is_elected_and_the_node_says_why() {
    let Some(bench) = Bench::new(&["n1", "n2", "n3"]) else { return };
    bench.lab.power_off("n1").unwrap();
    bench.lab.power_off("n2").unwrap();
    bench.until("n3 has given its leader up", || raft(&bench, "n3")["by_the_leader"] == false);
    let (code, said) = bench.try_ctl("n3", &["raft", "start-election"]);
    assert!(code == 4 && said.contains("did not win"), "{code}: {said}");
    let shown = bench.ctl("n3", &["raft", "status"]);
    assert!(shown.contains("no leader answers"), "{shown}");
    bench.lab.power_on("n1").unwrap();
    bench.lab.power_on("n2").unwrap();
    bench.whole();
}
