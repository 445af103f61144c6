//! Questions that one node's agent puts to another's, beside consensus.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::engine::NodeId;

/// A question to one node's agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Which of these keepers does yours reach, and which of them are ready as voters? (rule 14)
    Reach {
        /// The keepers.
        keepers: BTreeSet<NodeId>,
    },
}

/// Its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Those that answered, with whether each is ready.
    Reached(BTreeMap<NodeId, bool>),
    /// It could not be found out.
    No {
        /// Why.
        why: String,
    },
}
