//! What the log must say about this node's keeper: that its voter is up, that it has a session, how its machine's watchdog
//! is, which datagram keys it goes by. Pure.

use std::net::SocketAddr;

use crate::engine::keys::KeyStep;
use crate::engine::state::{PackageEntry, Watchdog};
use crate::engine::{Command, NodeId, Nonce, State};
use crate::keeper::protocol::LeaseView;

/// How this node is, in one line for the service manager; no lease when there is no keeper.
pub(super) fn sentence(state: &State, me: NodeId, leader: Option<NodeId>, lease: Option<&LeaseView>) -> String {
    let leader = match leader {
        Some(id) if id == me => "leads".to_owned(),
        Some(id) => format!("follows {}", state.name_of(id)),
        None => "knows no leader".to_owned(),
    };
    let lease = match lease {
        None => "keeper not connected",
        Some(lease) if lease.is_live() => "lease held",
        Some(_) => "no lease",
    };
    let owns = |entry: &&PackageEntry| entry.owner.as_ref().is_some_and(|owner| owner.node == me);
    let owned = state.packages.values().filter(owns).count();
    let plural = if owned == 1 { "" } else { "s" };
    format!("{leader}, {lease}, owns {owned} package{plural}")
}

/// The `VoterUp` that is due, if any (rules 9 and 11).
pub(super) fn voter_up(state: &State, me: NodeId, nonce: Nonce, wanted: bool) -> Option<Command> {
    let votes = state.raft_voters.contains(&me) || state.lease_sets.values().any(|set| set.contains(&me));
    let told = state.voter_lives.get(&me).is_some_and(|life| life.nonce == nonce);
    (votes && (!told || wanted)).then_some(Command::VoterUp { voter: me, nonce })
}

/// The `Register` that is due, if any: the keeper has no session, or the one it had is over (rules 4, 5 and 8a).
pub(super) fn register(state: &State, me: NodeId, nonce: Nonce, lease: &LeaseView) -> Option<Command> {
    let profile = state.cluster.as_ref()?.profile;
    let mine = state.sessions.iter().rev().find(|(_, session)| session.node == me);
    let usable =
        mine.is_some_and(|(id, session)| session.nonce == nonce && !(lease.over && lease.session == Some(*id)));
    let member = state.nodes.contains_key(&me);
    (member && !usable).then(|| Command::Register {
        node: me,
        nonce,
        ttl: profile.ttl(),
        supersedes: mine.map(|(id, _)| *id),
    })
}

/// What the log does not say yet of this machine's watchdog, if so. Texts that are too long for the state are cut there,
/// so that only their beginnings can be compared.
pub(super) fn watchdog(state: &State, me: NodeId, lease: &LeaseView) -> Option<Command> {
    let stated = state.watchdogs.get(&me).map(Watchdog::sentence);
    let said = lease.watchdog.as_ref().map(Watchdog::sentence);
    let as_stated = match (&stated, &said) {
        (Some(stated), Some(said)) => said.starts_with(stated.trim_end_matches("...")),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    let member = state.nodes.contains_key(&me);
    (member && !as_stated).then(|| Command::SayWatchdog { node: me, watchdog: lease.watchdog.clone() })
}

/// What the log does not say yet of where this node answers plain HTTP, if so.
pub(super) fn http(state: &State, me: NodeId, address: Option<SocketAddr>) -> Option<Command> {
    let stale = state.nodes.contains_key(&me) && state.http.get(&me).copied() != address;
    stale.then_some(Command::SayHttp { node: me, address })
}

/// While the key of the datagrams is being replaced: that this keeper goes by the keys as they are now, if it said so.
pub(super) fn have_keys(state: &State, me: NodeId, nonce: Nonce, lease: &LeaseView) -> Option<Command> {
    let waited = matches!(state.key_step(), Some(KeyStep::Use { .. } | KeyStep::Drop { .. }));
    let at = state.rotation.changed;
    let news = lease.keys_at == Some(at) && !state.has_keys(me, nonce) && state.nodes.contains_key(&me);
    (waited && news).then_some(Command::HaveKeys { node: me, nonce, at })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::engine::apply;
    use crate::engine::command::Entry;
    use crate::engine::command::NewNode;
    use crate::engine::event::TEXT_MAX_BYTES;
    use crate::engine::state::{Cluster, DatagramKey};
    use crate::engine::{ClusterId, FOUNDER, LogIndex, Profile, WallMillis};
    use crate::package::Millis;

    /// The state of a cluster of one.
    pub(in crate::agent) fn founded() -> State {
        let mut state = State::default();
        let cluster = Cluster {
            id: ClusterId(1),
            name: "test".to_owned(),
            profile: Profile::Default,
            ca_certificate: String::new(),
            ca_key: String::new(),
            datagram_keys: [(1, DatagramKey([1; 32]))].into(),
        };
        let address = "10.0.0.1:7420".parse().unwrap();
        let node = NewNode { name: crate::package::NodeName::new("n1").unwrap(), address, links: Vec::new() };
        say(&mut state, Command::CreateCluster { cluster, node });
        state
    }

    /// Applies the next entry.
    pub(in crate::agent) fn say(state: &mut State, command: Command) {
        let next = LogIndex(state.applied.0 + 1);
        apply(state, next, &Entry { wall: WallMillis(1), by: "agent@n1".to_owned(), command });
    }

    /// What the log comes to say, after however many proposals it takes; more than one is one too many.
    fn settle(state: &mut State, watchdog: Option<Watchdog>) -> Option<Watchdog> {
        let lease = LeaseView { watchdog, ..LeaseView::default() };
        if let Some(command) = super::watchdog(state, FOUNDER, &lease) {
            say(state, command);
        }
        assert_eq!(super::watchdog(state, FOUNDER, &lease), None, "it would be said again and again");
        state.watchdogs.get(&FOUNDER).cloned()
    }

    #[test]
    fn the_log_is_told_of_a_watchdog_once_however_long_the_sentence() {
        let mut state = founded();
        let armed = Some(Watchdog::Armed { timeout: Millis(10_000) });
        assert_eq!(settle(&mut state, None), None);
        assert_eq!(settle(&mut state, armed.clone()), armed);
        let long = Watchdog::Unusable { why: "no ".repeat(TEXT_MAX_BYTES) };
        assert!(matches!(settle(&mut state, Some(long)), Some(Watchdog::Unusable { .. })));
        assert_eq!(settle(&mut state, None), None);
    }
}
