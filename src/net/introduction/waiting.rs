//! The port of a node that is in no cluster and has the secret: it listens for an invitation and for nothing else.
//!
//! A join needs the port for itself, to prove that it works: whoever joins takes it with [`Waiting::free`], and the
//! listener gives way.

use std::future::{Future, pending};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::listener::{Invited, put_off, serve_inviter, tell};
use super::{Invitation, Newcomer, SharedSecret, TIME_MIN, channel};
use crate::net::crowd::{Crowd, Seat};
use crate::net::listener::{HANDSHAKE_TIME_MAX, HANDSHAKES_PER_SOURCE, Places};
use crate::net::refusals::{Refusals, TELL_EVERY};
use crate::net::sockets;
use crate::net::tls::{self, ServerStream};

/// How often it is looked whether there is a secret now, and how long a port that is taken is left alone.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Connections that may be open.
const CONNECTIONS_MAX: usize = 256;
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 16;

/// What a node does that may be invited; the agent implements it.
pub trait Invitee: Send + Sync + 'static {
    /// What joining leaves to be done once the inviter has been told.
    type Done: Send;

    /// The secret; none where nobody put one.
    ///
    /// # Errors
    /// It cannot be used; the sentence for this node's log.
    fn secret(&self) -> Result<Option<SharedSecret>, String>;

    /// Joins.
    ///
    /// # Errors
    /// The sentence for the operator who invited.
    fn join(&self, invitation: Invitation) -> impl Future<Output = Result<(Newcomer, Self::Done), String>> + Send;

    /// The inviter knows; now this node is a member.
    fn joined(&self, done: Self::Done) -> impl Future<Output = ()> + Send;
}

/// The port's two users, the listener and a join.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    port: Arc<Mutex<()>>,
    /// How many want the port for themselves, or have it: nobody listens while that is not none.
    wanted: Arc<watch::Sender<usize>>,
}

/// The port, free for a join until this is dropped.
#[derive(Debug)]
pub struct Free {
    _wanted: Wanted,
    _port: OwnedMutexGuard<()>,
}

#[derive(Debug)]
struct Wanted(Arc<watch::Sender<usize>>);

impl Wanted {
    fn by_one_more(count: &Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|wanted| *wanted += 1);
        Self(count.clone())
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.send_modify(|wanted| *wanted -= 1);
    }
}

impl Waiting {
    /// Waits until nobody listens on the port; nobody does as long as the answer is held.
    pub async fn free(&self) -> Free {
        let wanted = Wanted::by_one_more(&self.wanted);
        Free { _wanted: wanted, _port: self.port.clone().lock_owned().await }
    }

    /// Listens whenever there is a secret, and joins when invited, until the future is dropped.
    pub async fn serve<I: Invitee>(&self, address: SocketAddr, invitee: I) {
        let mut said = String::new();
        loop {
            match self.turn(address, &invitee).await {
                Ok(()) => said.clear(),
                Err(why) => {
                    if why != said {
                        tracing::warn!("no invitation can be taken: {why}");
                    }
                    said = why;
                    sleep(LOOK_EVERY).await;
                }
            }
        }
    }

