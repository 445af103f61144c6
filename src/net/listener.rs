//! The node's one tcp port: takes connections in within limits, and leads each to the service it wants.
//!
//! Whoever has not proved anything yet gets little: a handshake must be done within [`HANDSHAKE_TIME_MAX`], one address
//! may have [`HANDSHAKES_PER_SOURCE`] of them under way, and joins without a certificate are few at a time.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::crowd::{Crowd, Seat};
use super::http::{self, Caller};
use super::identity::{Bearer, Subject};
use super::introduction::{self, Tokens};
use super::join::{self, JoinService};
use super::peers;
use super::refusals::{Refusals, TELL_EVERY, TELL_REMOVED_EVERY};
use super::removed::Removed;
use super::sockets;
use super::tls::{Accepted, ServerStream, ServerTls, Service};
use crate::raft::peers::PeerService;

/// Connections served at once, all services together.
pub const CONNECTIONS_MAX: usize = 1024;
/// From the connection to the end of its TLS handshake.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// Handshakes that one address may have under way.
pub const HANDSHAKES_PER_SOURCE: usize = 32;
/// Joins served at once.
pub const JOINS_MAX: usize = 4;
/// How long a join takes up its place at least; with [`JOINS_MAX`] the bound of joins per second.
pub const JOIN_TIME_MIN: Duration = Duration::from_secs(1);
/// Pause after the system refused to accept (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const BACKLOG: u32 = 256;

/// Why the port cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on tcp {address}: {source}. The agent needs this address and port for itself; `ss -ltnp 'sport = :{}'` \
     shows who has it",
    .address.port()
)]
pub struct ListenError {
    /// Where.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// How the bearer of a valid certificate stands to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// That node is a member, that operator is known.
    Known,
    /// It is not.
    Unknown,
    /// That node was a member, and is told that it was removed.
    Removed(Removed),
}

/// Says whether a bearer of a valid certificate may (still) come in. Asked at every connection and at every request on
/// it.
pub type Admits = Arc<dyn Fn(&Subject) -> Standing + Send + Sync>;

/// What lies behind the port.
pub struct Doors<P, J> {
    /// Asked anew at every connection and every request.
    pub admits: Admits,
    /// Serves calls between members.
    pub peers: Arc<P>,
    /// Serves joins.
    pub join: Arc<J>,
    /// Serves the API; a request carries its [`Caller`] as an extension.
    pub router: axum::Router,
}

impl<P, J> Clone for Doors<P, J> {
    fn clone(&self) -> Self {
        Self {
            admits: self.admits.clone(),
            peers: self.peers.clone(),
            join: self.join.clone(),
            router: self.router.clone(),
        }
    }
}

impl<P, J> fmt::Debug for Doors<P, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Doors")
    }
}

/// The bound port.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
}

impl Listener {
    /// Binds the port.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let bind = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        };
        bind().map(|tcp| Self { tcp }).map_err(|source| ListenError { address, source })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's own.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves until the future is dropped, which ends every connection.
    pub async fn serve<P: PeerService, J: JoinService + Tokens>(self, tls: ServerTls, doors: Doors<P, J>) {
        let (entrance, refusals, removed) =
            (Crowd::new(HANDSHAKES_PER_SOURCE), Refusals::default(), Refusals::default());
        let introductions = Crowd::new(introduction::PER_SOURCE);
        let joins = Arc::new(Semaphore::new(JOINS_MAX));
        let port = Port { tls, doors, entrance, introductions, refusals, removed, joins };
        let mut tell = interval(TELL_EVERY);
        tell.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tell_removed = interval(TELL_REMOVED_EVERY);
        tell_removed.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, there)) => {
                        let Some(pass) = port.entrance.enter(there.ip()) else {
                            port.refusals.add(there, "dropped, too many handshakes under way");
                            continue;
                        };
                        if open.len() >= CONNECTIONS_MAX {
                            port.refusals.add(there, &format!("dropped, {CONNECTIONS_MAX} connections are open"));
                            continue;
                        }
                        open.spawn(port.clone().take_in(stream, there, pass));
                    }
                    Err(e) => {
                        tracing::warn!("cannot accept a connection: {e}; trying again");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                _ = tell.tick() => port.refusals.tell(TELL_EVERY),
                _ = tell_removed.tick() => port.removed.tell(TELL_REMOVED_EVERY),
                // Clears ended tasks away; a panic in one has been reported by the panic hook and ends only that one.
                Some(_) = open.join_next() => {}
            }
        }
    }
}

struct Port<P, J> {
    tls: ServerTls,
    doors: Doors<P, J>,
    /// Handshakes under way, by address.
    entrance: Crowd,
    /// Introductions under way, by address.
    introductions: Crowd,
    refusals: Refusals,
    /// Removed nodes that try to come in, which they do for as long as they do not listen.
    removed: Refusals,
    joins: Arc<Semaphore>,
}

impl<P, J> Clone for Port<P, J> {
    fn clone(&self) -> Self {
        Self {
            tls: self.tls.clone(),
            doors: self.doors.clone(),
            entrance: self.entrance.clone(),
            introductions: self.introductions.clone(),
            refusals: self.refusals.clone(),
            removed: self.removed.clone(),
            joins: self.joins.clone(),
        }
    }
}

