//! The pool of connections to one node: idle ones are used again, concurrent calls open more, up to a bound.
//!
//! Making a connection and waiting for a late answer are tasks of their own, so that a caller with little time (a
//! heartbeat) neither undoes a handshake that needs a little more, nor costs a connection whenever the machine stalls.
//! After any failure the idle connections go too: they led to the same silent node.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use super::{BODY_MAX_BYTES, Patience, REFUSAL_MAX_BYTES, reply};
use crate::engine::NodeId;
use crate::net::frame::{self, FrameError};
use crate::net::identity::Bearer;
use crate::net::removed::{Removed, Told};
use crate::net::sockets;
use crate::net::tls::{self, ClientStream, Service};
use crate::raft::peers::{PeerCall, PeerError};

/// Idle connections kept.
const IDLE_MAX: usize = 4;
/// Connections being made at once.
const CONNECTING_MAX: usize = 2;
/// Calls that may wait for a connection.
const WAITING_MAX: usize = 1024;

/// A connection that may be used for one request at a time; dropping it closes it and frees its place.
#[derive(Debug)]
struct Connection {
    stream: ClientStream,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// Whether an idle connection is still one: nothing is ever sent on it unasked, so anything to read is its end.
    /// Asks the kernel itself; tokio would not know yet what has arrived since it last looked.
    fn is_alive(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let looked = SockRef::from(self.stream.get_ref().0).peek(&mut byte);
        looked.is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
    }

    async fn exchange(&mut self, call: PeerCall, body: &[u8], ear: &Ear, there: NodeId) -> Result<Vec<u8>, String> {
        frame::write(&mut self.stream, call as u8, body).await.map_err(|e| e.to_string())?;
        match frame::read(&mut self.stream, BODY_MAX_BYTES).await {
            Ok((reply::OK, answer)) => Ok(answer),
            Ok((kind, why)) => Err(format!("it refused: {}", ear.refused(there, kind, &why))),
            Err(FrameError::CutOff) => Err("it closed the connection without an answer".into()),
            Err(e) => Err(e.to_string()),
        }
    }
}

/// Listens for the word that this node was removed.
#[derive(Debug)]
pub(super) struct Ear {
    /// Who this node is.
    pub(super) me: Bearer,
    /// Where it is told.
    pub(super) told: Arc<Told>,
}

impl Ear {
    /// What a frame says that is no answer; `by` has proved who it is.
    fn refused(&self, by: NodeId, kind: u8, body: &[u8]) -> String {
        match (kind == reply::REMOVED).then(|| Removed::about(&self.me, body)).flatten() {
            Some(removed) => {
                self.told.tell(removed, by);
                format!("this node was removed from the cluster by entry {}", removed.index)
            }
            None => String::from_utf8_lossy(body).into_owned(),
        }
    }
}

type Waiting = oneshot::Sender<Result<Connection, String>>;

#[derive(Debug, Default)]
struct State {
    idle: Vec<Connection>,
    waiting: VecDeque<Waiting>,
    connecting: usize,
}

/// The pool.
#[derive(Debug)]
pub(super) struct Link {
    node: NodeId,
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    patience: Patience,
    ear: Ear,
    places: Arc<Semaphore>,
    state: Mutex<State>,
}

