//! A snapshot on its way from the leader to this node's disk: one part after another, one snapshot at a time.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use openraft::AsyncRuntime;

use super::bind::disk_time::DiskTime;
use super::bind::wire::SnapshotPart;
use super::record::{LogMark, Vote};
use super::store::snapshot::{Incoming, SnapshotFile, SnapshotFiles};

/// What a part has brought.
pub enum Arrived {
    /// All before this place is there.
    UpTo(u64),
    /// The whole snapshot is, and is sound.
    Whole(SnapshotFile),
}

/// Which snapshot it is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name {
    vote: Vote,
    last: Option<LogMark>,
    total: u64,
}

enum UnderWay {
    Nothing,
    /// A part of it is being written.
    Busy,
    Some(Name, Incoming),
}

/// What is arriving.
pub struct Arrivals {
    files: SnapshotFiles,
    disk_time: DiskTime,
    under_way: Arc<Mutex<UnderWay>>,
}

/// What is arriving, in the hands of whoever writes to it; it goes back whatever happens.
struct Taken {
    name: Name,
    incoming: Option<Incoming>,
    place: Arc<Mutex<UnderWay>>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let back = self.incoming.take().map_or(UnderWay::Nothing, |incoming| UnderWay::Some(self.name, incoming));
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = back;
    }
}

impl Arrivals {
    /// Nothing is arriving yet.
    pub fn new(files: SnapshotFiles, disk_time: DiskTime) -> Self {
        Self { files, disk_time, under_way: Arc::new(Mutex::new(UnderWay::Nothing)) }
    }

    /// Takes a part of a leader's snapshot. The first part of another one takes the place of what was arriving.
    ///
    /// # Errors
    /// When the snapshot is damaged, or the disk fails.
    pub async fn take<Rt: AsyncRuntime>(&self, part: SnapshotPart) -> io::Result<Arrived> {
        let Some(mut taken) = self.begin(&part)? else { return Ok(Arrived::UpTo(0)) };
        let files = self.files.clone();
        let write = move || {
            let mut incoming = match taken.incoming.take() {
                Some(incoming) => incoming,
                None => files.incoming()?,
            };
            let end = part.at.saturating_add(part.bytes.len() as u64);
            if part.at == incoming.at && end <= part.total {
                incoming.add(&part.bytes)?;
                if part.bytes.is_empty() && end == part.total {
                    return incoming.finish().map(Arrived::Whole);
                }
            }
            let arrived = Arrived::UpTo(incoming.at);
            taken.incoming = Some(incoming);
            Ok(arrived)
        };
        self.disk_time.aside::<Rt, _>(write).await
    }

    fn begin(&self, part: &SnapshotPart) -> io::Result<Option<Taken>> {
        let name = Name { vote: part.vote, last: part.last, total: part.total };
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let incoming = match std::mem::replace(&mut *under_way, UnderWay::Busy) {
            UnderWay::Busy => return Err(io::Error::other("the part before is still being written")),
            UnderWay::Some(found, incoming) if found == name => Some(incoming),
            other @ (UnderWay::Nothing | UnderWay::Some(..)) if part.at > 0 => {
                *under_way = other;
                return Ok(None);
            }
            UnderWay::Nothing | UnderWay::Some(..) => None,
        };
        Ok(Some(Taken { name, incoming, place: self.under_way.clone() }))
    }
}
