//! What root on this node may ask for: to go on alone, to leave the cluster.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{Mutex, MutexGuard, mpsc};

use super::super::platform::HostPlatform;
use super::super::removal::{How, Record, free_turn, place_aside};
use super::exchange::{Going, Making, prepare};
use crate::agent::Agent;
use crate::agent::ask::Question;
use crate::agent::platform::Platform;
use crate::api::door::{Door, DoorError};
use crate::api::routes::LocalDoor;
use crate::api::types::raft::{
    LeavePlan, LeaveRequest, Left, OtherMember, StandaloneBegun, StandalonePlan, StandaloneRequest,
};
use crate::engine::fallback::{Alone, NotAlone, go_alone, may_go_alone};
use crate::engine::kv::Range;
use crate::engine::lease::majority;
use crate::engine::{LogIndex, NodeId, State, codec};
use crate::net::identity::Authority;
use crate::net::peers::TlsPeers;
use crate::net::random;
use crate::raft::store::disk::RealDisk;
use crate::raft::{PeerCall, Peers};

/// How long another voter may take to show that it is there.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What is said of a second order.
const ENDING: &str = "this node's life in this cluster is ending already; nothing was changed by this";

/// What the node's life is to end with.
pub(in crate::service) enum Order {
    /// It goes on alone, with a store that is ready.
    Alone(Going),
    /// It leaves.
    Leave(Record),
}

/// A member as root on its own machine meets it.
#[derive(Clone)]
pub(in crate::service) struct Local {
    pub(in crate::service) agent: Agent<HostPlatform>,
    pub(in crate::service) peers: TlsPeers,
    pub(in crate::service) state_dir: PathBuf,
    pub(in crate::service) address: std::net::SocketAddr,
    /// One at a time, and the first one ends this life.
    pub(in crate::service) orders: mpsc::Sender<Order>,
    /// Held while one is being prepared; whether one was given.
    pub(in crate::service) given: Arc<Mutex<bool>>,
}

