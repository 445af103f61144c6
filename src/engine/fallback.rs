//! A node of a minority goes on alone: what its state becomes, and what nobody may do before everybody else is known to
//! be off (leases.md rules 18 and 19, docs/fallback.md). Pure.
//!
//! The old cluster may go on elsewhere, with packages moved to anybody and with members that this node never heard of. So
//! nothing is granted here before an operator or a fence agent has said of every former member that it is off, and an
//! operator that there is nobody else.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::apply::{append, clip};
use super::event::Event;
use super::fence::{FenceAction, Fencing};
use super::state::{Cause, Cluster, DatagramKey, Node, State};
use super::{ClusterId, LogIndex, NodeId, WallMillis};
use crate::package::NodeName;

/// How far the log of the new cluster begins beyond the end of the old one's as it is known here: more entries than the old
/// cluster can have written since, and so more tokens than it can have given (10,000 a second for five days). Seven bits
/// of a reservation key's token are left for doing this again.
pub const INDEX_GAP: u64 = 1 << 32;

/// That this cluster began when a node of a minority went on alone, and what is known of all the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    /// The cluster that it was a minority of.
    pub from: ClusterId,
    /// Where this cluster's log begins.
    pub begun: LogIndex,
    /// When that was.
    pub since: WallMillis,
    /// Who ordered it.
    pub by: String,
    /// Every member that the node knew of, under its id in the old cluster.
    pub formers: BTreeMap<NodeId, Former>,
    /// The word that no other machine acts for the old cluster: it may have taken some in since.
    pub unlisted: Option<Word>,
}

/// A member of the old cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Its name there.
    pub name: NodeName,
    /// Where it answered.
    pub address: SocketAddr,
    /// The word that it is off; none before that.
    pub off: Option<Word>,
}

/// That something is known to be off, and by whose word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// When it was said.
    pub at: WallMillis,
    /// By whom or what.
    pub how: String,
}

impl Fallback {
    /// Former members of whom nothing is known.
    pub fn unconfirmed(&self) -> impl Iterator<Item = (NodeId, &Former)> {
        self.formers.iter().filter(|(_, former)| former.off.is_none()).map(|(id, former)| (*id, former))
    }

    /// Their names, for a sentence; empty when everybody is known to be off.
    pub fn unconfirmed_names(&self) -> String {
        self.unconfirmed().map(|(_, former)| former.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Whether everybody who might act for the old cluster is known to be off.
    pub fn is_confirmed(&self) -> bool {
        self.unlisted.is_some() && self.unconfirmed().next().is_none()
    }

    /// What nobody is granted anything before, with what to do; none when everybody is known to be off.
    pub fn wait(&self) -> Option<String> {
        let names = self.unconfirmed_names();
        let nodes = (!names.is_empty()).then(|| {
            format!(
                "packages may run under the old cluster on {names}: `pkgctl fence off NODE` where there is a device, or make \
                 sure that the node is off and `pkgctl fence confirm NODE`"
            )
        });
        let others = self.unlisted.is_none().then(|| {
            "machines that the old cluster may have taken in since: make sure that there are none, or that they are off, \
             and `pkgctl fence confirm --unlisted`"
                .to_owned()
        });
        let all: Vec<String> = nodes.into_iter().chain(others).collect();
        (!all.is_empty()).then(|| format!("this node went on alone; {}", all.join("; and ")))
    }
}

impl State {
    /// Why no package may be granted to anybody, because others may act for it under the old cluster.
    pub fn fallback_wait(&self) -> Option<String> {
        self.fallback.as_ref().and_then(Fallback::wait)
    }

    /// A member's name, or that of a former member of the cluster that this one went on from.
    pub fn member_or_former(&self, node: NodeId) -> Option<&NodeName> {
        let former = || self.fallback.as_ref().and_then(|fallback| fallback.formers.get(&node)).map(|f| &f.name);
        self.nodes.get(&node).map(|n| &n.name).or_else(former)
    }

    /// The node of a name that fencing is about: a former member that is not known to be off comes first.
    pub fn to_fence(&self, name: &NodeName) -> Option<NodeId> {
        let mut formers = self.fallback.iter().flat_map(Fallback::unconfirmed);
        let former = formers.find(|(_, former)| former.name == *name).map(|(id, _)| id);
        former.or_else(|| self.nodes.iter().find(|(_, node)| node.name == *name).map(|(id, _)| *id))
    }
}

/// What the new cluster is made of that no state can hold: chance, the time, and who wants it.
#[derive(Clone, Debug)]
pub struct Alone {
    /// The new cluster's id; see [`ClusterId::of_the_family`].
    pub cluster: ClusterId,
    /// Certificate of its own authority, PEM.
    pub ca_certificate: String,
    /// That authority's key, PEM.
    pub ca_key: String,
    /// The only key of its datagrams.
    pub datagram_key: DatagramKey,
    /// When.
    pub wall: WallMillis,
    /// Who orders it.
    pub by: String,
    /// Whether former members with a fence device are to be switched off at once.
    pub fence: bool,
}

/// Why a node cannot go on alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAlone {
    /// It knows of no cluster.
    #[error("this node's log does not hold its cluster yet; nothing was changed")]
    NoCluster,
    /// It is no voter.
    #[error(
        "this node has no vote in the cluster: what it knows may be far behind, and nothing was promised to it; nothing was \
         changed. Go on from a voter"
    )]
    NoVoter,
    /// There is nobody else.
    #[error("this node is the only voter of its cluster: it needs nobody's consent, and nothing was changed")]
    OnlyVoter,
}

