//! I5: restarting or upgrading an agent, losing the leader, adding or removing a member, changing another package: none
//! of them stops or restarts what runs.

use std::collections::BTreeMap;

use crate::acts::{Act, ActId};
use crate::world::{World, now};

/// What runs, before something that must not disturb it.
pub struct Idle(BTreeMap<ActId, Act>);

impl Idle {
    /// Remembers what runs.
    pub fn now(world: &World) -> Self {
        Self(world.acts.now(now()))
    }

    /// All of it runs still, without a break.
    ///
    /// # Errors
    /// What was disturbed.
    pub fn check(&self, world: &World, what: &str) -> Result<(), String> {
        let now = world.acts.now(now());
        match self.0.iter().find(|(id, _)| !now.contains_key(id)) {
            None => Ok(()),
            Some((_, act)) => Err(format!(
                "I5 does not hold: {what}, and {}/{} on n{} was disturbed",
                act.package,
                act.resource,
                act.machine + 1
            )),
        }
    }
}
