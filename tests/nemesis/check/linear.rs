//! Check 3: what the API answered about a register is linearizable, and no acknowledged write is lost.
//!
//! Values are unique and every write names the value it replaced, so the order of the writes that took effect is known:
//! it is the chain of values from the first to the last. Given that order, a history is linearizable exactly when no
//! operation ended before one began that stands earlier in it (a write stands before the reads of its value). That is
//! decided in n·log n, for histories of any length, with open operations at any time.
//!
//! `stateright`'s tester, which searches all orders, judges the same history as well: cut at moments at which nothing is
//! under way, where the value is known, as far as the pieces are small enough for a search.
//!
//! Windows are cut soundly too. Each ends with a read after every answer has come. A write that is open then and has not
//! been seen can take effect later only if the value that it replaces is still there: those, and only those, are handed
//! on to the next window.

use std::collections::BTreeMap;

use pkgctl::lab::Moment;
use stateright::semantics::register::{Register, RegisterOp, RegisterRet};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester};

use crate::history::{Op, Outcome, Value, What};

/// Largest piece that is given to a search of all orders: beyond it a history that is wrong may take for ever.
const SEARCH_MAX: usize = 24;

/// What is known of a window that is linearizable.
#[derive(Debug, Default)]
pub struct Linear {
    /// Open writes that may yet take effect.
    pub carried: Vec<Op>,
    /// Operations that the search judged as well, and those in pieces too large for it.
    pub searched: usize,
    pub unsearched: usize,
}

/// An operation that took effect, with its place: the number of the value that it read or wrote.
struct Placed<'a> {
    op: &'a Op,
    place: usize,
    writes: bool,
    /// It has taken effect by then.
    by: Moment,
}

/// Judges the operations on one register that began in a window, or were carried into it. `first` is the value at its
/// beginning, `last` the value at its end.
pub fn check(first: Value, ops: &[Op], last: Value) -> Result<Linear, String> {
    let chain = chain(first, ops, last)?;
    let places: BTreeMap<Value, usize> = chain.iter().enumerate().map(|(place, value)| (*value, place)).collect();
    let mut placed = place(ops, &places)?;
    if chain.last() != Some(&last) {
        return Err(format!(
            "a write is lost: the last value is {last}, although the values went on from it: {chain:?}"
        ));
    }
    in_order(&placed)?;
    refusals_have_a_reason(ops, &placed, &places)?;
    end_by_what_was_seen(&mut placed);
    let (searched, unsearched) = search(first, &placed, &chain)?;
    let may_come = |op: &&Op| {
        op.write()
            .is_some_and(|(from, to, outcome)| outcome == Outcome::Open && from == last && !places.contains_key(&to))
    };
    Ok(Linear { carried: ops.iter().filter(may_come).cloned().collect(), searched, unsearched })
}

/// The values in the order in which they replaced one another.
fn chain(first: Value, ops: &[Op], last: Value) -> Result<Vec<Value>, String> {
    let seen = |value: Value| {
        let by = |op: &Op| match op.what {
            What::Read(read) => read == value,
            What::Write { from, .. } => from == value,
        };
        value == last || ops.iter().any(by)
    };
    let mut next: BTreeMap<Value, &Op> = BTreeMap::new();
    for op in ops {
        let Some((from, to, outcome)) = op.write() else { continue };
        let effective = match outcome {
            Outcome::Done => true,
            Outcome::Open => seen(to),
            Outcome::Refused | Outcome::NotTaken => {
                if seen(to) {
                    return Err(format!("a write that was refused took effect: {op:?}"));
                }
                false
            }
        };
        if effective && let Some(other) = next.insert(from, op) {
            return Err(format!("a write is lost: two replaced the same value: {other:?} and {op:?}"));
        }
    }
    let mut values = vec![first];
    while let Some(op) = values.last().and_then(|value| next.remove(value)) {
        values.extend(op.write().map(|(_, to, _)| to));
    }
    match next.into_values().next() {
        None => Ok(values),
        Some(op) => {
            Err(format!("a write replaced a value that was never there (or is lost): {op:?}, values {values:?}"))
        }
    }
}

fn place<'a>(ops: &'a [Op], places: &BTreeMap<Value, usize>) -> Result<Vec<Placed<'a>>, String> {
    let mut placed = Vec::new();
    for op in ops {
        let (value, writes) = match op.what {
            What::Read(value) => (value, false),
            What::Write { to, outcome: Outcome::Done | Outcome::Open, .. } => (to, true),
            What::Write { outcome: Outcome::Refused | Outcome::NotTaken, .. } => continue,
        };
        let by = op.returned.unwrap_or(Moment(u64::MAX));
        match places.get(&value) {
            Some(place) => placed.push(Placed { op, place: *place, writes, by }),
            None if writes => {}
            None => return Err(format!("a value was read that nobody wrote, or that was lost: {op:?}")),
        }
    }
    Ok(placed)
}

