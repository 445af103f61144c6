//! `status` and waiting for changes.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;

use super::body::Asked;
use crate::api::door::Door;
use crate::api::failure::Refusal;
use crate::api::local::Local;
use crate::api::types::{ClusterStatus, DatagramKeys, NodeStatus, Progress, Status};
use crate::engine::lease::majority;
use crate::engine::planner::Note;
use crate::engine::state::{Cluster, Node, State as ClusterState, Watchdog};
use crate::engine::view::{PackageView, StateWord, package_view};
use crate::engine::{LogIndex, NodeId, SessionId};
use crate::package::{Millis, PackageName};
use crate::raft::RaftStatus;

/// Longest a request may wait for a change, in milliseconds.
const WAIT_MAX_MS: u64 = 60_000;

/// `GET /v1/status`: linearizable when a leader can be asked, this node's copy, and marked so, when not.
pub async fn status<D: Door>(State(door): State<D>) -> Json<Status> {
    let stale = door.linearize().await.is_err();
    let (local, raft, notes, waits) = (door.local(), door.raft(), door.notes(), door.change_waits().await);
    let answer = door.read(|state| Status {
        cluster: state.cluster.as_ref().map(|cluster| cluster_status(state, cluster, &raft, &local, waits.clone())),
        removed: None,
        local: local.clone(),
        node: door.node_name(),
        applied: state.applied,
        stale,
        packages: state.packages.keys().filter_map(|name| view(state, name, &notes)).collect(),
    });
    Json(answer)
}

/// A package's view; where the planner knows why nobody takes it, that is its reason.
fn view(state: &ClusterState, name: &PackageName, notes: &[Note]) -> Option<PackageView> {
    let mut view = package_view(state, name)?;
    let note = notes.iter().find(|n| n.package == *name);
    if let Some(note) = note.filter(|_| view.state == StateWord::FailingOver) {
        view.reason = note.why.clone();
    }
    Some(view)
}

fn cluster_status(
    state: &ClusterState,
    cluster: &Cluster,
    raft: &RaftStatus,
    local: &Local,
    waits: Option<String>,
) -> ClusterStatus {
    let told = waits.iter().map(|why| format!("a change of the cluster waits: {why}"));
    ClusterStatus {
        id: cluster.id,
        name: cluster.name.clone(),
        profile: cluster.profile,
        leader: raft.leader.and_then(|(id, _)| state.nodes.get(&id)).map(|n| n.name.clone()),
        term: raft.term,
        survives: there(state, local).len().saturating_sub(majority(state.raft_voters.len())),
        lease_sets_changing: state.lease_sets.len() > 1,
        warnings: warnings(state, raft, local).into_iter().chain(told).collect(),
        change_waits: waits,
        fallback: state.fallback.clone(),
        datagram_keys: Some(DatagramKeys {
            accepted: cluster.datagram_keys.keys().copied().collect(),
            used: state.sealing_key(),
            wanted: state.rotation.wanted.is_some(),
        }),
        nodes: state.nodes.iter().map(|(id, node)| node_status(state, *id, node, local)).collect(),
    }
}

fn node_status(state: &ClusterState, id: NodeId, node: &Node, local: &Local) -> NodeStatus {
    let session = state.sessions.iter().rev().find(|(_, s)| s.node == id).map(|(id, _)| *id);
    let owned = state.packages.iter().filter(|(_, p)| p.owner.as_ref().is_some_and(|o| o.node == id));
    NodeStatus {
        id,
        name: node.name.clone(),
        address: node.address,
        voter: state.raft_voters.contains(&id),
        lease_voter: state.lease_sets.last_key_value().is_some_and(|(_, set)| set.contains(&id)),
        session,
        owns: owned.map(|(name, _)| name.to_string()).collect(),
        silent: session.is_some_and(|s| local.silent.contains(&s)) && id != local.node,
        leaving: state.leaving.contains(&id),
        watchdog: state.watchdogs.get(&id).cloned(),
    }
}

/// Nodes with a session that is not silent, as far as this node knows.
fn present(state: &ClusterState, local: &Local) -> BTreeSet<NodeId> {
    // Nobody is silent to itself.
    let own = |id: &SessionId| state.sessions.get(id).is_some_and(|session| session.node == local.node);
    let silent = local.silent.iter().filter(|id| !own(id)).copied().collect();
    state.present(&silent)
}

