//! Nodes that something waits for are fenced: one attempt at a time each, with a pause after one that failed.

use super::{Decision, Observations, Plan, Step};
use crate::engine::fence::{FenceDevice, Fencing};
use crate::engine::{NodeId, State};
use crate::package::{Millis, PackageName};

/// What an attempt may take beyond its device's own timeout before another leader takes it for lost: the delay, and the
/// question whether the machine is off now.
const LOST_AFTER: Millis = Millis::from_secs(30);

/// Begins every attempt that is due.
pub(super) fn fence(state: &State, seen: &Observations, plan: &mut Plan) {
    for node in state.to_be_fenced() {
        let fencing = state.fencing.get(&node).cloned().unwrap_or_default();
        let (Some(device), Some(action)) = (state.fence_devices.get(&node), state.fence_action(node)) else { continue };
        if seen.fencing.contains(&node) || !is_due(device, &fencing, seen) {
            continue;
        }
        let executors = executors(state, seen, node);
        if !executors.is_empty() {
            let why = reason(state, node, &fencing);
            plan.decisions.push(Decision { step: Step::Fence { node, action, after: fencing.begun, executors }, why });
        }
    }
}

fn is_due(device: &FenceDevice, fencing: &Fencing, seen: &Observations) -> bool {
    let pause = if fencing.under_way {
        // Another leader's, of which nothing has been heard: it may still be at it.
        Millis(device.delay.0 + device.timeout.0 * 2 + LOST_AFTER.0)
    } else if fencing.failures > 0 && fencing.ordered.is_none() {
        fencing.pause()
    } else {
        Millis(0)
    };
    // A wall clock that was set back by more than the pause must not hold everything up.
    let (now, since) = (seen.wall.0, fencing.since.0);
    pause == Millis(0) || now.saturating_sub(since) >= pause.0 || since.saturating_sub(now) > pause.0
}

/// Who may run the agent: whoever is there, but never the node itself. This node first, then by the number of failures
/// another one, because a way to the device may be broken from one node only.
fn executors(state: &State, seen: &Observations, node: NodeId) -> Vec<NodeId> {
    let mut there: Vec<NodeId> = state.present(&seen.unfit()).into_iter().filter(|id| *id != node).collect();
    there.sort_by_key(|id| (Some(*id) != seen.me, *id));
    if !there.is_empty() {
        let failures = state.fencing.get(&node).map_or(0, |fencing| fencing.failures as usize);
        let turn = failures % there.len();
        there.rotate_left(turn);
    }
    there
}

fn reason(state: &State, node: NodeId, fencing: &Fencing) -> String {
    let name = state.name_of(node);
    let waiting: Vec<&str> = state.waiting_for(node).into_iter().map(PackageName::as_str).collect();
    if fencing.ordered.is_some() {
        return format!("an operator ordered {name} to be fenced");
    }
    let why = format!("nothing else ends what {name} may still do for {}", waiting.join(", "));
    match fencing.failures {
        0 => why,
        failures => format!("{why}; attempt {} after {failures} that failed", failures + 1),
    }
}
