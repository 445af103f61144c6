//! The format of `pkgctl kv save`: a line of JSON for the head, one for each key, one for the end (docs/kv.md).
//!
//! The end names the number of keys and the SHA-256 of every line before it, so that a file that was cut, or that
//! somebody edited by hand, is noticed before anything is changed.

use std::io::BufRead;

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::api::types::kv::KvItem;
use crate::bounded::{self, Limit, in_units};
use crate::engine::kv::{ITEM_COST_BYTES, KEY_MAX_BYTES, Key, Range, TREE_MAX_BYTES, VALUE_MAX_BYTES, Value};
use crate::engine::{ClusterId, LogIndex};

const FORMAT: &str = "pkgctl-kv";
const VERSION: u32 = 1;
/// A line: any byte is at most six as JSON, and beside key and value there are names and numbers.
const LINE_LIMIT: Limit = Limit { of: "the line", bytes: 6 * (KEY_MAX_BYTES + VALUE_MAX_BYTES) + (1 << 10) };

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    format: String,
    version: u32,
    /// Whose keys.
    pub cluster: ClusterId,
    /// The directory that was saved, with a `/` at its end; empty for everything.
    pub dir: String,
    /// All keys are as they were after this entry.
    pub revision: LogIndex,
    /// How many there are.
    pub keys: u64,
    /// Where the log of a node that went on alone begins: what has a greater revision the old cluster never had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alone_after: Option<LogIndex>,
}

impl Head {
    /// The head of this version's files.
    pub fn new(cluster: ClusterId, dir: String, revision: LogIndex, keys: u64) -> Self {
        Self { format: FORMAT.to_owned(), version: VERSION, cluster, dir, revision, keys, alone_after: None }
    }
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    end: bool,
    keys: u64,
    sha256: String,
}

/// Writes a file line by line.
pub struct Writer {
    sum: Context,
    keys: u64,
}

impl Writer {
    /// Begins with the head; answers its line.
    pub fn begin(head: &Head) -> (Self, Vec<u8>) {
        let mut writer = Self { sum: Context::new(&SHA256), keys: 0 };
        let line = writer.line(head);
        (writer, line)
    }

    /// A key's line.
    pub fn item(&mut self, item: &KvItem) -> Vec<u8> {
        self.keys += 1;
        self.line(item)
    }

    /// The last line.
    pub fn end(mut self) -> Vec<u8> {
        let end = End { end: true, keys: self.keys, sha256: hex(self.sum.clone()) };
        self.line(&end)
    }

    fn line(&mut self, value: &impl Serialize) -> Vec<u8> {
        let mut line = serde_json::to_vec(value).expect("these types are JSON");
        line.push(b'\n');
        self.sum.update(&line);
        line
    }
}

fn hex(sum: Context) -> String {
    sum.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file that was checked as a whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its first line.
    pub head: Head,
    /// Keys with their values and the revisions of those, in the order of the keys.
    pub items: Vec<(Key, Filed)>,
}

/// What a file has of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filed {
    /// Its value.
    pub value: Value,
    /// The entry that wrote it, in the cluster that was saved.
    pub revision: LogIndex,
}

/// Checks a whole file, line by line; what is kept of it is no more than a tree takes.
///
/// # Errors
/// The line and what is wrong with it.
pub fn read(from: impl BufRead) -> Result<Backup, String> {
    read_within(from, TREE_MAX_BYTES)
}

/// The same with another size of the tree, in bytes.
fn read_within(mut from: impl BufRead, tree_max_bytes: u64) -> Result<Backup, String> {
    let mut at = 0;
    let mut next = || {
        at += 1;
        bounded::line(&mut from, LINE_LIMIT)
            .map(|line| line.map(|line| (at, line)))
            .map_err(|e| format!("line {at}: {e}"))
    };
    let mut sum = Context::new(&SHA256);
    let first = next()?.map(|(_, line)| line).unwrap_or_default();
    let head: Head = serde_json::from_slice(&first).map_err(|e| format!("line 1 is not the head of a backup: {e}"))?;
    if head.format != FORMAT || head.version != VERSION {
        let (format, version) = (&head.format, head.version);
        return Err(format!("line 1 names format {format} {version}; this pkgctl reads {FORMAT} {VERSION}"));
    }
    let range = head.range()?;
    sum.update(&first);
    let mut bytes = 0;
    let mut items: Vec<(Key, Filed)> = Vec::new();
    while let Some((at, line)) = next()? {
        let bad = |why: String| format!("line {at}: {why}");
        if let Ok(end) = serde_json::from_slice::<End>(&line) {
            finish(&head, &items, &end, &hex(sum)).map_err(bad)?;
            return match next()? {
                None => Ok(Backup { head, items }),
                Some(_) => Err(bad("the end is followed by something".to_owned())),
            };
        }
        let (key, filed) = item(&line).map_err(bad)?;
        if !range.contains(&key) {
            return Err(bad(format!("'{key}' is not below '{}', which the head names", head.dir)));
        }
        if items.last().is_some_and(|(before, _)| *before >= key) {
            return Err(bad(format!("'{key}' does not follow the key before it")));
        }
        bytes += (key.as_str().len() + filed.value.bytes().len()) as u64 + ITEM_COST_BYTES;
        if bytes > tree_max_bytes {
            let most = in_units(tree_max_bytes as usize);
            return Err(bad(format!(
                "the keys so far take {bytes} bytes; a tree takes at most {tree_max_bytes} ({most})"
            )));
        }
        sum.update(&line);
        items.push((key, filed));
    }
    Err(format!("the file ends after {} of {} keys without its last line: it was cut", items.len(), head.keys))
}

