//! Serves an axum router on streams that somebody else accepted, and on the agent's Unix socket.

use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Caller, UnixDoor};

/// How long a request's head may take, waiting for it on an idle connection included.
const HEAD_TIME_MAX: Duration = Duration::from_secs(60);
/// Largest head of a request, in bytes.
const HEAD_MAX_BYTES: usize = 64 << 10;
/// Connections on the Unix socket served at once.
const LOCAL_MAX: usize = 256;
/// Time between two looks whether the Unix socket still has its name.
const LOOK_EVERY: Duration = Duration::from_secs(1);
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

/// Serves the agent's socket until the future is dropped, which ends every connection. If its name is taken away, it is
/// bound again, unless another live process has the name.
pub async fn serve_unix(mut door: UnixDoor, router: axum::Router) {
    let mut open = JoinSet::new();
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lost = None;
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
            _ = look.tick() => door = keep_name(door, &mut lost),
        }
    }
}

/// Answers the door, or another one where it has lost its name. Why that is not possible is said once in a row.
fn keep_name(door: UnixDoor, lost: &mut Option<String>) -> UnixDoor {
    if door.has_its_name() {
        *lost = None;
        return door;
    }
    match door.bind_again() {
        Ok(again) => {
            tracing::warn!(
                "{} was taken away, so that nobody could ask this agent; it is there again",
                door.path().display()
            );
            *lost = None;
            again
        }
        Err(why) => {
            let why = why.to_string();
            if lost.as_ref() != Some(&why) {
                tracing::error!(
                    "the local socket has lost its name, and nobody can ask this agent: {why}. It is tried again every second"
                );
                *lost = Some(why);
            }
            door
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::socket_path::{Found, SocketFile, look, until_dead};

    #[tokio::test]
    async fn a_name_that_another_live_process_has_is_left_to_it_until_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let (mut door, mut lost) = (UnixDoor::bind(&path).unwrap(), None);
        std::fs::remove_file(&path).unwrap();
        let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let theirs = SocketFile::at(&path).unwrap();
        for _ in 0..2 {
            door = keep_name(door, &mut lost);
            assert!(theirs.is_at(&path), "it was stolen");
            assert!(lost.as_ref().is_some_and(|why| why.contains("served by a running agent")), "{lost:?}");
        }
        other.set_nonblocking(true).unwrap();
        assert!(other.accept().is_err(), "it was disturbed");
        drop(other);
        until_dead(&path);
        let _door = keep_name(door, &mut lost);
        assert!(!theirs.is_at(&path) && look(&path).unwrap() == Found::Live, "what nobody serves is replaced");
        assert_eq!(lost, None);
    }
}
