//! What was answered about keys is linearizable, each named request was carried out once, nothing acknowledged is lost, and
//! nothing was written under the token of an ownership that was over (I2).
//!
//! In the end every request has been asked for until its outcome is certain. Each outcome names its entry and the one that had
//! written the key before, so the writes of a key must be one chain that leads to what the key holds, without a gap: an entry
//! that nobody was told of was carried out twice or out of nothing, and one that nothing follows was lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pkgctl::engine::kv::{Change, Changed, Guard, Outcome, Txn};
use pkgctl::engine::{LogIndex, Token};
use pkgctl::package::PackageName;

use super::linear::{Answer, Request, check_one};
use crate::keys::{KEYS, key};

/// Tokens under which anything acted.
pub type Tokens = BTreeMap<PackageName, BTreeSet<Token>>;

/// What a request was told for certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was carried out.
    CarriedOut(Outcome),
    /// Its token is not the owner's.
    Refused,
}

#[derive(Clone, Debug)]
struct Asked {
    txn: Txn,
    value: u64,
    invoked: u64,
    told: Option<(u64, Told)>,
}

#[derive(Default)]
struct Inner {
    values: u64,
    asked: Vec<Asked>,
    reads: Vec<Request>,
    broken: Option<String>,
}

/// Every request about keys of a run.
#[derive(Default)]
pub struct History(Mutex<Inner>);

impl History {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A value that was never written before.
    pub fn next_value(&self) -> u64 {
        let mut inner = self.lock();
        inner.values += 1;
        inner.values
    }

    /// A change is asked for, with the newest value.
    pub fn begin(&self, txn: Txn, at: u64) -> usize {
        let mut inner = self.lock();
        let value = put_by(&txn).unwrap_or_default();
        inner.asked.push(Asked { txn, value, invoked: at, told: None });
        inner.asked.len() - 1
    }

    /// It was answered, for the first time or again.
    pub fn answer(&self, id: usize, told: Told, at: u64) {
        let mut inner = self.lock();
        let asked = &mut inner.asked[id];
        match &asked.told {
            None => asked.told = Some((at, told)),
            Some((_, first)) if *first == told || (changed_nothing(first) && changed_nothing(&told)) => {}
            Some((_, first)) => {
                let what = format!("a request was told {first:?}, and when it was repeated {told:?}");
                inner.broken.get_or_insert(what);
            }
        }
    }

    /// A key was read: revision and value.
    pub fn seen(&self, number: usize, (revision, value): (u64, u64), invoked: u64, at: u64) {
        let answered = Some((at, Answer::Seen { revision, value }));
        self.lock().reads.push(Request { register: number, write: None, invoked, answered });
    }

    /// Requests whose outcome is not known.
    pub fn open(&self) -> Vec<(usize, Txn)> {
        let inner = self.lock();
        let open = inner.asked.iter().enumerate().filter(|(_, asked)| asked.told.is_none());
        open.map(|(id, asked)| (id, asked.txn.clone())).collect()
    }

    /// Requests with a certain answer.
    pub fn answered(&self) -> usize {
        let inner = self.lock();
        inner.reads.len() + inner.asked.iter().filter(|asked| asked.told.is_some()).count()
    }

    /// Checks everything once nothing is open: `last` is what each key holds, `tokens` what packages were acted for under.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn check(&self, last: &[(u64, u64)], tokens: &Tokens, now: u64) -> Result<(), String> {
        let inner = self.lock();
        if let Some(broken) = &inner.broken {
            return Err(broken.clone());
        }
        for (number, (revision, value)) in last.iter().enumerate().take(KEYS) {
            let mut of_key = requests(&inner, number);
            let end = Answer::Seen { revision: *revision, value: *value };
            of_key.push(Request { register: number, write: None, invoked: now, answered: Some((now, end)) });
            one_chain(&of_key, *revision)
                .and_then(|()| check_one(&of_key))
                .map_err(|what| format!("k{number}: {what}"))?;
        }
        inner.asked.iter().try_for_each(|asked| under_its_token(asked, tokens))
    }
}

