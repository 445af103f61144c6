//! What this node's keeper is told of the cluster: who it is, whom it talks to, and the datagrams' keys. Pure.

use crate::engine::{NodeId, State};
use crate::keeper::protocol::{Configuration, LeaseView};

/// What the keeper is to know; nothing without a cluster. `lease` is what this keeper said last.
pub(super) fn configuration(state: &State, me: NodeId, lease: &LeaseView) -> Option<Configuration> {
    let cluster = state.cluster.as_ref()?;
    let peers = state.nodes.iter().map(|(id, node)| {
        let mut all = vec![node.address];
        all.extend(node.links.iter().copied());
        (*id, all)
    });
    let mut keys = cluster.datagram_keys.clone();
    if lease.keys_at.is_none() {
        // A keeper that says nothing of keys is an older program, which outlives its agent's upgrade. It seals with the
        // largest that it has, so it gets a key that is coming only once that is used. It is waited for until then.
        keys.retain(|id, _| Some(*id) != state.rotation.coming);
    }
    Some(Configuration {
        cluster: cluster.id,
        node: me,
        profile: cluster.profile,
        keys,
        sealing_key: state.sealing_key(),
        keys_at: state.rotation.changed,
        peers: peers.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::life::have_keys;
    use crate::agent::life::tests::{founded, say};
    use crate::engine::state::DatagramKey;
    use crate::engine::{Command, FOUNDER, LogIndex, Nonce};

    const LIFE: Nonce = Nonce(5);

    fn keys(state: &State, lease: &LeaseView) -> (Vec<u32>, Option<u32>) {
        let told = configuration(state, FOUNDER, lease).unwrap();
        (told.keys.keys().copied().collect(), told.sealing_key)
    }

    #[test]
    fn a_keeper_that_cannot_be_told_which_key_seals_gets_none_that_is_coming_and_never_counts_as_having_it() {
        let mut state = founded();
        say(&mut state, Command::RotateKey);
        say(&mut state, Command::AddKey { id: 2, key: DatagramKey([2; 32]) });
        let says = |keys_at| LeaseView { keys_at, ..LeaseView::default() };
        let (older, newer) = (says(None), says(Some(LogIndex(0))));
        assert_eq!(keys(&state, &older), (vec![1], Some(1)));
        assert_eq!(keys(&state, &newer), (vec![1, 2], Some(1)));
        assert_eq!(have_keys(&state, FOUNDER, LIFE, &older), None);
        assert_eq!(have_keys(&state, FOUNDER, LIFE, &newer), None, "it has not got them yet");

        let at = configuration(&state, FOUNDER, &newer).unwrap().keys_at;
        let has = says(Some(at));
        let said = have_keys(&state, FOUNDER, LIFE, &has).unwrap();
        assert_eq!(said, Command::HaveKeys { node: FOUNDER, nonce: LIFE, at });
        say(&mut state, said);
        assert_eq!(have_keys(&state, FOUNDER, LIFE, &has), None, "it is said once");

        say(&mut state, Command::UseKey { id: 2 });
        assert_eq!(keys(&state, &older), (vec![1, 2], Some(2)), "the largest is the one that is used by now");
    }
}