impl Local {
    /// Voters that answer, this node not counted.
    async fn answering(&self, state: &State) -> Vec<NodeId> {
        let others = state.raft_voters.iter().filter(|id| **id != self.agent.me);
        let asked = others.filter_map(|id| Some((*id, state.nodes.get(id)?.address))).map(async |(id, address)| {
            let question = codec::encode(&Question::Raft);
            let said = self.peers.call(id, address, PeerCall::Ask, question, ANSWER_WITHIN).await;
            said.is_ok().then_some(id)
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// The state of the whole log, and who else of the voters answers; or why a majority is there.
    async fn seen(&self) -> Result<(Arc<State>, Vec<NodeId>, Option<String>), DoorError> {
        let linear = self.agent.linearize().await.is_ok();
        let state = self.whole_log()?;
        let there = self.answering(&state).await;
        let voters = state.raft_voters.len();
        let majority_is_there = linear || there.len() + 1 >= majority(voters);
        let why = majority_is_there.then(|| {
            let names: Vec<String> = there.iter().map(|id| state.name_of(*id)).collect();
            format!(
                "a majority of the {voters} voters is there ({} answer): the cluster works, or will elect a leader in a \
                 moment; nothing was changed. `pkgctl cluster status` shows it",
                if names.is_empty() { "a leader".to_owned() } else { format!("this node and {}", names.join(", ")) }
            )
        });
        Ok((state, there, why))
    }

    fn refused(&self, state: &State, majority_is_there: Option<String>) -> Option<String> {
        match may_go_alone(state, self.agent.me) {
            Err(why) => Some(why.to_string()),
            Ok(_) => majority_is_there,
        }
    }

    /// One order is prepared at a time: the next one would throw its store away. After one was given there is no other.
    async fn turn(&self) -> Result<MutexGuard<'_, bool>, DoorError> {
        let given = self.given.lock().await;
        if *given { Err(DoorError::Refused(ENDING.to_owned())) } else { Ok(given) }
    }

    fn order(&self, mut turn: MutexGuard<'_, bool>, order: Order) -> Result<(), DoorError> {
        *turn = true;
        self.orders.try_send(order).map_err(|_| DoorError::Refused(ENDING.to_owned()))
    }

    /// Makes the new store; aside, because it writes all of the state.
    async fn make(&self, request: &StandaloneRequest, by: String) -> Result<Going, DoorError> {
        let failed =
            |e: anyhow::Error| DoorError::Fatal(format!("the new store was not made, the old one is in force: {e:#}"));
        let identity = self.agent.consensus.identity();
        let cluster = identity.cluster.of_the_family(random::cluster_id());
        let authority = Authority::create(cluster, &request.cluster).map_err(|e| failed(e.into()))?;
        let end = self.agent.consensus.log_end().map_err(|e| failed(e.into()))?;
        let state = self.agent.consensus.whole_log().map_err(|e| failed(e.into()))?;
        let alone = Alone {
            cluster,
            ca_certificate: authority.certificate_pem().to_owned(),
            ca_key: authority.key_pem(),
            datagram_key: random::datagram_key(),
            wall: self.agent.platform.wall(),
            by,
            fence: request.fence,
        };
        let me = self.agent.me;
        let next = go_alone(&state, me, alone).map_err(|e: NotAlone| DoorError::Refused(e.to_string()))?;
        let (state_dir, name, address) = (self.state_dir.clone(), self.agent.node_name(), self.address);
        let making = move || {
            let state = Arc::new(next);
            let making = Making { old: identity, name: &name, address, state, authority: &authority, end };
            prepare(&state_dir, &making, Arc::new(RealDisk))
        };
        tokio::task::spawn_blocking(making).await.map_err(|e| failed(e.into()))?.map_err(failed)
    }
}

/// The operator must have typed the cluster's name.
fn named(state: &State, typed: &str) -> Result<(), DoorError> {
    let name = state.cluster.as_ref().map(|cluster| cluster.name.as_str()).unwrap_or_default();
    if typed == name {
        return Ok(());
    }
    Err(DoorError::Refused(format!("the cluster is called '{name}', not '{typed}'; nothing was changed")))
}

fn gives_up(others: &[OtherMember]) -> Vec<String> {
    let names: Vec<&str> = others.iter().map(|other| other.name.as_str()).collect();
    let names = names.join(", ");
    [
        format!("{names} may go on as the old cluster, with every package; the two are never merged"),
        "what was written there after the last entry of this node's log is not known here".to_owned(),
        format!(
            "leases hold against {names} no more: two nodes may act for one package unless each of those is off, and stays \
             off, or is in no cluster any more. One that went on alone too counts as on. Nothing is started before you have \
             said so of each of them"
        ),
        "the same goes for machines that the old cluster has taken in without this node knowing".to_owned(),
        "every certificate of the old cluster is void here: `pkgctl cluster client NAME` makes new ones".to_owned(),
        "the others can come back only as new nodes (`pkgctl cluster leave` there, then `pkgctl cluster join`)".to_owned(),
    ]
    .to_vec()
}

fn other(state: &State, id: NodeId, there: &[NodeId]) -> Option<OtherMember> {
    let node = state.nodes.get(&id)?;
    let owned = state.packages.iter().filter(|(_, entry)| entry.owner.as_ref().is_some_and(|owner| owner.node == id));
    Some(OtherMember {
        id,
        name: node.name.clone(),
        address: node.address,
        voter: state.raft_voters.contains(&id),
        answers: there.contains(&id),
        fence_device: state.fence_devices.contains_key(&id),
        owned: owned.map(|(name, _)| name.clone()).collect(),
    })
}

/// A node leaves by itself only where nobody else could let it go.
fn must_stay(state: &State, me: NodeId, majority_is_there: Option<String>) -> Option<String> {
    let others_vote = state.raft_voters.iter().any(|id| *id != me);
    let how = format!("To take this node out of it: `pkgctl cluster remove {}`", state.name_of(me));
    majority_is_there.filter(|_| others_vote).map(|why| format!("{why}. {how}"))
}

/// The last entry that wrote a key or a definition that is still there.
fn newest_write(state: &State) -> LogIndex {
    let keys = state.kv.range(&Range::All).map(|(_, item)| item.revision);
    let packages = state.packages.values().map(|entry| entry.revision);
    keys.chain(packages).max().unwrap_or_default()
}

impl LocalDoor for Local {
    async fn standalone_plan(&self) -> Result<StandalonePlan, DoorError> {
        let (state, there, majority_is_there) = self.seen().await?;
        let refused = self.refused(&state, majority_is_there);
        let others = state.nodes.keys().filter(|id| **id != self.agent.me);
        let others: Vec<OtherMember> = others.filter_map(|id| other(&state, *id, &there)).collect();
        let cluster = state.cluster.as_ref();
        Ok(StandalonePlan {
            cluster: cluster.map(|cluster| cluster.name.clone()).unwrap_or_default(),
            id: self.agent.consensus.identity().cluster,
            node: self.agent.node_name(),
            voters: state.raft_voters.len(),
            last_log: self.agent.raft().last_log,
            gives_up: gives_up(&others),
            others,
            refused,
        })
    }

    async fn go_alone(&self, request: StandaloneRequest, by: String) -> Result<StandaloneBegun, DoorError> {
        let turn = self.turn().await?;
        let (state, _, majority_is_there) = self.seen().await?;
        if let Some(why) = self.refused(&state, majority_is_there) {
            return Err(DoorError::Refused(why));
        }
        named(&state, &request.cluster)?;
        let by = format!("{by}@{}", self.agent.node_name());
        tracing::warn!(
            "{by} has this node go on alone: it was one of {} voters of its cluster",
            state.raft_voters.len()
        );
        let going = self.make(&request, by).await?;
        let from = self.agent.consensus.identity().cluster;
        let begun =
            StandaloneBegun { cluster: going.cluster(), from, kept: going.kept(&self.state_dir).display().to_string() };
        self.order(turn, Order::Alone(going))?;
        Ok(begun)
    }

    async fn leave_plan(&self) -> Result<LeavePlan, DoorError> {
        let (state, _, majority_is_there) = self.seen().await?;
        Ok(LeavePlan {
            cluster: state.cluster.as_ref().map(|cluster| cluster.name.clone()).unwrap_or_default(),
            id: self.agent.consensus.identity().cluster,
            node: self.agent.node_name(),
            refused: must_stay(&state, self.agent.me, majority_is_there),
            upto: state.applied,
            alone_after: state.fallback.as_ref().map(|fallback| fallback.begun),
            packages: state.packages.values().map(|entry| entry.definition.clone()).collect(),
        })
    }

    fn whole_log(&self) -> Result<Arc<State>, DoorError> {
        self.agent.consensus.whole_log().map_err(|e| DoorError::Fatal(e.to_string()))
    }

    async fn leave(&self, request: LeaveRequest, by: String) -> Result<Left, DoorError> {
        let turn = self.turn().await?;
        let (state, _, majority_is_there) = self.seen().await?;
        named(&state, &request.cluster)?;
        let me = self.agent.me;
        if let Some(why) = must_stay(&state, me, majority_is_there) {
            return Err(DoorError::Refused(why));
        }
        let fresh = request.exported.is_none_or(|upto| newest_write(&state) <= upto);
        if !fresh {
            let why = "keys or packages were written since the export; nothing was changed: export again";
            return Err(DoorError::Refused(why.to_owned()));
        }
        let identity = self.agent.consensus.identity();
        let place = free_turn(&self.state_dir, identity.cluster, me);
        let record = Record {
            cluster: identity.cluster,
            name: request.cluster,
            node: me,
            index: state.applied,
            how: How::Left,
            by: format!("{by}@{}", self.agent.node_name()),
            since: self.agent.platform.wall(),
            turn: place,
        };
        let kept = place_aside(&self.state_dir, identity.cluster, me, place).display().to_string();
        self.order(turn, Order::Leave(record))?;
        Ok(Left { cluster: identity.cluster, node: me, kept })
    }
}
