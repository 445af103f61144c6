//! Plain HTTP for whoever reaches the port (`http_listen`): nobody proves anything here, so little is given to anybody.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Caller, serve_stream};
use crate::net::crowd::{Crowd, Seat};
use crate::net::sockets;

/// Connections served at once.
const CONNECTIONS_MAX: usize = 512;
/// Connections of one address at once.
const PER_SOURCE_MAX: usize = 256;
/// Pause after the system refused to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Pause before the port is tried again.
const BIND_PAUSE: Duration = Duration::from_secs(5);

/// Serves until the future is dropped, which ends every connection. A port that cannot be had is tried again: packages
/// do not depend on it.
pub async fn serve_plain(address: SocketAddr, router: axum::Router) {
    let listener = bound(address).await;
    let (mut open, sources) = (JoinSet::new(), Crowd::new(PER_SOURCE_MAX));
    loop {
        tokio::select! {
            accepted = listener.accept(), if open.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, from)) => {
                    // Whoever has too many is hung up on.
                    let Some(seat) = sources.enter(from.ip()) else { continue };
                    open.spawn(serve(stream, from, router.clone(), seat));
                }
                Err(e) => {
                    tracing::warn!("cannot accept plain HTTP: {e}; trying again");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = open.join_next() => {}
        }
    }
}

async fn bound(address: SocketAddr) -> TcpListener {
    let mut told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!("plain HTTP on {address}: keys for whoever reaches it (docs/security.md)");
                return listener;
            }
            Err(e) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::error!("cannot listen on http_listen = \"{address}\": {e}. It is tried again every 5 s");
                }
                sleep(BIND_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, from: SocketAddr, router: axum::Router, _seat: Seat) {
    let tuned: io::Result<()> = sockets::tune(&stream);
    if tuned.is_ok() {
        serve_stream(router, stream, Caller::Plain { from }).await;
    }
}
