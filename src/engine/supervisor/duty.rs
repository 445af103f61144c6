//! What the replicated state wants of this node for one package.

use std::sync::Arc;

use crate::engine::placement::eligible;
use crate::engine::state::{Desired, PackageEntry, State};
use crate::engine::{NodeId, SessionId, Token};
use crate::package::Package;

/// What the replicated state wants of this node for one package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Duty {
    /// It is not this node's.
    #[default]
    None,
    /// Bring it up and keep it up.
    Own {
        /// The ownership.
        token: Token,
        /// Its session.
        session: SessionId,
        /// What to run.
        definition: Arc<Package>,
    },
    /// Take it down and release it.
    Yield {
        /// The ownership.
        token: Token,
        /// Its session.
        session: SessionId,
        /// What runs.
        definition: Arc<Package>,
        /// Why, for people.
        why: String,
    },
}

/// The duty of `node` whose keeper holds `session`, for one package.
pub fn duty(state: &State, node: NodeId, session: SessionId, entry: &PackageEntry) -> Duty {
    let Some(owner) = entry.owner.as_ref().filter(|o| o.session == session) else { return Duty::None };
    let definition = Arc::new(entry.definition.clone());
    match reason_to_yield(state, node, entry) {
        None => Duty::Own { token: owner.token, session, definition },
        Some(why) => Duty::Yield { token: owner.token, session, definition, why },
    }
}

fn reason_to_yield(state: &State, node: NodeId, entry: &PackageEntry) -> Option<String> {
    match entry.desired {
        Desired::Halted => return Some("the package was stopped everywhere".to_owned()),
        Desired::Running => {}
    }
    if let Some(switch) = entry.owner.as_ref().and_then(|o| o.moving_to.as_ref()) {
        return Some(switch.why.clone());
    }
    let name = &state.nodes.get(&node)?.name;
    eligible(entry, name).err().map(|why| format!("{name} {why}"))
}
