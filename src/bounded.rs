//! The one way in which files and standard input that an operator names are read: up to a limit, and not a byte further.
//!
//! Who names `/dev/zero` by mistake shall not cost this machine its memory, and a node its lease with it.

use std::fs::File;
use std::io::{self, BufRead, ErrorKind, Read};
use std::path::Path;

/// Most bytes taken of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Of what, as a sentence begins with it: "the value".
    pub of: &'static str,
    /// How many.
    pub bytes: usize,
}

/// Something is larger than it may be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} {}; at most {} ({}) are taken", limit.of, has(*limit, *size), limit.bytes, in_units(limit.bytes))]
pub struct TooLarge {
    /// What it may be.
    pub limit: Limit,
    /// Its size in bytes; none if that is not known, because it was not read to its end.
    pub size: Option<u64>,
}

impl From<TooLarge> for io::Error {
    fn from(why: TooLarge) -> Self {
        io::Error::new(ErrorKind::FileTooLarge, why)
    }
}

fn has(limit: Limit, size: Option<u64>) -> String {
    match size {
        Some(size) => format!("has {size} bytes"),
        None => format!("has more than {} bytes", limit.bytes),
    }
}

/// A number of bytes in words: `128 KiB`.
pub fn in_units(bytes: usize) -> String {
    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;
    match bytes {
        MIB.. if bytes.is_multiple_of(MIB) => format!("{} MiB", bytes / MIB),
        KIB.. if bytes.is_multiple_of(KIB) => format!("{} KiB", bytes / KIB),
        _ => format!("{bytes} bytes"),
    }
}

/// Reads to the end, and one byte beyond the limit at most.
///
/// # Errors
/// [`TooLarge`] as an [`io::Error`], or the system's own.
pub fn read(from: impl Read, limit: Limit) -> io::Result<Vec<u8>> {
    read_sized(from, limit, None)
}

/// The same of a file, of which the size is told where the system knows it.
///
/// # Errors
/// As [`read`].
pub fn read_open(file: &File, limit: Limit) -> io::Result<Vec<u8>> {
    let found = file.metadata()?;
    read_sized(file, limit, found.is_file().then_some(found.len()))
}

/// The same of a file by its name.
///
/// # Errors
/// As [`read`].
pub fn read_file(path: &Path, limit: Limit) -> io::Result<Vec<u8>> {
    read_open(&File::open(path)?, limit)
}

/// The same of a file of text.
///
/// # Errors
/// As [`read`], and when it is no UTF-8.
pub fn read_text(path: &Path, limit: Limit) -> io::Result<String> {
    text(read_file(path, limit)?)
}

/// Bytes as text.
///
/// # Errors
/// It is no UTF-8.
pub fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        io::Error::new(ErrorKind::InvalidData, format!("it is no text: byte {} is not UTF-8", at + 1))
    })
}

/// The next line with its end; none after the last. Of one that is too long no more than the limit is kept.
///
/// # Errors
/// As [`read`].
pub fn line(from: &mut impl BufRead, limit: Limit) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    from.take(limit.bytes as u64 + 1).read_until(b'\n', &mut line)?;
    if line.len() > limit.bytes {
        return Err(TooLarge { limit, size: None }.into());
    }
    Ok((!line.is_empty()).then_some(line))
}

/// `size` is what the system says; what comes may be more.
fn read_sized(from: impl Read, limit: Limit, size: Option<u64>) -> io::Result<Vec<u8>> {
    let most = limit.bytes as u64;
    if let Some(size) = size.filter(|size| *size > most) {
        return Err(TooLarge { limit, size: Some(size) }.into());
    }
    let mut bytes = Vec::new();
    from.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit.bytes {
        return Err(TooLarge { limit, size: None }.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { of: "the value", bytes: 128 << 10 };

    /// Counts what is taken from it, and never ends.
    struct Endless(usize);

    impl Read for Endless {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            into.fill(0);
            self.0 += into.len();
            Ok(into.len())
        }
    }

    #[test]
    fn what_never_ends_is_read_to_one_byte_beyond_the_limit() {
        let mut endless = Endless(0);
        let said = read(&mut endless, LIMIT).unwrap_err().to_string();
        assert_eq!(said, "the value has more than 131072 bytes; at most 131072 (128 KiB) are taken");
        assert_eq!(endless.0, LIMIT.bytes + 1);
        let said = read_file(Path::new("/dev/zero"), LIMIT).unwrap_err().to_string();
        assert!(said.contains("more than 131072"), "{said}");
    }

    #[test]
    fn a_file_that_is_too_large_is_told_with_its_size_and_one_that_just_fits_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(LIMIT.bytes as u64 + 1).unwrap();
        let error = read_file(file.path(), LIMIT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        assert_eq!(error.to_string(), "the value has 131073 bytes; at most 131072 (128 KiB) are taken");
        file.as_file().set_len(LIMIT.bytes as u64).unwrap();
        assert_eq!(read_file(file.path(), LIMIT).unwrap().len(), LIMIT.bytes);
    }

    #[test]
    fn lines_are_read_one_by_one_and_a_long_one_is_refused() {
        let few = Limit { of: "a line", bytes: 4 };
        let mut from = &b"one\ntwo\nlonger\n"[..];
        assert_eq!(line(&mut from, few).unwrap().unwrap(), b"one\n");
        assert_eq!(line(&mut from, few).unwrap().unwrap(), b"two\n");
        assert_eq!(line(&mut from, few).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(line(&mut &b""[..], few).unwrap(), None);
        assert_eq!(line(&mut &b"end"[..], few).unwrap().unwrap(), b"end");
    }

    #[test]
    fn limits_are_told_in_the_unit_that_they_are_set_in() {
        let said = [256 << 20, 192 << 10, 1 << 20, 1000, 1025].map(in_units);
        assert_eq!(said, ["256 MiB", "192 KiB", "1 MiB", "1000 bytes", "1025 bytes"]);
    }

    #[test]
    fn what_is_no_text_is_told_with_its_first_bad_byte() {
        let said = text(b"ab\xff".to_vec()).unwrap_err().to_string();
        assert_eq!(said, "it is no text: byte 3 is not UTF-8");
    }
}
