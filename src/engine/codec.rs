//! Values as bytes: MessagePack with named fields, so that fields can be added, and a checked envelope for disk.
//!
//! MessagePack is written in its human-readable mode because serde's buffered forms (flattened and tagged enums) forget
//! which mode they were written in, and addresses would not come back.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Version of the envelope and of the values in it. A reader accepts this one and refuses newer ones by name.
pub const VERSION: u8 = 1;

/// Bytes the envelope adds: version, CRC-32 of the rest.
pub const ENVELOPE_BYTES: usize = 5;

/// What was wrong with bytes that should have been a value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than an envelope.
    #[error("record is cut off: {bytes} bytes")]
    Short {
        /// How many bytes there were.
        bytes: usize,
    },
    /// Written by a newer program.
    #[error("record has version {version}, this program reads up to {VERSION}: install the newer pkgctl again")]
    Version {
        /// The version found.
        version: u8,
    },
    /// The bytes are not those that were written.
    #[error("checksum {found:08x} is not {expected:08x}: the record is damaged")]
    Checksum {
        /// As stored.
        expected: u32,
        /// As computed.
        found: u32,
    },
    /// The bytes are whole but are not the expected value.
    #[error("record does not decode: {0}")]
    Form(String),
}

/// Encodes a value for the wire, without an envelope.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    let mut to = rmp_serde::Serializer::new(&mut out).with_struct_map().with_human_readable();
    // Encoding into memory fails only for types that refuse to be serialized; ours do not, and tests cover each.
    value.serialize(&mut to).expect("our own types serialize");
    out
}

/// Decodes what [`encode`] made.
///
/// # Errors
/// [`DecodeError::Form`] when the bytes are not such a value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut from = rmp_serde::Deserializer::new(bytes).with_human_readable();
    T::deserialize(&mut from).map_err(|e| DecodeError::Form(e.to_string()))
}

/// Encodes a value for disk: version, CRC-32, value.
pub fn seal<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let body = encode(value);
    let mut out = Vec::with_capacity(body.len() + ENVELOPE_BYTES);
    out.push(VERSION);
    out.extend_from_slice(&crc32fast::hash(&body).to_be_bytes());
    out.extend_from_slice(&body);
    out
}

/// Decodes what [`seal`] made, refusing damage.
///
/// # Errors
/// Every way in which the bytes are not a whole record of a known version.
pub fn open<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let Some((head, body)) = bytes.split_at_checked(ENVELOPE_BYTES) else {
        return Err(DecodeError::Short { bytes: bytes.len() });
    };
    if head[0] != VERSION {
        return Err(DecodeError::Version { version: head[0] });
    }
    let expected = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let found = crc32fast::hash(body);
    if expected != found {
        return Err(DecodeError::Checksum { expected, found });
    }
    decode(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::{IpResource, Kind, Millis, Resource, ResourceName};

    fn resource() -> Resource {
        Resource {
            name: ResourceName::new("ip").unwrap(),
            start_timeout: Millis(1),
            stop_timeout: Millis(2),
            kind: Kind::Ip(IpResource { address: "fd00::1".parse().unwrap(), prefix: 64, device: "eth0".into() }),
        }
    }

    #[test]
    fn flattened_tagged_values_come_back() {
        assert_eq!(decode::<Resource>(&encode(&resource())), Ok(resource()));
    }

    #[test]
    fn every_flipped_bit_of_a_sealed_record_is_refused() {
        let sealed = seal(&resource());
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open::<Resource>(&bad).is_err(), "bit {bit}");
        }
    }
}
