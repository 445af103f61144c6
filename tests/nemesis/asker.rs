//! One request to one node's own socket, and what is known afterwards.

use std::path::Path;
use std::time::Duration;

use pkgctl::api::types::Status;
use pkgctl::net::http::{Endpoint, HttpError};

/// What came of a request.
#[derive(Debug)]
pub enum Said {
    /// A whole answer.
    Answer { status: u16, body: Vec<u8> },
    /// It was not sent.
    Unsent,
    /// It was sent, and no answer came in time.
    Lost,
}

/// Asks from one thread.
pub struct Asker {
    runtime: tokio::runtime::Runtime,
    within: Duration,
}

impl Asker {
    pub fn new(within: Duration) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Self { runtime: runtime.expect("a runtime for requests"), within }
    }

    pub fn ask(&self, socket: &Path, method: &str, path: &str, body: Option<Vec<u8>>) -> Said {
        let endpoint = Endpoint::Unix(socket.to_owned());
        match self.runtime.block_on(endpoint.request_within(self.within, method, path, body)) {
            Ok(answer) => Said::Answer { status: answer.status, body: answer.body },
            Err(HttpError::Unreachable { .. }) => Said::Unsent,
            Err(HttpError::Lost { .. }) => Said::Lost,
        }
    }

    /// What a node says of the cluster, if a leader vouches for it.
    pub fn status(&self, socket: &Path) -> Option<Status> {
        let Said::Answer { status: 200, body } = self.ask(socket, "GET", "/v1/status", None) else { return None };
        serde_json::from_slice::<Status>(&body).ok().filter(|status| !status.stale && status.cluster.is_some())
    }
}
