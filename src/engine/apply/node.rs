//! What a node says of itself: its machine's watchdog, and where it answers plain HTTP. Data, never authority.

use std::net::SocketAddr;

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

/// Where a node answers plain HTTP; no news for the ledger.
pub(super) fn say_http(step: &mut Step, node: NodeId, address: Option<SocketAddr>) -> Result<Reply, Rejected> {
    step.member(node)?;
    let before = match address {
        Some(address) => step.state.http.insert(node, address),
        None => step.state.http.remove(&node),
    };
    Ok(if before == address { Reply::Already } else { Reply::Done })
}

fn bounded(said: &Watchdog) -> Watchdog {
    match said {
        Watchdog::Armed { timeout } => Watchdog::Armed { timeout: *timeout },
        Watchdog::Unusable { why } => Watchdog::Unusable { why: clip(why) },
        Watchdog::Starved { why } => Watchdog::Starved { why: clip(why) },
    }
}
