//! The serving end of a member's connection: one request, one answer, until it ends.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::{BODY_MAX_BYTES, reply};
use crate::engine::NodeId;
use crate::net::frame::{self, FrameError};
use crate::net::identity::Subject;
use crate::net::listener::Standing;
use crate::net::removed::Removed;
use crate::raft::peers::{PeerCall, PeerService};

/// How long a frame may take from its first byte to its last, either way.
const FRAME_TIME_MAX: Duration = Duration::from_secs(60);

/// Why a member's connection ended before the member closed it.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The stream, or a frame that is not acceptable.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame got stuck.
    #[error("a frame was not through after {FRAME_TIME_MAX:?}")]
    Stuck,
    /// A call that this version does not know.
    #[error("it made call {0}, which this version of pkgctl does not know")]
    UnknownCall(u8),
}

async fn in_time<T>(work: impl Future<Output = Result<T, FrameError>>) -> Result<T, Ended> {
    Ok(timeout(FRAME_TIME_MAX, work).await.map_err(|_| Ended::Stuck)??)
}

/// Says to a client that connected why it may not come in.
///
/// # Errors
/// When it cannot be told.
pub async fn refuse(stream: &mut (impl AsyncWrite + Unpin), why: &str) -> Result<(), Ended> {
    in_time(frame::write(stream, reply::REFUSED, why.as_bytes())).await
}

/// Says to a node that it was removed, for good.
///
/// # Errors
/// When it cannot be told.
pub async fn turn_away(stream: &mut (impl AsyncWrite + Unpin), removed: Removed) -> Result<(), Ended> {
    in_time(frame::write(stream, reply::REMOVED, removed.to_text().as_bytes())).await
}

/// What a node is told that is no member.
pub fn not_a_member(who: &Subject) -> String {
    format!("{who} is not a member of this cluster (any more)")
}

/// Lets node `from` in and answers its requests until it closes the connection, or is no member any more.
///
/// # Errors
/// Why the connection cannot go on.
pub async fn serve<P: PeerService>(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    from: NodeId,
    service: &P,
    standing: impl Fn() -> Standing,
) -> Result<(), Ended> {
    in_time(frame::write(stream, reply::OK, &[])).await?;
    // Waiting for a request has no bound: idle connections are wanted, and dead peers end by keepalive.
    while let Some(header) = next(stream).await? {
        let body = in_time(frame::read_body(stream, header)).await?;
        match standing() {
            Standing::Known => {}
            Standing::Unknown => return refuse(stream, &not_a_member(&Subject::Node(from))).await,
            Standing::Removed(removed) => return turn_away(stream, removed).await,
        }
        let call = match PeerCall::try_from(header.kind) {
            Ok(call) => call,
            Err(unknown) => {
                let ended = Ended::UnknownCall(unknown);
                refuse(stream, &ended.to_string()).await?;
                return Err(ended);
            }
        };
        let answer = service.serve(from, call, body).await;
        in_time(frame::write(stream, reply::OK, &answer)).await?;
    }
    Ok(())
}

async fn next(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<Option<frame::Header>, Ended> {
    match frame::read_header(stream, |_| BODY_MAX_BYTES).await {
        Ok(header) => Ok(header),
        Err(e @ FrameError::TooLarge { .. }) => {
            refuse(stream, &e.to_string()).await?;
            Err(e.into())
        }
        Err(e @ (FrameError::CutOff | FrameError::Stream(_))) => Err(e.into()),
    }
}
