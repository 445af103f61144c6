//! Nodes that share a secret come to one cluster knowing an address only, from either side; without it, or with another one,
//! nobody does.

use super::bench::Bench;

/// Makes the secret on the first node, and copies it to these.
pub fn share(bench: &Bench, nodes: &[&str]) {
    bench.ctl("n1", &["cluster", "secret"]);
    let file = |node: &str| bench.lab.place(node).disk.join("etc/pkgctl/secret");
    for node in nodes {
        std::fs::create_dir_all(file(node).parent().unwrap()).unwrap();
        std::fs::copy(file("n1"), file(node)).unwrap();
    }
}

#[lab]
fn a_cluster_grows_by_a_shared_secret_from_either_side_and_says_what_it_survives() {
    let Some(bench) = Bench::bare(&["n1", "n2", "n3"]) else { return };
    let address = |node: &str| bench.lab.address(node).to_string();
    let said = bench.ctl("n1", &["raft-status"]);
    assert!(said.starts_with("n1: unconfigured"), "{said}");
    let (code, said) = bench.try_ctl("n1", &["raft-add", "n2", &address("n2")]);
    assert!(code == 4 && said.contains("this node is n1 and unconfigured"), "{code} {said}");
    bench.ctl("n1", &["raft-add", "n1", &address("n1")]);
    assert!(bench.ctl("n1", &["raft-status"]).contains("leader"));

    // No secret on either side.
    let (code, said) = bench.try_ctl("n1", &["raft-add", "n2", &address("n2")]);
    assert!(code == 7 && said.contains("pkgctl cluster token") && said.contains("cluster join TOKEN"), "{code} {said}");
    let (code, said) = bench.try_ctl("n2", &["cluster", "join", &address("n1")]);
    assert!(code == 7 && said.contains("there is no secret"), "{code} {said}");
    // On one only: the other does not even listen.
    share(&bench, &[]);
    let (code, said) = bench.try_ctl("n1", &["raft-add", "n2", &address("n2")]);
    assert!(code == 3 && said.contains("does it have this node's secret"), "{code} {said}");
    // Another one there.
    bench.ctl("n2", &["cluster", "secret"]);
    bench.until("it listens", || bench.lab.console("n2").contains("for an invitation"));
    let (code, said) = bench.try_ctl("n1", &["raft-add", "n2", &address("n2")]);
    assert!(code == 4 && said.contains("do not have the same secret"), "{code} {said}");
    let (code, said) = bench.try_ctl("n2", &["cluster", "join", &address("n1")]);
    assert!(code == 4 && said.contains("do not have the same secret"), "{code} {said}");

    share(&bench, &["n2", "n3"]);
    let (code, said) = bench.try_ctl("n1", &["raft-add", "other", &address("n2")]);
    assert!(code == 4 && said.contains("the node there is named n2"), "{code} {said}");
    let said = bench.ctl("n1", &["raft-add", "n2", &address("n2")]);
    assert!(said.contains("n2 is a voter") && said.contains("two voters: it survives no failure"), "{said}");
    assert!(bench.ctl("n1", &["raft-add", "n2", &address("n2")]).contains("a member already"));
    let said = bench.ctl("n3", &["cluster", "join", &address("n2")]);
    assert!(said.contains("this node has joined") && !said.contains("survives no failure"), "{said}");
    bench.whole();
    assert!(bench.ctl("n2", &["status"]).contains("3 voters"));
    let said = bench.ctl("n1", &["cluster", "remove", "n3"]);
    assert!(said.contains("n3 still has the secret") && said.contains("pkgctl cluster secret --renew"), "{said}");
    for node in ["n1", "n2", "n3"] {
        assert!(!bench.lab.console(node).contains("panicked"));
    }
}
