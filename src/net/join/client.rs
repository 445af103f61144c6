//! The joiner's side of a join.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::net::UdpSocket;
use tokio::time::{interval, sleep, timeout};

use super::ports::{REPEAT_EVERY, answer_tcp, answer_udp};
use super::{
    ADMIT_TIME_MAX, ANSWER_MAX_BYTES, ASK_AGAIN_AFTER, ASK_AGAIN_MAX, JoinRequest, PROOF_TIME_MAX, TalkError, ToJoiner,
    ToMember, VERSION, Welcome, hear, say,
};
use crate::engine::Nonce;
use crate::net::identity::Subject;
use crate::net::identity::credentials::fingerprint_pem;
use crate::net::tls::{self, ClientStream, Service};
use crate::net::token::JoinToken;
use crate::net::{random, sockets};
use crate::package::NodeName;

/// How long connecting and shaking hands may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long the member may take for its first answer.
const FIRST_ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Probes of the joiner's port that may wait.
const BACKLOG: u32 = 8;

/// Why a join did not come about. Nothing was changed unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// This node's own port is not free.
    #[error(
        "{protocol} {address} of this node cannot be used: {source}. Choose an address of this node and a free port"
    )]
    Port {
        /// Which of the two.
        protocol: &'static str,
        /// Which address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The member does not answer, or is another one.
    #[error(
        "the member at {address} cannot be asked: {why}. See that pkgctl-agent runs there and that tcp {} is open \
         between this node and it",
        .address.port()
    )]
    Member {
        /// Its address, from the token.
        address: SocketAddr,
        /// Why not.
        why: String,
    },
    /// The member answered and then fell silent or made no sense.
    #[error(
        "the member at {address} broke off: {why}. Join again with the same token: if this node was already taken in, it gets the same id"
    )]
    BrokeOff {
        /// Its address, from the token.
        address: SocketAddr,
        /// Why.
        why: TalkError,
    },
    /// The member has no place for one more join, again and again.
    #[error("the member at {address} lets in as many others as it can at once: join again with the same token")]
    Busy {
        /// Its address, from the token.
        address: SocketAddr,
    },
    /// The member said no; its words.
    #[error("{0}")]
    Refused(String),
    /// The answer does not fit the token.
    #[error("the answer of the member is not usable: {0}. Make a new token with `pkgctl cluster token` and join again")]
    Answer(String),
}

/// A member's no.
enum No {
    Busy,
    Why(String),
}

/// What a node joins with.
#[derive(Debug)]
pub struct Joiner {
    /// The operator's token.
    pub token: JoinToken,
    /// This node's name.
    pub name: NodeName,
    /// The address announced, where its agent and keeper will answer; both ports must be free.
    pub address: SocketAddr,
    /// Further datagram addresses.
    pub links: Vec<SocketAddr>,
    /// Certificate request, PEM.
    pub csr: String,
    /// Names this attempt. Keep it with the key, and use it again until the join has succeeded.
    pub request: Nonce,
}

impl Joiner {
    /// Asks to be let in, answering the member's probes meanwhile. Both ports are free again when it returns.
    ///
    /// # Errors
    /// Why not, in words for the operator.
    pub async fn join(self) -> Result<Welcome, JoinError> {
        for _ in 0..ASK_AGAIN_MAX {
            match self.join_once().await {
                Err(JoinError::Busy { .. }) => sleep(ASK_AGAIN_AFTER).await,
                outcome => return outcome,
            }
        }
        Err(JoinError::Busy { address: self.token.address })
    }

    async fn join_once(&self) -> Result<Welcome, JoinError> {
        let member = self.token.address;
        let port = |protocol| move |source| JoinError::Port { protocol, address: self.address, source };
        let listener = sockets::listen(self.address, BACKLOG).map_err(port("tcp"))?;
        let socket = UdpSocket::bind(self.address).await.map_err(port("udp"))?;
        let tls = tls::join_client(self.token.authority);
        let tls = tls.map_err(|e| JoinError::Member { address: member, why: e.to_string() })?;
        let connected = timeout(CONNECT_TIME_MAX, self.connect(&tls)).await;
        let connected = connected.unwrap_or_else(|_| Err(format!("no connection within {CONNECT_TIME_MAX:?}")));
        let mut stream = connected.map_err(|why| JoinError::Member { address: member, why })?;
        let proof = random::nonce();
        let welcome = tokio::select! {
            outcome = self.talk(&mut stream, &socket, proof) => {
                outcome.map_err(|why| JoinError::BrokeOff { address: member, why })?
            }
            source = answer_tcp(&listener, proof) => return Err(port("tcp")(source)),
        };
        let welcome = welcome.map_err(|no| match no {
            No::Busy => JoinError::Busy { address: member },
            No::Why(why) => JoinError::Refused(why),
        })?;
        self.check(&welcome, &stream).map_err(JoinError::Answer)?;
        Ok(welcome)
    }

