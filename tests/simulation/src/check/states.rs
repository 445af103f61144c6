//! I2 and I6: tokens rise from state to state, equal prefixes of the log are equal states, and any state is consistent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pkgctl::engine::State;
use pkgctl::engine::check::{consistent, equal_states, tokens_rise};

use crate::world::{World, sleep};

const EVERY: Duration = Duration::from_millis(100);
/// States remembered to compare others with.
const KEPT: usize = 256;

/// Looks at every node's state again and again, for as long as the world lasts.
pub async fn watch(world: Arc<World>) {
    let mut seen = Seen::default();
    loop {
        sleep(EVERY).await;
        for machine in world.machines() {
            let Some(agent) = machine.agent().and_then(|life| life.agent()) else { continue };
            if let Err(what) = seen.take(machine.index, agent.consensus.state()) {
                world.broken(format!("n{}: {what}", machine.index + 1));
            }
        }
    }
}

#[derive(Default)]
struct Seen {
    /// The first state seen of each length of the log.
    by_index: BTreeMap<u64, Arc<State>>,
    last: BTreeMap<usize, u64>,
}

impl Seen {
    fn take(&mut self, machine: usize, state: Arc<State>) -> Result<(), String> {
        let index = state.applied.0;
        if self.last.insert(machine, index) == Some(index) {
            return Ok(());
        }
        consistent(&state).map_err(|v| v.to_string())?;
        if let Some(there) = self.by_index.get(&index) {
            return equal_states(there, &state).map_err(|v| v.to_string());
        }
        let before = self.by_index.range(..index).next_back().map(|(_, state)| state);
        let after = self.by_index.range(index..).next().map(|(_, state)| state);
        before.map_or(Ok(()), |before| tokens_rise(before, &state)).map_err(|v| v.to_string())?;
        after.map_or(Ok(()), |after| tokens_rise(&state, after)).map_err(|v| v.to_string())?;
        self.by_index.insert(index, state);
        while self.by_index.len() > KEPT {
            self.by_index.pop_first();
        }
        Ok(())
    }
}
