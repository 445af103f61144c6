//! A package's log on this node (L19), from an offset on, waiting for more when asked to.

use std::io::SeekFrom;
use std::path::Path as FilePath;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::body::{Asked, Called, name};
use crate::api::door::Door;
use crate::api::failure::Refusal;
use crate::engine::Rejected;

/// Most bytes in one answer.
const CHUNK_MAX_BYTES: u64 = 256 << 10;
/// How often a followed file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Longest a request may wait, in milliseconds.
const WAIT_MAX_MS: u64 = 30_000;
/// The header that says where the next answer begins.
pub const NEXT_OFFSET: &str = "x-next-offset";

/// `GET /v1/packages/P/log?offset=N&within_ms=M&tail=B`.
#[derive(Deserialize)]
pub struct Window {
    /// First byte wanted.
    offset: Option<u64>,
    /// Without an offset: at most this many of the last bytes.
    tail: Option<u64>,
    /// How long to wait for more.
    #[serde(default)]
    within_ms: u64,
}

/// Bytes of the log; the header `x-next-offset` says where the next answer begins.
pub async fn log<D: Door>(
    State(door): State<D>,
    Called(given): Called,
    Asked(window): Asked<Window>,
) -> Result<(HeaderMap, Vec<u8>), Refusal> {
    let package = name(&given)?;
    let path = door.log_file(&package);
    if !path.exists() && door.read(|state| !state.packages.contains_key(&package)) {
        return Err(Rejected::NoSuchPackage { package }.into());
    }
    let looks = window.within_ms.min(WAIT_MAX_MS) / u64::try_from(LOOK_EVERY.as_millis()).unwrap_or(u64::MAX);
    let mut left = looks;
    loop {
        let (offset, bytes) = read(&path, &window).await.map_err(|e| failed(&path, &e))?;
        if !bytes.is_empty() || left == 0 {
            let next = offset + u64::try_from(bytes.len()).unwrap_or(0);
            let mut headers = HeaderMap::new();
            headers.insert(NEXT_OFFSET, HeaderValue::from(next));
            return Ok((headers, bytes));
        }
        left -= 1;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn read(path: &FilePath, window: &Window) -> std::io::Result<(u64, Vec<u8>)> {
    // A link under the log's name would show any file, a pipe would keep us waiting.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut file = match tokio::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).await {
        // Nothing has run here yet: an empty log, not an error.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((0, Vec::new())),
        other => other?,
    };
    let length = file.metadata().await?.len();
    let from_end = window.tail.map_or(0, |tail| length.saturating_sub(tail));
    // A file shorter than the offset was rotated: it begins again.
    let offset = window.offset.map_or(from_end, |o| if o > length { 0 } else { o });
    file.seek(SeekFrom::Start(offset)).await?;
    let mut bytes = Vec::new();
    file.take(CHUNK_MAX_BYTES).read_to_end(&mut bytes).await?;
    // The end of a log begins with a whole line.
    let cut = window.offset.is_none() && offset > 0;
    let part = bytes.iter().position(|byte| *byte == b'\n').filter(|_| cut).map_or(0, |end| end + 1);
    bytes.drain(..part);
    Ok((offset + part as u64, bytes))
}

fn failed(path: &FilePath, error: &std::io::Error) -> Refusal {
    let text = format!("the log {} cannot be read: {error}", path.display());
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "log_unreadable", text)
}