/// Raft's voters whose keepers are alive.
fn there(state: &ClusterState, local: &Local) -> BTreeSet<NodeId> {
    state.raft_voters.intersection(&present(state, local)).copied().collect()
}

/// A witness is no role of its own: a voter that no package names.
const TWO_VOTERS: &str = "two voters: it survives no failure, the loss of either stops the other; add a third node, or a \
                          witness: a small machine that votes and is in no package's list of nodes (`pkgctl raft add`, \
                          `pkgctl cluster join`)";

/// What the cluster cannot survive now, and why.
fn losses(state: &ClusterState, local: &Local) -> Vec<String> {
    let voters = state.raft_voters.len();
    let absent: Vec<NodeId> = state.raft_voters.difference(&there(state, local)).copied().collect();
    let mut all = Vec::new();
    match voters {
        0 | 1 => all.push("one voter: it survives no failure; add two nodes with `pkgctl cluster join`".to_owned()),
        2 => all.push(TWO_VOTERS.to_owned()),
        _ => {}
    }
    if absent.is_empty() {
        return all;
    }
    let names: Vec<String> = absent.iter().map(|id| state.name_of(*id)).collect();
    let (names, left) = (names.join(", "), voters - absent.len());
    let spare = left.saturating_sub(majority(voters));
    all.push(match (left >= majority(voters), spare) {
        (false, _) => format!(
            "voters down: {names}. No majority is left ({left} of {voters}): nothing can be changed, and packages end \
             with their leases"
        ),
        (true, 0) => format!("voters down: {names}. The loss of one more stops the cluster and its packages"),
        (true, _) => format!("voters down: {names}"),
    });
    let waiting = state.nodes.keys().any(|id| !state.raft_voters.contains(id) && !state.leaving.contains(id));
    if waiting {
        all.push(format!(
            "joining nodes get no vote while a voter is down: bring {names} back, or give it up with `pkgctl cluster remove`"
        ));
    }
    all
}

/// The last word of a node that is down may be old: that it has no watchdog matters no more, and that it is being reset is
/// told as what it said last.
fn watchdog_warnings(state: &ClusterState, local: &Local) -> Vec<String> {
    let present = present(state, local);
    let warning = |(id, watchdog): (&NodeId, &Watchdog)| {
        let (name, sentence) = (state.name_of(*id), watchdog.sentence());
        match (watchdog, present.contains(id)) {
            (Watchdog::Armed { .. }, _) | (Watchdog::Unusable { .. }, false) => None,
            (Watchdog::Unusable { .. } | Watchdog::Starved { .. }, true) => Some(format!("{name} {sentence}")),
            (Watchdog::Starved { .. }, false) => {
                Some(format!("{name} has no live session; it said last that it {sentence}"))
            }
        }
    };
    state.watchdogs.iter().filter_map(warning).collect()
}

/// That it went on alone, for as long as nobody has said that it is whole.
fn fallback_warning(state: &ClusterState) -> Option<String> {
    let fallback = state.fallback.as_ref()?;
    let (from, by) = (fallback.from, &fallback.by);
    Some(match fallback.wait() {
        Some(wait) => format!("{wait}. No package is given to anybody before that (force-standalone by {by})"),
        None => {
            let formers: Vec<&str> = fallback.formers.values().map(|former| former.name.as_str()).collect();
            format!(
                "this cluster went on alone from cluster {from} (force-standalone by {by}): no two nodes act for one package \
                 only as long as those of the old one ({}) stay off or have left it. Once it cannot come back: `pkgctl \
                 raft whole` (docs/fallback.md)",
                formers.join(", ")
            )
        }
    })
}

