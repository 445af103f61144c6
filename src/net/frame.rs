//! Length-prefixed frames on a stream: length of the body (4 bytes, big endian), a kind (1 byte), the body.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const HEADER_BYTES: usize = 5;
/// Bodies up to here go out in one write with their header; a buffer for the answer starts no larger than this either,
/// so that a length alone reserves no memory.
const FIRST_BYTES: usize = 16 << 10;

/// What is wrong with a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Its sender announces more than is accepted; nothing of it was read.
    #[error("a frame of kind {kind} with {bytes} bytes is larger than the {limit} that are accepted")]
    TooLarge {
        /// Its kind.
        kind: u8,
        /// What it announces.
        bytes: usize,
        /// What is accepted.
        limit: usize,
    },
    /// The stream ended in the middle of it.
    #[error("the connection ended in the middle of a frame")]
    CutOff,
    /// The stream failed.
    #[error("{}", super::tls::explain(.0))]
    Stream(#[from] io::Error),
}

/// Writes a frame and flushes it.
///
/// # Errors
/// [`FrameError::TooLarge`] beyond 4 GiB, or the stream's own.
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), kind: u8, body: &[u8]) -> Result<(), FrameError> {
    let too_large = |_| FrameError::TooLarge { kind, bytes: body.len(), limit: u32::MAX as usize };
    let length = u32::try_from(body.len()).map_err(too_large)?;
    let (first, rest) = body.split_at(body.len().min(FIRST_BYTES));
    let mut head = Vec::with_capacity(HEADER_BYTES + first.len());
    head.extend_from_slice(&length.to_be_bytes());
    head.push(kind);
    head.extend_from_slice(first);
    stream.write_all(&head).await?;
    stream.write_all(rest).await?;
    Ok(stream.flush().await?)
}

/// The announcement of a frame whose body is still to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub kind: u8,
    /// How long its body is; within the limit.
    pub bytes: usize,
}

/// Reads a frame's header; none when the stream ended in good order before it.
///
/// # Errors
/// [`FrameError::TooLarge`] when it announces more than `limit` allows for its kind.
pub async fn read_header(
    stream: &mut (impl AsyncRead + Unpin),
    limit: impl Fn(u8) -> usize,
) -> Result<Option<Header>, FrameError> {
    let mut head = [0; HEADER_BYTES];
    let mut have = 0;
    while have < HEADER_BYTES {
        match stream.read(&mut head[have..]).await {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(FrameError::CutOff),
            Ok(n) => have += n,
            // A peer that was killed sends no TLS goodbye; between frames that is an end like any other.
            Err(e) if have == 0 && e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    }
    let [a, b, c, d, kind] = head;
    let (bytes, limit) = (u32::from_be_bytes([a, b, c, d]) as usize, limit(kind));
    if bytes > limit { Err(FrameError::TooLarge { kind, bytes, limit }) } else { Ok(Some(Header { kind, bytes })) }
}

/// Reads the body that a header announced.
///
/// # Errors
/// [`FrameError::CutOff`] or the stream's own.
pub async fn read_body(stream: &mut (impl AsyncRead + Unpin), header: Header) -> Result<Vec<u8>, FrameError> {
    let mut body = Vec::with_capacity(header.bytes.min(FIRST_BYTES));
    let read = stream.take(header.bytes as u64).read_to_end(&mut body).await;
    match read {
        Ok(n) if n == header.bytes => Ok(body),
        Ok(_) => Err(FrameError::CutOff),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(FrameError::CutOff),
        Err(e) => Err(e.into()),
    }
}

/// Reads a whole frame of at most `limit` bytes.
///
/// # Errors
/// As the two halves; an end before the frame is [`FrameError::CutOff`] here.
pub async fn read(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> Result<(u8, Vec<u8>), FrameError> {
    let header = read_header(stream, |_| limit).await?.ok_or(FrameError::CutOff)?;
    Ok((header.kind, read_body(stream, header).await?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    fn block<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn frames_come_back(kind in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..40_000)) {
            let mut wire = Vec::new();
            block(write(&mut wire, kind, &body)).unwrap();
            let (got_kind, got) = block(read(&mut wire.as_slice(), body.len())).unwrap();
            prop_assert_eq!(got_kind, kind);
            prop_assert!(got == body);
            for cut in [0, 3, wire.len() - 1] {
                prop_assert!(block(read(&mut &wire[..cut.min(wire.len() - 1)], body.len())).is_err());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_never_exceed_the_limit(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok((_, body)) = block(read(&mut bytes.as_slice(), 100)) {
                prop_assert!(body.len() <= 100);
            }
        }
    }

    #[test]
    fn an_oversized_frame_is_refused_by_its_header() {
        let wire = [0xff, 0xff, 0xff, 0xff, 4];
        let refused = block(read(&mut wire.as_slice(), 64)).unwrap_err();
        assert!(matches!(refused, FrameError::TooLarge { kind: 4, bytes: 0xffff_ffff, limit: 64 }), "{refused}");
    }

    #[test]
    fn the_end_of_a_stream_between_frames_is_no_error() {
        assert_eq!(block(read_header(&mut [].as_slice(), |_| 9)).unwrap(), None);
        assert!(matches!(block(read_header(&mut [0].as_slice(), |_| 9)), Err(FrameError::CutOff)));
    }
}
