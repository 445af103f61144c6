//! `pkgctl kv set`, `unset`, `if` and `txn`: each is one entry of the log.

use std::path::Path;

use super::verbs::{Act, If, Owner, Set, TxnFile, Unset};
use super::{Client, Failed, Out, address, change, directory, had, named, outcome, query};
use crate::api::types::kv::{KvDeleted, KvOutcome, KvPut, KvTxn, TXN_TEXT_MAX_BYTES};
use crate::bounded::{self, Limit, TooLarge};
use crate::engine::kv::{
    Change, Changed, Condition, Guard, Key, Range, RequestId, Test, Txn, VALUE_MAX_BYTES, check_size,
};
use crate::engine::{LogIndex, Token};
use crate::net::http::Method;

/// A value.
const VALUE_LIMIT: Limit = Limit { of: "the value", bytes: VALUE_MAX_BYTES };
/// A transaction as it is written.
const TXN_LIMIT: Limit = Limit { of: "the transaction's text", bytes: TXN_TEXT_MAX_BYTES };

/// `pkgctl kv set K V`.
pub async fn set(client: &Client, out: &Out, verb: &Set) -> Result<(), Failed> {
    let value = value(&verb.value, verb.literal)?;
    let revision = if verb.new { Some(LogIndex(0)) } else { verb.revision };
    let path = format!("/v1/kv/{}{}", address(verb.key.as_str()), terms(revision, &verb.owner)?);
    let put: KvPut = outcome(client.send(change(Method::PUT, path, Some(value))).await?)?;
    out.progress(&format!("'{}' is set (revision {})", verb.key, put.revision));
    out.value(&put);
    Ok(())
}

/// `pkgctl kv unset K [--below]`.
pub async fn unset(client: &Client, out: &Out, verb: &Unset) -> Result<(), Failed> {
    let Some(given) = &verb.key else {
        let range = Range::Between { from: verb.from.clone(), to: verb.to.clone() };
        return unset_range(client, out, range, "in the range", &verb.owner).await;
    };
    if verb.below {
        let range = directory(Some(given))?;
        return unset_range(client, out, range, &format!("below '{given}'"), &verb.owner).await;
    }
    if given.ends_with('/') {
        let text = format!("'{given}' is a directory: add --below to take away everything below it");
        return Err(Failed::usage(text));
    }
    let key = Key::new(given).map_err(|e| Failed::usage(e.to_string()))?;
    let path = format!("/v1/kv/{}{}", address(key.as_str()), terms(verb.revision, &verb.owner)?);
    let deleted: KvDeleted = outcome(client.send(change(Method::DELETE, path, None)).await?)?;
    if deleted.deleted == 0 {
        return Err(Failed::no_such_key(format!("'{key}' has no value; nothing was changed")));
    }
    out.progress(&format!("'{key}' is unset"));
    out.value(&deleted);
    Ok(())
}

/// `pkgctl kv noop`: a transaction without conditions and changes; its revision is the entry's index.
pub async fn noop(client: &Client, out: &Out) -> Result<(), Failed> {
    let done = carry_out(client, Txn::default().into()).await?;
    out.say(&done.revision.to_string());
    out.value(&serde_json::json!({"index": done.revision}));
    Ok(())
}

async fn unset_range(client: &Client, out: &Out, range: Range, which: &str, owner: &Owner) -> Result<(), Failed> {
    let txn = Txn { then: vec![Change::DeleteRange { range }], guard: guard(owner)?, ..Txn::default() };
    let done = carry_out(client, txn.into()).await?;
    let gone = |changed: &Changed| match changed {
        Changed::Deleted { keys } => *keys,
        Changed::Put { .. } => 0,
    };
    let keys: u64 = done.changed.iter().map(gone).sum();
    let (what, are) = if keys == 1 { ("key", "is") } else { ("keys", "are") };
    out.progress(&format!("{keys} {what} {which} {are} unset"));
    out.value(&KvDeleted { revision: done.revision, deleted: keys });
    Ok(())
}

