//! Values as length-prefixed frames on a byte stream: four bytes of length, big endian, then an `engine::codec` value.
//! No I/O: bytes in, values out.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::{self, DecodeError};

/// Bytes of the length prefix.
pub const PREFIX_BYTES: usize = 4;

/// Why a frame could not be made or taken. Either way the stream is of no more use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than the protocol allows.
    #[error("a frame of {bytes} bytes is longer than the {limit} allowed; the other side does not speak this protocol")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The protocol's limit.
        limit: usize,
    },
    /// Not a value that this program knows.
    #[error("a frame does not decode ({0}); the other side speaks another version of this protocol")]
    Form(#[from] DecodeError),
}

/// A value as one frame.
///
/// # Errors
/// [`FrameError::TooLong`] when the value is too large for the protocol.
pub fn encode<T: Serialize + ?Sized>(value: &T, limit_bytes: usize) -> Result<Vec<u8>, FrameError> {
    let body = codec::encode(value);
    let too_long = || FrameError::TooLong { bytes: body.len(), limit: limit_bytes };
    if body.len() > limit_bytes {
        return Err(too_long());
    }
    let prefix = u32::try_from(body.len()).map_err(|_| too_long())?;
    let mut out = Vec::with_capacity(PREFIX_BYTES + body.len());
    out.extend_from_slice(&prefix.to_be_bytes());
    out.extend_from_slice(&body);
    Ok(out)
}

/// Collects bytes as they come and gives out whole frames.
#[derive(Debug)]
pub struct Frames {
    limit_bytes: usize,
    pending: Vec<u8>,
    /// Bytes of `pending` already given out.
    taken: usize,
}

impl Frames {
    /// A stream from its beginning.
    pub fn new(limit_bytes: usize) -> Self {
        Self { limit_bytes, pending: Vec::new(), taken: 0 }
    }

    /// Adds bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.pending.drain(..self.taken);
            self.taken = 0;
        }
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// The stream is not one of ours; it must be closed.
    pub fn pop<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let rest = &self.pending[self.taken..];
        let Some((prefix, body)) = rest.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > self.limit_bytes {
            return Err(FrameError::TooLong { bytes: length, limit: self.limit_bytes });
        }
        let Some(body) = body.get(..length) else { return Ok(None) };
        let value = codec::decode(body)?;
        self.taken += PREFIX_BYTES + length;
        Ok(Some(value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    const LIMIT: usize = 1000;

    fn config() -> ProptestConfig {
        ProptestConfig { rng_seed: RngSeed::Fixed(2), ..ProptestConfig::default() }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn frames_come_back_however_the_bytes_are_cut(texts in prop::collection::vec(".{0,40}", 0..8), cut in 1..50usize) {
            let bytes: Vec<u8> = texts.iter().flat_map(|t| encode(t, LIMIT).unwrap()).collect();
            let mut frames = Frames::new(LIMIT);
            let mut back = Vec::new();
            for piece in bytes.chunks(cut) {
                frames.push(piece);
                while let Some(text) = frames.pop::<String>().unwrap() {
                    back.push(text);
                }
            }
            prop_assert_eq!(back, texts);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut frames = Frames::new(LIMIT);
            frames.push(&bytes);
            while let Ok(Some(_)) = frames.pop::<String>() {}
        }
    }

    #[test]
    fn a_frame_beyond_the_limit_is_refused_before_its_body_comes() {
        let mut frames = Frames::new(LIMIT);
        frames.push(&1001u32.to_be_bytes());
        assert_eq!(frames.pop::<String>(), Err(FrameError::TooLong { bytes: 1001, limit: LIMIT }));
        assert!(matches!(encode(&"x".repeat(LIMIT), LIMIT), Err(FrameError::TooLong { .. })));
    }
}