    /// Connects from the announced address, so that the member sees the one that it will probe.
    async fn connect(&self, tls: &Arc<ClientConfig>) -> Result<ClientStream, String> {
        let stream = sockets::connect(Some(self.address.ip()), self.token.address).await.map_err(|e| e.to_string())?;
        sockets::tune(&stream).map_err(|e| e.to_string())?;
        tls::connect(tls, Service::Join, stream).await.map_err(|e| e.to_string())
    }

    async fn talk(
        &self,
        stream: &mut ClientStream,
        socket: &UdpSocket,
        proof: Nonce,
    ) -> Result<Result<Welcome, No>, TalkError> {
        say(stream, &ToMember::Ask(self.request(proof))).await?;
        let (keeper, ping) = match hear(stream, ANSWER_MAX_BYTES, FIRST_ANSWER_TIME_MAX).await? {
            ToJoiner::Probe { keeper, ping } => (keeper, ping),
            ToJoiner::Refused { why } => return Ok(Err(No::Why(why))),
            ToJoiner::Busy {} => return Ok(Err(No::Busy)),
            ToJoiner::Welcome(_) => return Err(TalkError::OutOfTurn),
        };
        let pong = timeout(PROOF_TIME_MAX, ask_keeper(socket, keeper, &ping, proof)).await;
        let pong = pong.ok().and_then(Result::ok);
        say(stream, &ToMember::Seen { pong }).await?;
        // The member may still be probing the udp port.
        let within = PROOF_TIME_MAX + ADMIT_TIME_MAX;
        let answer = tokio::select! {
            answer = hear(stream, ANSWER_MAX_BYTES, within) => answer?,
            Err(e) = answer_udp(socket, proof, None) => return Err(TalkError::Frame(e.into())),
        };
        match answer {
            ToJoiner::Welcome(welcome) => Ok(Ok(welcome)),
            ToJoiner::Refused { why } => Ok(Err(No::Why(why))),
            ToJoiner::Probe { .. } | ToJoiner::Busy {} => Err(TalkError::OutOfTurn),
        }
    }

    fn request(&self, proof: Nonce) -> JoinRequest {
        JoinRequest {
            version: VERSION,
            secret: self.token.secret.hex(),
            name: self.name.clone(),
            address: self.address,
            links: self.links.clone(),
            csr: self.csr.clone(),
            request: self.request,
            proof,
        }
    }

    /// The answer must be of the authority in the token, and of the cluster that the member proved to be of.
    fn check(&self, welcome: &Welcome, stream: &ClientStream) -> Result<(), String> {
        if fingerprint_pem(&welcome.authority).map_err(|e| e.to_string())? != self.token.authority {
            return Err("its authority is not the one in the token".into());
        }
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.ok_or("the member showed no certificate")?;
        let member = crate::net::identity::Bearer::of(certificate).map_err(|e| e.to_string())?;
        match member.subject {
            Subject::Node(_) if member.cluster == welcome.cluster => Ok(()),
            Subject::Node(_) | Subject::Client(_) => Err("it is of another cluster than the member".into()),
        }
    }
}

/// Sends the sealed ping until the keeper answers, answering the member's probes meanwhile.
async fn ask_keeper(socket: &UdpSocket, keeper: SocketAddr, ping: &[u8], proof: Nonce) -> io::Result<Vec<u8>> {
    let mut repeat = interval(REPEAT_EVERY);
    let sending = async {
        loop {
            repeat.tick().await;
            // What the network says about one datagram is no answer; the next one may get through.
            let _ = socket.send_to(ping, keeper).await;
        }
    };
    tokio::select! {
        pong = answer_udp(socket, proof, Some(keeper)) => pong,
        () = sending => unreachable!("the loop above has no end"),
    }
}
