//! The replicated state: what the log adds up to. Equal logs give equal states (I6).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::event::Event;
use super::fallback::Fallback;
use super::fence::{Awaiting, FenceDevice, Fencing};
use super::keys::Rotation;
use super::kv::Tree;
use super::operator::{ClientName, Operator};
use super::{ClusterId, Incarnation, LogIndex, NodeId, Nonce, Profile, SessionId, SetId, Token, WallMillis};
use crate::package::{Millis, NodeName, Package, PackageName, ResourceName};

/// Removed nodes whose removal's entry is kept.
pub const REMOVED_MAX: usize = 64;

/// Everything replicated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The last entry applied.
    pub applied: LogIndex,
    /// None until `CreateCluster`.
    pub cluster: Option<Cluster>,
    /// Members by id.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Raft's own voters as of the last membership entry; copied here because lease sets follow it (rule 14).
    pub raft_voters: BTreeSet<NodeId>,
    /// Unused join tokens: digest → expiry.
    pub join_tokens: BTreeMap<String, WallMillis>,
    /// Nodes that are being removed: what they own goes first, then their votes, then they are forgotten. Their ids are never used again
    /// (rule 18).
    #[serde(default)]
    pub leaving: BTreeSet<NodeId>,
    /// Which entry removed whom; the newest [`REMOVED_MAX`].
    #[serde(default)]
    pub removed: BTreeMap<NodeId, LogIndex>,
    /// Current life of each voter's keeper (rule 9).
    pub voter_lives: BTreeMap<NodeId, VoterLife>,
    /// Unretired lease sets, at most two (rule 15).
    pub lease_sets: BTreeMap<SetId, BTreeSet<NodeId>>,
    /// What each node's keeper says of its machine's watchdog; nothing of nodes without one.
    #[serde(default)]
    pub watchdogs: BTreeMap<NodeId, Watchdog>,
    /// Where nodes answer plain HTTP (`http_listen`); nothing of nodes that do not.
    #[serde(default)]
    pub http: BTreeMap<NodeId, SocketAddr>,
    /// How nodes are switched off from outside; secrets among it are never shown.
    #[serde(default)]
    pub fence_devices: BTreeMap<NodeId, FenceDevice>,
    /// Packages that are given to nobody until a node is fenced.
    #[serde(default)]
    pub awaiting: BTreeMap<PackageName, Awaiting>,
    /// Fencings that are ordered, under way, or have failed.
    #[serde(default)]
    pub fencing: BTreeMap<NodeId, Fencing>,
    /// Where the last fencing of a node that succeeded had begun: no session before it is left.
    #[serde(default)]
    pub fenced: BTreeMap<NodeId, LogIndex>,
    /// Ownerships whose package had an unenforced resource when they were given, and has none in its definition now.
    #[serde(default)]
    pub was_unenforced: BTreeMap<PackageName, Token>,
    /// Members without a session: since when.
    #[serde(default)]
    pub down: BTreeMap<NodeId, WallMillis>,
    /// Live sessions.
    pub sessions: BTreeMap<SessionId, Session>,
    /// Packages by name.
    pub packages: BTreeMap<PackageName, PackageEntry>,
    /// That this cluster went on from a minority of another one, until it is whole.
    #[serde(default)]
    pub fallback: Option<Fallback>,
    /// Who was ever given a certificate to use the API from elsewhere.
    #[serde(default)]
    pub operators: BTreeMap<ClientName, Operator>,
    /// Where the replacement of the datagrams' key stands.
    #[serde(default)]
    pub rotation: Rotation,
    /// The key/value tree.
    #[serde(default)]
    pub kv: Tree,
    /// The newest events, oldest first, at most [`super::event::LEDGER_MAX`].
    pub events: VecDeque<Event>,
}

impl State {
    /// Join tokens that are good at that time.
    pub fn tokens_unexpired(&self, now: WallMillis) -> usize {
        self.join_tokens.values().filter(|until| **until >= now).count()
    }

    /// A node's name, or its number when it is no member (any more).
    pub fn name_of(&self, node: NodeId) -> String {
        self.member_or_former(node).map_or_else(|| format!("node {node}"), ToString::to_string)
    }

    /// Whether a node that shows this cluster's certificate is to be let in: a member, or one that joined further on in
    /// the log than is applied here. Ids are places in the log, so an id that is not beyond it and is no member's was
    /// removed. A node that lags must listen to a leader that it does not know yet, or it would lag for ever.
    pub fn admits(&self, node: NodeId) -> bool {
        self.removed(node).is_none()
    }

