//! What is asked of a fence agent on some node, and what came of it.

use serde::{Deserialize, Serialize};

use crate::engine::NodeId;

/// What `status` exits with when the machine is on.
pub const CODE_ON: i32 = 0;
/// What `status` exits with when the machine is off.
pub const CODE_OFF: i32 = 2;

/// What an agent can be asked to do, beside ending a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FenceVerb {
    /// Switch the machine on.
    On,
    /// Is the machine on?
    Status,
    /// Is the device there?
    Monitor,
}

impl FenceVerb {
    /// The agent's word for it.
    pub fn word(self) -> &'static str {
        match self {
            FenceVerb::On => "on",
            FenceVerb::Status => "status",
            FenceVerb::Monitor => "monitor",
        }
    }
}

/// A question that any member may answer by running an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FenceAsk {
    /// What does this agent say of itself?
    Metadata {
        /// Its path.
        agent: String,
    },
    /// What does the agent of that node's device say to this?
    Run {
        /// Whose device.
        node: NodeId,
        /// What to ask.
        verb: FenceVerb,
    },
}

/// What came of running an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FenceSaid {
    /// It is not installed there.
    Absent,
    /// It ended.
    Ran {
        /// Its exit code.
        code: i32,
        /// The end of what it wrote, or all of it where metadata were asked for; without the device's secrets.
        output: String,
    },
    /// It did not end by itself, or could not be asked.
    Failed {
        /// Why.
        why: String,
    },
}

impl FenceSaid {
    /// Nothing if it ended with this code, else why not.
    ///
    /// # Errors
    /// In words.
    pub fn expect(&self, action: &str, wanted: i32) -> Result<(), String> {
        match self {
            FenceSaid::Ran { code, .. } if *code == wanted => Ok(()),
            FenceSaid::Ran { code, output } if output.is_empty() => Err(format!("'{action}' ended with {code}")),
            FenceSaid::Ran { code, output } => Err(format!("'{action}' ended with {code}: {output}")),
            FenceSaid::Absent => Err("the agent is not installed".to_owned()),
            FenceSaid::Failed { why } => Err(format!("'{action}' failed: {why}")),
        }
    }
}
