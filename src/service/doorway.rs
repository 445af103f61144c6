//! One local socket for both lives of a node: what lies behind it can be exchanged while it is open.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Result;
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use crate::api::failure::Refusal;
use crate::net::http::{UnixDoor, serve_unix};

/// The open socket.
pub(super) struct Doorway {
    behind: Arc<RwLock<Router>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Doorway {
    /// Opens the socket with nothing behind it yet.
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let door = UnixDoor::bind(path)?;
        let behind = Arc::new(RwLock::new(Router::new().fallback(starting)));
        let current = behind.clone();
        let router = Router::new().fallback(move |request: Request| pass(current.clone(), request));
        Ok(Self { behind, serving: tokio::spawn(serve_unix(door, router)) })
    }

    /// Puts something else behind it; requests under way end as they began.
    pub(super) fn lead_to(&self, router: Router) {
        *self.behind.write().unwrap_or_else(PoisonError::into_inner) = router;
    }
}

impl Drop for Doorway {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What is answered before anything lies behind it.
async fn starting() -> Refusal {
    let text = "this agent is starting; nothing was changed: try again in a moment";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text)
}

async fn pass(behind: Arc<RwLock<Router>>, request: Request) -> Response {
    let router = behind.read().unwrap_or_else(PoisonError::into_inner).clone();
    match TowerToHyperService::new(router).call(request).await {
        Ok(response) => response,
        Err(never) => never.into_response(),
    }
}
