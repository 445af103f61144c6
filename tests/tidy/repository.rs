//! Rules for every file of the repository: no registry's host is named, and all dependencies come from one source.
//!
//! A host in a file ties a build to one network. Cargo knows its registry by itself; the lock file names it once for
//! each crate, always the same.

use std::path::Path;

/// Hosts of package registries, in two parts so that this file does not name them.
const HOSTS: &[(&str, &str)] = &[
    ("crates", ".io"),
    ("pypi", ".org"),
    ("npmjs", ".org"),
    ("golang", ".org"),
    ("rubygems", ".org"),
    ("deb.debian", ".org"),
    ("docker", ".io"),
    ("ghcr", ".io"),
    ("quay", ".io"),
];

/// Where Cargo says that a crate comes from.
const CARGO_SOURCE: (&str, &str) = ("registry+https://github.com/rust-lang/crates", ".io-index");

/// Places in a text that name a registry's host.
fn hosts_named(text: &str) -> Vec<(usize, String)> {
    let host = |line: &str| HOSTS.iter().map(|(a, b)| format!("{a}{b}")).find(|host| line.contains(host.as_str()));
    let lines = text.lines().enumerate().filter_map(|(n, line)| Some((n + 1, host(line)?)));
    lines
        .map(|(n, host)| (n, format!("names the registry host {host}; leave it to the machine's own settings")))
        .collect()
}

/// Places in a lock file that name another source than Cargo's own registry.
fn other_sources(lock: &str) -> Vec<(usize, String)> {
    let usual = format!("source = \"{}{}\"", CARGO_SOURCE.0, CARGO_SOURCE.1);
    let lines = lock.lines().enumerate().filter(|(_, line)| line.starts_with("source = ") && *line != usual);
    lines.map(|(n, line)| (n + 1, format!("{line} is not Cargo's own registry"))).collect()
}

fn texts(folder: &Path, into: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !matches!(name.as_str(), "target" | ".git") {
            texts(&path, into);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            into.push((path.display().to_string(), text));
        }
    }
}

#[test]
fn no_file_names_a_registry_and_all_crates_come_from_one() {
    let mut all = vec![];
    texts(Path::new(env!("CARGO_MANIFEST_DIR")), &mut all);
    let mut found = vec![];
    for (path, text) in &all {
        let rule = if path.ends_with("/Cargo.lock") { other_sources } else { hosts_named };
        found.extend(rule(text).into_iter().map(|(line, what)| format!("{path}:{line}: {what}")));
    }
    assert!(all.iter().any(|(path, _)| path.ends_with("/Cargo.lock")), "the repository was not found");
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn both_rules_bite() {
    assert_eq!(hosts_named(&format!("x\nsee https://{}{}/x", HOSTS[0].0, HOSTS[0].1))[0].0, 2);
    assert_eq!(other_sources("[[package]]\nsource = \"registry+https://mirror.example/index\"\n")[0].0, 2);
    assert!(other_sources(&format!("source = \"{}{}\"", CARGO_SOURCE.0, CARGO_SOURCE.1)).is_empty());
}
