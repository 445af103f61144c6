//! What travels through the door, as JSON. Names are stable; fields are only added.

pub mod kv;
pub mod raft;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::local::Local;
use crate::engine::command::StopScope;
use crate::engine::event::Event;
use crate::engine::fallback::Fallback;
use crate::engine::fence::call::FenceSaid;
use crate::engine::fence::{FenceAction, FenceDevice, Fencing};
use crate::engine::operator::{ClientName, Operator};
use crate::engine::state::Watchdog;
use crate::engine::view::PackageView;
use crate::engine::{ClusterId, LogIndex, NodeId, Profile, Reply, SessionId, Token, WallMillis};
use crate::package::{ClusterName, NodeName, Package, PackageName};

/// `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The cluster; none on a node that is not in one.
    pub cluster: Option<ClusterStatus>,
    /// That this node was removed from its cluster: what still holds, and how it comes back. None on a member, and on a
    /// node that never was one.
    #[serde(default)]
    pub removed: Option<RemovedNode>,
    /// The node that answers.
    pub local: Local,
    /// Its name.
    pub node: NodeName,
    /// The newest entry this answer takes into account.
    pub applied: LogIndex,
    /// Whether the answer is this node's own copy because no leader could be asked.
    pub stale: bool,
    /// Every package, by name.
    pub packages: Vec<PackageView>,
}

/// A node that was removed from its cluster, in `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedNode {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Which node it was.
    pub node: NodeId,
    /// The entry that removed it.
    pub index: LogIndex,
    /// When this node was told, by its wall clock.
    pub since: WallMillis,
    /// What happened, what still holds, what to do.
    pub sentence: String,
}

/// The cluster in `status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Its identity.
    pub id: ClusterId,
    /// Its name.
    pub name: String,
    /// Its profile.
    pub profile: Profile,
    /// The leader's name, if one is known.
    pub leader: Option<NodeName>,
    /// The leader's term.
    pub term: u64,
    /// How many voters may be lost at once without loss of service.
    pub survives: usize,
    /// Whether an older lease set is being retired.
    pub lease_sets_changing: bool,
    /// What a change under way, of the members or of the datagrams' key, waits for and what to do, once it has waited for
    /// a while.
    #[serde(default)]
    pub change_waits: Option<String>,
    /// The keys of the keepers' datagrams; none from members that do not say it.
    #[serde(default)]
    pub datagram_keys: Option<DatagramKeys>,
    /// What is not right, for people: a sentence each.
    pub warnings: Vec<String>,
    /// That it went on from a minority of another cluster, until it is whole.
    #[serde(default)]
    pub fallback: Option<Fallback>,
    /// Every member.
    pub nodes: Vec<NodeStatus>,
}

/// The keys of the keepers' datagrams, by their ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatagramKeys {
    /// Those that are accepted; more than one while the key is being replaced.
    pub accepted: Vec<u32>,
    /// The one that is used to send.
    pub used: Option<u32>,
    /// A replacement is wanted that has not begun.
    pub wanted: bool,
}

/// One member in `status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Where it answers.
    pub address: SocketAddr,
    /// Whether it is one of Raft's voters.
    pub voter: bool,
    /// Whether it is in the newest lease set.
    pub lease_voter: bool,
    /// Its live session.
    pub session: Option<SessionId>,
    /// Packages it owns.
    pub owns: BTreeSet<String>,
    /// Whether it is silent, as far as the answering node hears.
    pub silent: bool,
    /// Whether it is being removed.
    #[serde(default)]
    pub leaving: bool,
    /// Its machine's watchdog, as its keeper said last; none when none is configured there.
    #[serde(default)]
    pub watchdog: Option<Watchdog>,
}

/// `GET /v1/packages/P`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PackageDetail {
    /// As `status` shows it.
    pub view: PackageView,
    /// As it is stored.
    pub definition: Package,
    /// Its events in the ledger, oldest first.
    pub events: Vec<Event>,
}

/// `GET /v1/packages/P/owner`: who may act for it now (X3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The owner's name; none while nobody owns it.
    pub node: Option<NodeName>,
    /// The fencing token; the last one given while nobody owns it.
    pub token: Token,
    /// The owner's session.
    pub session: Option<SessionId>,
}

/// `PUT /v1/packages/P`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefineRequest {
    /// The whole definition.
    pub definition: Package,
    /// The revision it replaces; none when it must be new.
    #[serde(default)]
    pub replaces: Option<LogIndex>,
}

/// `POST /v1/packages/P/run` and `…/clear`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRequest {
    /// Only this node.
    #[serde(default)]
    pub node: Option<NodeName>,
}

