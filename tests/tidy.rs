//! The source checks itself: file headers and sizes, the order of layers, the purity of the core, names.
//!
//! Each rule is one function from a file to the places that break it, and is shown to bite on a bad sample.

use std::fmt::Write as _;
use std::path::Path;

#[path = "tidy/reading.rs"]
mod reading;
#[path = "tidy/repository.rs"]
mod repository;

/// A file of src/, by its path below src/.
struct Source {
    path: String,
    text: String,
    /// Its code alone; nothing for a file that is for tests only.
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: reading::code_of(text) }
    }

    /// The layer: the first part of its path.
    fn layer(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// Lines of code with their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(n, l)| (n + 1, l))
    }

    /// Lines of code, and every path of every `use` as a line of its own: `use std::{fs, io}` hides nothing.
    fn code_and_uses(&self) -> Vec<(usize, String)> {
        let lines = self.code().map(|(n, l)| (n, l.to_owned()));
        lines.chain(reading::uses(&self.code)).collect()
    }

    /// Path of the module that the file is, below src/: `package/file` for both `package/file.rs` and its `mod.rs`.
    fn module(&self) -> &str {
        let path = self.path.strip_suffix(".rs").unwrap_or(&self.path);
        path.strip_suffix("/mod").unwrap_or(path)
    }
}

type Found = Vec<(usize, String)>;

const LINES_MAX: usize = 800;

fn has_a_header(source: &Source) -> Found {
    let first = source.text.lines().next().unwrap_or_default();
    if first.starts_with("//! ") {
        return vec![];
    }
    vec![(1, "begin the file with `//! ` and its one purpose".to_owned())]
}

fn is_short(source: &Source) -> Found {
    let lines = source.text.lines().count();
    if lines <= LINES_MAX {
        return vec![];
    }
    vec![(lines, format!("{lines} lines; split it by purpose below {LINES_MAX}"))]
}

/// Which layers each layer may use, beside itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("package", &[]),
    ("engine", &["package"]),
    ("resource", &["package", "engine"]),
    ("host", &["package", "engine", "resource", "keeper", "config"]),
    ("net", &["package", "engine", "raft", "config", "bounded"]),
    ("keeper", &["package", "engine", "resource", "host", "net", "config", "bounded"]),
    ("raft", &["package", "engine"]),
    ("config", &["package", "bounded"]),
    ("bounded", &[]),
    ("api", &["package", "engine", "raft", "net", "config", "keeper", "resource"]),
    ("agent", &["package", "engine", "raft", "net", "resource", "keeper", "api", "config"]),
    ("cli", &["package", "engine", "raft", "net", "api", "config", "resource", "lab", "bounded"]),
    (
        "service",
        &["package", "engine", "raft", "net", "api", "config", "resource", "keeper", "host", "agent", "cli", "bounded"],
    ),
    (
        "lab",
        &["package", "engine", "raft", "net", "api", "config", "resource", "keeper", "host", "agent", "cli", "service"],
    ),
    // Packages of their own.
    ("crates", &[]),
];

