//! The leashes of this keeper life, by the place they run for.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use super::inits::{Entry, Inits};
use crate::engine::BootTime;
use crate::keeper::core::ProgramEvent;
use crate::keeper::leash::{End, Leash, LeashEvent, OpId};
use crate::keeper::protocol::{Place, ProgramSpec};

/// This program, whatever was installed over its file since.
pub const OWN_EXE: &str = "/proc/self/exe";

/// Every leash, by number: numbers name them in the poll set, and are never used again.
#[derive(Debug)]
pub struct Leashes {
    inits: Inits,
    exe: PathBuf,
    live: BTreeMap<u64, Live>,
    numbers: BTreeMap<Place, u64>,
    last_number: u64,
}

#[derive(Debug)]
struct Live {
    leash: Leash,
    place: Place,
    /// What is to be run once the namespace is ready and recorded.
    program: Option<ProgramSpec>,
    op: Option<OpId>,
    entry: Option<Entry>,
}

impl Leashes {
    /// None yet.
    pub fn new(inits: Inits) -> Self {
        let (live, numbers) = (BTreeMap::new(), BTreeMap::new());
        Self { inits, exe: Path::new(OWN_EXE).to_owned(), live, numbers, last_number: 0 }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.live.len()
    }

    /// Starts a leash for a program. Answers its number, to be watched.
    ///
    /// # Errors
    /// Why it could not be started; nothing of it is left.
    pub fn spawn(&mut self, place: &Place, program: ProgramSpec, deadline: BootTime) -> Result<u64, String> {
        let leash = Leash::spawn(&self.exe, deadline).map_err(|e| e.to_string())?;
        self.last_number += 1;
        let live = Live { leash, place: place.clone(), program: Some(program), op: None, entry: None };
        self.live.insert(self.last_number, live);
        self.numbers.insert(place.clone(), self.last_number);
        Ok(self.last_number)
    }

    /// Moves a deadline. One that cannot be moved stands: the leash is gone, or ends at it.
    pub fn arm(&mut self, place: &Place, deadline: BootTime) {
        if let Some(live) = self.find(place)
            && let Err(why) = live.leash.arm(deadline)
        {
            tracing::debug!(package = %place.package, resource = %place.resource, "deadline not moved: {why}");
        }
    }

    /// Signals a program's main process.
    pub fn signal(&mut self, place: &Place, signal: i32) {
        if let Some(live) = self.find(place)
            && let Some(op) = live.op
            && let Err(why) = live.leash.signal(op, signal)
        {
            tracing::info!(package = %place.package, resource = %place.resource, "signal {signal} not sent: {why}");
        }
    }

    /// Ends a leash and everything in it.
    pub fn kill(&mut self, place: &Place) {
        if let Some(live) = self.find(place) {
            live.leash.kill();
        }
    }

    fn find(&mut self, place: &Place) -> Option<&mut Live> {
        self.numbers.get(place).and_then(|number| self.live.get_mut(number))
    }

    /// What is to be watched of a leash; the same descriptor for its whole life.
    pub fn watched(&self, number: u64) -> Option<BorrowedFd<'_>> {
        self.live.get(&number).map(|live| live.leash.events_fd())
    }

    /// The next thing that a leash has to tell. After [`ProgramEvent::Gone`] its number is free.
    pub fn next_event(&mut self, number: u64) -> Option<(Place, ProgramEvent)> {
        loop {
            let live = self.live.get_mut(&number)?;
            let place = live.place.clone();
            let told = match live.leash.next_event()? {
                LeashEvent::Ready { random_pids } => live.begin(&self.inits, random_pids).err(),
                LeashEvent::Started { op: _, pid } => Some(ProgramEvent::Started { pid }),
                LeashEvent::Refused { op: _, fault } => Some(ProgramEvent::Failed { why: fault.to_string() }),
                LeashEvent::Exited { op: _, exit } => Some(ProgramEvent::Exited { exit }),
                LeashEvent::Failed(error) => Some(ProgramEvent::Failed { why: error.to_string() }),
                LeashEvent::Gone(end) => Some(self.gone(number, &place, &end)),
            };
            if let Some(event) = told {
                return Some((place, event));
            }
        }
    }

    fn gone(&mut self, number: u64, place: &Place, end: &End) -> ProgramEvent {
        let entry = self.live.remove(&number).and_then(|live| live.entry);
        self.numbers.remove(place);
        if let Some(entry) = entry {
            self.inits.remove(&entry);
        }
        let by_deadline = match end {
            End::Deadline => true,
            End::Killed => false,
            End::Unexpected { leash } => {
                tracing::warn!(package = %place.package, resource = %place.resource, "its leash ended: {leash:?}");
                false
            }
        };
        ProgramEvent::Gone { by_deadline }
    }
}

impl Live {
    /// The namespace is ready: it is recorded first, and only then does anything run in it (rule 5).
    fn begin(&mut self, inits: &Inits, random_pids: bool) -> Result<(), ProgramEvent> {
        let failed = |why: String| ProgramEvent::Failed { why };
        if !random_pids {
            tracing::warn!(package = %self.place.package, "process numbers in its namespace begin at 1: a program may \
                refuse to start over its own old pidfile");
        }
        let Some(program) = self.program.take() else { return Ok(()) };
        let init = self.leash.gone_fd().ok_or_else(|| failed("its namespace has no init".to_owned()))?;
        let record = inits.add(init).map_err(|e| failed(format!("its namespace could not be recorded: {e}")))?;
        self.entry = Some(record);
        self.op = Some(self.leash.start(&program).map_err(|e| failed(e.to_string()))?);
        Ok(())
    }
}
