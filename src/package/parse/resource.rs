//! One `[[resource]]` of a package file: the keys of every kind, and which kind it is.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::DeValue;

use super::super::problem::quoted;
use super::super::{Kind, Millis, Resource, ResourceName};
use super::{devices, filesystem, ip, lun, program};
use crate::package::file::keys::name;
use crate::package::file::suggest::{choice, nearest};
use crate::package::file::{Keys, Report};

/// Keys of every resource.
pub const KEYS: &[&str] = &["kind", "name", "start_timeout", "stop_timeout"];
/// Kinds this version knows.
pub const KINDS: &[&str] = &["ip", "program", "lun", "filesystem"];
/// Kinds that a later version will know.
pub const LATER_KINDS: &[&str] = &["volume_group", "systemd", "ocf", "script"];

/// Time for a program to start, and to stop in good order, when the file names none.
pub const PROGRAM_TIMEOUT_DEFAULT: Millis = Millis::from_secs(30);
/// The same for an address.
pub const IP_TIMEOUT_DEFAULT: Millis = Millis::from_secs(10);
/// The same for a LUN: its array may be busy, or have a path that fails.
pub const LUN_TIMEOUT_DEFAULT: Millis = PROGRAM_TIMEOUT_DEFAULT;
/// The same for a filesystem: its journal is replayed, or what was written is flushed.
pub const FILESYSTEM_TIMEOUT_DEFAULT: Millis = Millis::from_secs(60);
/// Shortest timeout: below it a busy machine alone makes an operation late.
pub const TIMEOUT_MIN: Millis = Millis(100);
/// Longest timeout: beyond it nobody waits for an outcome any more.
pub const TIMEOUT_MAX: Millis = Millis::from_secs(24 * 3600);

const KIND: &str = "kind = \"ip\" or kind = \"program\"";

/// What a file calls a kind, with what reading its keys needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Ip,
    Program,
    Lun,
    Filesystem,
}

impl Word {
    const ALL: [Word; 4] = [Self::Ip, Self::Program, Self::Lun, Self::Filesystem];

    fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|word| word.text() == text)
    }

    fn text(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Program => "program",
            Self::Lun => "lun",
            Self::Filesystem => "filesystem",
        }
    }

    fn whose(self) -> &'static str {
        match self {
            Self::Ip => "an ip resource",
            Self::Program => "a program resource",
            Self::Lun => "a lun resource",
            Self::Filesystem => "a filesystem resource",
        }
    }

    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Ip => ip::KEYS,
            Self::Program => program::KEYS,
            Self::Lun => lun::KEYS,
            Self::Filesystem => filesystem::KEYS,
        }
    }

    fn timeout(self) -> Millis {
        match self {
            Self::Ip => IP_TIMEOUT_DEFAULT,
            Self::Program => PROGRAM_TIMEOUT_DEFAULT,
            Self::Lun => LUN_TIMEOUT_DEFAULT,
            Self::Filesystem => FILESYSTEM_TIMEOUT_DEFAULT,
        }
    }
}

/// Whether any kind of resource has this key, so that it only stands in the wrong place.
pub fn is_key(key: &str) -> bool {
    let kinds = Word::ALL.iter().map(|word| word.keys());
    kinds.chain([KEYS]).any(|keys| keys.contains(&key)) && !super::KEYS.contains(&key)
}

/// Reads all resources of a file, in order; none when something was reported.
pub fn read_all(tables: Vec<Keys<'_>>, report: &mut Report) -> Option<Vec<Resource>> {
    let names = names(&tables, report);
    check_addresses(&tables, &names, report);
    let kinds: Vec<_> = tables.iter().map(|keys| (kind_of_table(keys), keys)).collect();
    devices::check(&kinds, report);
    let resources: Vec<_> = tables.into_iter().zip(names).map(|(keys, name)| read(keys, name, report)).collect();
    resources.into_iter().collect()
}