    /// The entry that removed the bearer of such a certificate, or the newest one if that is not kept any more; none for
    /// those that are admitted. A log without the cluster's own entry knows of nobody.
    pub fn removed(&self, node: NodeId) -> Option<LogIndex> {
        let gone = self.cluster.is_some() && !self.nodes.contains_key(&node) && node.0 <= self.applied.0;
        gone.then(|| self.removed.get(&node).copied().unwrap_or(self.applied))
    }

    /// Whether an operator who shows this cluster's certificate is to be let in.
    pub fn admits_operator(&self, name: &ClientName) -> bool {
        self.operators.get(name).is_some_and(|operator| operator.revoked.is_none())
    }

    /// Whether a membership change is under way: somebody joins or leaves, or the lease set has yet to follow the voters.
    pub fn members_change(&self) -> bool {
        let mut sets = self.lease_sets.values();
        let settled = sets.next() == Some(&self.raft_voters) && sets.next().is_none();
        !settled || !self.leaving.is_empty() || self.nodes.keys().any(|id| !self.raft_voters.contains(id))
    }

    /// Whether a node owns nothing, and no package waits until it is fenced. Of one that is being removed this stays true:
    /// it is given nothing any more.
    pub fn is_idle(&self, node: NodeId) -> bool {
        let owns = self.packages.values().any(|entry| entry.owner.as_ref().is_some_and(|owner| owner.node == node));
        !owns && self.waiting_for(node).is_empty()
    }

    /// Nodes with a live session that is not among the silent ones.
    pub fn present(&self, silent: &BTreeSet<SessionId>) -> BTreeSet<NodeId> {
        self.sessions.iter().filter(|(id, _)| !silent.contains(id)).map(|(_, session)| session.node).collect()
    }
}

/// The cluster's own facts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Random at creation.
    pub id: ClusterId,
    /// For people.
    pub name: String,
    /// Every interval.
    pub profile: Profile,
    /// Certificate of the cluster's authority, PEM.
    pub ca_certificate: String,
    /// Its key, PEM. It lives in the replicated state so that any member can let a node join; the store is root's.
    pub ca_key: String,
    /// Keys of the datagrams' MAC by id; all are accepted, and the largest that is not coming
    /// yet is used to send ([`State::sealing_key`]).
    pub datagram_keys: BTreeMap<u32, DatagramKey>,
}

/// A key of the datagrams' MAC. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DatagramKey(pub [u8; 32]);

impl std::fmt::Debug for DatagramKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DatagramKey(..)")
    }
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// For people.
    pub name: NodeName,
    /// Where its agent (tcp) and keeper (udp) answer.
    pub address: SocketAddr,
    /// Further datagram addresses.
    #[serde(default)]
    pub links: Vec<SocketAddr>,
    /// The request that joined it, so that a repeated one finds it.
    pub request: Nonce,
}

/// A machine's watchdog, as its keeper says. Data for people, never authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Watchdog {
    /// It resets the machine when its keeper does not pet it.
    Armed {
        /// For so long.
        timeout: Millis,
    },
    /// One is configured and not in use.
    Unusable {
        /// Why, and what to do.
        why: String,
    },
    /// It is not petted on purpose: the machine is about to be reset.
    Starved {
        /// What had to be down and is not.
        why: String,
    },
}

impl Watchdog {
    /// In a sentence, after the node's name.
    pub fn sentence(&self) -> String {
        match self {
            Watchdog::Armed { timeout } => {
                format!("is reset by its watchdog when its keeper stands still for {timeout}")
            }
            Watchdog::Unusable { why } => format!("goes without its watchdog: {why}"),
            Watchdog::Starved { why } => format!("is being reset by its watchdog: {why}"),
        }
    }
}

/// The current life of a voter's keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoterLife {
    /// Its nonce.
    pub nonce: Nonce,
    /// The newest `VoterUp` of that life.
    pub incarnation: Incarnation,
}

/// A live session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Whose.
    pub node: NodeId,
    /// Which keeper life.
    pub nonce: Nonce,
    /// Its lease time.
    pub ttl: Millis,
}

/// What an operator wants of a package.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// Nowhere.
    #[default]
    Halted,
    /// On one eligible node.
    Running,
}

