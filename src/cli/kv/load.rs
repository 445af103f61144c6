//! `pkgctl kv load`: checks the whole file, shows what it would change, asks, and changes just that.
//!
//! Each change is made only if its key is still as it was shown, so nothing is overwritten that nobody was shown. What
//! lies in one transaction is there at once; a whole load is many, and one that ends early is simply repeated.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Write};

use super::backup::{self, Backup, Filed};
use super::save::Saved;
use super::verbs::Load;
use super::write::carry_out;
use super::{Client, Failed, Out, directory};
use crate::engine::LogIndex;
use crate::engine::kv::{Change, Compare, Condition, Key, Range, TXN_MAX_BYTES, TXN_STEPS_MAX, Test, Txn, Value};

/// Keys shown of each kind.
const SHOWN_MAX: usize = 20;
/// Keys changed in one transaction: each is a condition and a change.
const BATCH_KEYS: usize = TXN_STEPS_MAX / 2;
/// A word after so many transactions.
const PROGRESS_EVERY: usize = 16;

/// One change, and what the key must still be for it.
struct Step {
    key: Key,
    was: LogIndex,
    value: Option<Value>,
    /// The revision that the file has of it.
    filed: Option<LogIndex>,
}

impl Step {
    /// The key with its revisions in the file and now.
    fn shown(&self) -> String {
        let now = (self.was != LogIndex(0)).then(|| format!("{} now", self.was));
        let filed = self.filed.map(|revision| format!("{revision} in the file"));
        let revisions: Vec<String> = filed.into_iter().chain(now).collect();
        format!("{} (revision {})", self.key, revisions.join(", "))
    }
}

/// What a load comes to.
#[derive(Default)]
struct Plan {
    new: Vec<Step>,
    changed: Vec<Step>,
    deleted: Vec<Step>,
    same: usize,
    /// Keys of the file that are not wanted, because they are too old.
    older: usize,
}

/// `pkgctl kv load FILE`.
pub async fn load(client: &Client, out: &Out, verb: &Load) -> Result<(), Failed> {
    let shown = verb.file.display();
    let file = File::open(&verb.file).map_err(|e| Failed::usage(format!("cannot read {shown}: {e}")))?;
    let bad = |why| Failed::usage(format!("{shown}: {why}; nothing was changed"));
    let backup = backup::read(BufReader::new(file)).map_err(bad)?;
    let saved = backup.head.range().map_err(bad)?;
    let range = match &verb.below {
        Some(dir) => {
            let below = directory(Some(dir))?;
            some_of(&backup, &below, dir).map_err(bad)?;
            inner(saved, below)
        }
        None => saved,
    };
    if let (Some(after), None) = (backup.head.alone_after, verb.newer_than) {
        out.warn(&format!(
            "this file is of a node that went on alone at revision {after}: what is older in it may have been changed here \
             since. --newer-than {after} takes only what was written there alone"
        ));
    }
    let plan = plan(client, verb, backup, &range).await?;
    show(out, &plan);
    let counts = (plan.new.len(), plan.changed.len(), plan.deleted.len());
    let (same, older) = (plan.same, plan.older);
    let told = |revision: Option<LogIndex>| {
        let (new, changed, deleted) = counts;
        out.value(&serde_json::json!({"new": new, "changed": changed, "deleted": deleted, "same": same, "older": older, "revision": revision}));
    };
    if verb.check || counts == (0, 0, 0) {
        out.say(if verb.check { "the file is whole; nothing was changed" } else { "nothing is to be changed" });
        told(None);
        return Ok(());
    }
    if counts.1 + counts.2 > 0 && !verb.yes {
        agreed(out)?;
    }
    told(Some(carry(client, out, plan).await?));
    Ok(())
}

/// Of two directories with keys in both, the one that is in the other: what was not saved is not in the file either way, and
/// `--replace` must not take it for deleted.
fn inner(saved: Range, below: Range) -> Range {
    match &saved {
        Range::Below(dir) if below.contains(dir) => saved,
        _ => below,
    }
}

/// A directory that nothing of the file is in is a mistake: nothing would be loaded, or with `--replace` all of it deleted.
fn some_of(backup: &Backup, range: &Range, dir: &str) -> Result<(), String> {
    if backup.items.iter().any(|(key, _)| range.contains(key)) {
        return Ok(());
    }
    let first =
        backup.items.first().map_or_else(|| "it holds no key".to_owned(), |(key, _)| format!("its first is '{key}'"));
    Err(format!("no key of it is below '{dir}' ({first}; keys in it stand with their whole path)"))
}

