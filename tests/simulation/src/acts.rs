//! What acts for a package, where and until when, in true time: the record that I1 and I2 are judged by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pkgctl::engine::check::{Claim, one_actor};
use pkgctl::engine::{NodeId, Token};
use pkgctl::package::PackageName;

/// Names an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ActId(u64);

/// Something that acts, or acted.
#[derive(Clone, Debug)]
pub struct Act {
    /// For which package.
    pub package: PackageName,
    /// Its resource.
    pub resource: String,
    /// On which machine.
    pub machine: usize,
    /// Under which ownership.
    pub token: Token,
    /// Since when, in nanoseconds of true time.
    pub from: u64,
    /// It is over by then at the latest.
    pub until: u64,
}

/// Every act.
#[derive(Default)]
pub struct Acts(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    born: u64,
    open: BTreeMap<ActId, Act>,
    done: Vec<Claim>,
    /// The largest token that anything acted under.
    largest: BTreeMap<PackageName, Token>,
    /// What a machine's keeper recorded as released.
    released: BTreeMap<(usize, PackageName), Token>,
    broken: Option<String>,
}

impl Acts {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something begins to act.
    pub fn begin(&self, act: Act) -> ActId {
        let mut inner = self.lock();
        inner.born += 1;
        let id = ActId(inner.born);
        inner.judge(&act);
        let largest = inner.largest.entry(act.package.clone()).or_default();
        *largest = act.token.max(*largest);
        inner.open.insert(id, act);
        id
    }

    /// It may go on until then, if it has not ended by now.
    pub fn prolong(&self, id: ActId, now: u64, until: u64) {
        if let Some(act) = self.lock().open.get_mut(&id).filter(|act| act.until > now) {
            act.until = until;
        }
    }

    /// It ends, unless it has ended by itself before.
    pub fn end(&self, id: ActId, now: u64) -> Option<Act> {
        let mut inner = self.lock();
        let mut act = inner.open.remove(&id)?;
        act.until = act.until.min(now);
        inner.done.push(claim(&act, act.until));
        Some(act)
    }

    /// The keeper there has recorded a token as released.
    pub fn released(&self, machine: usize, package: &PackageName, token: Token) {
        self.lock().released.insert((machine, package.clone()), token);
    }

    /// The largest token that the keeper there has recorded as released.
    pub fn largest_released(&self, machine: usize, package: &PackageName) -> Token {
        self.lock().released.get(&(machine, package.clone())).copied().unwrap_or_default()
    }

    /// What acts now.
    pub fn now(&self, now: u64) -> BTreeMap<ActId, Act> {
        let inner = self.lock();
        inner.open.iter().filter(|(_, act)| act.until > now).map(|(id, act)| (*id, act.clone())).collect()
    }

    /// What did not hold.
    ///
    /// # Errors
    /// The first of it.
    pub fn check(&self, now: u64) -> Result<(), String> {
        let inner = self.lock();
        if let Some(broken) = &inner.broken {
            return Err(broken.clone());
        }
        let open = inner.open.values().map(|act| claim(act, act.until.min(now)));
        let claims: Vec<Claim> = inner.done.iter().cloned().chain(open).collect();
        one_actor(&claims).map_err(|violation| violation.to_string())
    }

    /// Every token that anything acted under.
    pub fn tokens(&self) -> BTreeMap<PackageName, BTreeSet<Token>> {
        let inner = self.lock();
        let open = inner.open.values().map(|act| (&act.package, act.token));
        let mut all: BTreeMap<PackageName, BTreeSet<Token>> = BTreeMap::new();
        for (package, token) in inner.done.iter().map(|claim| (&claim.package, claim.token)).chain(open) {
            all.entry(package.clone()).or_default().insert(token);
        }
        all
    }

    /// How many acts there were.
    pub fn count(&self) -> u64 {
        self.lock().born
    }
}

impl Inner {
    fn judge(&mut self, act: &Act) {
        let Act { package, machine, token, from, .. } = act;
        let rival = self.open.values().find(|of| of.package == *package && of.machine != *machine && of.until > *from);
        let largest = self.largest.get(package).copied().unwrap_or_default();
        let released = self.released.get(&(*machine, package.clone())).copied().unwrap_or_default();
        let broken = if let Some(of) = rival {
            format!(
                "I1 does not hold: n{} begins to act for '{package}' ({}, token {token}) while n{} acts ({}, token {}) \
                 until {:.3} ms",
                machine + 1,
                act.resource,
                of.machine + 1,
                of.resource,
                of.token,
                of.until as f64 / 1e6
            )
        } else if *token < largest {
            format!("I2 does not hold: n{} acts for '{package}' under token {token} after {largest}", machine + 1)
        } else if *token <= released {
            format!("I2 does not hold: n{} acts for '{package}' under {token}, which it released", machine + 1)
        } else {
            return;
        };
        self.broken.get_or_insert(broken);
    }
}

fn claim(act: &Act, until: u64) -> Claim {
    let node = NodeId(act.machine as u64 + 1);
    Claim { package: act.package.clone(), node, token: act.token, from_ns: act.from, until_ns: until }
}
