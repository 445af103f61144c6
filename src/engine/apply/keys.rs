//! The key of the datagrams' MAC: wanted anew, added, used, and left alone (docs/security.md).

use std::collections::BTreeMap;

use super::step::{Line, Step, clip};
use crate::engine::LogIndex;
use crate::engine::keys::KeyStep;
use crate::engine::state::DatagramKey;
use crate::engine::{NodeId, Nonce, Rejected, Reply};

/// A new key is wanted. One that is on its way may be known to whoever it is to keep out, so it does not count.
pub(super) fn want(step: &mut Step, why: &str) {
    step.state.rotation.wanted = Some(clip(why));
}

/// An operator wants a new key.
pub(super) fn rotate(step: &mut Step) -> Result<Reply, Rejected> {
    let why = format!("{} asked for it", step.by);
    want(step, &why);
    step.record(Line::new("key", format!("the key of the datagrams is to be replaced: {why}")));
    Ok(Reply::Done)
}

/// A new key, which everybody accepts from now on and nobody seals with yet.
pub(super) fn add(step: &mut Step, id: u32, key: &DatagramKey) -> Result<Reply, Rejected> {
    let why = match step.state.key_step() {
        Some(KeyStep::Add { id: next, why }) if next == id => why,
        due => return Err(not_due(id, due.as_ref())),
    };
    change(step, |keys| {
        keys.insert(id, key.clone());
    });
    step.state.rotation.coming = Some(id);
    step.state.rotation.wanted = None;
    let text = format!("datagram key {id} is there, and used once every keeper accepts it: {why}");
    step.record(Line::new("key", text));
    Ok(Reply::Done)
}

/// Everybody seals with the new key from now on.
pub(super) fn take_up(step: &mut Step, id: u32) -> Result<Reply, Rejected> {
    match step.state.key_step() {
        Some(KeyStep::Use { id: next }) if next == id => {}
        due => return Err(not_due(id, due.as_ref())),
    }
    everybody_has_it(step)?;
    change(step, |_| {});
    step.state.rotation.coming = None;
    step.record(Line::new("key", format!("datagram key {id} is used from here on: whoever is there accepts it")));
    Ok(Reply::Done)
}

/// Nobody accepts any other key any more.
pub(super) fn drop_others(step: &mut Step, keep: u32) -> Result<Reply, Rejected> {
    match step.state.key_step() {
        Some(KeyStep::Drop { keep: next }) if next == keep => {}
        due => return Err(not_due(keep, due.as_ref())),
    }
    everybody_has_it(step)?;
    change(step, |keys| keys.retain(|id, _| *id == keep));
    let text = format!("datagram key {keep} is the only one from here on: nobody seals with an older one any more");
    step.record(Line::new("key", text));
    Ok(Reply::Done)
}

/// A keeper goes by the keys as of that entry. Data of the rotation only, so it is no line of the ledger.
pub(super) fn have(step: &mut Step, node: NodeId, life: Nonce, at: LogIndex) -> Result<Reply, Rejected> {
    step.member(node)?;
    let changed = step.state.rotation.changed;
    if at != changed {
        return Err(Rejected::Invalid(format!("the datagram keys are those of entry {changed}, not of entry {at}")));
    }
    let before = step.state.rotation.confirmed.insert(node, life);
    Ok(if before == Some(life) { Reply::Already } else { Reply::Done })
}

fn change(step: &mut Step, how: impl FnOnce(&mut BTreeMap<u32, DatagramKey>)) {
    if let Some(cluster) = step.state.cluster.as_mut() {
        how(&mut cluster.datagram_keys);
    }
    step.state.rotation.changed = step.index;
    step.state.rotation.confirmed.clear();
}

fn everybody_has_it(step: &Step) -> Result<(), Rejected> {
    let waited = step.state.keys_wait_for();
    if waited.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = waited.iter().map(|node| step.state.name_of(*node)).collect();
    Err(Rejected::Invalid(format!("the keepers of {} do not go by the present datagram keys yet", names.join(", "))))
}

fn not_due(id: u32, due: Option<&KeyStep>) -> Rejected {
    let due = match due {
        None => "nothing is due".to_owned(),
        Some(KeyStep::Add { id, .. }) => format!("key {id} is to be added"),
        Some(KeyStep::Use { id }) => format!("key {id} is to be used"),
        Some(KeyStep::Drop { keep }) => format!("all but key {keep} are to be dropped"),
    };
    Rejected::Invalid(format!("that is not the next step for datagram key {id}: {due}"))
}
