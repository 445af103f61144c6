//! `pkgctl kv load`: checks the whole file, shows what it would change, asks, and changes just that.
//!
//! Each change is made only if its key is still as it was shown, so nothing is overwritten that nobody was shown. What
//! lies in one transaction is there at once; a whole load is many, and one that ends early is simply repeated.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal, Write};

use super::backup::{self, Backup};
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
}

/// What a load comes to.
#[derive(Default)]
struct Plan {
    new: Vec<Step>,
    changed: Vec<Step>,
    deleted: Vec<Step>,
    same: usize,
}

/// `pkgctl kv load FILE`.
pub async fn load(client: &Client, out: &Out, verb: &Load) -> Result<(), Failed> {
    let shown = verb.file.display();
    let bytes = std::fs::read(&verb.file).map_err(|e| Failed::usage(format!("cannot read {shown}: {e}")))?;
    let bad = |why| Failed::usage(format!("{shown}: {why}; nothing was changed"));
    let backup = backup::read(&bytes).map_err(bad)?;
    let range = match &verb.below {
        Some(dir) => directory(Some(dir))?,
        None => backup.head.range().map_err(bad)?,
    };
    let plan = plan(client, backup, &range, verb.replace).await?;
    show(out, &plan);
    let counts = (plan.new.len(), plan.changed.len(), plan.deleted.len());
    let same = plan.same;
    let told = |revision: Option<LogIndex>| {
        let (new, changed, deleted) = counts;
        out.value(&serde_json::json!({"new": new, "changed": changed, "deleted": deleted, "same": same, "revision": revision}));
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

/// Compares the file with what there is now, all of it at one moment.
async fn plan(client: &Client, backup: Backup, range: &Range, replace: bool) -> Result<Plan, Failed> {
    let mut wanted: BTreeMap<Key, Value> = backup.items.into_iter().filter(|(key, _)| range.contains(key)).collect();
    let mut plan = Plan::default();
    let mut now = Saved::ask(client, range, "consistent").await?;
    while let Some(item) = now.next().await? {
        let (key, was) = (item.key, item.revision);
        match wanted.remove(&key) {
            Some(value) if item.value.is_some_and(|is| is.0 == value) => plan.same += 1,
            Some(value) => plan.changed.push(Step { key, was, value: Some(value) }),
            None if replace => plan.deleted.push(Step { key, was, value: None }),
            None => {}
        }
    }
    let new = |(key, value)| Step { key, was: LogIndex(0), value: Some(value) };
    plan.new = wanted.into_iter().map(new).collect();
    Ok(plan)
}

fn show(out: &Out, plan: &Plan) {
    for (word, steps) in [("new", &plan.new), ("overwritten", &plan.changed), ("deleted", &plan.deleted)] {
        for step in steps.iter().take(SHOWN_MAX) {
            out.say(&format!("  {word}: {}", step.key));
        }
        if steps.len() > SHOWN_MAX {
            out.say(&format!("  {word}: {} more", steps.len() - SHOWN_MAX));
        }
    }
    let (new, changed, deleted) = (plan.new.len(), plan.changed.len(), plan.deleted.len());
    out.say(&format!("{new} new, {changed} overwritten, {deleted} deleted, {} as they are", plan.same));
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
    for Step { key, was, value } in steps {
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
    use super::*;
    use crate::engine::kv::{Tree, VALUE_MAX_BYTES};

    #[test]
    fn every_batch_is_one_that_the_tree_takes_and_none_is_lost() {
        let step = |n: usize| Step {
            key: Key::new(&format!("k{n:04}")).unwrap(),
            was: LogIndex(0),
            value: Some("x".repeat(if n.is_multiple_of(50) { VALUE_MAX_BYTES } else { n % 700 }).as_bytes().into()),
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