impl<P: PeerService, J: JoinService + Tokens> Port<P, J> {
    async fn take_in(self, stream: TcpStream, there: SocketAddr, pass: Seat) {
        let here = match (sockets::tune(&stream), stream.local_addr()) {
            (Ok(()), Ok(here)) => here,
            (Err(e), _) | (_, Err(e)) => return tracing::debug!(%there, "connection was gone at once: {e}"),
        };
        let accepted = timeout(HANDSHAKE_TIME_MAX, self.tls.accept(stream)).await;
        drop(pass);
        match accepted {
            Ok(Ok(Accepted { service, bearer, stream })) => self.lead(service, bearer, stream, here, there).await,
            Ok(Err(e)) => self.refusals.add(there, &format!("a connection was refused: {e}")),
            Err(_) => self.refusals.add(there, &format!("no handshake within {HANDSHAKE_TIME_MAX:?}")),
        }
    }

    async fn lead(
        self,
        service: Service,
        bearer: Option<Bearer>,
        stream: ServerStream,
        here: SocketAddr,
        there: SocketAddr,
    ) {
        let subject = bearer.map(|bearer| bearer.subject);
        match (service, subject) {
            (Service::Join, _) => self.join(stream, here, there).await,
            (Service::Introduction, _) => self.introduce(stream, there).await,
            (Service::Peer, Some(subject)) => self.peer(stream, subject, there).await,
            (Service::Http, Some(subject)) if (self.doors.admits)(&subject) == Standing::Known => {
                let router = still_admitted(self.doors.router, self.doors.admits, subject.clone());
                http::serve_stream(router, stream, Caller::Remote(subject)).await;
            }
            (Service::Http, Some(subject)) => {
                self.refusals.add(there, &format!("{subject} was refused: not known in the cluster"));
                let refusing = axum::Router::new().fallback({
                    let subject = subject.clone();
                    async move || not_admitted(&subject)
                });
                // It proved who it is and may be told why; the place is not for staying.
                let _ =
                    timeout(HANDSHAKE_TIME_MAX, http::serve_stream(refusing, stream, Caller::Remote(subject))).await;
            }
            // `ServerTls::accept` gives a bearer for these two.
            (Service::Peer | Service::Http, None) => {}
        }
    }

    async fn peer(self, mut stream: ServerStream, subject: Subject, there: SocketAddr) {
        let ended = match (&subject, (self.doors.admits)(&subject)) {
            (Subject::Node(from), Standing::Known) => {
                let standing = || (self.doors.admits)(&subject);
                peers::serve(&mut stream, *from, &*self.doors.peers, standing).await
            }
            (_, Standing::Removed(removed)) => {
                self.removed.add(there, &format!("{subject} was told that entry {} removed it", removed.index));
                peers::turn_away(&mut stream, removed).await
            }
            (Subject::Node(_) | Subject::Client(_), Standing::Known | Standing::Unknown) => {
                self.refusals.add(there, &format!("{subject} was refused: not a member"));
                peers::refuse(&mut stream, &peers::not_a_member(&subject)).await
            }
        };
        if let Err(e) = ended {
            tracing::debug!(%there, "connection of {subject} ended: {e}");
        }
    }

    async fn join(self, mut stream: ServerStream, here: SocketAddr, there: SocketAddr) {
        let Ok(place) = self.joins.clone().try_acquire_owned() else {
            return self.refusals.add(there, &format!("a join was dropped: {JOINS_MAX} are under way"));
        };
        // Held a while even when it is short: the bound on how fast secrets can be tried.
        let refusals = self.refusals.clone();
        let work = async move {
            let ended = join::serve(&mut stream, here, there, &*self.doors.join).await;
            // The stream ends here, not with the place: the joiner has its answer.
            drop(stream);
            ended
        };
        let (ended, ()) = tokio::join!(work, sleep(JOIN_TIME_MIN));
        if let Err(e) = ended {
            refusals.add(there, &format!("a join broke off: {e}"));
        }
        drop(place);
    }

    /// Somebody asks for a token by the shared secret. What it tries, it tries one at a time, and slowly.
    async fn introduce(self, mut stream: ServerStream, there: SocketAddr) {
        let places = (self.introductions.enter(there.ip()), self.joins.clone().try_acquire_owned());
        let (Some(_pass), Ok(_place)) = places else {
            return self.refusals.add(there, "an introduction was dropped: too many are under way");
        };
        let refusals = self.refusals.clone();
        let work = async move {
            let Ok(channel) = introduction::channel(stream.get_ref().1) else { return Ok(None) };
            introduction::serve_asker(&mut stream, channel, there, &*self.doors.join).await
        };
        let (ended, ()) = tokio::join!(work, sleep(introduction::TIME_MIN));
        match ended {
            Ok(None) => {}
            Ok(Some(why)) => refusals.add(there, &format!("an introduction was refused: {why}")),
            Err(e) => refusals.add(there, &format!("an introduction broke off: {e}")),
        }
    }
}

/// The API as long as its caller is admitted: whoever is removed loses the connections that are open too.
fn still_admitted(router: axum::Router, admits: Admits, subject: Subject) -> axum::Router {
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let refused = (admits(&subject) != Standing::Known).then(|| not_admitted(&subject));
        async move {
            match refused {
                None => next.run(request).await,
                Some(refusal) => refusal,
            }
        }
    }))
}

/// What a bearer of this cluster's certificate is told whom the replicated state does not know.
fn not_admitted(subject: &Subject) -> Response {
    let message = format!(
        "{subject} is not admitted by this cluster: removed, revoked, or not known on this member yet; nothing was \
         changed"
    );
    let body = serde_json::json!({"code": "not_admitted", "message": message});
    (StatusCode::FORBIDDEN, axum::Json(body)).into_response()
}