/// Whether its condition did not hold. Such a request is not remembered, since there is nothing that could be done twice; and a
/// revision that was passed once never comes back, so it can never be carried out either.
fn changed_nothing(told: &Told) -> bool {
    matches!(told, Told::CarriedOut(Outcome { unmet: Some(_), .. }))
}

fn put_by(txn: &Txn) -> Option<u64> {
    txn.then.iter().find_map(|change| match change {
        Change::Put { value, .. } => value.text()?.parse().ok(),
        Change::Delete { .. } | Change::DeleteRange { .. } => None,
    })
}

/// What was asked about one key, as requests of a register.
fn requests(inner: &Inner, number: usize) -> Vec<Request> {
    let mut all: Vec<Request> = inner.reads.iter().filter(|read| read.register == number).cloned().collect();
    for asked in &inner.asked {
        let Some((at, Told::CarriedOut(outcome))) = &asked.told else { continue };
        let request = |replaces: u64, answer| Request {
            register: number,
            write: Some((asked.value, replaces)),
            invoked: asked.invoked,
            answered: Some((*at, answer)),
        };
        let revision = |of: Option<LogIndex>| of.map_or(0, |index| index.0);
        if let Some(unmet) = &outcome.unmet {
            let current = revision(unmet.found.as_ref().map(|kept| kept.revision));
            all.extend((unmet.key == key(number)).then(|| request(0, Answer::Moved { current })));
            continue;
        }
        for (change, changed) in asked.txn.then.iter().zip(&outcome.changed) {
            if let (Change::Put { key: of, .. }, Changed::Put { replaced }) = (change, changed)
                && *of == key(number)
            {
                all.push(request(revision(*replaced), Answer::Written { revision: outcome.revision.0 }));
            }
        }
    }
    all
}

/// Every write follows the one before it, the last one is what the key holds, and nobody saw any other.
fn one_chain(requests: &[Request], last: u64) -> Result<(), String> {
    let mut writes = BTreeMap::new();
    for request in requests {
        let (Some((value, replaces)), Some((_, Answer::Written { revision }))) = (request.write, request.answered)
        else {
            continue;
        };
        if let Some((other, _)) = writes.insert(revision, (value, replaces)) {
            return Err(format!("values {other} and {value} were both written by entry {revision}"));
        }
    }
    let mut before = 0;
    for (revision, (value, replaces)) in &writes {
        if *replaces != before {
            return Err(format!(
                "value {value} of entry {revision} replaced entry {replaces}, and the last one that anybody was told of is \
                 {before}"
            ));
        }
        before = *revision;
    }
    let seen = requests.iter().filter_map(|request| match request.answered?.1 {
        Answer::Seen { revision, .. } | Answer::Moved { current: revision } => Some(revision),
        Answer::Written { .. } | Answer::Unknown => None,
    });
    let unknown = seen.filter(|revision| *revision != 0).find(|revision| !writes.contains_key(revision));
    match unknown {
        Some(revision) => Err(format!("entry {revision} was seen, and nobody was told that it wrote anything")),
        None if before != last => Err(format!("entry {before} wrote it last, and it holds what {last} wrote")),
        None => Ok(()),
    }
}

/// Nobody had acted under a later token by the entry of a guarded write: a token is the index of the entry that gave it.
fn under_its_token(asked: &Asked, tokens: &Tokens) -> Result<(), String> {
    let (Some(Guard { package, token }), Some((_, Told::CarriedOut(outcome)))) = (&asked.txn.guard, &asked.told) else {
        return Ok(());
    };
    let later = tokens.get(package).and_then(|all| all.range(Token(token.0 + 1)..=Token(outcome.revision.0)).next());
    later.map_or(Ok(()), |later| {
        Err(format!(
            "I2 does not hold: entry {} wrote value {} under token {token} of {package}, after token {later} was given",
            outcome.revision, asked.value
        ))
    })
}
