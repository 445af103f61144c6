//! What a node shows of itself beside the replicated state.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::engine::{NodeId, SessionId};
use crate::keeper::protocol::LeaseView;

/// This node, as it sees itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Local {
    /// This node's id.
    pub node: NodeId,
    /// The agent's program version.
    pub agent_version: String,
    /// The keeper's program version; none while there is no keeper.
    pub keeper_version: Option<String>,
    /// What the keeper waits for before it is ready, in words; none once it is, and while there is none.
    #[serde(default)]
    pub keeper_waits: Option<String>,
    /// `fifo` or `best-effort`; none while there is no keeper.
    pub scheduling: Option<String>,
    /// The lease.
    pub lease: LeaseView,
    /// Sessions this node's keeper has not heard for a while.
    pub silent: BTreeSet<SessionId>,
}
