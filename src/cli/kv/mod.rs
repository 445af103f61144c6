//! `pkgctl kv`: the key/value tree (docs/kv.md).
//!
//! - `verbs`: the words and their options.
//! - `read`: get, list. `write`: set, unset, if, txn.
//! - `watch`: changes as they come. `backup`: the format of a file. `save` and `load`.
//! - `shown`: values on a terminal and in lines.

pub mod verbs;

mod backup;
mod load;
mod read;
pub(super) mod save;
mod shown;
mod watch;
mod write;

use std::fmt::Write as _;

use super::client::{CHANGE_TRY_WITHIN, Client, REQUEST_NAME, refused, value};
use super::exit::Failed;
use super::print::Out;
use crate::api::types::Failure;
use crate::api::types::kv::{KvFound, Meant};
use crate::engine::kv::{Range, RequestId};
use crate::net::http::{Answer, Call, Method};
use crate::net::random;
use verbs::Kv;

/// Dispatches.
pub async fn kv(client: &Client, out: &Out, verb: &Kv) -> Result<(), Failed> {
    match verb {
        Kv::Get(get) => read::get(client, out, get).await,
        Kv::List(list) => read::list(client, out, list).await,
        Kv::Set(set) => write::set(client, out, set).await,
        Kv::Unset(unset) => write::unset(client, out, unset).await,
        Kv::If(condition) => write::change_if(client, out, condition).await,
        Kv::Watch(watch) => watch::watch(client, out, watch).await,
        Kv::Save(save) => save::save(client, out, save).await,
        Kv::Load(load) => load::load(client, out, load).await,
        Kv::Txn(file) => write::txn(client, out, file).await,
        Kv::Noop => write::noop(client, out).await,
    }
}

/// A change with a name of its own, so that it may be repeated when its answer is lost.
fn change(method: Method, path: String, body: Option<Vec<u8>>) -> Call {
    named(method, path, body, RequestId(u128::from_be_bytes(random::bytes())))
}

/// The same under a name that is given.
fn named(method: Method, path: String, body: Option<Vec<u8>>, name: RequestId) -> Call {
    let headers = vec![(REQUEST_NAME, name.to_string())];
    Call { headers, body, within: CHANGE_TRY_WITHIN, ..Call::new(method, path) }
}

/// An answer as a value; what a key had is told where a condition failed.
fn outcome<T: serde::de::DeserializeOwned>(answer: Answer) -> Result<T, Failed> {
    let failure = match answer.status {
        404 | 412 => serde_json::from_slice::<Failure>(&answer.body).ok(),
        _ => None,
    };
    let Some(failure) = failure else { return value(answer) };
    let had = failure.found.as_ref().map(|found| format!("; {}", had(found))).unwrap_or_default();
    let message = format!("{}{had}", failure.message);
    match failure.code.as_str() {
        "no_such_key" => Err(Failed::no_such_key(message)),
        "exists" => Err(Failed::already_set(message)),
        "mismatch" => Err(Failed::unmet(message)),
        _ => Err(refused(&answer)),
    }
}

/// What a key had whose condition did not hold.
fn had(found: &KvFound) -> String {
    format!("it is {} (revision {})", shown::cut(found.value.0.bytes()), found.revision)
}

/// A key or directory as it stands in an address.
fn address(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => out.push(char::from(byte)),
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    out
}

/// The directory that somebody means, with a `/` at its end or without; nothing and `/` are everything.
fn directory(given: Option<&str>) -> Result<Range, Failed> {
    let given = given.unwrap_or("/");
    let path = if given.is_empty() || given.ends_with('/') { given.to_owned() } else { format!("{given}/") };
    match meant(&path)? {
        Meant::Below(range) => Ok(range),
        Meant::Key(key) => Ok(Range::Below(key)),
    }
}

/// What a path on the command line means. An empty one is a variable that nobody set, and does not mean everything.
fn meant(given: &str) -> Result<Meant, Failed> {
    if given.is_empty() {
        return Err(Failed::usage("the directory is empty: write / for everything; nothing was changed".to_owned()));
    }
    Meant::read(given).map_err(Failed::usage)
}

/// A directory as it stands in an address.
fn below(range: &Range) -> String {
    match range {
        Range::Below(dir) => format!("{}/", address(dir.as_str())),
        // Nobody can mean an interval with a path.
        Range::All | Range::Between { .. } => String::new(),
    }
}

/// A query: `?a=1&b=2`, or nothing.
fn query(parts: &[(&str, Option<String>)]) -> String {
    let given = parts.iter().filter_map(|(name, value)| Some(format!("{name}={}", address(value.as_ref()?))));
    let all = given.collect::<Vec<_>>().join("&");
    if all.is_empty() { all } else { format!("?{all}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_address_cannot_hold_is_escaped() {
        assert_eq!(address("app/a b?c#d%é"), "app/a%20b%3Fc%23d%25%C3%A9");
        let parts = [("level", Some("stale".to_owned())), ("from", None), ("to", Some("a&b".to_owned()))];
        assert_eq!(query(&parts), "?level=stale&to=a%26b");
        assert_eq!(query(&[("from", None)]), "");
    }

    #[test]
    fn a_directory_is_one_with_a_slash_or_without() {
        for (given, path) in [(None, ""), (Some("/"), ""), (Some("app"), "app/"), (Some("/app/"), "app/")] {
            assert_eq!(below(&directory(given).unwrap()), path, "{given:?}");
        }
        assert!(directory(Some("a//b")).is_err());
        assert!(directory(Some("")).unwrap_err().message.contains("write / for everything"));
    }
}
