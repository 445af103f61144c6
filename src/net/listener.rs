//! The node's one tcp port: takes connections in within limits, and leads each to the service it wants.
//!
//! Whoever has not proved anything yet gets little: a handshake must be done within [`HANDSHAKE_TIME_MAX`], one address
//! may have [`HANDSHAKES_PER_SOURCE`] of them under way, and joins without a certificate are few at a time, in all and of one
//! address; who comes when there is no place is told to ask again.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::admitted::{not_admitted, still_admitted};
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
/// Joins and introductions served at once.
pub const JOINS_MAX: usize = 8;
/// Joins and introductions of one address served at once: a node that is introduced and joins has two for a moment.
pub const JOINS_PER_SOURCE: usize = 2;
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

/// Says whether a bearer of a valid certificate may (still) come in. Asked at every connection, at every request on it, and
/// before every part of an answer that goes on.
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
        let bound = sockets::listen(address, BACKLOG);
        bound.map(|tcp| Self { tcp }).map_err(|source| ListenError { address, source })
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
        let port = Port { tls, doors, entrance, refusals, removed, joins: Places::default() };
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
    refusals: Refusals,
    /// Removed nodes that try to come in, which they do for as long as they do not listen.
    removed: Refusals,
    joins: Places,
}

/// Places for those who have not proved anything yet: few in all, and fewer for one address. Clones count together.
#[derive(Clone)]
pub(super) struct Places {
    crowd: Crowd,
    all: Arc<Semaphore>,
}

/// One of them, until it is dropped.
pub(super) struct Place {
    _seat: Seat,
    _of_all: OwnedSemaphorePermit,
}

impl Default for Places {
    fn default() -> Self {
        Self { crowd: Crowd::new(JOINS_PER_SOURCE), all: Arc::new(Semaphore::new(JOINS_MAX)) }
    }
}

impl Places {
    /// A place, if there is one for that address.
    pub(super) fn take(&self, there: IpAddr) -> Option<Place> {
        let seat = self.crowd.enter(there)?;
        Some(Place { _seat: seat, _of_all: self.all.clone().try_acquire_owned().ok()? })
    }
}

impl<P, J> Clone for Port<P, J> {
    fn clone(&self) -> Self {
        Self {
            tls: self.tls.clone(),
            doors: self.doors.clone(),
            entrance: self.entrance.clone(),
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
        match accepted {
            Ok(Ok(Accepted { service, bearer, stream })) => {
                self.lead(service, bearer, stream, here, (there, pass)).await
            }
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
        (there, pass): (SocketAddr, Seat),
    ) {
        let subject = bearer.map(|bearer| bearer.subject);
        // Who proved who it is gives up its seat at the entrance here; who did not, has it until it has a place.
        let pass = subject.is_none().then_some(pass);
        match (service, subject) {
            (Service::Join, _) => self.join(stream, here, (there, pass)).await,
            (Service::Introduction, _) => self.introduce(stream, (there, pass)).await,
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

    async fn join(self, mut stream: ServerStream, here: SocketAddr, (there, pass): (SocketAddr, Option<Seat>)) {
        let Some(place) = self.joins.take(there.ip()) else {
            self.refusals.add(there, "a join was put off: too many are under way");
            let _ = join::put_off(&mut stream).await;
            return;
        };
        drop(pass);
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

    /// Somebody asks for a token by the shared secret. What it tries, it tries few at a time, and slowly.
    async fn introduce(self, mut stream: ServerStream, (there, pass): (SocketAddr, Option<Seat>)) {
        // Without a secret there is nothing to try: it is refused at its first word, and takes nobody's place.
        let tries = matches!(self.doors.join.secret(), Ok(Some(_)));
        let place = if tries { self.joins.take(there.ip()) } else { None };
        if tries && place.is_none() {
            self.refusals.add(there, "an introduction was put off: too many are under way");
            let _ = introduction::put_off(&mut stream).await;
            return;
        }
        let _pass = pass.filter(|_| place.is_none());
        let least = if tries { introduction::TIME_MIN } else { Duration::ZERO };
        let refusals = self.refusals.clone();
        let work = async move {
            let Ok(channel) = introduction::channel(stream.get_ref().1) else { return Ok(None) };
            introduction::serve_asker(&mut stream, channel, there, &*self.doors.join).await
        };
        let (ended, ()) = tokio::join!(work, sleep(least));
        match ended {
            Ok(None) => {}
            Ok(Some(why)) => refusals.add(there, &format!("an introduction was refused: {why}")),
            Err(e) => refusals.add(there, &format!("an introduction broke off: {e}")),
        }
        drop(place);
    }
}