impl Head {
    /// The range that was saved.
    ///
    /// # Errors
    /// It names no directory.
    pub fn range(&self) -> Result<Range, String> {
        match self.dir.strip_suffix('/') {
            None if self.dir.is_empty() => Ok(Range::All),
            Some(dir) => Key::new(dir).map(Range::Below).map_err(|e| format!("line 1: {e}")),
            None => Err(format!("line 1: '{}' is no directory", self.dir)),
        }
    }
}

fn item(line: &[u8]) -> Result<(Key, Filed), String> {
    let item: KvItem = serde_json::from_slice(line).map_err(|e| format!("this is no key: {e}"))?;
    let value = item.value.ok_or_else(|| format!("'{}' has no value", item.key))?.0;
    let length = value.bytes().len();
    if length > VALUE_MAX_BYTES {
        return Err(format!("the value of '{}' has {length} bytes; at most {VALUE_MAX_BYTES} are taken", item.key));
    }
    Ok((item.key, Filed { value, revision: item.revision }))
}

fn finish(head: &Head, items: &[(Key, Filed)], end: &End, sum: &str) -> Result<(), String> {
    let keys = items.len() as u64;
    if keys != end.keys || keys != head.keys {
        return Err(format!("there are {keys} keys, and the head names {}, the end {}", head.keys, end.keys));
    }
    if end.sha256 != sum {
        return Err(format!(
            "the lines before it are not what was saved: their SHA-256 is {sum}. Whoever changed them on purpose writes \
             that here"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::*;

    fn saved(keys: &[(&str, &[u8])], dir: &str) -> Vec<u8> {
        let head = Head::new(ClusterId(7), dir.to_owned(), LogIndex(9), keys.len() as u64);
        let (mut writer, mut file) = Writer::begin(&head);
        for (key, value) in keys {
            let value = Some(Value::from(value).into());
            let (created, revision) = (LogIndex(1), LogIndex(2));
            file.extend(writer.item(&KvItem { key: Key::new(key).unwrap(), value, created, revision }));
        }
        file.extend(writer.end());
        file
    }

    #[test]
    fn what_is_saved_comes_back() {
        let keys: [(&str, &[u8]); 3] = [("a/b", b"1"), ("a/c d", b"\xff\n"), ("a/\u{e9}", b"")];
        let backup = read(&*saved(&keys, "a/")).unwrap();
        let came: Vec<(&str, &[u8])> = backup.items.iter().map(|(k, v)| (k.as_str(), v.value.bytes())).collect();
        assert_eq!(came, keys);
        assert_eq!((backup.head.revision, backup.head.dir.as_str()), (LogIndex(9), "a/"));
        assert!(read(&*saved(&[], "")).unwrap().items.is_empty());
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_refused() {
        let file = saved(&[("a", b"1"), ("b", b"2")], "");
        let whole = file.len();
        for length in 0..whole - 1 {
            assert!(read(&file[..length]).is_err(), "{length} of {whole} bytes");
        }
        assert!(read(&file[..whole - 1]).is_ok(), "only the last line's end is missing");
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let file = saved(&[("a", b"1"), ("b", b"2")], "");
        for at in 0..file.len() - 1 {
            let mut other = file.clone();
            other[at] = if other[at] == b'x' { b'y' } else { b'x' };
            assert!(read(&*other).is_err(), "byte {at}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let order = saved(&[("b", b"1"), ("a", b"2")], "");
        assert!(read(&*order).unwrap_err().starts_with("line 3: 'a' does not follow"));
        let outside = saved(&[("b", b"1")], "a/");
        assert!(read(&*outside).unwrap_err().starts_with("line 2: 'b' is not below 'a/'"));
        let more = [saved(&[], ""), b"{}\n".to_vec()].concat();
        assert!(read(&*more).unwrap_err().contains("followed by something"));
        assert!(read(&b"PNG"[..]).unwrap_err().starts_with("line 1"));
    }

    /// A file of valid lines without an end.
    struct Endless {
        line: Vec<u8>,
        at: usize,
        key: u64,
    }

    impl Read for Endless {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            if self.at == self.line.len() {
                let (created, revision) = (LogIndex(1), LogIndex(2));
                let value = Some(Value::from(&[b'x'; VALUE_MAX_BYTES][..]).into());
                let key = Key::new(&format!("{:09}", self.key)).unwrap();
                self.line = serde_json::to_vec(&KvItem { key, value, created, revision }).unwrap();
                self.line.push(b'\n');
                (self.at, self.key) = (0, self.key + 1);
            }
            let some = into.len().min(self.line.len() - self.at);
            into[..some].copy_from_slice(&self.line[self.at..self.at + some]);
            self.at += some;
            Ok(some)
        }
    }

    #[test]
    fn a_file_without_an_end_is_read_no_further_than_a_line_and_a_tree_may_be_long() {
        let zero = BufReader::new(std::fs::File::open("/dev/zero").unwrap());
        let said = read(zero).unwrap_err();
        assert!(said.starts_with("line 1: the line has more than 793600 bytes; at most 793600 (775 KiB)"), "{said}");
        let head = Head::new(ClusterId(7), String::new(), LogIndex(9), u64::MAX);
        let line = Writer::begin(&head).1;
        let said = read_within(BufReader::new(Endless { line, at: 0, key: 0 }), 1 << 20).unwrap_err();
        assert!(said.starts_with("line 9: ") && said.ends_with("a tree takes at most 1048576 (1 MiB)"), "{said}");
    }

    #[test]
    fn the_longest_value_fits_into_a_line_however_it_is_written() {
        let value = [1; VALUE_MAX_BYTES];
        assert!(read(&*saved(&[("a", &value)], "")).is_ok());
    }
}