/// No operation ended before another began that comes earlier in the order.
fn in_order(placed: &[Placed]) -> Result<(), String> {
    let mut by_beginning: Vec<&Placed> = placed.iter().collect();
    by_beginning.sort_by_key(|p| p.op.invoked);
    let mut by_end: Vec<&Placed> = placed.iter().collect();
    by_end.sort_by_key(|p| p.by);
    let mut ended = by_end.into_iter().peekable();
    let mut furthest: Option<&Placed> = None;
    for later in by_beginning {
        while let Some(earlier) = ended.next_if(|earlier| earlier.by < later.op.invoked) {
            if furthest.is_none_or(|f| f.place < earlier.place) {
                furthest = Some(earlier);
            }
        }
        let stale = |earlier: &&Placed| earlier.place > later.place || (later.writes && earlier.place == later.place);
        if let Some(earlier) = furthest.filter(stale) {
            return Err(format!("not linearizable (stale): {:?} had ended before {:?} began", earlier.op, later.op));
        }
    }
    Ok(())
}

/// A write that was refused because its revision was gone: somebody must have begun to replace that before the answer.
fn refusals_have_a_reason(ops: &[Op], placed: &[Placed], places: &BTreeMap<Value, usize>) -> Result<(), String> {
    for op in ops {
        let Some((from, _, Outcome::Refused)) = op.write() else { continue };
        let Some(place) = places.get(&from) else {
            return Err(format!("a write was refused over a value that was never there: {op:?}"));
        };
        let replaced = |p: &Placed| {
            p.writes && p.place == place + 1 && op.returned.is_some_and(|returned| p.op.invoked <= returned)
        };
        if !placed.iter().any(replaced) {
            return Err(format!("a write was refused although nobody had replaced what it found: {op:?}"));
        }
    }
    Ok(())
}

/// An open write that was seen has taken effect by the time that an operation that saw it has ended.
fn end_by_what_was_seen(placed: &mut [Placed]) {
    let seen = |write: &Placed| {
        let after = |p: &&Placed| p.place > write.place || (p.place == write.place && !p.writes);
        placed.iter().filter(after).map(|p| p.by).min()
    };
    let ends: Vec<_> = placed.iter().map(|p| if p.op.returned.is_none() { seen(p) } else { None }).collect();
    for (open, end) in placed.iter_mut().zip(ends) {
        open.by = open.by.min(end.unwrap_or(open.by));
    }
}

/// Gives the history to the tester, in pieces between moments at which nothing is under way.
fn search(first: Value, placed: &[Placed], chain: &[Value]) -> Result<(usize, usize), String> {
    let mut ops: Vec<&Placed> = placed.iter().collect();
    ops.sort_by_key(|p| p.op.invoked);
    let (mut searched, mut unsearched, mut value, mut from) = (0, 0, first, 0);
    let mut busy_until = Moment(0);
    for at in 0..=ops.len() {
        let quiet = ops.get(at).is_none_or(|next| next.op.invoked > busy_until);
        if quiet && at > from {
            let piece = &ops[from..at];
            if piece.len() > SEARCH_MAX {
                unsearched += piece.len();
            } else if tested(value, piece, chain) {
                searched += piece.len();
            } else {
                let piece: Vec<&Op> = piece.iter().map(|p| p.op).collect();
                return Err(format!("not linearizable, by the search: from {value}, {piece:?}"));
            }
            value = piece.iter().filter(|p| p.writes).map(|p| p.place).max().map_or(value, |place| chain[place]);
            from = at;
        }
        if let Some(next) = ops.get(at) {
            busy_until = busy_until.max(next.by);
        }
    }
    Ok((searched, unsearched))
}

