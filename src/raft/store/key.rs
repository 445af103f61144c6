//! Where each record lives in a table, and how one record becomes several small values.
//!
//! An entry of the log is sealed as a whole and cut into parts of [`PART_BYTES`]; reading puts the parts together and
//! lets the seal say whether all of them are there.

use super::Write;
use crate::engine::codec::seal;
use crate::raft::record::LogRecord;

/// Largest value stored. sled keeps up to 17 values in a page and writes pages of more than 128 KiB into files that it
/// never syncs; 17 of these stay below that.
pub const PART_BYTES: usize = 7 << 10;

/// Key of the store's own description.
pub const ABOUT: &[u8] = b"about";
/// Key of the vote.
pub const VOTE: &[u8] = b"vote";
/// Key of the commit mark.
pub const COMMITTED: &[u8] = b"committed";
/// Key of the purge mark.
pub const PURGED: &[u8] = b"purged";

const ENTRY: u8 = b'e';

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// [`ABOUT`].
    About,
    /// [`VOTE`].
    Vote,
    /// [`COMMITTED`].
    Committed,
    /// [`PURGED`].
    Purged,
    /// A part of an entry.
    Entry {
        /// The entry's index.
        index: u64,
        /// Which part, from 0.
        part: u16,
    },
}

/// What a key stands for; none for a key that is not ours.
pub fn place(key: &[u8]) -> Option<Place> {
    match key {
        ABOUT => return Some(Place::About),
        VOTE => return Some(Place::Vote),
        COMMITTED => return Some(Place::Committed),
        PURGED => return Some(Place::Purged),
        _ => {}
    }
    let (&ENTRY, rest) = key.split_first()? else { return None };
    let (index, part) = rest.split_at_checked(8)?;
    Some(Place::Entry {
        index: u64::from_be_bytes(index.try_into().ok()?),
        part: u16::from_be_bytes(part.try_into().ok()?),
    })
}

/// The key of a part of an entry; keys sort as entries do.
pub fn entry(index: u64, part: u16) -> Vec<u8> {
    let mut key = Vec::with_capacity(11);
    key.push(ENTRY);
    key.extend_from_slice(&index.to_be_bytes());
    key.extend_from_slice(&part.to_be_bytes());
    key
}

/// Whether two writes are about parts of one entry.
pub fn same_entry(one: &Write, other: &Write) -> bool {
    let index = |write: &Write| {
        let (Write::Put(key, _) | Write::Delete(key)) = write;
        match place(key) {
            Some(Place::Entry { index, .. }) => Some(index),
            Some(Place::About | Place::Vote | Place::Committed | Place::Purged) | None => None,
        }
    };
    index(one).is_some() && index(one) == index(other)
}

/// The writes that store a record, and how many parts it has.
///
/// # Panics
/// On a record of more than 448 MiB; the API takes no command near that size.
pub fn put(record: &LogRecord) -> (Vec<Write>, u16) {
    let sealed = seal(record);
    let parts = sealed.chunks(PART_BYTES).zip(0_u16..).map(|(bytes, part)| {
        let key = entry(record.mark.index, part);
        Write::Put(key, bytes.to_vec())
    });
    let writes: Vec<Write> = parts.collect();
    let count = u16::try_from(sealed.len().div_ceil(PART_BYTES)).expect("a record has fewer than 65536 parts");
    (writes, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_entries_do_and_come_back() {
        let keys = [entry(1, 0), entry(1, 1), entry(2, 0), entry(256, 0), entry(u64::MAX, 0)];
        assert!(keys.is_sorted());
        assert_eq!(place(&keys[1]), Some(Place::Entry { index: 1, part: 1 }));
        assert_eq!(place(ABOUT), Some(Place::About));
        assert_eq!(place(b"e1"), None);
        assert_eq!(place(b""), None);
    }
}
