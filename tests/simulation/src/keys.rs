//! Programs and operators that keep keys: they put, compare and put, change two at once, and write under a package's token,
//! a current one or one that is over. Each change is named, and asked for again under that name when its answer was lost,
//! and now and then when it was not.

use std::sync::Arc;
use std::time::Duration;

use pkgctl::api::door::Door;
use pkgctl::engine::command::{Command, Rejected, Reply};
use pkgctl::engine::kv::{Change, Compare, Condition, Guard, Key, RequestId, Test, Txn};
use pkgctl::engine::{LogIndex, State, Token};
use pkgctl::package::PackageName;

use crate::check::keys::{History, Told};
use crate::members::{any_agent, look, look_now};
use crate::plant::Plant;
use crate::world::{World, now, sleep};

/// How many keys there are: few, so that everybody is at the same ones.
pub const KEYS: usize = 3;
/// How long one attempt is waited for; a request outlives it.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Attempts for one request while a storm lasts.
const ATTEMPTS: usize = 4;
/// How long what has no answer yet may take once nothing is wrong.
const SETTLED_WITHIN: Duration = Duration::from_secs(45);

/// The key of that number.
pub fn key(number: usize) -> Key {
    Key::new(&format!("k{number}")).expect("it is a key")
}

/// Works until `until`.
pub async fn work(world: Arc<World>, history: Arc<History>, packages: usize, until: u64) {
    let mut tokens = Vec::new();
    while now() < until {
        sleep(world.pause(10_000, 250_000)).await;
        if world.chance().chance(300) {
            read(&world, &history).await;
            continue;
        }
        let txn = drawn(&world, &history, packages, &mut tokens);
        let id = history.begin(txn.clone(), now());
        for _ in 0..ATTEMPTS {
            let told = ask(&world, &txn).await;
            let known = told.is_some();
            if let Some(told) = told {
                history.answer(id, told, now());
            }
            if known && !world.chance().chance(200) {
                break;
            }
            sleep(world.pause(1_000, 200_000)).await;
        }
    }
}

/// A linearizable read of one key.
async fn read(world: &Arc<World>, history: &History) {
    let number = world.chance().index(KEYS);
    let begun = now();
    if let Some(seen) = look_now(world, move |state| held(state, number)).await {
        history.seen(number, seen, begun, now());
    }
}

/// Revision and value of a key; zeroes where there is none.
fn held(state: &State, number: usize) -> (u64, u64) {
    let item = state.kv.get(&key(number));
    let value = item.and_then(|item| item.value.text()?.parse().ok()).unwrap_or_default();
    (item.map_or(0, |item| item.revision.0), value)
}

/// What all keys hold.
pub async fn all(world: &Arc<World>) -> Vec<(u64, u64)> {
    loop {
        match look_now(world, |state| (0..KEYS).map(|number| held(state, number)).collect()).await {
            Some(all) => return all,
            None => sleep(Duration::from_millis(100)).await,
        }
    }
}

fn drawn(world: &World, history: &History, packages: usize, tokens: &mut Vec<Guard>) -> Txn {
    let (kind, number, package, request) = {
        let mut chance = world.chance();
        let request = RequestId(u128::from(chance.next()) << 64 | u128::from(chance.next()));
        (chance.below(4), chance.index(KEYS), chance.index(packages), request)
    };
    let value = history.next_value();
    let put = |number: usize| Change::Put { key: key(number), value: value.to_string().into() };
    let plain = Txn { then: vec![put(number)], request: Some(request), ..Txn::default() };
    match kind {
        0 => plain,
        1 => Txn { when: unmoved(world, number), ..plain },
        2 => Txn { when: unmoved(world, number), then: vec![put(number), put((number + 1) % KEYS)], ..plain },
        _ => Txn { guard: guard(world, package, tokens), ..plain },
    }
}

/// That the key is as some node has it.
fn unmoved(world: &World, number: usize) -> Vec<Condition> {
    let revision = look(world, |state| held(state, number).0).unwrap_or_default();
    vec![Condition { key: key(number), test: Test::Revision(Compare::Equal, LogIndex(revision)) }]
}

/// The token of a package's owner as some node knows it, or one that was seen before.
fn guard(world: &World, package: usize, seen: &mut Vec<Guard>) -> Option<Guard> {
    let package = PackageName::new(format!("p{}", package + 1)).ok()?;
    let current = look(world, |state| Some(state.packages.get(&package)?.owner.as_ref()?.token)).flatten();
    seen.extend(current.map(|token: Token| Guard { package, token }));
    let mut chance = world.chance();
    let at = if chance.chance(500) { seen.len().checked_sub(1) } else { Some(chance.index(seen.len())) };
    at.and_then(|at| seen.get(at)).cloned()
}

/// One attempt; none if nothing certain came of it.
async fn ask(world: &Arc<World>, txn: &Txn) -> Option<Told> {
    let mut txn = txn.clone();
    if world.has(Plant::Nameless) {
        txn.request = None;
    }
    if world.has(Plant::Unguarded) {
        txn.guard = None;
    }
    let life = any_agent(world)?;
    let agent = life.agent()?;
    let done = life.ask(ATTEMPT, async move { agent.submit(Command::Kv(txn), "keys".to_owned()).await }).await;
    match done?.ok()?.1 {
        Reply::Kv(outcome) => Some(Told::CarriedOut(outcome)),
        Reply::Rejected(Rejected::TokenMoved { .. }) => Some(Told::Refused),
        other => {
            world.broken(format!("a change of keys was answered {other:?}"));
            None
        }
    }
}

/// Asks again for everything that has no answer yet, until it has one.
///
/// # Errors
/// When that takes too long.
pub async fn settle(world: &Arc<World>, history: &History) -> Result<(), String> {
    let until = now() + SETTLED_WITHIN.as_nanos() as u64;
    for (id, txn) in history.open() {
        loop {
            if let Some(told) = ask(world, &txn).await {
                history.answer(id, told, now());
                break;
            }
            if now() > until {
                return Err(format!("I4 does not hold: a change of keys is not answered after {SETTLED_WITHIN:?}"));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}
