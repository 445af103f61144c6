//! The side that connects: a node that asks a member for a token, or an operator's command on a member that invites.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::proof::{BYTES, Purpose, Side, Transcript};
use super::{
    Invitation, JOIN_TIME_MAX, MESSAGE_MAX_BYTES, Newcomer, SharedSecret, TOKEN_TIME_MAX, ToCaller, ToListener,
    VERSION, WORD_TIME_MAX, out_of_turn,
};
use crate::net::join::{TalkError, hear, say};
use crate::net::tls::{self, ClientStream, Service, TlsError};
use crate::net::token::{BadToken, JoinToken};
use crate::net::{random, sockets};

/// How long connecting and shaking hands may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// Why two nodes were not introduced. Nothing was changed unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum IntroductionError {
    /// Nobody answers there.
    #[error("nobody answers at {address}: {why}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// Why not.
        why: String,
    },
    /// Something answers there that is no cluster port.
    #[error("what answers at {address} is no cluster port of pkgctl: {why}")]
    NotOurs {
        /// Where.
        address: SocketAddr,
        /// What it said.
        why: String,
    },
    /// It has another secret, or somebody stands in between.
    #[error(
        "what answers at {address} did not prove that it has this node's secret, and was told nothing: compare what \
         `pkgctl cluster secret` says on both nodes; if it is the same, somebody answers in the other's place"
    )]
    Unproved {
        /// Where.
        address: SocketAddr,
    },
    /// It said no; its words.
    #[error("{address} refused: {why}")]
    Refused {
        /// Where.
        address: SocketAddr,
        /// Its sentence.
        why: String,
    },
    /// It answered and then fell silent or made no sense.
    #[error("{address} broke off: {why}")]
    BrokeOff {
        /// Where.
        address: SocketAddr,
        /// Why.
        why: TalkError,
    },
    /// The token that it gave is none.
    #[error("{address} gave something else than a join token: {why}")]
    Token {
        /// Where.
        address: SocketAddr,
        /// What is wrong with it.
        why: BadToken,
    },
}

/// An address to call, and the address of this machine to call from, if that matters.
#[derive(Clone, Copy, Debug)]
pub struct Knock {
    /// The other node's cluster port.
    pub to: SocketAddr,
    /// An address of this node.
    pub from: Option<IpAddr>,
}

/// Asks a member for a join token.
///
/// # Errors
/// [`IntroductionError`].
pub async fn ask_for_token(knock: Knock, secret: &SharedSecret) -> Result<JoinToken, IntroductionError> {
    let address = knock.to;
    let (mut stream, channel) = opened(knock).await?;
    let talk = async {
        match prove(&mut stream, channel, Purpose::Join, secret).await? {
            Proved::Both => {}
            Proved::Not => return Ok(Err(IntroductionError::Unproved { address })),
            Proved::Refused(why) => return Ok(Err(IntroductionError::Refused { address, why })),
        }
        match hear(&mut stream, MESSAGE_MAX_BYTES, TOKEN_TIME_MAX + WORD_TIME_MAX).await? {
            ToCaller::Token { token } => Ok(token.parse().map_err(|why| IntroductionError::Token { address, why })),
            ToCaller::Refused { why } => Ok(Err(IntroductionError::Refused { address, why })),
            ToCaller::Challenge { .. } | ToCaller::Proof { .. } | ToCaller::Joined(_) => out_of_turn(),
        }
    };
    talk.await.unwrap_or_else(|why| Err(IntroductionError::BrokeOff { address, why }))
}

