//! I4: when no fault is left, everything that should run and may run somewhere runs within a bound, and changes are taken.

use std::sync::Arc;
use std::time::Duration;

use pkgctl::api::door::Door;
use pkgctl::engine::State;
use pkgctl::engine::state::{Desired, Eligibility, PackageEntry, Phase};

use crate::world::{World, now, sleep};

/// The bound, in virtual time: detection, an election or two, restarts with their pauses, resources that take their time
/// to die, and a store that is read again.
pub const WITHIN: Duration = Duration::from_secs(45);

/// Waits until everything runs; answers how long that took.
///
/// # Errors
/// What does not run when the bound is over.
pub async fn wait(world: &Arc<World>) -> Result<Duration, String> {
    let begun = now();
    loop {
        let missing = missing(world);
        let took = Duration::from_nanos(now() - begun);
        match missing {
            None => return Ok(took),
            Some(what) if took > WITHIN => {
                return Err(format!("I4 does not hold: {took:?} after the last fault, {what}"));
            }
            Some(_) => {}
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Puts into the log how every node sees the cluster.
pub fn describe(world: &World) {
    for machine in world.machines() {
        let Some(agent) = machine.agent().and_then(|life| life.agent()) else { continue };
        let status = agent.consensus.status();
        world.log(format_args!("n{} {status:?}", machine.index + 1));
        let state = agent.consensus.state();
        world.log(format_args!(
            "n{} at {}: nodes {:?}, leaving {:?}, voters {:?}, lease sets {:?}, sessions {:?}, {:?}",
            machine.index + 1,
            state.applied,
            state.nodes.keys(),
            state.leaving,
            state.raft_voters,
            state.lease_sets,
            state.sessions,
            agent.notes()
        ));
    }
}

fn missing(world: &World) -> Option<String> {
    let mut states: Vec<Arc<State>> = Vec::new();
    for machine in world.machines().iter().filter(|machine| machine.node().is_some()) {
        let Some(agent) = machine.agent().and_then(|life| life.agent()) else {
            return Some(format!("no agent serves on n{}", machine.index + 1));
        };
        let status = agent.consensus.status();
        if status.leader.is_none() {
            return Some(format!("n{} knows no leader", machine.index + 1));
        }
        states.push(agent.consensus.state());
    }
    let newest = states.iter().max_by_key(|state| state.applied)?;
    if let Some(lags) = states.iter().find(|state| state.applied.0 + 50 < newest.applied.0) {
        return Some(format!("a node is at entry {} of {}", lags.applied, newest.applied));
    }
    if let Some(what) = not_at_rest(newest) {
        return Some(what);
    }
    newest.packages.values().find_map(|entry| not_running(world, newest, entry))
}

/// Every voter's keeper promises leases, and no change of members or of the datagrams' key is under way.
fn not_at_rest(state: &State) -> Option<String> {
    let promising: Vec<_> = state.lease_sets.values().collect();
    if promising != [&state.raft_voters] || !state.leaving.is_empty() {
        return Some(format!("voters are {:?}, lease sets {:?}", state.raft_voters, state.lease_sets));
    }
    if let Some(step) = state.key_step() {
        return Some(format!("of the datagrams' keys {step:?} is due, for {:?}", state.keys_wait_for()));
    }
    let life = |node| state.sessions.values().find(|session| session.node == node).map(|session| session.nonce);
    let stale = state
        .raft_voters
        .iter()
        .find(|node| state.voter_lives.get(node).map(|voter| voter.nonce) != life(**node) || life(**node).is_none());
    stale.map(|node| format!("the keeper of node {node} does not promise leases"))
}

fn not_running(world: &World, state: &State, entry: &PackageEntry) -> Option<String> {
    let name = &entry.definition.name;
    let eligible = entry.eligibility.values().any(|e| *e == Eligibility::Eligible);
    let wanted = match entry.desired {
        Desired::Running => eligible,
        Desired::Halted => false,
    };
    if !wanted {
        return None;
    }
    let Some(owner) = &entry.owner else { return Some(format!("'{name}' has no owner: {:?}", entry.unowned)) };
    // It runs as it should only where it is to stay; a program that will not end may hold a move up for seconds.
    if let Some(switch) = &owner.moving_to {
        return Some(format!("'{name}' is moving to {}", state.name_of(switch.to)));
    }
    let up = world.acts.now(now());
    let mine = up.values().filter(|act| act.package == *name && act.token == owner.token).count();
    let said =
        entry.report.as_ref().is_some_and(|report| report.token == owner.token && report.phase == Phase::Running);
    (mine < entry.definition.resources.len() || !said).then(|| {
        let report = entry.report.as_ref().map(|report| (&report.phase, &report.note));
        format!("{mine} resources of '{name}' are up on {}, which says {report:?}", state.name_of(owner.node))
    })
}