impl Link {
    pub(super) fn new(
        node: NodeId,
        address: SocketAddr,
        tls: Arc<ClientConfig>,
        patience: Patience,
        open_max: usize,
        ear: Ear,
    ) -> Self {
        let places = Arc::new(Semaphore::new(open_max));
        Self { node, address, tls, patience, ear, places, state: Mutex::default() }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) async fn call(
        self: Arc<Self>,
        call: PeerCall,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<Vec<u8>, PeerError> {
        let (node, address) = (self.node, self.address);
        let mut sent = false;
        let work = async {
            let acquired = self.acquire().await;
            let connection = acquired.map_err(|why| PeerError::Unreachable { node, address, why })?;
            sent = true;
            let (answer, answered) = oneshot::channel();
            let give_up = within.saturating_add(self.patience.linger);
            tokio::spawn(self.clone().exchange(connection, call, body, give_up, answer));
            let lost = |_| Err("the agent is stopping".to_string());
            answered.await.unwrap_or_else(lost).map_err(|why| PeerError::Broken { node, why })
        };
        match timeout(within, work).await {
            Ok(outcome) => outcome,
            Err(_) if sent => Err(PeerError::Timeout { node, within }),
            Err(_) => Err(PeerError::Unreachable { node, address, why: format!("no connection within {within:?}") }),
        }
    }

    async fn exchange(
        self: Arc<Self>,
        mut connection: Connection,
        call: PeerCall,
        body: Vec<u8>,
        give_up: Duration,
        answer: oneshot::Sender<Result<Vec<u8>, String>>,
    ) {
        let outcome = timeout(give_up, connection.exchange(call, &body, &self.ear, self.node)).await;
        match outcome {
            Ok(Ok(bytes)) => {
                self.offer(connection);
                // A caller that gave up has no use for it.
                let _ = answer.send(Ok(bytes));
            }
            Ok(Err(why)) => {
                drop(connection);
                self.distrust();
                let _ = answer.send(Err(why));
            }
            Err(_) => {
                drop(connection);
                self.distrust();
            }
        }
        self.pump();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn acquire(self: &Arc<Self>) -> Result<Connection, String> {
        let turn = {
            let mut state = self.state();
            while let Some(connection) = state.idle.pop() {
                if connection.is_alive() {
                    return Ok(connection);
                }
            }
            state.waiting.retain(|waiting| !waiting.is_closed());
            if state.waiting.len() >= WAITING_MAX {
                return Err(format!("{WAITING_MAX} calls already wait for a connection"));
            }
            let (waiting, turn) = oneshot::channel();
            state.waiting.push_back(waiting);
            turn
        };
        self.pump();
        turn.await.unwrap_or_else(|_| Err("the agent is stopping".into()))
    }

    /// Makes connections for those who wait, as far as the bounds allow.
    fn pump(self: &Arc<Self>) {
        let mut state = self.state();
        state.waiting.retain(|waiting| !waiting.is_closed());
        while state.connecting < CONNECTING_MAX.min(state.waiting.len()) {
            let Ok(place) = self.places.clone().try_acquire_owned() else { break };
            state.connecting += 1;
            tokio::spawn(self.clone().connect(place));
        }
    }

    async fn connect(self: Arc<Self>, place: OwnedSemaphorePermit) {
        let dialled = self.dial().await;
        self.state().connecting -= 1;
        match dialled {
            Ok(stream) => self.offer(Connection { stream, _place: place }),
            Err(why) => {
                drop(place);
                let waiting = std::mem::take(&mut self.state().waiting);
                for waiting in waiting {
                    let _ = waiting.send(Err(why.clone()));
                }
            }
        }
        self.pump();
    }

    async fn dial(&self) -> Result<ClientStream, String> {
        let Patience { connect, handshake, .. } = self.patience;
        let slow = |what: &'static str, time: Duration| move |_| format!("no {what} within {time:?}");
        let stream = timeout(connect, TcpStream::connect(self.address)).await;
        let stream = stream.map_err(slow("tcp connection", connect))?.map_err(|e| e.to_string())?;
        sockets::tune(&stream).map_err(|e| e.to_string())?;
        timeout(handshake, self.greet(stream)).await.map_err(slow("TLS handshake", handshake))?
    }

    async fn greet(&self, stream: TcpStream) -> Result<ClientStream, String> {
        let mut stream = tls::connect(&self.tls, Service::Peer, stream).await.map_err(|e| e.to_string())?;
        match frame::read(&mut stream, REFUSAL_MAX_BYTES).await {
            Ok((reply::OK, _)) => Ok(stream),
            Ok((kind, why)) => Err(self.ear.refused(self.node, kind, &why)),
            Err(e) => Err(e.to_string()),
        }
    }

    /// Hands a free connection to whoever waits longest, or keeps it.
    fn offer(&self, mut connection: Connection) {
        let mut state = self.state();
        while let Some(waiting) = state.waiting.pop_front() {
            match waiting.send(Ok(connection)) {
                Ok(()) => return,
                Err(Ok(back)) => connection = back,
                // Only what was just sent comes back.
                Err(Err(_)) => return,
            }
        }
        if state.idle.len() < IDLE_MAX {
            state.idle.push(connection);
        }
    }

    fn distrust(&self) {
        self.state().idle.clear();
    }
}