fn warnings(state: &ClusterState, raft: &RaftStatus, local: &Local) -> Vec<String> {
    let mut all: Vec<String> = fallback_warning(state).into_iter().chain(losses(state, local)).collect();
    all.extend(watchdog_warnings(state, local));
    if state.lease_sets.len() > 1 {
        all.push("the voters are changing: an older lease set is being retired".to_owned());
    }
    if raft.leader.is_none() {
        all.push(
            "no leader is known to this node: changes wait; packages run on while a majority of keepers is there"
                .to_owned(),
        );
    }
    if local.scheduling.as_deref() == Some("best-effort") {
        all.push("scheduling is best-effort on this node: programs are ended 150 ms before the lease".to_owned());
    }
    all.extend(local.lease.skew_ppm.map(|ppm| {
        let percent = f64::from(ppm.unsigned_abs()) / 10_000.0;
        format!(
            "this node's clocks differ in rate by {percent:.1} %: its leases may lapse early; see what sets the clock \
             (chronyc tracking, timedatectl)"
        )
    }));
    all.extend(local.keeper_waits.iter().map(|what| format!("this node's keeper is not ready yet: {what}")));
    if local.keeper_version.is_none() {
        all.push("this node's keeper is not attached: it holds no lease and can own nothing".to_owned());
    }
    let lapsed = !local.lease.is_live() || local.lease.left == Millis(0);
    if local.keeper_version.is_some() && lapsed {
        all.push("this node's keeper holds no lease now: whatever ran here has ended".to_owned());
    }
    all.extend(local.keeper_version.iter().filter(|v| **v != local.agent_version).map(|v| {
        format!("this node's keeper is {v}, its agent {}: drain the node and restart the keeper", local.agent_version)
    }));
    all.extend(raft.fatal.iter().map(|why| format!("this node's store has failed and it has retired: {why}")));
    all
}

/// `GET /v1/changes?after=N&within_ms=M`.
#[derive(Deserialize)]
pub struct Wait {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    within_ms: u64,
}

/// Waits until more than `after` has been applied here, or the time is up.
pub async fn changes<D: Door>(State(door): State<D>, Asked(wait): Asked<Wait>) -> Result<Json<Progress>, Refusal> {
    let within = Duration::from_millis(wait.within_ms.min(WAIT_MAX_MS));
    Ok(Json(Progress { applied: door.applied_after(LogIndex(wait.after), within).await }))
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;
    use crate::engine::state::Session;
    use crate::engine::{Nonce, SessionId, codec};
    use crate::keeper::protocol::LeaseView;
    use crate::package::Millis;
    use crate::raft::Role;

    /// A lease as keepers of the version before tell it.
    #[derive(Serialize)]
    struct OldView {
        session: Option<SessionId>,
        left: Millis,
        over: bool,
    }

    fn warned(lease: LeaseView) -> bool {
        let local = Local { lease, ..Local::default() };
        let all = warnings(&ClusterState::default(), &RaftStatus::empty(NodeId(1), Role::Follower), &local);
        all.iter().any(|text| text.contains("clocks differ in rate by 5.0 %"))
    }

    #[test]
    fn clocks_that_run_unevenly_are_warned_of_as_rule_2_says_and_a_keeper_that_does_not_say_it_is_understood() {
        assert!(warned(LeaseView { skew_ppm: Some(-50_000), ..LeaseView::default() }));
        let old = OldView { session: None, left: Millis(7), over: false };
        let view: LeaseView = codec::decode(&codec::encode(&old)).unwrap();
        assert_eq!(view, LeaseView { left: Millis(7), ..LeaseView::default() });
        assert!(!warned(view));
    }

    #[test]
    fn what_a_node_that_is_down_said_of_its_watchdog_is_left_out_or_told_as_old() {
        let mut state = ClusterState::default();
        let why = || "no reason".to_owned();
        state.watchdogs.insert(NodeId(1), Watchdog::Unusable { why: why() });
        state.watchdogs.insert(NodeId(2), Watchdog::Starved { why: why() });
        let told = watchdog_warnings(&state, &Local::default());
        assert!(matches!(&told[..], [one] if one.contains("it said last that it is being reset")), "{told:?}");
        for node in [1, 2] {
            let session = Session { node: NodeId(node), nonce: Nonce(node), ttl: Millis(1500) };
            state.sessions.insert(SessionId(node), session);
        }
        let told = watchdog_warnings(&state, &Local::default());
        assert!(told.len() == 2 && told.iter().all(|one| !one.contains("said last")), "{told:?}");
    }
}
