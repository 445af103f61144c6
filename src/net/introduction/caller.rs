//! The side that connects: a node that asks a member for a token, or an operator's command on a member that invites.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};

use super::proof::{BYTES, Purpose, Side, Transcript};
use super::{
    IN_NO_CLUSTER, Invitation, JOIN_TIME_MAX, MESSAGE_MAX_BYTES, Newcomer, SharedSecret, TOKEN_TIME_MAX, ToCaller,
    ToListener, VERSION, WORD_TIME_MAX, out_of_turn,
};
use crate::net::join::{ASK_AGAIN_AFTER, ASK_AGAIN_MAX, TalkError, hear, say};
use crate::net::tls::{self, ClientStream, Service, TlsError};
use crate::net::token::{BadToken, JoinToken};
use crate::net::{random, sockets};

/// How long connecting may take, and then shaking hands.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// Why two nodes were not introduced. Nothing was changed unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum IntroductionError {
    /// Nothing is known of whoever may be there.
    #[error("nobody answers at {address}: {why}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// Why not.
        why: String,
    },
    /// The machine there refuses the connection.
    #[error("nobody listens at {address}")]
    NobodyListens {
        /// Where.
        address: SocketAddr,
    },
    /// Its kernel takes the connection, and then nothing is heard: it may be frozen.
    #[error("{address} says nothing: no handshake within {CONNECT_TIME_MAX:?}")]
    Silent {
        /// Where.
        address: SocketAddr,
    },
    /// It is a node, and says that it is in no cluster.
    #[error("{address} refused: {IN_NO_CLUSTER}")]
    InNoCluster {
        /// Where.
        address: SocketAddr,
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
    /// It serves as many others as it can, again and again.
    #[error("{address} is busy with other nodes that want to come in: ask again in a moment")]
    Busy {
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

/// Asks a member for a join token; again, while that is busy with others.
///
/// # Errors
/// [`IntroductionError`].
pub async fn ask_for_token(knock: Knock, secret: &SharedSecret) -> Result<JoinToken, IntroductionError> {
    for _ in 0..ASK_AGAIN_MAX {
        match ask_once(knock, secret).await {
            Err(IntroductionError::Busy { .. }) => sleep(ASK_AGAIN_AFTER).await,
            outcome => return outcome,
        }
    }
    Err(IntroductionError::Busy { address: knock.to })
}

async fn ask_once(knock: Knock, secret: &SharedSecret) -> Result<JoinToken, IntroductionError> {
    let address = knock.to;
    let (mut stream, channel) = opened(knock).await?;
    let talk = async {
        match prove(&mut stream, channel, Purpose::Join, secret).await? {
            Proved::Both => {}
            Proved::Not => return Ok(Err(IntroductionError::Unproved { address })),
            Proved::Refused(why) => return Ok(Err(refused(address, why))),
            Proved::Busy => return Ok(Err(IntroductionError::Busy { address })),
        }
        match hear(&mut stream, MESSAGE_MAX_BYTES, TOKEN_TIME_MAX + WORD_TIME_MAX).await? {
            ToCaller::Token { token } => Ok(token.parse().map_err(|why| IntroductionError::Token { address, why })),
            ToCaller::Refused { why } => Ok(Err(refused(address, why))),
            ToCaller::Challenge { .. } | ToCaller::Proof { .. } | ToCaller::Busy {} | ToCaller::Joined(_) => {
                out_of_turn()
            }
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
        Ok(Proved::Busy) => return Ok(Err(IntroductionError::Busy { address })),
        Err(why) => return broke(why),
    }
    let message = ToListener::Invitation(invitation().await?);
    let talk = async {
        say(&mut stream, &message).await?;
        match hear(&mut stream, MESSAGE_MAX_BYTES, JOIN_TIME_MAX).await? {
            ToCaller::Joined(newcomer) => Ok(Ok(newcomer)),
            ToCaller::Refused { why } => Ok(Err(IntroductionError::Refused { address, why })),
            ToCaller::Challenge { .. } | ToCaller::Proof { .. } | ToCaller::Token { .. } | ToCaller::Busy {} => {
                out_of_turn()
            }
        }
    };
    match talk.await {
        Ok(outcome) => Ok(outcome),
        Err(why) => broke(why),
    }
}

fn refused(address: SocketAddr, why: String) -> IntroductionError {
    if why == IN_NO_CLUSTER {
        IntroductionError::InNoCluster { address }
    } else {
        IntroductionError::Refused { address, why }
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
    let connected = timeout(CONNECT_TIME_MAX, sockets::connect(from, address)).await;
    let connected = connected.map_err(|_| unreachable(format!("no connection within {CONNECT_TIME_MAX:?}")))?;
    let stream = connected.map_err(|e| match e.kind() {
        io::ErrorKind::ConnectionRefused => IntroductionError::NobodyListens { address },
        _ => unreachable(e.to_string()),
    })?;
    sockets::tune(&stream).map_err(|e| unreachable(e.to_string()))?;
    let config = tls::introduction_client().map_err(|e| unreachable(e.to_string()))?;
    let shaken = timeout(CONNECT_TIME_MAX, tls::connect(&config, Service::Introduction, stream)).await;
    shaken.map_err(|_| IntroductionError::Silent { address })?.map_err(|error| match error {
        TlsError::NotSpoken { .. } | TlsError::Handshake(_) => {
            IntroductionError::NotOurs { address, why: error.to_string() }
        }
        TlsError::Setup(_) | TlsError::Unproved(_) | TlsError::NotForYou { .. } => unreachable(error.to_string()),
    })
}

fn exported(stream: &ClientStream, address: SocketAddr) -> Result<[u8; BYTES], IntroductionError> {
    super::channel(stream.get_ref().1).map_err(|e| IntroductionError::NotOurs { address, why: e.to_string() })
}

pub(super) enum Proved {
    Both,
    Not,
    Refused(String),
    Busy,
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
        ToCaller::Busy {} => return Ok(Proved::Busy),
        ToCaller::Proof { .. } | ToCaller::Token { .. } | ToCaller::Joined(_) => return out_of_turn(),
    };
    let transcript = Transcript { purpose, channel, caller, listener };
    say(stream, &ToListener::Proof { mac: transcript.prove(secret, Side::Caller) }).await?;
    match hear(stream, MESSAGE_MAX_BYTES, WORD_TIME_MAX).await? {
        ToCaller::Proof { mac } if transcript.proves(secret, Side::Listener, &mac) => Ok(Proved::Both),
        ToCaller::Proof { .. } => Ok(Proved::Not),
        ToCaller::Refused { why } => Ok(Proved::Refused(why)),
        ToCaller::Challenge { .. } | ToCaller::Token { .. } | ToCaller::Busy {} | ToCaller::Joined(_) => out_of_turn(),
    }
}