/// Compares the file with what there is now, all of it at one moment.
async fn plan(client: &Client, verb: &Load, backup: Backup, range: &Range) -> Result<Plan, Failed> {
    let (mut wanted, older) = wanted(backup, range, verb.newer_than);
    let mut plan = Plan { older, ..Plan::default() };
    let mut now = Saved::ask(client, range, "consistent").await?;
    while let Some(item) = now.next().await? {
        let (key, was) = (item.key, item.revision);
        match wanted.remove(&key) {
            Some(Filed { value, .. }) if item.value.is_some_and(|is| is.0 == value) => plan.same += 1,
            Some(Filed { value, revision }) => {
                plan.changed.push(Step { key, was, value: Some(value), filed: Some(revision) });
            }
            None if verb.replace => plan.deleted.push(Step { key, was, value: None, filed: None }),
            None => {}
        }
    }
    let new =
        |(key, Filed { value, revision })| Step { key, was: LogIndex(0), value: Some(value), filed: Some(revision) };
    plan.new = wanted.into_iter().map(new).collect();
    Ok(plan)
}

/// What of the file is wanted, and how many of its keys are too old.
fn wanted(backup: Backup, range: &Range, newer_than: Option<LogIndex>) -> (BTreeMap<Key, Filed>, usize) {
    let within = backup.items.into_iter().filter(|(key, _)| range.contains(key));
    let (wanted, older): (BTreeMap<_, _>, BTreeMap<_, _>) =
        within.partition(|(_, filed)| newer_than.is_none_or(|after| filed.revision > after));
    (wanted, older.len())
}

fn show(out: &Out, plan: &Plan) {
    for (word, steps) in [("new", &plan.new), ("overwritten", &plan.changed), ("deleted", &plan.deleted)] {
        for step in steps.iter().take(SHOWN_MAX) {
            out.say(&format!("  {word}: {}", step.shown()));
        }
        if steps.len() > SHOWN_MAX {
            out.say(&format!("  {word}: {} more", steps.len() - SHOWN_MAX));
        }
    }
    let (new, changed, deleted) = (plan.new.len(), plan.changed.len(), plan.deleted.len());
    let older = if plan.older == 0 { String::new() } else { format!(", {} older and left out", plan.older) };
    out.say(&format!("{new} new, {changed} overwritten, {deleted} deleted, {} as they are{older}", plan.same));
}

fn agreed(out: &Out) -> Result<(), Failed> {
    let asked = std::io::stdin().is_terminal() && !out.is_json();
    if !asked {
        return Err(Failed::usage(
            "values would be overwritten or deleted: add --yes to do so; nothing was changed".to_owned(),
        ));
    }
    eprint!("go on? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    match (read, answer.trim()) {
        (Ok(_), "y" | "yes") => Ok(()),
        (Ok(_) | Err(_), _) => Err(Failed::outcome("nothing was changed".to_owned())),
    }
}

/// Carries the plan out, transaction by transaction; answers the last one's revision.
async fn carry(client: &Client, out: &Out, plan: Plan) -> Result<LogIndex, Failed> {
    let steps: Vec<Step> = plan.deleted.into_iter().chain(plan.changed).chain(plan.new).collect();
    let (all, mut done, mut revision) = (steps.len(), 0, LogIndex(0));
    for (at, batch) in batches(steps).into_iter().enumerate() {
        let keys = batch.then.len();
        let outcome = carry_out(client, batch.into()).await;
        let so_far = || format!("{done} of {all} keys are loaded; the same command loads the rest");
        let outcome = outcome.map_err(|failed| failed.and(&so_far()))?;
        if let Some(unmet) = outcome.unmet {
            let text = format!("'{}' was changed by somebody else since it was shown; {}", unmet.key, so_far());
            return Err(Failed::unmet(text));
        }
        (done, revision) = (done + keys, outcome.revision);
        if done < all && (at + 1) % PROGRESS_EVERY == 0 {
            out.progress(&format!("  {done} of {all} keys"));
        }
    }
    out.say(&format!("{all} keys are loaded (revision {revision})"));
    Ok(revision)
}