    async fn turn<I: Invitee>(&self, address: SocketAddr, invitee: &I) -> Result<(), String> {
        if invitee.secret()?.is_none() {
            sleep(LOOK_EVERY).await;
            return Ok(());
        }
        let mut wanted = self.wanted.subscribe();
        // Its sender lives as long as `self`.
        let _ = wanted.wait_for(|wanted| *wanted == 0).await;
        let port = self.port.lock().await;
        let listener = sockets::listen(address, BACKLOG).map_err(|e| format!("cannot listen on tcp {address}: {e}"))?;
        let tls = tls::introduction_server().map_err(|e| e.to_string())?;
        tracing::info!("listening on {address} for an invitation (`pkgctl raft add` on a member)");
        let invited = tokio::select! {
            invited = invitation(&listener, tls, invitee) => Some(invited),
            _ = wanted.wait_for(|wanted| *wanted > 0) => None,
            () = until_no_secret(invitee) => None,
        };
        drop(listener);
        drop(port);
        let Some((mut stream, there, invitation)) = invited else { return Ok(()) };
        tracing::info!("invited by {there}");
        let outcome = invitee.join(invitation).await;
        let told = outcome.as_ref().map(|(newcomer, _)| *newcomer).map_err(Clone::clone);
        if let Err(e) = tell(&mut stream, told).await {
            tracing::debug!("the inviter at {there} does not hear what came of it: {e}");
        }
        match outcome {
            Ok((_, done)) => {
                invitee.joined(done).await;
                pending().await
            }
            Err(why) => {
                tracing::warn!("the invitation by {there} came to nothing: {why}");
                Ok(())
            }
        }
    }
}

async fn until_no_secret<I: Invitee>(invitee: &I) {
    let mut looks = interval(LOOK_EVERY);
    while matches!(invitee.secret(), Ok(Some(_))) {
        looks.tick().await;
    }
}

/// Serves whoever connects until one of them has proved the secret and sent an invitation.
async fn invitation<I: Invitee>(
    listener: &TcpListener,
    tls: Arc<ServerConfig>,
    invitee: &I,
) -> (ServerStream, SocketAddr, Invitation) {
    let (entrance, places, refusals) = (Crowd::new(HANDSHAKES_PER_SOURCE), Places::default(), Refusals::default());
    let mut tell = interval(TELL_EVERY);
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, there)) = accepted else { sleep(LOOK_EVERY).await; continue };
                let pass = entrance.enter(there.ip()).filter(|_| open.len() < CONNECTIONS_MAX);
                let Some(pass) = pass else {
                    refusals.add(there, "dropped: too many connections are open");
                    continue;
                };
                let (tls, secret, places) = (tls.clone(), invitee.secret(), places.clone());
                open.spawn(async move { (hear((stream, there, pass), tls, secret, &places).await, there) });
            }
            Some(ended) = open.join_next() => match ended {
                Ok((Ok((stream, invitation)), there)) => return (stream, there, invitation),
                Ok((Err(why), there)) => refusals.add(there, &format!("no invitation: {why}")),
                // A panic in one has been reported by the panic hook and ends only that one.
                Err(_) => {}
            },
            _ = tell.tick() => refusals.tell(TELL_EVERY),
        }
    }
}

/// One connection; it has a seat at the entrance until it has a place, or was told that there is none.
async fn hear(
    (stream, there, pass): (TcpStream, SocketAddr, Seat),
    tls: Arc<ServerConfig>,
    secret: Result<Option<SharedSecret>, String>,
    places: &Places,
) -> Result<(ServerStream, Invitation), String> {
    sockets::tune(&stream).map_err(|e| e.to_string())?;
    let accepted = timeout(HANDSHAKE_TIME_MAX, TlsAcceptor::from(tls).accept(stream)).await;
    let accepted = accepted.map_err(|_| format!("no handshake within {HANDSHAKE_TIME_MAX:?}"))?;
    let mut stream = accepted.map_err(|e| tls::explain(&e))?;
    let Some(_place) = places.take(there.ip()) else {
        let _ = put_off(&mut stream).await;
        return Err("too many are under way".to_owned());
    };
    drop(pass);
    let channel = channel(stream.get_ref().1).map_err(|e| e.to_string())?;
    let why = match serve_inviter(&mut stream, channel, secret).await {
        Ok(Invited::Here(invitation)) => return Ok((stream, invitation)),
        Ok(Invited::Not(why)) => why,
        Err(e) => e.to_string(),
    };
    // The caller has its answer; its place is held on, which bounds how fast secrets can be tried.
    drop(stream);
    sleep(TIME_MIN).await;
    Err(why)
}
