//! A storage engine on the simulated disk: every commit is one record appended to one file. Power loss leaves the records
//! up to the last sync, and some that came after it, the last perhaps torn.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::sync::Arc;

use pkgctl::raft::store::disk::{Disk, Part, sync_directory};
use pkgctl::raft::store::{Table, Write};

const FILE: &str = "table";
/// Length and checksum of a record.
const HEAD_BYTES: usize = 8;

/// The engine.
pub struct SimTable {
    file: File,
    disk: Arc<dyn Disk>,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl SimTable {
    fn apply(rows: &mut BTreeMap<Vec<u8>, Vec<u8>>, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Put(key, value) => drop(rows.insert(key.clone(), value.clone())),
                Write::Delete(key) => drop(rows.remove(key)),
            }
        }
    }
}

impl Table for SimTable {
    const NAME: &'static str = "simulated";

    fn create(dir: &Path, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let file = File::options().append(true).create_new(true).open(dir.join(FILE))?;
        disk.sync(Part::Log, &file)?;
        sync_directory(&*disk, dir)?;
        Ok(Self { file, disk, rows: BTreeMap::new() })
    }

    fn open(dir: &Path, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let mut file = File::options().read(true).append(true).open(dir.join(FILE))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (mut rows, mut rest) = (BTreeMap::new(), &bytes[..]);
        while let Some((writes, after)) = take_record(rest) {
            Self::apply(&mut rows, &writes);
            rest = after;
        }
        // A torn end was never acknowledged.
        file.set_len((bytes.len() - rest.len()) as u64)?;
        disk.sync(Part::Log, &file)?;
        Ok(Self { file, disk, rows })
    }

    fn scan(&self, visit: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        self.rows.iter().for_each(|(key, value)| visit(key, value));
        Ok(())
    }

    fn commit(&mut self, writes: &[Write], durable: bool) -> io::Result<()> {
        let record = record(writes);
        self.disk.admit(Part::Log, record.len())?;
        self.file.write_all(&record)?;
        Self::apply(&mut self.rows, writes);
        if durable { self.disk.sync(Part::Log, &self.file) } else { Ok(()) }
    }
}

fn record(writes: &[Write]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut field = |tag: u8, bytes: &[u8]| {
        body.push(tag);
        body.extend((bytes.len() as u32).to_be_bytes());
        body.extend(bytes);
    };
    for write in writes {
        match write {
            Write::Put(key, value) => {
                field(b'k', key);
                field(b'v', value);
            }
            Write::Delete(key) => field(b'd', key),
        }
    }
    let mut record = (body.len() as u32).to_be_bytes().to_vec();
    record.extend(crc32fast::hash(&body).to_be_bytes());
    record.extend(body);
    record
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

fn take_record(bytes: &[u8]) -> Option<(Vec<Write>, &[u8])> {
    let (length, sum) = (number(bytes)? as usize, number(bytes.get(4..)?)?);
    let body = bytes.get(HEAD_BYTES..HEAD_BYTES + length)?;
    if crc32fast::hash(body) != sum {
        return None;
    }
    let (mut writes, mut rest, mut key) = (Vec::new(), body, Vec::new());
    while let [tag, after @ ..] = rest {
        let length = number(after)? as usize;
        let field = after.get(4..4 + length)?.to_vec();
        match tag {
            b'k' => key = field,
            b'v' => writes.push(Write::Put(std::mem::take(&mut key), field)),
            _ => writes.push(Write::Delete(field)),
        }
        rest = &after[4 + length..];
    }
    Some((writes, &bytes[HEAD_BYTES + length..]))
}
