//! The key/value tree: a transaction at its place in the log.

use super::step::Step;
use crate::engine::kv::requests::NameTaken;
use crate::engine::kv::{Guard, Txn};
use crate::engine::{Rejected, Reply};

/// Carries a transaction out, unless it was before, another one was under its name, or whoever asks owns its package no
/// more. Written values are no
/// news for the ledger.
pub(super) fn txn(step: &mut Step, txn: &Txn) -> Result<Reply, Rejected> {
    let taken = |NameTaken(request)| Rejected::RequestNameTaken { request };
    if let Some(outcome) = step.state.kv.repeated(txn).map_err(taken)? {
        return Ok(Reply::Kv(outcome.clone()));
    }
    if let Some(guard) = &txn.guard {
        check(step, guard)?;
    }
    let index = step.index;
    let (outcome, touched) = step.state.kv.carry_out(txn, index).map_err(Rejected::Invalid)?;
    step.touched(touched);
    Ok(Reply::Kv(outcome))
}

/// Only the ownership that is current now may write: one that was released or expired never acts again (I2).
fn check(step: &Step, guard: &Guard) -> Result<(), Rejected> {
    let entry = step.package(&guard.package)?;
    let current = entry.owner.as_ref().map(|owner| owner.token);
    if current == Some(guard.token) {
        return Ok(());
    }
    let (package, given) = (guard.package.clone(), guard.token);
    Err(Rejected::TokenMoved { package, current: entry.last_token, given })
}
