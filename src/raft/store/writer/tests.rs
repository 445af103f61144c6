//! What goes into one commit.

use super::super::disk::{Disk, RealDisk};
use super::*;

/// Bytes of each value; they differ little from an entry's with a key of the tree.
const VALUE_BYTES: usize = 400;

/// Counts what is committed: puts and deletions of each commit.
#[derive(Default)]
struct Counting(Vec<(usize, usize)>);

impl Table for Counting {
    const NAME: &'static str = "counting";

    fn create(_: &std::path::Path, _: Arc<dyn Disk>) -> io::Result<Self> {
        Ok(Self::default())
    }

    fn open(_: &std::path::Path, _: Arc<dyn Disk>) -> io::Result<Self> {
        Ok(Self::default())
    }

    fn scan(&self, _: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        Ok(())
    }

    fn commit(&mut self, writes: &[Write], _: bool) -> io::Result<()> {
        let puts = writes.iter().filter(|write| matches!(write, Write::Put(..))).count();
        self.0.push((puts, writes.len() - puts));
        Ok(())
    }
}

fn writer() -> (Writer<Counting>, WriterQueue) {
    let dir = tempfile::tempdir().unwrap();
    let tail = TailFile::create(dir.path(), Arc::new(RealDisk)).unwrap();
    let lock = StoreLock::take(dir.path()).unwrap();
    Writer::new(Counting::default(), tail, Health::new(dir.path()), lock)
}

fn entry(key: usize) -> Op {
    let writes = vec![Write::Put(key.to_be_bytes().to_vec(), vec![0; VALUE_BYTES])];
    Op { doing: "writing", writes, durable: true, tail: TailStep::Keep, done: None }
}

fn purged(count: usize) -> Vec<Purged> {
    (0..count).map(|key| Purged { key: key.to_be_bytes().to_vec(), bytes: VALUE_BYTES }).collect()
}

/// Commits whatever is queued, and nothing more.
fn run_queue(mut writer: Writer<Counting>) -> Writer<Counting> {
    while let Next::Message(message) = writer.next() {
        writer = writer.take(message).unwrap();
    }
    writer
}

#[test]
fn under_a_steady_load_purged_values_go_as_fast_as_new_ones_come_without_a_sync_of_their_own() {
    const COUNT: usize = 5000;
    let (mut writer, queue) = writer();
    queue.purge(purged(COUNT)).unwrap();
    for width in [1, 16, 64, 256, 1000] {
        let before = writer.table.0.len();
        let mut written = 0;
        while written < COUNT {
            (0..width).for_each(|_| queue.push(entry(written)).unwrap());
            written += width;
            writer = run_queue(writer);
        }
        let commits = &writer.table.0[before..];
        let deleted: usize = commits.iter().map(|(_, deletions)| deletions).sum();
        assert_eq!(deleted, COUNT, "{width} at once");
        assert!(commits.iter().all(|(puts, _)| *puts > 0), "{width} at once");
        let most = |puts: usize| (puts * (VALUE_BYTES + 8)).max(PURGED_BYTES) / VALUE_BYTES + 1;
        let beyond = commits.iter().find(|(puts, deletions)| *deletions > most(*puts));
        assert_eq!(beyond, None, "{width} at once");
        queue.purge(purged(COUNT)).unwrap();
    }
}

#[test]
fn without_any_load_purged_values_go_by_themselves_a_few_at_a_time() {
    let (mut writer, queue) = writer();
    queue.purge(purged(1000)).unwrap();
    writer = run_queue(writer);
    while let Next::Purge = writer.next() {
        writer.purge();
    }
    let deleted: usize = writer.table.0.iter().map(|(_, deletions)| deletions).sum();
    assert_eq!(deleted, 1000);
    assert!(writer.table.0.iter().all(|(_, deletions)| deletions * VALUE_BYTES < PURGED_BYTES + VALUE_BYTES));
}
