//! The leader's decisions: state and observations in, decisions with reasons out. Pure, and so repeatable by an operator.
//!
//! Decisions are commands (refused by `apply` if the state has moved) or steps that only the leader can take. The
//! planner holds nothing between two calls: what it waits for comes back as an observation.
//!
//! - `membership`: joined nodes become voters, lease sets follow voters (rules 14, 15, 17).
//! - `fencing`: nodes that packages wait for are switched off from outside.
//! - `keys`: the key of the datagrams is replaced.
//! - `packages`: silent sessions expire, packages without an owner get one.

mod decision;
mod fencing;
mod keys;
mod membership;
mod packages;

pub use decision::{ChangeStep, Decision, Note, Plan, Step, Waits};

use std::collections::{BTreeMap, BTreeSet};

use super::event::Timeline;
use super::state::State;
use super::{Incarnation, NodeId, SessionId, SetId, WallMillis};

/// How long a failed start keeps a node out of a package: ten minutes.
pub const FAILURE_LASTS_MS: u64 = 10 * 60 * 1000;

/// What the leader knows beside the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observations {
    /// The leader's wall clock; used only for the ten minutes of a failure, which is no matter of safety.
    pub wall: WallMillis,
    /// Sessions whose renewals this node has not heard for a while.
    pub silent: BTreeSet<SessionId>,
    /// This node is in no lease set: nobody renews with it, so that every session seems silent to it. It still asks the
    /// voters about each, who know better, but does not rule a node out for its silence.
    pub deaf: bool,
    /// Expiries that enough voters agreed to.
    pub agreed: BTreeMap<SessionId, Agreement>,
    /// Raft's learners.
    pub learners: BTreeSet<NodeId>,
    /// Learners whose log is close behind the leader's.
    pub caught_up: BTreeSet<NodeId>,
    /// Whether a membership change of Raft is under way.
    pub raft_changing: bool,
    /// It is, and nobody is at it: this leader did not begin it, or its attempt has ended.
    pub raft_half_changed: bool,
    /// Keepers that answered that they can ack and agree.
    pub ready: BTreeSet<NodeId>,
    /// Which keepers each node's keeper has reached.
    pub reach: BTreeMap<NodeId, BTreeSet<NodeId>>,
    /// This node, which runs fence agents itself where it can.
    pub me: Option<NodeId>,
    /// Nodes that this leader is fencing now.
    pub fencing: BTreeSet<NodeId>,
    /// The old lease set whose retirement has been confirmed and waited for (rule 17).
    pub retirable: Option<SetId>,
}

/// Enough voters agreed that a session may expire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Who, in which incarnation.
    pub agreed: Vec<(NodeId, Incarnation)>,
    /// When what was noticed.
    pub timeline: Timeline,
}

impl Observations {
    /// Sessions that must not be given anything.
    fn unfit(&self) -> BTreeSet<SessionId> {
        if self.deaf { self.agreed.keys().copied().collect() } else { self.silent.clone() }
    }
}

/// Decides. The order of decisions is the order in which they should be carried out.
pub fn plan(state: &State, seen: &Observations) -> Plan {
    let mut plan = Plan::default();
    if state.cluster.is_some() {
        packages::expire_silent(state, seen, &mut plan);
        packages::forget_old_failures(state, seen, &mut plan);
        packages::drain(state, seen, &mut plan);
        packages::assign_unowned(state, seen, &mut plan);
        fencing::fence(state, seen, &mut plan);
        membership::follow(state, seen, &mut plan);
        keys::rotate(state, &mut plan);
    }
    plan
}