fn keeps_the_layers(source: &Source) -> Found {
    let layer = source.layer();
    if layer == "lib" || layer == "main" {
        return vec![];
    }
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        return vec![(1, format!("'{layer}' has no place among the layers; give it one in tests/tidy.rs"))];
    };
    let mut found = vec![];
    for (number, line) in source.code_and_uses() {
        for used in line.split("crate::").skip(1) {
            let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let known = LAYERS.iter().any(|(name, _)| *name == used);
            if known && used != layer && !allowed.contains(&used.as_str()) {
                found.push((number, format!("{layer} must not use {used}")));
            }
        }
        let up = line.matches("super::").count();
        if up > 0 && line.contains(&"super::".repeat(up)) && up >= source.module().split('/').count() {
            found.push((number, "this super:: leaves the layer; write crate:: so that its direction shows".to_owned()));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// What the pure core must not name.
const IMPURE: &[&str] = &[
    "std::time::Instant",
    "SystemTime",
    "std::fs",
    "std::process",
    "std::thread",
    "std::env",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "tokio",
    "rand::",
    "HashMap",
    "HashSet",
    "async fn",
    "std::io",
    "nix::",
    "libc::",
];

fn is_pure(source: &Source) -> Found {
    if !is_core(source) {
        return vec![];
    }
    let names = |line: &str| IMPURE.iter().find(|word| line.contains(**word)).map(|w| (*w).to_owned());
    let lines = source.code_and_uses().into_iter().filter_map(|(number, line)| Some((number, names(&line)?)));
    let mut found: Found = lines
        .map(|(number, word)| (number, format!("the pure core must not name {word}; take it as an argument")))
        .collect();
    found.sort();
    found.dedup();
    found
}

fn does_not_unwrap(source: &Source) -> Found {
    if !is_core(source) {
        return vec![];
    }
    let lines = source.code().filter(|(_, line)| line.contains(".unwrap()"));
    lines.map(|(n, _)| (n, "say in .expect() why it cannot fail, or handle it".to_owned())).collect()
}

/// Whether a file belongs to the pure core.
fn is_core(source: &Source) -> bool {
    let parts = ["keeper/core", "keeper/guard"];
    matches!(source.layer(), "package" | "engine") || parts.iter().any(|part| source.path.starts_with(part))
}

fn names_tokio_only_where_it_may(source: &Source) -> Found {
    if matches!(source.layer(), "main" | "net" | "api" | "host" | "cli" | "service" | "lab") {
        return vec![];
    }
    // Crates of openraft's that have the word in their names are about its runtimes, not about ours.
    let names = |line: &str| line.contains("tokio::") || line.contains("tokio_");
    let lines = source.code_and_uses().into_iter().filter(|(_, line)| names(line));
    lines.map(|(n, _)| (n, "this layer is generic over its runtime; tokio is not named here".to_owned())).collect()
}

/// Leases that end nothing are for the lab's demonstration; the core has both kinds, and everyone else enforces.
fn enforces_leases(source: &Source) -> Found {
    if source.path == "keeper/core/ports.rs" || source.path == "lab/unleased.rs" {
        return vec![];
    }
    let lines = source.code_and_uses().into_iter().filter(|(_, line)| line.contains("Enforcement::Off"));
    lines.map(|(n, _)| (n, "the end of a lease is enforced everywhere but in lab/unleased.rs".to_owned())).collect()
}

const BANNED: &[&str] = &["manager", "handler", "helper", "util", "utils", "common", "data", "info"];

/// Names that another crate's trait makes us use.
const FOREIGN: &[&str] = &["SnapshotData", "sync_data"];

fn has_no_empty_names(source: &Source) -> Found {
    let mut found = vec![];
    let file = source.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
    if let Some(word) = banned(file) {
        found.push((1, format!("'{word}' in a file's name says nothing; name what it is")));
    }
    for (number, line) in source.code() {
        let words: Vec<&str> = line.split_whitespace().collect();
        for pair in words.windows(2) {
            let defines = matches!(pair[0], "fn" | "struct" | "enum" | "trait" | "mod" | "type");
            let name: String = pair[1].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if let Some(word) = banned(&name).filter(|_| defines && !FOREIGN.contains(&name.as_str())) {
                found.push((number, format!("'{word}' in '{name}' says nothing; name what it is")));
            }
        }
    }
    found
}

/// A banned word among the words of a snake_case or CamelCase name.
fn banned(name: &str) -> Option<&'static str> {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    BANNED.iter().find(|word| snake.split('_').any(|part| part == **word)).copied()
}

type Rule = (&'static str, fn(&Source) -> Found, &'static str, &'static str);

/// Every rule, with samples that break it: where the sample would lie, and its text.
const RULES: &[Rule] = &[
    ("has_a_header", has_a_header, "engine/x.rs", "use std::fmt;\n"),
    ("keeps_the_layers", keeps_the_layers, "engine/x.rs", "//! X.\nuse crate::raft::Consensus;\n"),
    ("is_pure", is_pure, "engine/x.rs", "//! X.\nfn now() -> u64 { std::time::Instant::now() }\n"),
    ("is_pure", is_pure, "package/x.rs", "//! X.\nuse std::{fmt, fs};\n"),
    ("keeps_the_layers", keeps_the_layers, "engine/x.rs", "//! X.\nuse crate::{package::Package, raft::Peers};\n"),
    ("keeps_the_layers", keeps_the_layers, "engine/x.rs", "//! X.\nfn f() -> super::super::raft::Peers {}\n"),
    ("keeps_the_layers", keeps_the_layers, "novelty/x.rs", "//! X.\n"),
    (
        "is_pure",
        is_pure,
        "engine/x.rs",
        "//! X.\n#[cfg(test)]\nmod tests;\nfn f() -> std::collections::HashMap<u8, u8> {}\n",
    ),
    ("does_not_unwrap", does_not_unwrap, "keeper/core/x.rs", "//! X.\nfn f() { g().unwrap() }\n"),
    ("has_no_empty_names", has_no_empty_names, "agent/lease_utils.rs", "//! X.\n"),
    ("names_tokio_only_where_it_may", names_tokio_only_where_it_may, "agent/x.rs", "//! X.\nuse tokio::spawn;\n"),
    ("has_no_empty_names", has_no_empty_names, "agent/x.rs", "//! X.\nstruct LeaseManager;\n"),
    ("enforces_leases", enforces_leases, "keeper/daemon/x.rs", "//! X.\nfn f() -> Enforcement { Enforcement::Off }\n"),
];

/// Every rule once.
fn rules() -> impl Iterator<Item = fn(&Source) -> Found> {
    let first = |(at, rule): &(usize, &Rule)| RULES[..*at].iter().all(|earlier| earlier.0 != rule.0);
    RULES.iter().enumerate().filter(first).map(|(_, rule)| rule.1)
}

fn sources(folder: &Path, below: &str, into: &mut Vec<Source>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            sources(&path, &format!("{below}{name}/"), into);
        } else if name.ends_with(".rs") {
            into.push(Source::new(&format!("{below}{name}"), &std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// Takes the code out of files that their parent declares for tests only; header and size rules hold for them too.
fn set_tests_apart(all: &mut [Source]) {
    let declared = all.iter().flat_map(|s| {
        let parent = if s.module() == "lib" { String::new() } else { format!("{}/", s.module()) };
        reading::test_modules(&s.text).into_iter().map(move |name| format!("{parent}{name}"))
    });
    let tests: Vec<String> = declared.collect();
    for source in all {
        let module = source.module();
        if tests.iter().any(|t| module == t || module.starts_with(&format!("{t}/"))) {
            source.code.clear();
        }
    }
}

#[test]
fn the_source_keeps_its_rules() {
    let mut all = vec![];
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut all);
    assert!(all.len() > 50, "the source was not found");
    set_tests_apart(&mut all);
    let mut report = String::new();
    for source in &all {
        for rule in rules().chain([is_short as fn(&Source) -> Found]) {
            for (line, text) in rule(source) {
                writeln!(report, "src/{}:{line}: {text}", source.path).unwrap();
            }
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn files_for_tests_only_are_told_from_the_others() {
    let parent = Source::new("engine/x/mod.rs", "//! X.\n#[cfg(test)]\nmod proof;\nmod real;\n");
    let impure = "//! X.\nuse std::fs;\n";
    let mut all = [parent, Source::new("engine/x/proof.rs", impure), Source::new("engine/x/real.rs", impure)];
    set_tests_apart(&mut all);
    assert_eq!(all.map(|s| is_pure(&s).len()), [0, 0, 1]);
}

#[test]
fn every_rule_bites() {
    for (name, rule, path, text) in RULES {
        assert!(!rule(&Source::new(path, text)).is_empty(), "{name} does not bite");
    }
    let long = "//! X.\n".repeat(LINES_MAX + 1);
    assert!(!is_short(&Source::new("engine/x.rs", &long)).is_empty());
}

#[test]
fn a_good_file_breaks_no_rule() {
    let good = Source::new("engine/x.rs", "//! X.\nuse crate::package::Package;\n/// Metadata.\nfn informed() {}\n");
    for (name, rule, _, _) in RULES {
        assert!(rule(&good).is_empty(), "{name} bites on a good file");
    }
}
