//! A node that went on alone comes to know that the others are off, one by one, and that the old cluster is gone.

use super::step::{Line, Step, clip};
use crate::engine::fallback::{Fallback, Word};
use crate::engine::fence::FenceAction;
use crate::engine::{NodeId, Rejected, Reply};
use crate::package::NodeName;

/// An operator answers for former members of that name being off. Returns whether there were any.
pub(super) fn confirm(step: &mut Step, name: &NodeName) -> bool {
    let found = step.state.fallback.iter().flat_map(Fallback::unconfirmed);
    let found: Vec<NodeId> = found.filter(|(_, former)| former.name == *name).map(|(id, _)| id).collect();
    let why = format!("{} has confirmed that {name} is off and acts no more under the old cluster", step.by);
    for id in &found {
        say_off(step, *id, &why);
    }
    if !found.is_empty() {
        step.record(Line::new("fence_confirmed", why).node(Some(name.clone())));
    }
    !found.is_empty()
}

/// A fence agent has ended a machine; one that was only restarted may be on again, with its old store.
pub(super) fn fenced(step: &mut Step, node: NodeId, action: FenceAction, why: &str) {
    match action {
        FenceAction::Off => say_off(step, node, why),
        FenceAction::Reboot => {}
    }
}

fn say_off(step: &mut Step, node: NodeId, how: &str) {
    let word = Word { at: step.wall, how: clip(how) };
    let former = step.state.fallback.as_mut().and_then(|fallback| fallback.formers.get_mut(&node));
    if let Some(former) = former.filter(|former| former.off.is_none()) {
        former.off = Some(word);
    }
    if !step.state.to_be_fenced().contains(&node) {
        step.state.fencing.remove(&node);
    }
}

/// An operator answers for there being nobody else.
pub(super) fn confirm_unlisted(step: &mut Step) -> Result<Reply, Rejected> {
    let how = format!("{} has confirmed that no other machine acts under the old cluster", step.by);
    let word = Word { at: step.wall, how: clip(&how) };
    let fallback = step.state.fallback.as_mut().ok_or(Rejected::NotAlone)?;
    if fallback.unlisted.is_some() {
        return Ok(Reply::Already);
    }
    fallback.unlisted = Some(word);
    step.record(Line::new("fence_confirmed", how));
    Ok(Reply::Done)
}

/// A former member is only ever switched off: restarted, it would go on under the old cluster.
pub(super) fn check_order(step: &Step, node: NodeId, action: FenceAction) -> Result<(), Rejected> {
    let former = step.state.fallback.as_ref().is_some_and(|fallback| fallback.formers.contains_key(&node));
    match action {
        FenceAction::Reboot if former && !step.state.nodes.contains_key(&node) => Err(Rejected::Invalid(
            "a node of the old cluster would come back with its old store; switch it off instead".to_owned(),
        )),
        FenceAction::Reboot | FenceAction::Off => Ok(()),
    }
}

/// Refuses to take in who goes by the name of somebody of whom nothing is known.
pub(super) fn check_no_former(step: &Step, name: &NodeName) -> Result<(), Rejected> {
    let mut unconfirmed = step.state.fallback.iter().flat_map(Fallback::unconfirmed);
    match unconfirmed.any(|(_, former)| former.name == *name) {
        true => Err(Rejected::FormerNode { name: name.clone() }),
        false => Ok(()),
    }
}

/// Nothing is left of the old cluster, by an operator's word: its members and their devices are forgotten.
pub(super) fn say_whole(step: &mut Step) -> Result<Reply, Rejected> {
    let fallback = step.state.fallback.as_ref().ok_or(Rejected::NotAlone)?;
    if let Some(why) = fallback.wait() {
        return Err(Rejected::FormersLeft { why });
    }
    let why = format!("{} says that cluster {} is gone for good; this one is whole", step.by, fallback.from);
    step.state.fallback = None;
    let nodes = &step.state.nodes;
    step.state.fence_devices.retain(|node, _| nodes.contains_key(node));
    step.state.fencing.retain(|node, _| nodes.contains_key(node));
    step.state.fenced.retain(|node, _| nodes.contains_key(node));
    step.record(Line::new("whole", why));
    Ok(Reply::Done)
}