/// Reports an address that two resources have, whatever else is wrong with them.
fn check_addresses(tables: &[Keys<'_>], names: &[Option<ResourceName>], report: &mut Report) {
    let mut taken = BTreeMap::new();
    for (keys, name) in tables.iter().zip(names) {
        let is_ip = kind_of_table(keys).is_some_and(|word| matches!(word, Word::Ip));
        let Some((span, address)) = ip::floating(keys).filter(|_| is_ip) else { continue };
        if let Some(first) = taken.insert(address, name) {
            let whose = first.as_ref().map_or_else(|| "an earlier resource".to_owned(), |n| format!("resource '{n}'"));
            let what = format!("{address} is the address of {whose} already");
            report.add(span, what, "give each ip resource an address of its own, or take this one out");
        }
    }
}

/// Every resource's name: the one in the file, or its kind, with a number from the second on. None where it is bad.
fn names(tables: &[Keys<'_>], report: &mut Report) -> Vec<Option<ResourceName>> {
    let mut taken = BTreeSet::new();
    let mut given = Vec::new();
    for keys in tables {
        let text = keys.text("name", "name = \"web\"", report);
        if let Some(text) = &text
            && !taken.insert((*text.get_ref()).to_owned())
        {
            let what = format!("another resource is named {} already", quoted(text.get_ref()));
            report.add(text.span(), what, "give it a name of its own, or none: it is then named after its kind");
        }
        given.push(text);
    }
    let mut named = Vec::new();
    for (keys, given) in tables.iter().zip(given) {
        named.push(match given {
            Some(text) => name(&text, report),
            None => kind_of_table(keys).and_then(|word| free_name(word.text(), &mut taken)),
        });
    }
    named
}

/// The kind's own word, with a number from the second on: `ip`, `ip-2`.
fn free_name(word: &str, taken: &mut BTreeSet<String>) -> Option<ResourceName> {
    let numbered = (2..).map(|n| format!("{word}-{n}"));
    let free = std::iter::once(word.to_owned()).chain(numbered).find(|name| !taken.contains(name))?;
    taken.insert(free.clone());
    ResourceName::new(free).ok()
}

/// A table's kind if it is one of ours; what is wrong with it is reported by `kind`.
fn kind_of_table(keys: &Keys<'_>) -> Option<Word> {
    match keys.get("kind")?.get_ref() {
        DeValue::String(word) => Word::of(word),
        DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => None,
    }
}

fn kind(keys: &Keys<'_>, report: &mut Report) -> Option<Word> {
    let given = keys.need_text("kind", KIND, report)?;
    let word = *given.get_ref();
    let known = Word::of(word);
    if known.is_none() {
        let (what, remedy) = if LATER_KINDS.contains(&word) {
            let what = format!("kind {} comes in a later version", quoted(word));
            (what, format!("this version has the kinds {}", choice(KINDS)))
        } else {
            let meant = nearest(word, KINDS).map(|k| format!("did you mean '{k}'?"));
            let listed = || format!("the kinds are {}", choice(KINDS));
            (format!("there is no kind {}", quoted(word)), meant.unwrap_or_else(listed))
        };
        report.add(given.span(), what, remedy);
    }
    known
}

/// Reads one resource; none when something was reported.
fn read(mut keys: Keys<'_>, name: Option<ResourceName>, report: &mut Report) -> Option<Resource> {
    // Without a known kind nothing can be said of the other keys.
    let word = kind(&keys, report)?;
    word.whose().clone_into(&mut keys.whose);
    let known: Vec<&str> = KEYS.iter().chain(word.keys()).copied().collect();
    keys.check(&known, |key| elsewhere(word, key), report);
    let limits = TIMEOUT_MIN..=TIMEOUT_MAX;
    let start_timeout = keys.duration("start_timeout", word.timeout(), limits.clone(), report);
    let stop_timeout = keys.duration("stop_timeout", word.timeout(), limits, report);
    let kind = match word {
        Word::Ip => ip::read(&keys, report).map(Kind::Ip),
        Word::Program => program::read(&keys, report).map(Kind::Program),
        Word::Lun => lun::read(&keys, report).map(Kind::Lun),
        Word::Filesystem => filesystem::read(&keys, report).map(Kind::Filesystem),
    };
    Some(Resource { name: name?, start_timeout, stop_timeout, kind: kind? })
}

/// Where a key that this kind does not have belongs.
fn elsewhere(word: Word, key: &str) -> Option<String> {
    if super::KEYS.contains(&key) {
        return Some("it belongs to the package: move it above the first [[resource]]".to_owned());
    }
    let others = Word::ALL.into_iter().filter(|other| *other != word && other.keys().contains(&key));
    let whose: Vec<&str> = others.map(Word::whose).collect();
    (!whose.is_empty()).then(|| format!("only {} has it; move it there or take it out", choice(&whose)))
}