/// `pkgctl kv if K OP V set NEW`.
pub async fn change_if(client: &Client, out: &Out, verb: &If) -> Result<(), Failed> {
    let key = verb.key.clone();
    let when = vec![Condition { key: key.clone(), test: Test::Value(verb.sign, verb.value.clone().into()) }];
    let then = match (verb.act, &verb.new) {
        (Act::Set, Some(new)) => Change::Put { key, value: new.clone().into() },
        (Act::Unset, None) => Change::Delete { key },
        (Act::Set, None) | (Act::Unset, Some(_)) => {
            return Err(Failed::usage("write `if KEY OP VALUE set NEW` or `if KEY OP VALUE unset`".to_owned()));
        }
    };
    let txn = Txn { when, then: vec![then], guard: guard(&verb.owner)?, ..Txn::default() };
    let done = carry_out(client, txn.into()).await?;
    let result = judge(&done, || format!("it does not hold that '{}' {} '{}'", verb.key, verb.sign, verb.value));
    if result.is_ok() {
        let word = if verb.act == Act::Set { "set" } else { "unset" };
        out.progress(&format!("'{}' is {word} (revision {})", verb.key, done.revision));
        out.value(&done);
    }
    result
}

/// `pkgctl kv txn [-f FILE]`.
pub async fn txn(client: &Client, out: &Out, verb: &TxnFile) -> Result<(), Failed> {
    let text = input(verb.file.as_deref(), TXN_LIMIT)?;
    let bad = |why: String| Failed::usage(format!("the transaction is not usable: {why}; docs/kv.md shows one"));
    let given: KvTxn = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
    check_size(&given.clone().read().map_err(bad)?).map_err(bad)?;
    let done = carry_out(client, given).await?;
    let result = judge(&done, || "a condition does not hold".to_owned());
    out.value(&done);
    if result.is_ok() {
        out.say(&format!("done: {} (revision {})", counted(done.changed.len()), done.revision));
    } else if !done.changed.is_empty() {
        out.say(&format!("else: {} (revision {})", counted(done.changed.len()), done.revision));
    }
    result
}

fn counted(changes: usize) -> String {
    if changes == 1 { "1 change".to_owned() } else { format!("{changes} changes") }
}

/// Sends a transaction under a name; its own, if it has one.
pub async fn carry_out(client: &Client, mut txn: KvTxn) -> Result<KvOutcome, Failed> {
    let call = |body, name: Option<RequestId>| match name {
        Some(name) => named(Method::POST, "/v1/kv".to_owned(), Some(body), name),
        None => change(Method::POST, "/v1/kv".to_owned(), Some(body)),
    };
    let name = txn.request.take();
    let body = serde_json::to_vec(&txn).map_err(|e| Failed::usage(e.to_string()))?;
    outcome(client.send(call(body, name)).await?)
}

/// Which exit a transaction has.
fn judge(done: &KvOutcome, what: impl Fn() -> String) -> Result<(), Failed> {
    let Some(unmet) = &done.unmet else { return Ok(()) };
    let changed = if done.changed.is_empty() { "nothing was changed" } else { "its `else` was carried out" };
    let key = &unmet.key;
    match &unmet.found {
        None if done.changed.is_empty() => Err(Failed::no_such_key(format!("'{key}' has no value; {changed}"))),
        None => Err(Failed::unmet(format!("{}: '{key}' has no value; {changed}", what()))),
        Some(found) => Err(Failed::unmet(format!("{}: '{key}': {}; {changed}", what(), had(found)))),
    }
}

/// A value as it is written on the command line.
fn value(given: &str, literal: bool) -> Result<Vec<u8>, Failed> {
    match given.strip_prefix('@').filter(|_| !literal) {
        Some(file) => input(Some(Path::new(file)), VALUE_LIMIT),
        None if given == "-" && !literal => input(None, VALUE_LIMIT),
        None if given.len() > VALUE_LIMIT.bytes => {
            let why = TooLarge { limit: VALUE_LIMIT, size: Some(given.len() as u64) };
            Err(Failed::usage(format!("{why}; nothing was changed")))
        }
        None => Ok(given.as_bytes().to_vec()),
    }
}