/// `POST /v1/packages/P/stop`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// Where.
    pub scope: StopScope,
}

/// `POST /v1/packages/P/move`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveRequest {
    /// The new owner; the next eligible node of the list when absent.
    #[serde(default)]
    pub to: Option<NodeName>,
}

/// `POST /v1/packages/P/move` answers where it goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Moving {
    /// Which package.
    pub package: PackageName,
    /// The entry.
    pub index: LogIndex,
    /// The owner until now.
    pub from: NodeName,
    /// The owner to be.
    pub to: NodeName,
}

/// `POST /v1/cluster/remove`: takes a node out, up or down. `…/keep` takes that back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RemoveRequest {
    /// Its name.
    pub node: NodeName,
}

/// `GET /v1/fences`, an element for each node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FenceView {
    /// Its name.
    pub node: NodeName,
    /// How it is switched off, without secrets; none without a device.
    pub device: Option<FenceDevice>,
    /// What is ordered, under way or has failed.
    pub fencing: Option<Fencing>,
    /// The entry that began the last attempt that succeeded.
    pub fenced: Option<LogIndex>,
    /// Packages that wait until it is fenced.
    pub waiting: Vec<PackageName>,
}

/// `PUT /v1/fences/N`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FenceRequest {
    /// How it is switched off.
    pub device: FenceDevice,
    /// Do not ask the agent what it takes.
    #[serde(default)]
    pub unchecked: bool,
}

/// `PUT /v1/fences/N` answers who cannot run the agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FenceSet {
    /// The entry; the node that answers has applied it.
    pub index: LogIndex,
    /// What it answered.
    pub reply: Reply,
    /// Members that cannot run the agent, each with why.
    pub missing: BTreeMap<NodeName, String>,
}

/// `POST /v1/fences/N/test`, an element for each member that was asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FenceTest {
    /// Who ran the agent.
    pub from: NodeName,
    /// What `monitor` came to.
    pub monitor: FenceSaid,
    /// What `status` came to.
    pub status: FenceSaid,
}

/// `POST /v1/fences/N/order`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FenceOrder {
    /// What to do.
    pub action: FenceAction,
    /// Even if the node lives.
    #[serde(default)]
    pub force: bool,
}

/// What a change answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Changed {
    /// The entry; the node that answers has applied it.
    pub index: LogIndex,
    /// What it answered.
    pub reply: Reply,
}

/// `POST /v1/packages/P/stop` answers which node stays out of it now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stopped {
    /// The entry; the node that answers has applied it.
    pub index: LogIndex,
    /// The node that stays out; none when the package is halted.
    pub node: Option<NodeName>,
}

/// `POST /v1/cluster/init`, on a node that is in no cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitRequest {
    /// The cluster's name.
    pub name: ClusterName,
    /// Its profile.
    #[serde(default)]
    pub profile: Profile,
}

/// `POST /v1/cluster/join`, on a node that is in no cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The token a member printed.
    pub token: String,
}

/// What `init`, `join` and `token` answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Joined {
    /// The cluster.
    pub cluster: ClusterId,
    /// This node's id in it.
    pub node: NodeId,
}

/// `POST /v1/cluster/token`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IssuedToken {
    /// To be typed on the node that joins; shown once.
    pub token: String,
    /// How long it is good, in seconds.
    pub valid_s: u64,
}

/// `PUT /v1/cluster/clients/NAME`: a certificate for an operator.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientRequest {
    /// Its certificate request, PEM; only the key in it counts.
    pub request: String,
}

/// What is answered to it; with the key it is all that a client needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientIssued {
    /// The operator's certificate, PEM.
    pub certificate: String,
    /// The authority's, PEM.
    pub authority: String,
    /// Where the members answer.
    pub endpoints: Vec<SocketAddr>,
}

/// `GET /v1/cluster/clients`, an element for each operator that was ever given a certificate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientView {
    /// Its name.
    pub name: ClientName,
    /// Since when it has one, and until when it was good.
    #[serde(flatten)]
    pub operator: Operator,
}

/// `GET /v1/changes`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// The last entry applied.
    pub applied: LogIndex,
}

/// The code of a join that was refused because of its token: used, expired, or never one of that cluster.
pub const TOKEN_REFUSED: &str = "token_refused";
/// The code of a join whose token names a member that cannot be asked.
pub const MEMBER_UNREACHABLE: &str = "member_unreachable";

/// The body of every answer that is not a success.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// One word for machines: `no_such_package`, `rejected`, `bad_request`, `unavailable`, `unknown_outcome` …
    pub code: String,
    /// What happened, what still holds, what to do next.
    pub message: String,
    /// What a key had whose condition did not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<kv::KvFound>,
}
