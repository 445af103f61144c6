//! Questions that one node's agent puts to another's, beside consensus.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::engine::fence::FenceAction;
use crate::engine::fence::call::{FenceAsk, FenceSaid};
use crate::engine::{LogIndex, NodeId};
use crate::raft::RaftStatus;

/// A question to one node's agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Which of these keepers does yours reach, and which of them are ready as voters? (rule 14)
    Reach {
        /// The keepers.
        keepers: BTreeSet<NodeId>,
    },
    /// What does a change of the cluster wait for? For the leader.
    Waits,
    /// How does consensus stand? For the leader, who alone knows how far the others are.
    Raft,
    /// Hand leadership over, to that node or to whoever is best placed. For the leader.
    HandOver {
        /// To whom.
        to: Option<NodeId>,
    },
    /// Run a fence agent that ends no machine.
    Fence(FenceAsk),
    /// End a machine, in an attempt that the log has begun.
    EndNode {
        /// Which node.
        node: NodeId,
        /// How.
        action: FenceAction,
        /// The entry that began the attempt.
        begun: LogIndex,
    },
}

/// Its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Those that answered, with whether each is ready.
    Reached(BTreeMap<NodeId, bool>),
    /// What a change of the cluster waits for, if the one who answers leads and it has lasted.
    Waits(Option<String>),
    /// How consensus stands there.
    Raft(Box<RaftStatus>),
    /// Another node leads now.
    HandedOver,
    /// What came of running a fence agent.
    Fence(FenceSaid),
    /// It could not be found out.
    No {
        /// Why.
        why: String,
    },
}