/// Invites a node that is in no cluster, once it has proved the secret; `token` is asked for only then. Answers what it is
/// in the cluster.
///
/// # Errors
/// [`IntroductionError`]; after the invitation was sent, the node may have come in all the same.
pub async fn invite<E>(
    knock: Knock,
    secret: &SharedSecret,
    invitation: impl AsyncFnOnce() -> Result<Invitation, E>,
) -> Result<Result<Newcomer, IntroductionError>, E> {
    let address = knock.to;
    let (mut stream, channel) = match opened(knock).await {
        Ok(opened) => opened,
        Err(error) => return Ok(Err(error)),
    };
    let broke = |why| Ok(Err(IntroductionError::BrokeOff { address, why }));
    match prove(&mut stream, channel, Purpose::Invite, secret).await {
        Ok(Proved::Both) => {}
        Ok(Proved::Not) => return Ok(Err(IntroductionError::Unproved { address })),
        Ok(Proved::Refused(why)) => return Ok(Err(IntroductionError::Refused { address, why })),
        Err(why) => return broke(why),
    }
    let message = ToListener::Invitation(invitation().await?);
    let talk = async {
        say(&mut stream, &message).await?;
        match hear(&mut stream, MESSAGE_MAX_BYTES, JOIN_TIME_MAX).await? {
            ToCaller::Joined(newcomer) => Ok(Ok(newcomer)),
            ToCaller::Refused { why } => Ok(Err(IntroductionError::Refused { address, why })),
            ToCaller::Challenge { .. } | ToCaller::Proof { .. } | ToCaller::Token { .. } => out_of_turn(),
        }
    };
    match talk.await {
        Ok(outcome) => Ok(outcome),
        Err(why) => broke(why),
    }
}

async fn opened(knock: Knock) -> Result<(ClientStream, [u8; BYTES]), IntroductionError> {
    let stream = connect(knock).await?;
    let channel = exported(&stream, knock.to)?;
    Ok((stream, channel))
}

async fn connect(knock: Knock) -> Result<ClientStream, IntroductionError> {
    let Knock { to: address, from } = knock;
    let unreachable = |why: String| IntroductionError::Unreachable { address, why };
    let work = async {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.map_err(|e| unreachable(e.to_string()))?;
        if let Some(from) = from {
            socket.bind(SocketAddr::new(from, 0)).map_err(|e| unreachable(e.to_string()))?;
        }
        let stream = socket.connect(address).await.map_err(|e| unreachable(e.to_string()))?;
        sockets::tune(&stream).map_err(|e| unreachable(e.to_string()))?;
        let config = tls::introduction_client().map_err(|e| unreachable(e.to_string()))?;
        tls::connect(&config, Service::Introduction, stream).await.map_err(|error| match error {
            TlsError::NotSpoken { .. } | TlsError::Handshake(_) => {
                IntroductionError::NotOurs { address, why: error.to_string() }
            }
            TlsError::Setup(_) | TlsError::Unproved(_) | TlsError::NotForYou { .. } => unreachable(error.to_string()),
        })
    };
    let late = || IntroductionError::NotOurs { address, why: format!("no handshake within {CONNECT_TIME_MAX:?}") };
    timeout(CONNECT_TIME_MAX, work).await.map_err(|_| late())?
}

fn exported(stream: &ClientStream, address: SocketAddr) -> Result<[u8; BYTES], IntroductionError> {
    super::channel(stream.get_ref().1).map_err(|e| IntroductionError::NotOurs { address, why: e.to_string() })
}

pub(super) enum Proved {
    Both,
    Not,
    Refused(String),
}

/// Both proofs, ours first.
pub(super) async fn prove(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    channel: [u8; BYTES],
    purpose: Purpose,
    secret: &SharedSecret,
) -> Result<Proved, TalkError> {
    let caller = random::bytes();
    say(stream, &ToListener::Hello { version: VERSION, purpose, nonce: caller }).await?;
    let listener = match hear(stream, MESSAGE_MAX_BYTES, WORD_TIME_MAX).await? {
        ToCaller::Challenge { nonce } => nonce,
        ToCaller::Refused { why } => return Ok(Proved::Refused(why)),
        ToCaller::Proof { .. } | ToCaller::Token { .. } | ToCaller::Joined(_) => return out_of_turn(),
    };
    let transcript = Transcript { purpose, channel, caller, listener };
    say(stream, &ToListener::Proof { mac: transcript.prove(secret, Side::Caller) }).await?;
    match hear(stream, MESSAGE_MAX_BYTES, WORD_TIME_MAX).await? {
        ToCaller::Proof { mac } if transcript.proves(secret, Side::Listener, &mac) => Ok(Proved::Both),
        ToCaller::Proof { .. } => Ok(Proved::Not),
        ToCaller::Refused { why } => Ok(Proved::Refused(why)),
        ToCaller::Challenge { .. } | ToCaller::Token { .. } | ToCaller::Joined(_) => out_of_turn(),
    }
}