/// Whether a node may go on alone, as far as its own state tells.
///
/// # Errors
/// [`NotAlone`].
pub fn may_go_alone(state: &State, me: NodeId) -> Result<(&Cluster, &Node), NotAlone> {
    let old = state.cluster.as_ref().ok_or(NotAlone::NoCluster)?;
    let node = state.nodes.get(&me).filter(|_| state.raft_voters.contains(&me)).ok_or(NotAlone::NoVoter)?;
    if state.raft_voters.len() < 2 {
        return Err(NotAlone::OnlyVoter);
    }
    Ok((old, node))
}

/// The state with which a node goes on alone. Definitions, keys and what operators want are as they were; whatever
/// entitles anybody to act, vote, promise or come in is gone (rule 18).
///
/// # Errors
/// [`NotAlone`].
pub fn go_alone(state: &State, me: NodeId, alone: Alone) -> Result<State, NotAlone> {
    let (old, node) = may_go_alone(state, me)?;
    let begun = LogIndex(state.applied.0 + INDEX_GAP);
    let Alone { cluster, ca_certificate, ca_key, datagram_key, wall, by, fence } = alone;
    let key_id = old.datagram_keys.keys().next_back().map_or(1, |last| last + 1);
    let fallback =
        Fallback { from: old.id, begun, since: wall, by: by.clone(), formers: formers(state, me), unlisted: None };
    let mut next = State {
        applied: begun,
        cluster: Some(Cluster {
            id: cluster,
            name: old.name.clone(),
            profile: old.profile,
            ca_certificate,
            ca_key,
            datagram_keys: [(key_id, datagram_key)].into(),
        }),
        nodes: [(me, Node::clone(node))].into(),
        raft_voters: [me].into(),
        removed: state.removed.clone(),
        watchdogs: state.watchdogs.get(&me).map(|own| (me, own.clone())).into_iter().collect(),
        http: state.http.get(&me).map(|own| (me, *own)).into_iter().collect(),
        fence_devices: state.fence_devices.clone(),
        down: [(me, wall)].into(),
        packages: state.packages.clone(),
        kv: state.kv.clone(),
        events: state.events.clone(),
        ..State::default()
    };
    disown(&mut next, state, wall);
    if fence {
        let devices = fallback.formers.keys().filter(|id| state.fence_devices.contains_key(id));
        let ordered =
            |id: &NodeId| (*id, Fencing { ordered: Some(FenceAction::Off), since: wall, ..Fencing::default() });
        next.fencing = devices.map(ordered).collect();
    }
    let why = format!(
        "{} goes on alone as cluster {cluster}, by the word of {by}: it was one of {} voters of cluster {}",
        node.name,
        state.raft_voters.len(),
        old.id
    );
    let known = |id: &NodeId| next.nodes.contains_key(id) || fallback.formers.contains_key(id);
    next.fence_devices.retain(|id, _| known(id));
    next.fallback = Some(fallback);
    let event = Event {
        index: begun,
        wall,
        package: None,
        node: Some(node.name.clone()),
        what: "standalone".to_owned(),
        why: clip(&why),
        by: clip(&by),
        timeline: None,
        after: None,
    };
    append(&mut next, event);
    Ok(next)
}

/// Everybody else that this node knows of. Who was not confirmed after an earlier time stays so: nothing that happened
/// since proves anything about it.
fn formers(state: &State, me: NodeId) -> BTreeMap<NodeId, Former> {
    let earlier = state.fallback.iter().flat_map(|fallback| fallback.formers.clone());
    let now = state.nodes.iter().filter(|(id, _)| **id != me);
    let now = now.map(|(id, n)| (*id, Former { name: n.name.clone(), address: n.address, off: None }));
    earlier.chain(now).collect()
}

/// Nobody owns anything; who did, as far as this node knew, is kept in words. Tokens stay: the next ones are larger.
fn disown(next: &mut State, old: &State, wall: WallMillis) {
    for entry in next.packages.values_mut() {
        entry.report = None;
        if let Some(owner) = entry.owner.take() {
            let why = format!(
                "{} owned it under token {} when this node went on alone; what became of that under the old cluster is not \
                 known here",
                old.name_of(owner.node),
                owner.token
            );
            entry.unowned = Some(Cause { since: wall, why: clip(&why) });
        }
    }
}

impl ClusterId {
    /// Another id of which reservation keys cannot be told from this one's: they hold the exclusive or of its bytes. So
    /// the cluster that goes on alone can take a LUN from an owner of the old one, by its larger token.
    #[must_use]
    pub fn of_the_family(self, chance: ClusterId) -> ClusterId {
        let other = ClusterId(chance.0 ^ u64::from(chance.folded() ^ self.folded()));
        // Chance has no business to give the same; two equal changes keep the fold.
        if other == self { ClusterId(other.0 ^ 0x0101) } else { other }
    }
}

#[cfg(test)]
mod tests;
