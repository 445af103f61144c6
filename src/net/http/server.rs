//! Serves an axum router on streams that somebody else accepted, and on the agent's Unix socket.

use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Caller, UnixDoor};

/// How long a request's head may take, waiting for it on an idle connection included.
const HEAD_TIME_MAX: Duration = Duration::from_secs(60);
/// Largest head of a request, in bytes.
const HEAD_MAX_BYTES: usize = 64 << 10;
/// Connections on the Unix socket served at once.
const LOCAL_MAX: usize = 256;
/// Pause after the system refused to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves one connection until it ends.
pub async fn serve_stream(router: axum::Router, stream: impl AsyncRead + AsyncWrite + Unpin + Send, caller: Caller) {
    let who = caller.to_string();
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(caller.clone());
        router.call(request)
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX).max_buf_size(HEAD_MAX_BYTES);
    if let Err(e) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!("connection of {who} ended: {e}");
    }
}

/// Serves the agent's socket until the future is dropped, which ends every connection.
pub async fn serve_unix(door: UnixDoor, router: axum::Router) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = door.listener().accept(), if open.len() < LOCAL_MAX => {
                let peer = accepted.and_then(|(stream, _)| Ok((stream.peer_cred()?.uid(), stream)));
                match peer {
                    Ok((uid, stream)) => {
                        open.spawn(serve_stream(router.clone(), stream, Caller::Local { uid }));
                    }
                    Err(e) => {
                        tracing::warn!("cannot accept on the local socket: {e}; trying again");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
            Some(_) = open.join_next() => {}
        }
    }
}