/// Whether a node may own a package.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Eligibility {
    /// Nobody has said `run` for it yet.
    #[default]
    NotRun,
    /// It may.
    Eligible,
    /// An operator stopped it here; out until `run`.
    Withdrawn {
        /// When.
        since: WallMillis,
        /// Who.
        by: String,
    },
    /// It failed here; out until `run`, `clear` or ten minutes.
    Failed {
        /// When.
        since: WallMillis,
        /// What failed.
        reason: String,
    },
}

impl Eligibility {
    /// Since when it is out, where that is kept.
    pub fn since(&self) -> Option<WallMillis> {
        match self {
            Eligibility::Eligible | Eligibility::NotRun => None,
            Eligibility::Withdrawn { since, .. } | Eligibility::Failed { since, .. } => Some(*since),
        }
    }
}

/// A package and what the cluster knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageEntry {
    /// What it is.
    pub definition: Package,
    /// The entry that stored it.
    pub revision: LogIndex,
    /// What an operator wants.
    pub desired: Desired,
    /// Every node of its list.
    pub eligibility: BTreeMap<NodeName, Eligibility>,
    /// The largest token it ever had; 0 when never owned.
    pub last_token: Token,
    /// Who owns it.
    pub owner: Option<Ownership>,
    /// The owner's last word.
    pub report: Option<PhaseReport>,
    /// The stop that made it halted; none while it should run and before it was ever run.
    #[serde(default)]
    pub halted: Option<Cause>,
    /// Why nobody owns it, or what has changed since so that somebody may; none while it is owned.
    #[serde(default)]
    pub unowned: Option<Cause>,
}

/// Since when something is so, and why. Kept with what it is about, because the ledger forgets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// When it began.
    pub since: WallMillis,
    /// For people.
    pub why: String,
}

/// One ownership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownership {
    /// Its fencing token.
    pub token: Token,
    /// The session that holds it.
    pub session: SessionId,
    /// That session's node.
    pub node: NodeId,
    /// When it was given.
    pub since: WallMillis,
    /// Why it was given.
    pub why: String,
    /// Set by a planned move: on release the package goes there.
    pub moving_to: Option<Switchover>,
}

/// A planned move under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switchover {
    /// The next owner.
    pub to: NodeId,
    /// Why.
    pub why: String,
}

/// How far the owner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Bringing resources up.
    Starting,
    /// Everything is up.
    Running,
    /// Taking resources down.
    Stopping,
    /// A stop failed; the package is held here and the way out is printed.
    Held,
}

impl Phase {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Stopping => "stopping",
            Phase::Held => "held",
        }
    }
}

/// The owner's word about a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseReport {
    /// Under which ownership.
    pub token: Token,
    /// How far.
    pub phase: Phase,
    /// When it said so.
    pub since: WallMillis,
    /// Each resource, in start order.
    pub resources: Vec<ResourceReport>,
    /// What changed.
    pub note: String,
}

/// The owner's word about one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceReport {
    /// Which one.
    pub name: ResourceName,
    /// How far.
    pub state: ResourceState,
    /// For people: `pid 4711`, `restarted 2 times`, the error.
    pub detail: String,
}

/// How far one resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceState {
    /// Down.
    Down,
    /// On its way up.
    Starting,
    /// Up.
    Up,
    /// On its way down.
    Stopping,
    /// Killed but not yet gone.
    Dying,
    /// Its last operation failed.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_log_refuses_who_was_removed_and_not_who_joined_after_its_end() {
        let mut state = State { applied: LogIndex(1), ..State::default() };
        assert!(state.admits(NodeId(1)) && state.admits(NodeId(29)), "before the cluster's own entry");
        state.cluster = Some(Cluster {
            id: ClusterId(1),
            name: String::new(),
            profile: Profile::Default,
            ca_certificate: String::new(),
            ca_key: String::new(),
            datagram_keys: BTreeMap::new(),
        });
        state.applied = LogIndex(28);
        let lets_in: BTreeSet<u64> = (27..=30).filter(|id| state.admits(NodeId(*id))).collect();
        assert_eq!(lets_in, [29, 30].into());
        state.applied = LogIndex(29);
        assert!(!state.admits(NodeId(29)), "its entry is applied, and it is no member: it was removed");
        assert_eq!(state.removed(NodeId(29)), Some(LogIndex(29)), "by that entry at the latest");
        state.removed.insert(NodeId(29), LogIndex(31));
        state.applied = LogIndex(40);
        assert_eq!(state.removed(NodeId(29)), Some(LogIndex(31)));
    }
}