fn tested(first: Value, piece: &[&Placed], chain: &[Value]) -> bool {
    // One of its own for each: a client whose write is open goes on with others.
    let mut edges: Vec<(Moment, bool, usize)> = Vec::new();
    for (thread, p) in piece.iter().enumerate() {
        edges.push((p.op.invoked, false, thread));
        // What ends at the moment at which another begins is concurrent with it: beginnings come first.
        edges.push((p.by.max(p.op.invoked), true, thread));
    }
    edges.sort_unstable();
    let mut tester = LinearizabilityTester::new(Register(first));
    for (_, ends, thread) in edges {
        let p = piece[thread];
        let told = match (ends, p.writes) {
            (false, true) => tester.on_invoke(thread, RegisterOp::Write(chain[p.place])),
            (false, false) => tester.on_invoke(thread, RegisterOp::Read),
            (true, true) => tester.on_return(thread, RegisterRet::WriteOk),
            (true, false) => tester.on_return(thread, RegisterRet::ReadOk(chain[p.place])),
        };
        if told.is_err() {
            return false;
        }
    }
    tester.is_consistent()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(client: usize, from: u64, to: u64, what: What) -> Op {
        let returned = (to > 0).then_some(Moment(to));
        Op { client, node: "n1", register: "r", invoked: Moment(from), returned, what }
    }

    fn read(from: u64, to: u64, value: Value) -> Op {
        op(1, from, to, What::Read(value))
    }

    fn write(from: u64, to: u64, old: Value, new: Value, outcome: Outcome) -> Op {
        op(2, from, to, What::Write { from: old, to: new, outcome })
    }

    fn refused(ops: &[Op], last: Value, because: &str) {
        let why = check(0, ops, last).expect_err(because);
        assert!(why.contains(because), "{why}");
    }

    #[test]
    fn a_history_that_is_in_order_passes_and_the_search_agrees() {
        let ops = [
            read(1, 2, 0),
            write(3, 9, 0, 1, Outcome::Done),
            read(4, 5, 0),
            read(6, 7, 1),
            write(10, 0, 1, 2, Outcome::Open),
            read(11, 12, 1),
            write(13, 14, 1, 3, Outcome::Refused),
            read(15, 16, 2),
        ];
        let linear = check(0, &ops, 2).unwrap();
        assert_eq!((linear.carried.len(), linear.searched, linear.unsearched), (0, 7, 0));
    }

    #[test]
    fn a_stale_read_is_caught() {
        refused(&[write(1, 2, 0, 1, Outcome::Done), read(3, 4, 0)], 1, "stale");
        refused(&[write(1, 9, 0, 1, Outcome::Done), read(2, 3, 1), read(4, 5, 0)], 1, "stale");
        // By an open write that one reader has seen.
        refused(&[write(1, 0, 0, 1, Outcome::Open), read(2, 3, 1), read(4, 5, 0)], 1, "stale");
    }

    #[test]
    fn the_search_by_itself_catches_a_stale_read_too() {
        let ops = [write(1, 2, 0, 1, Outcome::Done), read(3, 4, 0)];
        let stale = [
            Placed { op: &ops[0], place: 1, writes: true, by: Moment(2) },
            Placed { op: &ops[1], place: 0, writes: false, by: Moment(4) },
        ];
        assert!(!tested(0, &[&stale[0], &stale[1]], &[0, 1]));
        assert!(tested(0, &[&stale[1], &stale[0]][..1], &[0, 1]));
    }

    #[test]
    fn a_lost_write_is_caught() {
        refused(&[write(1, 2, 0, 1, Outcome::Done)], 0, "lost");
        refused(&[write(1, 2, 0, 1, Outcome::Done), write(3, 4, 0, 2, Outcome::Done)], 2, "lost");
        refused(&[write(1, 2, 0, 1, Outcome::Done), write(3, 4, 1, 2, Outcome::Done)], 1, "lost");
        refused(&[write(1, 2, 7, 8, Outcome::Done)], 0, "never there");
    }

    #[test]
    fn a_refusal_that_was_none_is_caught() {
        refused(&[write(1, 2, 0, 1, Outcome::NotTaken), read(3, 4, 1)], 1, "refused took effect");
        refused(&[write(1, 2, 0, 1, Outcome::Refused)], 0, "nobody had replaced");
    }

    #[test]
    fn a_value_from_nowhere_is_caught() {
        refused(&[read(1, 2, 5)], 0, "nobody wrote");
    }

    #[test]
    fn an_open_write_is_carried_on_only_while_what_it_replaces_is_there() {
        let open = write(1, 0, 0, 1, Outcome::Open);
        assert_eq!(check(0, std::slice::from_ref(&open), 0).unwrap().carried.len(), 1);
        let overtaken = [open.clone(), write(2, 3, 0, 2, Outcome::Done)];
        assert_eq!(check(0, &overtaken, 2).unwrap().carried.len(), 0);
        assert_eq!(check(0, &[open, read(2, 3, 1)], 1).unwrap().carried.len(), 0);
    }
}
