//! I4: when everything has healed, every package that a healthy node may own runs again, and is answered, within a bound.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail};
use pkgctl::api::types::Status;
use pkgctl::engine::state::Desired;
use pkgctl::engine::view::PackageView;
use pkgctl::lab::wait_until;

use crate::asker::{Asker, Said};
use crate::field::{Field, NODES};
use crate::timeline::Timeline;

/// Forty lease times: generous for a loaded machine, and far less than for ever.
pub const ALIVE_WITHIN: Duration = Duration::from_secs(60);
/// Until every node is a member with a session again, joining included.
const WHOLE_WITHIN: Duration = Duration::from_secs(180);

/// What anyone who is vouched for by a leader says.
pub fn status(field: &Field, asker: &Asker) -> Option<Status> {
    NODES.iter().filter(|node| field.is_on(node)).find_map(|node| asker.status(&field.socket(node)))
}

fn eligible(view: &PackageView, out: &BTreeSet<&'static str>) -> bool {
    view.desired == Desired::Running && view.nodes.iter().any(|n| n.permitted && !out.contains(n.name.as_str()))
}

/// Waits until everything is said to run; how many packages had to be run again because their starts had failed on every
/// node that may own them. `commanded` are packages whose operators may have stopped them: they are run again.
/// `out` are nodes that are no members at present.
pub fn check(
    field: &Field,
    asker: &Asker,
    commanded: &BTreeSet<usize>,
    out: &BTreeSet<&'static str>,
    timeline: &Timeline,
) -> Result<usize> {
    let mut left = commanded.clone();
    left.retain(|number| !run(field, asker, *number));
    let mut waiting = Vec::new();
    let alive = wait_until(ALIVE_WITHIN, || {
        left.retain(|number| !run(field, asker, *number));
        let views = status(field, asker)?.packages;
        let mut due = field.targets.iter().filter_map(|t| views.iter().find(|v| v.name.as_str() == t.name));
        waiting = due.by_ref().filter(|v| eligible(v, out) && v.state.word() != "running").map(headline).collect();
        (waiting.is_empty() && left.is_empty()).then_some(())
    });
    if alive.is_none() {
        bail!("not alive {ALIVE_WITHIN:?} after the heal: {waiting:?}; commands not taken for {left:?}");
    }
    revive(field, asker, out, timeline)
}

/// What a package is, and why each node may or may not take it.
pub fn headline(view: &PackageView) -> String {
    let nodes: Vec<String> = view.nodes.iter().map(|n| format!("{} {}", n.name, n.why)).collect();
    format!("{} is {} ({})", view.name, view.headline(), nodes.join(", "))
}

fn run(field: &Field, asker: &Asker, number: usize) -> bool {
    let path = format!("/v1/packages/{}/run", field.targets[number].name);
    let mut on = NODES.iter().filter(|node| field.is_on(node));
    on.any(|node| {
        let said = asker.ask(&field.socket(node), "POST", &path, Some(b"{}".to_vec()));
        matches!(said, Said::Answer { status: 200, .. })
    })
}

/// Runs again what no node may own because starts have failed: that is an operator's business, and must work.
fn revive(field: &Field, asker: &Asker, out: &BTreeSet<&'static str>, timeline: &Timeline) -> Result<usize> {
    let mut revived = BTreeSet::new();
    let mut waiting = Vec::new();
    let all = wait_until(ALIVE_WITHIN, || {
        let views = status(field, asker)?.packages;
        waiting.clear();
        for (number, target) in field.targets.iter().enumerate() {
            let view = views.iter().find(|v| v.name.as_str() == target.name)?;
            if view.state.word() == "running" {
                continue;
            }
            waiting.push(headline(view));
            let ownable = target.nodes.iter().any(|node| !out.contains(node));
            if !eligible(view, out) && ownable && run(field, asker, number) && revived.insert(number) {
                timeline.say(format!("run again: {}", headline(view)));
            }
        }
        let no_node = |t: &&crate::field::Target| t.nodes.iter().all(|node| out.contains(node));
        (waiting.len() <= field.targets.iter().filter(no_node).count()).then_some(())
    });
    match all {
        Some(()) => Ok(revived.len()),
        None => bail!("not running {ALIVE_WITHIN:?} after `run`: {waiting:?}"),
    }
}

/// Waits until every node is a member with a live session that nobody misses; nodes that were removed join again.
pub fn whole(field: &Field, asker: &Asker, removed: &mut BTreeSet<&'static str>, timeline: &Timeline) -> Result<()> {
    let mut why = String::new();
    let whole = wait_until(WHOLE_WITHIN, || {
        match missing(field, asker) {
            None => "no leader vouches for anybody".clone_into(&mut why),
            Some(Missing::Nothing) => return Some(Ok(())),
            Some(Missing::Waiting(what)) => why = what,
            Some(Missing::Stranger(node)) => {
                timeline.say(format!("{node} is a member and does not know it: it is removed, to join again"));
                remove(field, asker, node);
            }
            Some(Missing::Member(node)) => {
                timeline.say(format!("{node} joins again"));
                removed.remove(node);
                if let Err(e) = rejoin(field, asker, node) {
                    return Some(Err(e));
                }
            }
        }
        None
    });
    whole.unwrap_or_else(|| bail!("not whole {WHOLE_WITHIN:?} after the heal: {why}"))
}

enum Missing {
    Nothing,
    /// It comes by itself.
    Waiting(String),
    /// It must join again.
    Member(&'static str),
    /// It was taken in and lost power before it knew.
    Stranger(&'static str),
}

fn missing(field: &Field, asker: &Asker) -> Option<Missing> {
    let cluster = status(field, asker)?.cluster?;
    for node in NODES {
        match cluster.nodes.iter().find(|n| n.name.as_str() == node) {
            None => return Some(Missing::Member(node)),
            Some(n) if n.leaving => return Some(Missing::Waiting(format!("{node} is being removed"))),
            Some(n) if n.session.is_none() && is_stranger(field, asker, node) => return Some(Missing::Stranger(node)),
            Some(n) if n.session.is_none() || n.silent || !n.voter || !n.lease_voter => {
                return Some(Missing::Waiting(format!("{n:?}")));
            }
            Some(_) => {}
        }
    }
    let changing = cluster.lease_sets_changing.then(|| "the lease sets are changing".to_owned());
    Some(changing.map_or(Missing::Nothing, Missing::Waiting))
}

/// Whether a node's own agent is in no cluster.
fn is_stranger(field: &Field, asker: &Asker, node: &str) -> bool {
    // Only such an agent has no packages at all to be asked for.
    let said = asker.ask(&field.socket(node), "GET", "/v1/packages/none", None);
    matches!(said, Said::Answer { status: 409, body } if String::from_utf8_lossy(&body).contains("\"no_cluster\""))
}

/// Whoever has a session yet refuses; the next look asks again.
fn remove(field: &Field, asker: &Asker, node: &str) {
    let body = serde_json::json!({ "node": node }).to_string();
    for other in NODES.iter().filter(|other| **other != node) {
        let said = asker.ask(&field.socket(other), "POST", "/v1/cluster/remove", Some(body.clone().into_bytes()));
        if matches!(said, Said::Answer { status: 200, .. }) {
            return;
        }
    }
}

fn rejoin(field: &Field, asker: &Asker, node: &str) -> Result<()> {
    if field.is_on(node) {
        field.lab.power_off(node)?;
    }
    field.forget(node)?;
    field.lab.power_on(node)?;
    field.join(node, asker)
}
