//! External fencing in the log: devices, what is under way, and who waits for it. Everything that ends a wait is an entry
//! here or a new session of the node itself (`session::register`).

use super::step::{Line, Step, clip};
use crate::engine::fence::{Awaiting, FenceAction, FenceDevice, FenceOutcome};
use crate::engine::state::Session;
use crate::engine::{LogIndex, NodeId, Rejected, Reply, SessionId};
use crate::package::{NodeName, PackageName};

/// Stores or replaces a node's device. Whether its agent takes its options is the proposer's to know.
pub(super) fn set(step: &mut Step, node: &NodeName, device: &FenceDevice) -> Result<Reply, Rejected> {
    let id = step.to_fence(node)?;
    let problems = device.problems();
    if !problems.is_empty() {
        return Err(Rejected::Invalid(problems.join("\n")));
    }
    if step.state.fence_devices.get(&id) == Some(device) {
        return Ok(Reply::Already);
    }
    step.state.fence_devices.insert(id, device.clone());
    let why = format!("{node} is fenced by {} ({}) from now on", device.agent, device.action.word());
    step.record(Line::new("fence_set", why).node(Some(node.clone())));
    Ok(Reply::Done)
}

/// Forgets a node's device. Whoever waits for its fencing goes on waiting, for the node itself or a confirmation.
pub(super) fn delete(step: &mut Step, node: &NodeName) -> Result<Reply, Rejected> {
    let id = step.to_fence(node)?;
    if step.state.fence_devices.remove(&id).is_none() {
        return Ok(Reply::Already);
    }
    step.state.fencing.remove(&id);
    step.record(Line::new("fence_deleted", format!("{node} has no fence device any more")).node(Some(node.clone())));
    Ok(Reply::Done)
}

/// An operator orders a node to be fenced. One that lives is ended only by force.
pub(super) fn order(step: &mut Step, node: &NodeName, action: FenceAction, force: bool) -> Result<Reply, Rejected> {
    let id = step.to_fence(node)?;
    if !step.state.fence_devices.contains_key(&id) {
        return Err(Rejected::NoFenceDevice { node: node.clone() });
    }
    super::fallback::check_order(step, id, action)?;
    // By its name: the machine of a former member may be a member again.
    let lives = |session: &Session| step.name(session.node).as_ref() == Some(node);
    if !force && step.state.sessions.values().any(lives) {
        return Err(Rejected::FenceLives { node: node.clone() });
    }
    let fencing = step.state.fencing.entry(id).or_default();
    fencing.ordered = Some(action);
    let why = format!("{} orders {node} to be fenced ({})", step.by, action.word());
    step.record(Line::new("fence_ordered", why).node(Some(node.clone())));
    Ok(Reply::Done)
}

/// An attempt begins: only now, with a majority's word, may anybody run the agent. `after` is the attempt that it follows.
pub(super) fn begin(step: &mut Step, node: NodeId, after: LogIndex, why: &str) -> Result<Reply, Rejected> {
    let name = step.fenced_name(node)?;
    if !step.state.to_be_fenced().contains(&node) {
        return Err(Rejected::Invalid(format!("nothing waits until {name} is fenced")));
    }
    if !step.state.fence_devices.contains_key(&node) {
        return Err(Rejected::NoFenceDevice { node: name });
    }
    let (index, since) = (step.index, step.wall);
    let fencing = step.state.fencing.entry(node).or_default();
    if fencing.begun != after {
        return Err(Rejected::Invalid(format!("another attempt to fence {name} has begun since")));
    }
    fencing.begun = index;
    fencing.under_way = true;
    fencing.by_order = fencing.ordered.is_some();
    fencing.since = since;
    step.record(Line::new("fencing", why).node(Some(name)));
    Ok(Reply::Done)
}

/// An attempt has ended. Success proves the end of every session that is older than the attempt.
pub(super) fn end(step: &mut Step, node: NodeId, begun: LogIndex, outcome: &FenceOutcome) -> Result<Reply, Rejected> {
    let name = step.fenced_name(node)?;
    let since = step.wall;
    let current = step.state.fencing.get_mut(&node).filter(|fencing| fencing.begun == begun && fencing.under_way);
    let fencing = current.ok_or_else(|| Rejected::Invalid(format!("that attempt to fence {name} is over")))?;
    match outcome {
        FenceOutcome::Failed { why } => {
            fencing.under_way = false;
            fencing.since = since;
            fencing.failure = Some(clip(why));
            // An order is tried once, and uses up nothing of what is tried by itself.
            match fencing.by_order {
                true => fencing.ordered = None,
                false => fencing.failures = fencing.failures.saturating_add(1),
            }
            let why = format!("{name} could not be fenced: {why}");
            step.record(Line::new("fence_failed", why).node(Some(name)));
        }
        FenceOutcome::Fenced { action, by } => {
            step.state.fencing.remove(&node);
            step.state.fenced.insert(node, begun);
            let why = format!("{name} was fenced ({}) by {}", action.word(), step.state.name_of(*by));
            step.record(Line::new("fenced", why.clone()).node(Some(name)));
            super::fallback::fenced(step, node, *action, &why);
            end_waits(step, node, SessionId(begun.0), &why);
        }
    }
    Ok(Reply::Done)
}

/// An operator has made sure that a node is off.
pub(super) fn confirm(step: &mut Step, node: &NodeName) -> Result<Reply, Rejected> {
    let id = step.to_fence(node)?;
    if super::fallback::confirm(step, node) {
        return Ok(Reply::Done);
    }
    if step.state.waiting_for(id).is_empty() {
        return Err(Rejected::NobodyWaits { node: node.clone() });
    }
    let why = format!("{} has confirmed that {node} is off", step.by);
    step.record(Line::new("fence_confirmed", why.clone()).node(Some(node.clone())));
    end_waits(step, id, SessionId::from(step.index), &why);
    Ok(Reply::Done)
}

/// A session has ended with these packages, and nobody but its node knows what it left: those that must wait do.
pub(super) fn await_fencing(step: &mut Step, node: NodeId, session: SessionId, packages: &[PackageName]) {
    for package in packages {
        if step.state.must_fence(package, node, session) {
            step.state.awaiting.insert(package.clone(), Awaiting { node, session, since: step.wall });
        }
    }
}

/// Nothing of a node's sessions before `before` is left, because of `why`: who waited for that may be owned again.
pub(super) fn end_waits(step: &mut Step, node: NodeId, before: SessionId, why: &str) {
    let over = |awaiting: &Awaiting| awaiting.node == node && awaiting.session < before;
    let ended: Vec<PackageName> =
        step.state.awaiting.iter().filter(|(_, awaiting)| over(awaiting)).map(|(package, _)| package.clone()).collect();
    if ended.is_empty() {
        return;
    }
    let (cause, name) = (step.cause(why), step.name(node));
    for package in ended {
        step.state.awaiting.remove(&package);
        if let Ok(entry) = step.package_mut(&package) {
            entry.unowned = Some(cause.clone());
        }
        step.record(Line::new("unowned", why).package(&package).node(name.clone()));
    }
    if !step.state.to_be_fenced().contains(&node) {
        step.state.fencing.remove(&node);
    }
}

/// Refuses to give a package away that waits.
pub(super) fn check_waits_for_nobody(step: &Step, package: &PackageName) -> Result<(), Rejected> {
    match step.state.awaiting.get(package) {
        Some(awaiting) => {
            Err(Rejected::AwaitsFencing { package: package.clone(), node: step.state.name_of(awaiting.node) })
        }
        None => Ok(()),
    }
}
