//! The words of `pkgctl kv`, their options, and examples in their help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::engine::kv::{Compare, Key};
use crate::engine::{LogIndex, Token};
use crate::package::PackageName;

/// Below the help of `pkgctl kv`.
pub const EXAMPLES: &str = "\
Examples:
  pkgctl kv set app/url http://10.0.0.100/
  pkgctl kv get app/url
  pkgctl kv set app/cert @server.pem     a file's content; - is standard input
  pkgctl kv set app/lock me --new        only if there is none: 11 otherwise
  pkgctl kv if app/limit lt 10 set 10    compared at its place in the log
  pkgctl kv list app                     keys below app/
  pkgctl kv unset app/url
  pkgctl kv unset app --below            everything below app/
  pkgctl kv list --values --from a --to m --limit 10
  pkgctl kv unset --from a --to m        from a on, up to m and without it
  pkgctl kv noop                         an entry that changes nothing
  pkgctl kv watch app/                   a line for each change, as it comes
  pkgctl kv save -o backup.kv            all keys at one moment
  pkgctl kv load backup.kv --check       what it would change

Exit codes beside the general ones: 10 no such key, 11 set already,
12 the condition does not hold. docs/kv.md says what is promised.";

/// `pkgctl kv …`.
#[derive(Debug, Subcommand)]
pub enum Kv {
    /// Print a key's value, as it is
    Get(Get),
    /// Give a key a value
    Set(Set),
    /// Take a key away, or with --below a whole directory
    Unset(Unset),
    /// List keys, all or those below a directory
    List(List),
    /// Change a key if its value compares: `if KEY OP VALUE set NEW`
    If(If),
    /// Print changes as they come, of all keys, of one, or of those below a directory (DIR/)
    Watch(Watch),
    /// Write all keys, or those below a directory, as they are at one moment, into a file
    Save(Save),
    /// Bring back what `save` wrote, after showing what that changes
    Load(Load),
    /// Put an entry into the log that changes nothing, and print its index
    Noop,
    /// Carry out a transaction in JSON: conditions, and changes that are made all at once
    Txn(TxnFile),
}

/// How much a read must show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Whatever the node that is asked has; may be the past
    Stale,
    /// What the leader has
    #[default]
    Default,
    /// What the leader has, after a majority agreed that it leads
    Consistent,
}

impl Level {
    /// As the query says it.
    pub fn word(self) -> &'static str {
        match self {
            Level::Stale => "stale",
            Level::Default => "default",
            Level::Consistent => "consistent",
        }
    }
}

/// `pkgctl kv watch`.
#[derive(Debug, Parser)]
pub struct Watch {
    /// A key, or a directory with / at its end [default: all keys]
    #[arg(value_name = "KEY|DIR/")]
    pub path: Option<String>,
    /// Begin with what came after this entry; a node keeps the newest 16,384 changes
    #[arg(long, value_name = "REVISION")]
    pub after: Option<u64>,
}

/// On behalf of a package's owner.
#[derive(Clone, Debug, Default, Args)]
pub struct Owner {
    /// Change nothing unless the token is that of this package's owner now
    #[arg(long)]
    pub package: Option<PackageName>,
    /// The owner's token [default: $PKG_TOKEN, as the package's programs have it]
    #[arg(long, requires = "package", value_parser = token)]
    pub token: Option<Token>,
}

/// `pkgctl kv get`.
#[derive(Debug, Parser)]
pub struct Get {
    /// The key
    pub key: Key,
    /// How much the answer must show
    #[arg(long, value_enum, default_value_t)]
    pub level: Level,
    /// Print the value as it is, on a terminal too
    #[arg(long)]
    pub raw: bool,
}

/// `pkgctl kv set`.
#[derive(Debug, Parser)]
pub struct Set {
    /// The key
    pub key: Key,
    /// The value; @FILE is a file's content, - the standard input
    #[arg(allow_hyphen_values = true)]
    pub value: String,
    /// Take VALUE as it is, even if it is - or begins with @
    #[arg(long)]
    pub literal: bool,
    /// Only if the key has no value
    #[arg(long, conflicts_with = "revision")]
    pub new: bool,
    /// Only if the key's revision is this one
    #[arg(long, value_name = "N", value_parser = index)]
    pub revision: Option<LogIndex>,
    /// In whose name
    #[command(flatten)]
    pub owner: Owner,
}

/// `pkgctl kv unset`.
#[derive(Debug, Parser)]
pub struct Unset {
    /// The key; with --below the directory, / for everything
    #[arg(required_unless_present_any = ["from", "to"], conflicts_with_all = ["from", "to"])]
    pub key: Option<String>,
    /// Everything below it, and not the key itself
    #[arg(long, conflicts_with_all = ["from", "to"])]
    pub below: bool,
    /// Every key from this one on
    #[arg(long, value_name = "KEY")]
    pub from: Option<Key>,
    /// Every key before this one
    #[arg(long, value_name = "KEY")]
    pub to: Option<Key>,
    /// Only if the key's revision is this one
    #[arg(long, value_name = "N", value_parser = index, conflicts_with_all = ["below", "from", "to"])]
    pub revision: Option<LogIndex>,
    /// In whose name
    #[command(flatten)]
    pub owner: Owner,
}

