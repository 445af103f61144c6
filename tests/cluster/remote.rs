//! Operators on a machine that is no member: certificates, members tried in turn, and revocation.

use std::time::Duration;

use pkgctl::lab::CLIENT;

use super::bench::{Bench, PKGCTL};

/// Makes a certificate on the first node; the words that make pkgctl use it.
pub fn operator(bench: &Bench, name: &str) -> Vec<String> {
    let dir = bench.lab.scratch().join(name).display().to_string();
    bench.ctl("n1", &["cluster", "client", name, "--out", &dir]);
    vec!["--client".to_owned(), format!("{dir}/client.toml")]
}

/// Runs a verb on the machine that is no member; its exit code, and what it printed.
pub fn remote(bench: &Bench, with: &[String], words: &[&str]) -> (i32, String) {
    let with = with.iter().map(String::as_str);
    let argv: Vec<&str> = [PKGCTL].into_iter().chain(with).chain(words.iter().copied()).collect();
    let output = bench.lab.run_in(CLIENT, &argv, Duration::from_secs(90)).unwrap();
    (output.code.unwrap_or(-1), format!("{}{}", output.stdout, output.stderr))
}

#[lab]
fn an_operator_elsewhere_does_what_a_member_can_until_revoked() {
    let Some(bench) = Bench::new(&["n1", "n2", "n3"]) else { return };
    let alice = operator(&bench, "alice");
    let must = |words: &[&str]| {
        let (code, said) = remote(&bench, &alice, words);
        assert_eq!(code, 0, "{words:?}: {said}");
        said
    };
    assert!(must(&["status"]).contains("testpkg1"));
    assert!(must(&["stop", "testpkg1"]).contains("respawned on n2"));
    assert!(must(&["run", "testpkg1"]).contains("runs on n2"));
    assert!(must(&["cluster", "clients"]).contains("alice"));

    // What is about one node goes to nobody unless the node is named.
    let (code, said) = remote(&bench, &alice, &["node", "leave"]);
    assert!(code == 2 && said.contains("--endpoint"), "{code} {said}");
    let n3 = format!("{}:7420", bench.lab.address("n3"));
    let named = |words: &[&str]| must(&[&["--endpoint", &n3], words].concat());
    assert!(named(&["status", "--json"]).contains("\"node\":\"n3\""));
    named(&["node", "leave"]);

    // The first member of the list is off.
    bench.lab.power_off("n1").unwrap();
    bench.new_leader_than("n3", "n1");
    assert!(must(&["status"]).contains("n1 is silent") || must(&["status"]).contains("testpkg1"));
    assert!(must(&["halt", "testpkg1"]).contains("in the whole cluster"));

    let said = bench.ctl("n2", &["cluster", "revoke", "alice"]);
    assert!(said.contains("is revoked"), "{said}");
    bench.until("every member has heard of it", || {
        let (code, said) = remote(&bench, &alice, &["status"]);
        code == 4 && said.contains("operator alice is not admitted")
    });
    let below_a_file = bench.lab.scratch().join("testpkg1.toml/alice").display().to_string();
    let (code, said) = bench.try_ctl("n2", &["cluster", "client", "alice", "--out", &below_a_file]);
    assert!(code == 2, "{said}");
    let again = bench.lab.scratch().join("again").display().to_string();
    let (code, said) = bench.try_ctl("n2", &["cluster", "client", "alice", "--out", &again]);
    assert!(code == 4 && said.contains("never given again"), "{code} {said}");
}

#[lab]
fn a_certificate_that_the_cluster_does_not_know_opens_nothing() {
    let Some(bench) = Bench::founded(&["n1"]) else { return };
    let dir = bench.lab.scratch().join("mallory");
    std::fs::create_dir(&dir).unwrap();
    let other = pkgctl::net::identity::Authority::create(pkgctl::engine::ClusterId(1), "other").unwrap();
    let key = pkgctl::net::identity::PrivateKey::generate();
    let name = pkgctl::net::identity::ClientName::new("mallory").unwrap();
    let certificate = other.sign_client(&key.request(), &name).unwrap();
    let file = "endpoints = [\"ADDRESS\"]\ncertificate = \"c\"\nkey = \"k\"\nca = \"a\"\n";
    let file = file.replace("ADDRESS", &bench.lab.address("n1").to_string());
    for (name, content) in
        [("client.toml", file.as_str()), ("c", &certificate), ("k", &key.pem()), ("a", other.certificate_pem())]
    {
        std::fs::write(dir.join(name), content).unwrap();
    }
    let with = vec!["--client".to_owned(), dir.join("client.toml").display().to_string()];
    let (code, said) = remote(&bench, &with, &["status"]);
    assert!(code == 2 && said.contains("chmod 0600"), "{code} {said}");
    std::fs::set_permissions(dir.join("k"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (code, said) = remote(&bench, &with, &["status"]);
    assert!(code == 3 && said.contains("cannot reach the agent at"), "{code} {said}");
}
