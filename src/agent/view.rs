//! What this node knows beside the replicated state: a copy that the loop publishes.

use std::sync::{Arc, Mutex, PoisonError};

use crate::api::local::Local;
use crate::engine::planner::Note;

/// What the loop publishes.
#[derive(Clone, Debug, Default)]
pub(super) struct Published {
    /// For `status`.
    pub(super) local: Local,
    /// Why packages that should run do not; only while this node leads.
    pub(super) notes: Vec<Note>,
    /// What a change of the cluster waits for; only while this node leads.
    pub(super) waits: Option<String>,
}

/// The published copy.
#[derive(Clone, Default)]
pub(super) struct LocalView(Arc<Mutex<Published>>);

impl LocalView {
    /// The newest copy.
    pub(super) fn get(&self) -> Published {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, published: Published) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = published;
    }
}
