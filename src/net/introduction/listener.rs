//! The side that listens: a member that is asked for a token, or a node in no cluster that is invited. Generic over the
//! stream; `channel` is what its TLS connection exports.

use std::future::Future;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::proof::{BYTES, Purpose, Side, Transcript};
use super::{
    IN_NO_CLUSTER, Invitation, MESSAGE_MAX_BYTES, Newcomer, OTHER_SECRET, SharedSecret, TOKEN_TIME_MAX, ToCaller,
    ToListener, VERSION, WORD_TIME_MAX, out_of_turn,
};
use crate::net::join::{TalkError, hear, say};
use crate::net::random;

/// A member's part in introductions; the agent implements it.
pub trait Tokens: Send + Sync + 'static {
    /// The secret of this node; none where nobody put one.
    ///
    /// # Errors
    /// It cannot be used; the sentence for this node's log.
    fn secret(&self) -> Result<Option<SharedSecret>, String>;

    /// An ordinary join token, for somebody at that address who has proved the secret.
    ///
    /// # Errors
    /// The sentence for the operator there.
    fn token(&self, there: SocketAddr) -> impl Future<Output = Result<String, String>> + Send;
}

/// Serves one who asks to join.
///
/// # Errors
/// When the talk ended without an answer; a refusal is an answer, and its sentence is returned for the log.
pub async fn serve_asker<T: Tokens>(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    channel: [u8; BYTES],
    there: SocketAddr,
    tokens: &T,
) -> Result<Option<String>, TalkError> {
    let secret = tokens.secret();
    if let Some(why) = prove(stream, channel, Purpose::Join, secret).await? {
        return Ok(Some(why));
    }
    let late = || Err("the cluster did not take a token into its log in time; try again in a moment".to_owned());
    let (answer, refused) = match timeout(TOKEN_TIME_MAX, tokens.token(there)).await.unwrap_or_else(|_| late()) {
        Ok(token) => (ToCaller::Token { token }, None),
        Err(why) => (ToCaller::Refused { why: why.clone() }, Some(why)),
    };
    say(stream, &answer).await?;
    Ok(refused)
}

/// Tells a caller to ask again, once it has spoken.
///
/// # Errors
/// It said nothing, or the stream's own.
pub async fn put_off(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<(), TalkError> {
    hear::<ToListener>(stream, MESSAGE_MAX_BYTES, WORD_TIME_MAX).await?;
    say(stream, &ToCaller::Busy {}).await
}

/// What came of an invitation's beginning.
#[derive(Debug)]
pub enum Invited {
    /// The caller has proved the secret and sent this; it is to be told what came of it.
    Here(Invitation),
    /// It was refused, for this reason.
    Not(String),
}

/// Hears one who invites, as far as the invitation.
///
/// # Errors
/// When the talk ended without an answer.
pub async fn serve_inviter(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    channel: [u8; BYTES],
    secret: Result<Option<SharedSecret>, String>,
) -> Result<Invited, TalkError> {
    if let Some(why) = prove(stream, channel, Purpose::Invite, secret).await? {
        return Ok(Invited::Not(why));
    }
    match hear(stream, MESSAGE_MAX_BYTES, TOKEN_TIME_MAX).await? {
        ToListener::Invitation(invitation) => Ok(Invited::Here(invitation)),
        ToListener::Hello { .. } | ToListener::Proof { .. } => out_of_turn(),
    }
}

/// Tells the inviter what came of it.
///
/// # Errors
/// The stream's own.
pub(super) async fn tell(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    outcome: Result<Newcomer, String>,
) -> Result<(), TalkError> {
    say(stream, &outcome.map_or_else(|why| ToCaller::Refused { why }, ToCaller::Joined)).await
}

/// Both proofs, the caller's first. Answers why there are none, which the caller has been told.
async fn prove(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    channel: [u8; BYTES],
    serves: Purpose,
    secret: Result<Option<SharedSecret>, String>,
) -> Result<Option<String>, TalkError> {
    let ToListener::Hello { version, purpose, nonce: caller } = hear(stream, MESSAGE_MAX_BYTES, WORD_TIME_MAX).await?
    else {
        return out_of_turn();
    };
    let secret = match usable(version, purpose, serves, secret) {
        Ok(secret) => secret,
        Err((told, own)) => {
            say(stream, &ToCaller::Refused { why: told }).await?;
            return Ok(Some(own));
        }
    };
    let transcript = Transcript { purpose, channel, caller, listener: random::bytes() };
    say(stream, &ToCaller::Challenge { nonce: transcript.listener }).await?;
    let ToListener::Proof { mac } = hear(stream, MESSAGE_MAX_BYTES, WORD_TIME_MAX).await? else {
        return out_of_turn();
    };
    if !transcript.proves(&secret, Side::Caller, &mac) {
        say(stream, &ToCaller::Refused { why: OTHER_SECRET.to_owned() }).await?;
        return Ok(Some("it does not have this node's secret".to_owned()));
    }
    say(stream, &ToCaller::Proof { mac: transcript.prove(&secret, Side::Listener) }).await?;
    Ok(None)
}

/// The secret, or what the caller is told and what is said here.
fn usable(
    version: u32,
    purpose: Purpose,
    serves: Purpose,
    secret: Result<Option<SharedSecret>, String>,
) -> Result<SharedSecret, (String, String)> {
    let both = |why: String| (why.clone(), why);
    if version != VERSION {
        let why =
            format!("one node speaks version {version} of introductions, the other {VERSION}: install the same pkgctl");
        return Err(both(why));
    }
    match (purpose, serves) {
        (Purpose::Join, Purpose::Join) | (Purpose::Invite, Purpose::Invite) => {}
        (Purpose::Join, Purpose::Invite) => return Err(both(IN_NO_CLUSTER.to_owned())),
        (Purpose::Invite, Purpose::Join) => return Err(both("that node is in a cluster already".to_owned())),
    }
    match secret {
        Ok(Some(secret)) => Ok(secret),
        Ok(None) => Err(both(
            "that node has no secret: copy /etc/pkgctl/secret there (`pkgctl cluster secret` makes it), or use a token: \
             `pkgctl cluster token` on a member, `pkgctl cluster join TOKEN` on the new node"
                .to_owned(),
        )),
        Err(why) => Err(("that node cannot use its secret; its log says why".to_owned(), why)),
    }
}