/// A file, or the standard input.
fn input(file: Option<&Path>, limit: Limit) -> Result<Vec<u8>, Failed> {
    let (shown, read) = match file {
        Some(file) => (file.display().to_string(), bounded::read_file(file, limit)),
        None => ("the standard input".to_owned(), bounded::read(std::io::stdin().lock(), limit)),
    };
    read.map_err(|e| Failed::usage(format!("cannot read {shown}: {e}; nothing was changed")))
}

/// The conditions of a single change as a query.
fn terms(revision: Option<LogIndex>, owner: &Owner) -> Result<String, Failed> {
    let guard = guard(owner)?;
    Ok(query(&[
        ("if_revision", revision.map(|revision| revision.to_string())),
        ("package", guard.as_ref().map(|guard| guard.package.to_string())),
        ("token", guard.as_ref().map(|guard| guard.token.to_string())),
    ]))
}

/// In whose name: the token is given, or the environment has it.
fn guard(owner: &Owner) -> Result<Option<Guard>, Failed> {
    let Some(package) = owner.package.clone() else { return Ok(None) };
    let token = owner.token.map_or_else(|| own_token(std::env::var("PKG_TOKEN").ok().as_deref()), Ok)?;
    Ok(Some(Guard { package, token }))
}

/// The token in the environment of a package's program.
fn own_token(given: Option<&str>) -> Result<Token, Failed> {
    let bad = |why: String| Failed::usage(format!("--package needs --token: PKG_TOKEN is {why}; nothing was changed"));
    let given = given.ok_or_else(|| bad("not set, as it is for the package's programs".to_owned()))?;
    given.parse().map(Token).map_err(|_| bad(format!("'{given}', and not a number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_too_large_is_refused_with_limit_and_size_before_anything_is_sent() {
        let limit = "at most 131072 (128 KiB) are taken; nothing was changed";
        let file = tempfile::NamedTempFile::new().unwrap();
        let named = format!("@{}", file.path().display());
        file.as_file().set_len(VALUE_MAX_BYTES as u64).unwrap();
        assert_eq!(value(&named, false).unwrap().len(), VALUE_MAX_BYTES);
        file.as_file().set_len(VALUE_MAX_BYTES as u64 + 1).unwrap();
        let refused = |given: &str, literal| value(given, literal).unwrap_err();
        let said = refused(&named, false).message;
        assert!(said.contains("the value has 131073 bytes") && said.ends_with(limit), "{said}");
        let failed = refused("@/dev/zero", false);
        assert_eq!(failed.number(), 2);
        assert!(failed.message.contains("more than 131072 bytes") && failed.message.ends_with(limit), "{failed:?}");
        let long = "x".repeat(VALUE_MAX_BYTES + 1);
        assert!(refused(&long, false).message.ends_with(limit) && refused(&long, true).message.ends_with(limit));
    }

    #[test]
    fn a_token_that_is_not_there_or_none_is_told_apart() {
        assert_eq!(own_token(Some("7")).unwrap(), Token(7));
        let why = |given| own_token(given).unwrap_err().message;
        assert!(why(None).contains("not set") && why(Some("zzz")).contains("'zzz', and not a number"));
        assert!(why(Some("")).contains("'', and not a number"));
    }

    #[test]
    fn a_value_is_taken_as_it_is_where_that_is_asked_for() {
        assert_eq!(value("@/dev/zero", true).unwrap(), b"@/dev/zero");
        assert_eq!(value("-", true).unwrap(), b"-");
    }

    #[test]
    fn a_transaction_that_never_ends_is_not_read_to_its_end() {
        let said = input(Some(Path::new("/dev/zero")), TXN_LIMIT).unwrap_err().message;
        assert!(said.contains("the transaction's text has more than 1572864 bytes"), "{said}");
    }
}
