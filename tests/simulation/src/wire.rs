//! Datagrams on their way from keeper to keeper, and what somebody who listens there has of them: a recording of what
//! holders sent to voters, which can be sent again (rule 6a).

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use pkgctl::engine::NodeId;
use pkgctl::engine::lease::Message;
use pkgctl::keeper::core::Input;

use crate::keeper::Inbox;
use crate::machine::Machine;
use crate::plant::Plant;
use crate::world::{World, now, sleep, spawn};

/// Datagrams kept of each pair of machines; the oldest are dropped first.
const KEPT_MAX: usize = 128;

/// A datagram as it was on the wire.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The id of the key that it is sealed with.
    key: u32,
    from: NodeId,
    to: NodeId,
    message: Message,
}

/// What was heard, by the machines it went from and to.
#[derive(Default)]
pub struct Recording(Mutex<BTreeMap<(usize, usize), VecDeque<Heard>>>);

impl Recording {
    fn note(&self, way: (usize, usize), heard: Heard) {
        // Nothing else makes anybody promise.
        if !matches!(heard.message, Message::Renew { .. }) {
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = all.entry(way).or_default();
        kept.push_back(heard);
        if kept.len() > KEPT_MAX {
            kept.pop_front();
        }
    }

    /// The renewals heard from one machine to another, oldest first.
    pub fn renewals(&self, from: usize, to: usize) -> Vec<Heard> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&(from, to)).into_iter().flatten().cloned().collect()
    }
}

/// Sends a datagram: to whichever keeper's life is there when it arrives.
pub fn send(world: &Arc<World>, machine: &Machine, to: NodeId, message: Message) {
    let (Some(from), Some(there)) = (machine.configured_as(), world.machine_of(to).cloned()) else { return };
    let newest = if world.has(Plant::SealsAtOnce) { machine.newest_key() } else { None };
    let Some(key) = newest.or_else(|| machine.sealing_key()) else { return };
    let heard = Heard { key, from, to, message };
    for delay in world.net.datagram(machine.index, there.index) {
        let (there, heard, world) = (there.clone(), heard.clone(), world.clone());
        spawn(async move {
            sleep(delay).await;
            arrive(&world, &there, heard);
        });
    }
    world.recording.note((machine.index, there.index), heard);
}

/// A datagram arrives: in its time, or once more.
pub fn arrive(world: &World, there: &Machine, heard: Heard) {
    let Heard { key, from, to, message } = heard;
    world.mix(&[now(), from.0, to.0]);
    // One that was not configured, is another node by now, or has not the key, could not open it.
    let opens = there.configured_as() == Some(to) && there.accepts_key(key);
    if let Some(keeper) = there.keeper().filter(|_| opens) {
        let _ = keeper.inbox.try_send(Inbox::Input(Input::Datagram { from, message }));
    }
}
