//! What a node's keeper says of its machine: data for people, never authority.

use super::step::{Line, Step, clip};
use crate::engine::state::Watchdog;
use crate::engine::{NodeId, Rejected, Reply};

/// A node's watchdog is as its keeper says; only news is kept in the ledger.
pub(super) fn say_watchdog(step: &mut Step, node: NodeId, said: Option<&Watchdog>) -> Result<Reply, Rejected> {
    let name = step.member(node)?;
    let said = said.map(bounded);
    if step.state.watchdogs.get(&node) == said.as_ref() {
        return Ok(Reply::Already);
    }
    let why = match &said {
        Some(watchdog) => format!("{name} {}", watchdog.sentence()),
        None => format!("{name} has no watchdog configured any more"),
    };
    match said {
        Some(watchdog) => drop(step.state.watchdogs.insert(node, watchdog)),
        None => drop(step.state.watchdogs.remove(&node)),
    }
    step.record(Line::new("watchdog", why).node(Some(name)));
    Ok(Reply::Done)
}

fn bounded(said: &Watchdog) -> Watchdog {
    match said {
        Watchdog::Armed { timeout } => Watchdog::Armed { timeout: *timeout },
        Watchdog::Unusable { why } => Watchdog::Unusable { why: clip(why) },
        Watchdog::Starved { why } => Watchdog::Starved { why: clip(why) },
    }
}