/// Transactions as large as they may be.
fn batches(steps: Vec<Step>) -> Vec<Txn> {
    let mut batches: Vec<Txn> = Vec::new();
    let mut bytes = 0;
    for Step { key, was, value, filed: _ } in steps {
        let size = key.as_str().len() + value.as_ref().map_or(0, |value| value.bytes().len());
        let fits = batches.last().is_some_and(|txn| txn.then.len() < BATCH_KEYS && bytes + size <= TXN_MAX_BYTES);
        if !fits {
            batches.push(Txn::default());
            bytes = 0;
        }
        bytes += size;
        if let Some(txn) = batches.last_mut() {
            txn.when.push(Condition { key: key.clone(), test: Test::Revision(Compare::Equal, was) });
            txn.then.push(match value {
                Some(value) => Change::Put { key, value },
                None => Change::Delete { key },
            });
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::backup::Head;
    use super::*;
    use crate::engine::ClusterId;
    use crate::engine::kv::{Tree, VALUE_MAX_BYTES};

    #[test]
    fn only_what_was_written_after_the_revision_is_wanted() {
        let backup = || {
            let filed = |revision| Filed { value: b"1".as_slice().into(), revision: LogIndex(revision) };
            let items = [("a/alone", 1001), ("a/begun", 1000), ("a/old", 7), ("b/alone", 1002)];
            Backup {
                head: Head::new(ClusterId(7), String::new(), LogIndex(1002), 4),
                items: items.map(|(key, revision)| (Key::new(key).unwrap(), filed(revision))).to_vec(),
            }
        };
        let names = |range: &Range, after| {
            let (wanted, older) = wanted(backup(), range, after);
            (wanted.into_keys().map(|key| key.as_str().to_owned()).collect::<Vec<_>>().join(" "), older)
        };
        assert_eq!(names(&Range::All, Some(LogIndex(1000))), ("a/alone b/alone".to_owned(), 2));
        assert_eq!(names(&Range::All, None), ("a/alone a/begun a/old b/alone".to_owned(), 0));
        let below = Range::Below(Key::new("a").unwrap());
        assert_eq!(names(&below, Some(LogIndex(1000))), ("a/alone".to_owned(), 2));
    }

    #[test]
    fn a_key_is_shown_with_its_revisions_in_the_file_and_now() {
        let step = |was, filed: Option<u64>| {
            let key = Key::new("a").unwrap();
            Step { key, was: LogIndex(was), value: None, filed: filed.map(LogIndex) }.shown()
        };
        assert_eq!(step(812, Some(7)), "a (revision 7 in the file, 812 now)");
        assert_eq!(step(0, Some(7)), "a (revision 7 in the file)");
        assert_eq!(step(812, None), "a (revision 812 now)");
    }

    #[test]
    fn a_directory_that_nothing_of_the_file_is_in_is_refused() {
        let head = Head::new(ClusterId(7), "app/".to_owned(), LogIndex(9), 1);
        let filed = Filed { value: b"x".as_slice().into(), revision: LogIndex(9) };
        let items = vec![(Key::new("app/url").unwrap(), filed)];
        let backup = Backup { head, items };
        let below = |dir: &str| some_of(&backup, &directory(Some(dir)).unwrap(), dir);
        assert_eq!(below("app"), Ok(()));
        for dir in ["ap", "url", "app/url"] {
            let why = below(dir).unwrap_err();
            assert!(why.contains(&format!("below '{dir}'")) && why.contains("'app/url'"), "{why}");
        }
    }

    #[test]
    fn nothing_outside_of_what_was_saved_is_looked_at() {
        let below = |dir: &str| directory(Some(dir)).unwrap();
        for (saved, asked, looked_at) in [
            ("app/b", "app", "app/b"),
            ("app/b", "/", "app/b"),
            ("app/b", "app/b", "app/b"),
            ("app/b", "app/b/c", "app/b/c"),
            ("/", "app", "app"),
            ("/", "/", "/"),
        ] {
            assert_eq!(inner(below(saved), below(asked)), below(looked_at), "{saved} {asked}");
        }
    }

    #[test]
    fn every_batch_is_one_that_the_tree_takes_and_none_is_lost() {
        let step = |n: usize| Step {
            key: Key::new(&format!("k{n:04}")).unwrap(),
            was: LogIndex(0),
            value: Some("x".repeat(if n.is_multiple_of(50) { VALUE_MAX_BYTES } else { n % 700 }).as_bytes().into()),
            filed: Some(LogIndex(7)),
        };
        let mut tree = Tree::default();
        let batches = batches((0..1000).map(step).collect());
        assert!(batches.len() < 40, "{}", batches.len());
        for (index, txn) in (1..).zip(batches) {
            let (outcome, _) = tree.carry_out(&txn, LogIndex(index)).unwrap();
            assert_eq!(outcome.unmet, None);
        }
        assert_eq!(tree.len(), 1000);
    }
}
