//! The spellings of the programs that pkgctl grew out of: as verbs (`raft-status`, `kvget`), and by the name under which
//! pkgctl is called (a link `lite-raft-client` or `pkg` to it).

use std::ffi::OsString;
use std::path::Path;

use clap::CommandFactory;

use super::args::Args;

/// A spelling, and the words that stand for it.
type Spelling = (&'static str, &'static [&'static str]);

/// JSimpleDB's commands.
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
    ("add-member", &["raft", "add"]),
    ("del-member", &["raft", "remove"]),
    ("status", &["raft", "status"]),
];

/// The command line with spellings put into our own words.
pub fn spelled_out(argv: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut argv: Vec<OsString> = argv.into_iter().collect();
    let called = argv.first().and_then(|program| Path::new(program).file_name()).unwrap_or_default();
    let spellings = if called == "lite-raft-client" { LITE_RAFT_CLIENT } else { VERBS };
    let Some(mut at) = verb(&argv) else { return argv };
    // `help VERB` is about the verb as it is spelled too.
    at += usize::from(argv[at] == "help");
    let found = argv.get(at).and_then(|word| spellings.iter().find(|(spelling, _)| word == spelling));
    if let Some((_, words)) = found {
        argv.splice(at..=at, words.iter().map(OsString::from));
    }
    argv
}

/// Where the verb is: the first word that is neither an option nor an option's value.
fn verb(argv: &[OsString]) -> Option<usize> {
    let mut at = 1;
    while let Some(word) = argv.get(at) {
        let word = word.to_string_lossy();
        if !word.starts_with('-') {
            return Some(at);
        }
        at += if has_a_value(&word) { 2 } else { 1 };
    }
    None
}

/// Whether the word after this option of every verb is its value.
fn has_a_value(option: &str) -> bool {
    let Some(long) = option.strip_prefix("--") else { return false };
    let of_all = Args::command();
    of_all.get_arguments().any(|known| known.get_long() == Some(long) && known.get_action().takes_values())
}

#[cfg(test)]
mod tests {
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
    fn every_spelling_stands_for_a_verb_that_there_is() {
        for (spelling, words) in VERBS.iter().chain(LITE_RAFT_CLIENT) {
            let mut command = Args::command();
            for word in words.iter().filter(|word| !word.starts_with('-')) {
                let next = command.find_subcommand(word).cloned();
                command = next.unwrap_or_else(|| panic!("{spelling}: there is no verb {word}"));
            }
        }
    }
}
