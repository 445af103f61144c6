//! Values too large for memory twice: sealed as `engine::codec` does, but written to a file and read from it in pieces.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::disk::{Disk, Part};
use crate::engine::codec::{DecodeError, ENVELOPE_BYTES, VERSION};

/// Bytes written and read at once.
const PIECE_BYTES: usize = 256 << 10;

/// Writes a value into an empty file and says how long it has become. Not synced.
///
/// # Errors
/// Whatever the disk says.
pub fn write<T: Serialize>(value: &T, file: &File, disk: &dyn Disk) -> io::Result<u64> {
    let mut to = BufWriter::with_capacity(PIECE_BYTES, Summing::new(file, disk));
    let mut encoder = rmp_serde::Serializer::new(&mut to).with_struct_map().with_human_readable();
    let encoded = value.serialize(&mut encoder);
    let outcome = encoded.map_err(io::Error::other).and_then(|()| to.flush());
    // What is left in the buffer after an error is of no use.
    let (summing, _) = to.into_parts();
    if let Some(error) = summing.error {
        return Err(error);
    }
    outcome?;
    let mut envelope = [VERSION; ENVELOPE_BYTES];
    envelope[1..].copy_from_slice(&summing.sum.finalize().to_be_bytes());
    file.write_all_at(&envelope, 0)?;
    Ok(summing.at)
}

/// Reads what [`write()`] or `codec::seal` made, refusing damage before anything is decoded.
///
/// # Errors
/// `InvalidData` when it is not whole or not such a value, else what the disk says.
pub fn read<T: DeserializeOwned>(file: &File) -> io::Result<T> {
    check(file)?;
    let body = BufReader::with_capacity(PIECE_BYTES, From { file, at: ENVELOPE_BYTES as u64 });
    let mut decoder = rmp_serde::Deserializer::new(body).with_human_readable();
    T::deserialize(&mut decoder).map_err(|e| match e {
        rmp_serde::decode::Error::InvalidMarkerRead(e) | rmp_serde::decode::Error::InvalidDataRead(e)
            if e.raw_os_error().is_some() =>
        {
            e
        }
        e => damaged(&DecodeError::Form(e.to_string())),
    })
}

fn check(file: &File) -> io::Result<()> {
    let mut envelope = [0; ENVELOPE_BYTES];
    let mut from = From { file, at: 0 };
    from.read_exact(&mut envelope).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => damaged(&DecodeError::Short { bytes: 0 }),
        _ => e,
    })?;
    let [version, sum @ ..] = envelope;
    if version != VERSION {
        return Err(damaged(&DecodeError::Version { version }));
    }
    let mut found = crc32fast::Hasher::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match from.read(&mut piece)? {
            0 => break,
            n => found.update(&piece[..n]),
        }
    }
    let (expected, found) = (u32::from_be_bytes(sum), found.finalize());
    if expected == found { Ok(()) } else { Err(damaged(&DecodeError::Checksum { expected, found })) }
}

fn damaged(why: &DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

/// Writes behind the envelope's place and sums up.
struct Summing<'a> {
    file: &'a File,
    disk: &'a dyn Disk,
    at: u64,
    sum: crc32fast::Hasher,
    /// The disk's own word: the encoder passes on no more than text.
    error: Option<io::Error>,
}

impl<'a> Summing<'a> {
    fn new(file: &'a File, disk: &'a dyn Disk) -> Self {
        Self { file, disk, at: ENVELOPE_BYTES as u64, sum: crc32fast::Hasher::new(), error: None }
    }
}

impl Write for Summing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written =
            self.disk.admit(Part::Snapshot, bytes.len()).and_then(|()| self.file.write_all_at(bytes, self.at));
        if let Err(error) = written {
            let kind = error.kind();
            self.error.get_or_insert(error);
            return Err(kind.into());
        }
        self.at += bytes.len() as u64;
        self.sum.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a file from a place on, whoever else reads it.
struct From<'a> {
    file: &'a File,
    at: u64,
}

impl Read for From<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(into, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::RealDisk;
    use super::*;
    use crate::engine::codec;

    #[test]
    fn a_file_holds_what_the_codec_would_have_sealed_and_damage_is_refused() {
        let value: Vec<(u64, String)> = (0..40_000).map(|n| (n, format!("value {n}"))).collect();
        let file = tempfile::tempfile().unwrap();
        let bytes = write(&value, &file, &RealDisk).unwrap();
        let mut whole = vec![0; usize::try_from(bytes).unwrap()];
        file.read_exact_at(&mut whole, 0).unwrap();
        assert!(whole == codec::seal(&value), "the two differ");
        assert!(read::<Vec<(u64, String)>>(&file).unwrap() == value);

        let refusal = |file: &File| read::<Vec<(u64, String)>>(file).unwrap_err().to_string();
        file.write_all_at(&[!whole[300_000]], 300_000).unwrap();
        assert!(refusal(&file).contains("checksum"), "{}", refusal(&file));
        file.write_all_at(&[VERSION + 1], 0).unwrap();
        assert!(refusal(&file).contains("newer pkgctl"), "{}", refusal(&file));
        file.set_len(3).unwrap();
        assert!(refusal(&file).contains("cut off"), "{}", refusal(&file));
    }
}
