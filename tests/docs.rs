//! The documents say what the code does: every dependency has its line, every key of a package file its row.

use std::collections::BTreeSet;

use pkgctl::package::parse::{self, filesystem, ip, lun, program, resource};
use pkgctl::package::{Millis, Package};

const DEPENDENCIES: &str = include_str!("../docs/dependencies.md");
const PACKAGE_FILE: &str = include_str!("../docs/package-file.md");
const CARGO: &str = include_str!("../Cargo.toml");

/// The cells of every row of every table, headings left out.
fn rows(text: &str) -> Vec<Vec<String>> {
    let lines: Vec<&str> = text.lines().collect();
    let is_rule = |line: &str| line.starts_with("|---");
    let row =
        |at: usize| lines[at].starts_with('|') && !is_rule(lines[at]) && !lines.get(at + 1).is_some_and(|l| is_rule(l));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect();
    (0..lines.len()).filter(|at| row(*at)).map(|at| cells(lines[at])).collect()
}

/// A key's row in the reference of the package file.
fn row_of(key: &str, nth: usize) -> Vec<String> {
    let mut found = rows(PACKAGE_FILE).into_iter().filter(|row| row[0] == format!("`{key}`"));
    found.nth(nth).unwrap_or_else(|| panic!("docs/package-file.md has no row for '{key}'"))
}

#[test]
fn every_dependency_has_one_line_with_its_reason_and_what_was_rejected() {
    let manifest: toml::Table = CARGO.parse().unwrap();
    let used = ["dependencies", "dev-dependencies"].iter().flat_map(|part| manifest[*part].as_table().unwrap().keys());
    let used: Vec<&String> = used.collect();
    let rows = rows(DEPENDENCIES);
    let told: Vec<&String> = rows.iter().map(|row| &row[0]).collect();
    assert_eq!(told, used, "docs/dependencies.md and Cargo.toml differ, or differ in their order");
    for row in &rows {
        assert!(row.len() == 3 && row.iter().all(|cell| !cell.is_empty()), "{row:?} is not crate, reason, rejected");
    }
}

#[test]
fn every_key_of_a_package_file_has_its_row_and_no_row_is_of_a_key_unknown() {
    let known: BTreeSet<String> = [parse::KEYS, resource::KEYS, ip::KEYS, program::KEYS, lun::KEYS, filesystem::KEYS]
        .concat()
        .iter()
        .map(|key| format!("`{key}`"))
        .collect();
    let told: BTreeSet<String> =
        rows(PACKAGE_FILE).into_iter().map(|row| row[0].clone()).filter(|key| !key.starts_with("`PKG_")).collect();
    assert_eq!(told, known);
}

#[test]
fn the_defaults_are_the_ones_told() {
    let millis = |text: &str| text.trim_matches(['`', '"']).parse::<Millis>().unwrap();
    for key in ["start_timeout", "stop_timeout"] {
        let cell = row_of(key, 0)[2].clone();
        let (others, filesystem) = cell.split_once(", for a filesystem ").unwrap();
        let (program, ip) = others.split_once(", for an ip ").unwrap();
        assert_eq!(millis(filesystem), resource::FILESYSTEM_TIMEOUT_DEFAULT);
        assert_eq!(millis(program), resource::PROGRAM_TIMEOUT_DEFAULT);
        assert_eq!(millis(ip), resource::IP_TIMEOUT_DEFAULT);
    }
    assert_eq!(millis(&row_of("restart_window", 0)[2]), program::RESTART_WINDOW_DEFAULT);
    assert_eq!(row_of("restarts", 0)[2], format!("`{}`", program::RESTARTS_DEFAULT));
    let signal = parse::signal::word(program::STOP_SIGNAL_DEFAULT);
    assert_eq!(row_of("stop_signal", 0)[2], format!("`\"{signal}\"`"));
}

/// What is typed in the four documents that docs/seeds.md maps, line by line.
const SEED_LINES: &[&str] = &[
    "java -jar jsimpledb-cli.jar",
    "raft-status",
    "raft-add nodeA A.A.A.A",
    "raft-add nodeB B.B.B.B",
    "raft-add nodeC C.C.C.C",
    "help raft-step-down",
    "mkdir ~/raftd.1",
    "cd ~/raftd.1",
    "raftd",
    "Enter host:port> localhost:4001",
    "Initialize or join? [ij] i",
    "mkdir ~/raftd.2",
    "cd ~/raftd.2",
    "Enter host:port> localhost:4002",
    "Initialize or join? [ij] j",
    "Server to join: localhost:4001",
    "go build",
    "./raftdb -id node01 ~/.raftdb",
    "$GOPATH/bin/raftdb -id node01 ",
    "$GOPATH/bin/raftdb -id node02 ",
    "$GOPATH/bin/raftdb -id node03 ",
    "curl -X POST raft-cluster-host01:8091/key -d '{\"foo\": \"bar\"}' -L",
    "curl -X GET raft-cluster-host01:8091/key/foo -L",
    "curl -X DELETE raft-cluster-host02:8091/key/foo -L",
    "curl -X GET raft-cluster-host02:8091/key/foo?level=stale",
    "curl -X GET raft-cluster-host02:8091/key/foo?level=default -L",
    "curl -X GET raft-cluster-host02:8091/key/foo?level=consistent -L",
    "configure `conf/cluster_nodes",
    "configure `conf/election_timeout",
    "configure `conf/snapshot_period",
    "verify that the user",
    "copy the lite-raft directory on every node",
    "./lite-raft first-boot",
    "./lite-raft stop",
    "./lite-raft start",
    "./lite-raft-client set key value",
    "./lite-raft-client if key = X set Y",
    "./lite-raft-client get key",
    "./lite-raft-client add-member node2",
    "./lite-raft-client del-member node2",
    "copy the pkg directory",
    "configure pkg/lite-raft-remote",
    "copy pkg/control-scripts/template",
    "./pkg init testpk1",
    "./pkg run testpkg1",
    "./pkg status testpk1",
    "./pkg stop testpkg1",
];

#[test]
fn every_line_of_the_seeds_has_its_row() {
    let told: Vec<String> = rows(include_str!("../docs/seeds.md")).into_iter().map(|row| row[0].clone()).collect();
    for line in SEED_LINES {
        let there = told.iter().any(|cell| cell.trim_start_matches('`').starts_with(line));
        assert!(there, "docs/seeds.md has no row for: {line}");
    }
}

#[test]
fn the_first_example_is_a_good_package_file_of_ten_lines() {
    let example = PACKAGE_FILE.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let package: Package = parse::parse("docs/package-file.md", example).unwrap_or_else(|p| panic!("{p}"));
    assert_eq!(package.resources.len(), 2);
    assert!(example.lines().filter(|line| !line.is_empty()).count() <= 10);
}