/// `pkgctl kv list`.
#[derive(Debug, Parser)]
pub struct List {
    /// The directory [default: everything]
    pub dir: Option<String>,
    /// Print KEY, a tab and the value, escaped where it is no plain text
    #[arg(long)]
    pub values: bool,
    /// Print so many at most
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Begin with this key
    #[arg(long, value_name = "KEY")]
    pub from: Option<Key>,
    /// End before this key
    #[arg(long, value_name = "KEY")]
    pub to: Option<Key>,
    /// Name what lies directly below, directories with a / at their end, and do not enter them
    #[arg(long, value_name = "1", value_parser = clap::value_parser!(u8).range(1..=1))]
    pub depth: Option<u8>,
    /// How much the answer must show
    #[arg(long, value_enum, default_value_t)]
    pub level: Level,
}

/// `pkgctl kv if`.
#[derive(Debug, Parser)]
pub struct If {
    /// The key
    pub key: Key,
    /// How its value is to compare: = != < <= > >=, or eq ne lt le gt ge
    #[arg(value_name = "OP", value_parser = sign)]
    pub sign: Compare,
    /// With what
    #[arg(allow_hyphen_values = true)]
    pub value: String,
    /// What to do if it does
    #[arg(value_enum)]
    pub act: Act,
    /// The new value, for set
    #[arg(allow_hyphen_values = true, required_if_eq("act", "set"))]
    pub new: Option<String>,
    /// In whose name
    #[command(flatten)]
    pub owner: Owner,
}

/// What a condition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Act {
    /// Give the key another value
    Set,
    /// Take it away
    Unset,
}

/// `pkgctl kv save`.
#[derive(Debug, Parser)]
pub struct Save {
    /// The directory [default: everything]
    pub dir: Option<String>,
    /// The file, or - [default: the standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How much it must show
    #[arg(long, value_enum, default_value_t = Level::Consistent)]
    pub level: Level,
}

/// `pkgctl kv load`.
#[derive(Debug, Parser)]
pub struct Load {
    /// The file
    pub file: PathBuf,
    /// Check the file, show what it would change, and change nothing
    #[arg(long)]
    pub check: bool,
    /// Take away what is there now and not in the file
    #[arg(long)]
    pub replace: bool,
    /// Only what is below this directory
    #[arg(long, value_name = "DIR")]
    pub below: Option<String>,
    /// Only what was written after this revision, as the file has it
    #[arg(long, value_name = "REVISION", value_parser = index, conflicts_with = "replace")]
    pub newer_than: Option<LogIndex>,
    /// Do not ask before values are overwritten or deleted
    #[arg(short, long)]
    pub yes: bool,
}

/// `pkgctl kv txn`.
#[derive(Debug, Parser)]
pub struct TxnFile {
    /// The file [default: the standard input]
    #[arg(short, long)]
    pub file: Option<PathBuf>,
}

/// A sign, or lite-raft's word for it that no shell takes for something else.
fn sign(given: &str) -> Result<Compare, String> {
    let sign = match given {
        "eq" | "==" => "=",
        "ne" => "!=",
        "lt" => "<",
        "le" => "<=",
        "gt" => ">",
        "ge" => ">=",
        other => other,
    };
    sign.parse()
}

fn index(given: &str) -> Result<LogIndex, String> {
    given.parse().map(LogIndex).map_err(|e| e.to_string())
}

fn token(given: &str) -> Result<Token, String> {
    given.parse().map(Token).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Args, Verb};

    fn parsed(words: &[&str]) -> Kv {
        let words = ["pkgctl", "kv"].iter().chain(words);
        match Args::try_parse_from(words).unwrap_or_else(|e| panic!("{e}")).verb {
            Verb::Kv(kv) => kv,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn conditions_are_read_as_lite_raft_writes_them() {
        for (word, sign) in
            [("=", Compare::Equal), ("ne", Compare::NotEqual), ("<=", Compare::AtMost), ("ge", Compare::AtLeast)]
        {
            let Kv::If(verb) = parsed(&["if", "key", word, "-5", "set", "-6"]) else { panic!("it is an if") };
            assert_eq!((verb.sign, verb.value.as_str(), verb.new.as_deref()), (sign, "-5", Some("-6")));
        }
        assert!(matches!(parsed(&["if", "key", "=", "x", "unset"]), Kv::If(If { act: Act::Unset, .. })));
        for words in [["if", "key", "~", "x", "set", "y"].as_slice(), &["if", "key", "=", "x", "set"]] {
            assert!(Args::try_parse_from(["pkgctl", "kv"].iter().chain(words)).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_value_may_begin_with_a_hyphen_and_options_stay_options() {
        let Kv::Set(verb) = parsed(&["set", "n", "-5", "--new"]) else { panic!("it is a set") };
        assert_eq!((verb.value.as_str(), verb.new), ("-5", true));
        let Kv::Set(verb) = parsed(&["set", "--revision", "7", "n", "-"]) else { panic!("it is a set") };
        assert_eq!((verb.value.as_str(), verb.revision), ("-", Some(LogIndex(7))));
    }
}
