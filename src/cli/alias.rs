//! The spellings of the programs that pkgctl grew out of: as verbs (`raft-status`, `kvget`), and by the name under which
//! pkgctl is called (links `lite-raft`, `lite-raft-client`, `pkg`, `raftdb` and `raftd` to it). docs/seeds.md has them all.

use std::cell::LazyCell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};

use super::args::Args;

/// A spelling, and the words that stand for it.
type Spelling = (&'static str, &'static [&'static str]);

/// JSimpleDB's commands, and lite-raft's where they are no verbs of ours.
const VERBS: &[Spelling] = &[
    ("raft-status", &["raft", "status"]),
    ("raft-step-down", &["raft", "step-down"]),
    ("raft-start-election", &["raft", "start-election"]),
    ("raft-add", &["raft", "add"]),
    ("raft-remove", &["raft", "remove"]),
    ("add-member", &["raft", "add"]),
    ("del-member", &["raft", "remove"]),
    ("kvget", &["kv", "get"]),
    ("kvput", &["kv", "set"]),
    ("kvremove", &["kv", "unset"]),
    ("kvsave", &["kv", "save", "-o"]),
    ("kvload", &["kv", "load"]),
];

/// The verbs of `lite-raft-client`.
const LITE_RAFT_CLIENT: &[Spelling] = &[
    ("set", &["kv", "set"]),
    ("get", &["kv", "get"]),
    ("unset", &["kv", "unset"]),
    ("list", &["kv", "list"]),
    ("if", &["kv", "if"]),
    ("noop", &["kv", "noop"]),
    ("add-member", &["raft", "add"]),
    ("del-member", &["raft", "remove"]),
    ("status", &["raft", "status"]),
];

/// The verbs of `lite-raft`; `secret` is ours, in place of its ssh keys.
const LITE_RAFT: &[Spelling] =
    &[("start", &["node", "start"]), ("stop", &["node", "stop"]), ("secret", &["cluster", "secret"])];

/// raftdb's options, which begin with one hyphen or two.
const RAFTDB: &[(&str, &str)] =
    &[("id", "--id"), ("haddr", "--http-addr"), ("raddr", "--raft-addr"), ("join", "--join")];

/// The option by which JSimpleDB's `kvget` and `kvremove` are about all keys from one to another.
const RANGE: &str = "-range";

/// The command line with spellings put into our own words.
pub fn spelled_out(argv: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut argv: Vec<OsString> = argv.into_iter().collect();
    let called = argv.first().map(PathBuf::from).unwrap_or_default();
    let name = called.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let spellings = match name {
        "raftdb" => return raftdb(argv),
        "raftd" => return under(argv, &["serve", "--like", "raftd"]),
        "lite-raft-client" => LITE_RAFT_CLIENT,
        "lite-raft" => LITE_RAFT,
        _ => VERBS,
    };
    if matches!(name, "lite-raft-client" | "lite-raft" | "pkg") {
        root_beside(&called, &mut argv);
    }
    let Some(mut at) = verb(&argv) else { return argv };
    // `help VERB` is about the verb as it is spelled too.
    at += usize::from(argv[at] == "help");
    if let Some(words) = ranged(&argv, at) {
        argv.splice(at.., words);
        return argv;
    }
    let found = argv.get(at).and_then(|word| spellings.iter().find(|(spelling, _)| word == spelling));
    if let Some((_, words)) = found {
        let about = argv.get(at + 1).is_some_and(|word| word == "--help" || word == "-h");
        let words = words.iter().filter(|word| !(about && word.starts_with('-')));
        argv.splice(at..=at, words.map(OsString::from));
    }
    argv
}

/// The same words below a verb.
fn under(mut argv: Vec<OsString>, words: &[&str]) -> Vec<OsString> {
    let after = argv.len().min(1);
    argv.splice(after..after, words.iter().map(OsString::from));
    argv
}

fn raftdb(argv: Vec<OsString>) -> Vec<OsString> {
    let ours = |word: OsString| {
        let text = word.to_string_lossy();
        let Some(option) = text.strip_prefix("--").or_else(|| text.strip_prefix('-')) else { return word };
        let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        match (RAFTDB.iter().find(|(theirs, _)| *theirs == name), value) {
            (Some((_, ours)), None) => OsString::from(ours),
            (Some((_, ours)), Some(value)) => OsString::from(format!("{ours}={value}")),
            (None, _) => word,
        }
    };
    under(argv.into_iter().map(ours).collect(), &["serve", "--like", "raftdb"])
}

/// `kvget -range MIN [MAX [LIMIT]]` and `kvremove -range MIN [MAX]`, from the verb on.
fn ranged(argv: &[OsString], at: usize) -> Option<Vec<OsString>> {
    let (ours, options): (&[&str], &[&str]) = match argv.get(at)?.to_str()? {
        "kvget" => (&["kv", "list", "--values"], &["--from", "--to", "--limit"]),
        "kvremove" => (&["kv", "unset"], &["--from", "--to"]),
        _ => return None,
    };
    let words = &argv[at + 1..];
    let range = words.iter().position(|word| word == RANGE)?;
    let mut left = options.iter();
    let mut out: Vec<OsString> = ours.iter().map(OsString::from).collect();
    for word in words[..range].iter().chain(&words[range + 1..]) {
        let option = if word.to_string_lossy().starts_with('-') { None } else { left.next() };
        out.extend(option.map(OsString::from));
        out.push(word.clone());
    }
    Some(out)
}

/// A link in the directory where a node lives, or in one below it, is about that node; and the secret is made where `conf/`
/// is, to be copied with it. Where no node lives yet, `first-boot` decides who is to run it.
fn root_beside(called: &Path, argv: &mut Vec<OsString>) {
    let says = |word: &OsString| {
        let word = word.to_string_lossy();
        ["--root", "--socket", "--endpoint", "--client"].iter().any(|option| word.starts_with(option))
    };
    let Some(dir) = called.parent().filter(|dir| !dir.as_os_str().is_empty()) else { return };
    if argv.iter().any(says) {
        return;
    }
    let above = dir.join("..");
    let secret = verb(argv).is_some_and(|at| argv[at] == "secret");
    let lives = |dir: &&Path| dir.join("run/pkgctl").is_dir() || (secret && dir.join("conf/cluster_nodes").is_file());
    if let Some(root) = [dir, above.as_path()].into_iter().find(lives) {
        argv.splice(1..1, ["--root".into(), root.as_os_str().to_owned()]);
    }
}

/// Where the verb is: the first word that is neither an option nor an option's value.
fn verb(argv: &[OsString]) -> Option<usize> {
    // The description of every verb: made only where an option comes first, and once.
    let of_all = LazyCell::new(Args::command);
    let mut at = 1;
    while let Some(word) = argv.get(at) {
        let word = word.to_string_lossy();
        if !word.starts_with('-') {
            return Some(at);
        }
        at += if has_a_value(&of_all, &word) { 2 } else { 1 };
    }
    None
}

/// Whether the word after this option of every verb is its value.
fn has_a_value(of_all: &Command, option: &str) -> bool {
    let Some(long) = option.strip_prefix("--") else { return false };
    of_all.get_arguments().any(|known| known.get_long() == Some(long) && known.get_action().takes_values())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn spelled(words: &str) -> String {
        let argv = spelled_out(words.split(' ').map(OsString::from));
        argv.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn only_the_verb_is_spelled_out_wherever_it_stands() {
        for (given, meant) in [
            ("pkgctl raft-status", "pkgctl raft status"),
            ("pkgctl --root /tmp/x raft-status --json", "pkgctl --root /tmp/x raft status --json"),
            ("pkgctl help raft-step-down", "pkgctl help raft step-down"),
            ("pkgctl kvsave all.kv", "pkgctl kv save -o all.kv"),
            ("pkgctl kvsave --help", "pkgctl kv save --help"),
            ("pkgctl kvput kvget raft-status", "pkgctl kv set kvget raft-status"),
            ("pkgctl status testpkg1", "pkgctl status testpkg1"),
            ("./lite-raft-client if key = X set Y", "./lite-raft-client kv if key = X set Y"),
            ("lite-raft-client status", "lite-raft-client raft status"),
            ("./pkg status testpkg1", "./pkg status testpkg1"),
            ("pkgctl", "pkgctl"),
            ("pkgctl --root", "pkgctl --root"),
            ("pkgctl help", "pkgctl help"),
        ] {
            assert_eq!(spelled(given), meant);
        }
    }

    #[test]
    fn raftdbs_and_raftds_ways_are_those_of_serve() {
        for (given, meant) in [
            (
                "/go/bin/raftdb -id node02 -haddr h2:8091 -raddr=h2:8089 -join h1:8091 /x/-id",
                "/go/bin/raftdb serve --like raftdb --id node02 --http-addr h2:8091 --raft-addr=h2:8089 --join h1:8091 /x/-id",
            ),
            ("raftd", "raftd serve --like raftd"),
            ("raftd --id n1 /srv", "raftd serve --like raftd --id n1 /srv"),
            ("lite-raft stop", "lite-raft node stop"),
            ("lite-raft first-boot", "lite-raft first-boot"),
            ("lite-raft-client add-member node2", "lite-raft-client raft add node2"),
            ("pkgctl kvget -range a m 10", "pkgctl kv list --values --from a --to m --limit 10"),
            ("pkgctl --json kvget -range a", "pkgctl --json kv list --values --from a"),
            ("pkgctl kvremove a -range m", "pkgctl kv unset --from a --to m"),
            ("pkgctl kvremove a", "pkgctl kv unset a"),
        ] {
            assert_eq!(spelled(given), meant);
            let parsed = Args::try_parse_from(meant.split(' '));
            assert!(parsed.is_ok(), "{meant}: {parsed:?}");
        }
    }

    #[test]
    fn a_link_beside_a_node_is_about_that_node() {
        let dir = tempfile::tempdir().unwrap();
        let (conf, below) = (dir.path().join("conf"), dir.path().join("pkg"));
        [&conf, &below].into_iter().for_each(|dir| std::fs::create_dir(dir).unwrap());
        std::fs::write(conf.join("cluster_nodes"), "n1").unwrap();
        let (root, link) = (dir.path().display(), dir.path().join("lite-raft-client"));
        let boot = dir.path().join("lite-raft").display().to_string();
        assert_eq!(spelled(&format!("{boot} secret")), format!("{boot} --root {root} cluster secret"));
        assert_eq!(spelled(&format!("{boot} first-boot")), format!("{boot} first-boot"), "no node lives there yet");
        std::fs::create_dir_all(dir.path().join("run/pkgctl")).unwrap();
        assert_eq!(spelled(&format!("{} get k", link.display())), format!("{} --root {root} kv get k", link.display()));
        let pkg = below.join("pkg").display().to_string();
        assert_eq!(spelled(&format!("{pkg} status p")), format!("{pkg} --root {root}/pkg/.. status p"));
        let named = format!("{pkg} --root /x status p");
        assert_eq!(spelled(&named), named);
    }

    #[test]
    fn every_spelling_stands_for_a_verb_that_there_is() {
        for (spelling, words) in VERBS.iter().chain(LITE_RAFT_CLIENT).chain(LITE_RAFT) {
            let mut command = Args::command();
            for word in words.iter().filter(|word| !word.starts_with('-')) {
                let next = command.find_subcommand(word).cloned();
                command = next.unwrap_or_else(|| panic!("{spelling}: there is no verb {word}"));
            }
        }
    }
}
