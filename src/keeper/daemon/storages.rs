//! The processes that take, mount, unmount and give up, by the place they do it for; and the end of what an earlier life
//! left of storage.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signalfd::SignalFd;

use super::inits::{Entry, Inits};
use super::leashes::OWN_EXE;
use super::waits::Waits;
use super::{KeeperError, start};
use crate::engine::BootTime;
use crate::keeper::core::StorageEvent;
use crate::keeper::protocol::Place;
use crate::keeper::storage::child::Child;
use crate::keeper::storage::claims::{Claim, Others};
use crate::keeper::storage::record::Record;
use crate::keeper::storage::{Act, Answer, Order, Task};
use crate::package::PackageName;

/// Time between two attempts to undo what an earlier life left.
const CLEAN_RETRY: Duration = Duration::from_secs(1);
/// How long one attempt is waited for before it is said again what is waited for.
const CLEAN_WORD: Duration = Duration::from_secs(10);

/// Every such process, by number: numbers name them in the poll set, and are never used again.
#[derive(Debug)]
pub struct Storages {
    inits: Inits,
    record: Record,
    /// What packages have here or are about to, in the order of their starts.
    claims: Vec<Claim>,
    /// Directories of pkgctl's own.
    own: Vec<PathBuf>,
    live: BTreeMap<u64, Live>,
    /// Processes that were never given an order, until they have ended.
    unbegun: Vec<Child>,
    last_number: u64,
}

#[derive(Debug)]
struct Live {
    child: Child,
    place: Place,
    order: Order,
    /// None if there was no room to record it.
    entry: Option<Entry>,
}

/// What came of an operation.
#[derive(Debug)]
pub struct Settled {
    /// Of which resource.
    pub place: Place,
    /// How it ended.
    pub event: StorageEvent,
    /// What an operator should read besides.
    pub note: Option<String>,
}

impl Storages {
    /// None yet.
    pub fn new(inits: Inits, record: Record, own: Vec<PathBuf>) -> Self {
        Self { inits, record, claims: Vec::new(), own, live: BTreeMap::new(), unbegun: Vec::new(), last_number: 0 }
    }

    /// Prepares an operation: its process waits for [`Storages::go`]. Answers its number, to be watched.
    ///
    /// # Errors
    /// Why it cannot be begun; nothing of it is left.
    pub fn prepare(&mut self, place: Place, act: Act, task: Task, deadline: Option<BootTime>) -> Result<u64, String> {
        self.unbegun.retain(|child| child.ended().is_none());
        let others = self.others(&place.package, &task);
        let was_recorded = self.record.lists(&task);
        // Recorded first, process and task: the next life waits for the one and undoes the other (rule 5).
        self.record.add(&task).map_err(|e| unrecorded(&e))?;
        let prepared = self.spawn(act, deadline);
        let (child, entry) = prepared.inspect_err(|_| {
            if !was_recorded {
                self.strike_off(&task);
            }
        })?;
        let claim = Claim { package: place.package.clone(), task: task.clone() };
        if act == Act::Do && !self.claims.contains(&claim) {
            self.claims.push(claim);
        }
        self.last_number += 1;
        let live = Live { child, place, order: Order { act, task, others }, entry };
        self.live.insert(self.last_number, live);
        Ok(self.last_number)
    }

    /// What other packages have here that were there before this one's start. So of two that claim the same the first has
    /// it, also when the second is undone.
    fn others(&self, package: &PackageName, task: &Task) -> Others {
        let is_own = |claim: &&Claim| claim.package == *package && claim.task == *task;
        let before = self.claims.iter().take_while(|claim| !is_own(claim));
        let earlier = before.filter(|claim| claim.package != *package).cloned().collect();
        Others { earlier, own: self.own.clone() }
    }

    fn spawn(&mut self, act: Act, deadline: Option<BootTime>) -> Result<(Child, Option<Entry>), String> {
        let child = Child::spawn(Path::new(OWN_EXE), deadline)?;
        match (self.inits.add(child.as_fd()), act) {
            (Ok(entry), _) => Ok((child, Some(entry))),
            // It only takes away, and what it does the next life does too: want of room must keep nothing mounted.
            (Err(why), Act::Undo) => {
                tracing::warn!("a process that unmounts or gives up is not recorded: {why}");
                Ok((child, None))
            }
            (Err(why), Act::Do) => {
                self.discard(child);
                Err(unrecorded(&why))
            }
        }
    }

    /// Begins an operation that was prepared and is watched.
    ///
    /// # Errors
    /// Its process has ended without having begun; nothing of it is left.
    pub fn go(&mut self, number: u64) -> Result<(), String> {
        let Some(live) = self.live.get(&number) else { return Ok(()) };
        live.child.begin(&live.order).inspect_err(|_| self.abandon(number))
    }

    /// Drops an operation that was prepared and not begun.
    pub fn abandon(&mut self, number: u64) {
        let Some(Live { child, place, order, entry }) = self.live.remove(&number) else { return };
        entry.iter().for_each(|entry| self.inits.remove(entry));
        self.discard(child);
        if order.act == Act::Do {
            self.strike_off(&order.task);
            self.disclaim(&place, &order.task);
        }
    }

    /// It has no order, so that it ends without having done anything; it is reaped when the next one is prepared.
    fn discard(&mut self, child: Child) {
        child.kill();
        self.unbegun.push(child);
    }

    fn disclaim(&mut self, place: &Place, task: &Task) {
        self.claims.retain(|claim| claim.package != place.package || claim.task != *task);
    }

    fn strike_off(&mut self, task: &Task) {
        if let Err(why) = self.record.remove(task) {
            tracing::warn!("the record of storage was not written: {why}");
        }
    }

    /// What is to be watched of a process.
    pub fn watched(&self, number: u64) -> Option<BorrowedFd<'_>> {
        self.live.get(&number).map(|live| live.child.as_fd())
    }

    /// Moves a deadline.
    pub fn arm(&self, place: &Place, at: BootTime) {
        self.starts_at(place).for_each(|live| live.child.arm(at));
    }

    /// Ends a start.
    pub fn kill(&self, place: &Place) {
        self.starts_at(place).for_each(|live| live.child.kill());
    }

    fn starts_at<'s>(&'s self, place: &'s Place) -> impl Iterator<Item = &'s Live> {
        self.live.values().filter(move |live| live.place == *place && live.order.act == Act::Do)
    }

    /// How an operation has ended, if it has. Its number is free then.
    pub fn settled(&mut self, number: u64) -> Option<Settled> {
        let answer = self.live.get(&number)?.child.ended()?;
        let Live { place, order, entry, .. } = self.live.remove(&number)?;
        entry.iter().for_each(|entry| self.inits.remove(entry));
        let Answer { outcome, note } = answer;
        let event = match (order.act, outcome) {
            (Act::Do, Ok(())) => StorageEvent::Up,
            (Act::Do, Err(why)) => StorageEvent::Failed { why },
            (Act::Undo, Ok(())) => {
                self.strike_off(&order.task);
                self.disclaim(&place, &order.task);
                StorageEvent::Down
            }
            (Act::Undo, Err(why)) => StorageEvent::Stuck { why },
        };
        Some(Settled { place, event, note })
    }
}

fn unrecorded(why: &std::io::Error) -> String {
    format!(
        "it could not be recorded, and was not begun: {why}. Nothing of it is held here; make room on that filesystem"
    )
}

/// Undoes what an earlier life has left, in reverse, however long it takes: until then nobody may say that the node is
/// clean. Its processes are gone.
///
/// # Errors
/// The record cannot be read, or the start was ended.
pub fn clean(run_dir: &Path, signals: &SignalFd, waits: &Waits<'_>) -> Result<Record, KeeperError> {
    let mut record = Record::open(run_dir).map_err(super::file("read the record of storage in", run_dir))?;
    for task in record.left() {
        let what = format!("{}, left by an earlier keeper", task.name());
        waits.say(&format!("unmounting or giving up {what}"));
        let order = Order { act: Act::Undo, task, others: Others::default() };
        loop {
            let answer = undo(&order, signals, &what)?;
            answer.note.iter().for_each(|note| tracing::warn!("{note}"));
            match answer.outcome {
                Ok(()) => break,
                Err(why) => {
                    let text = format!("{what}: {why}");
                    tracing::error!("{text}; nothing starts on this node before that. It is tried again");
                    waits.say(&text);
                    start::wait(signals, signals, CLEAN_RETRY, &text)?;
                }
            }
        }
        tracing::warn!("{what}, was unmounted or given up");
        record.remove(&order.task).map_err(super::file("write the record of storage in", run_dir))?;
    }
    Ok(record)
}

fn undo(order: &Order, signals: &SignalFd, what: &str) -> Result<Answer, KeeperError> {
    let begun = Child::spawn(Path::new(OWN_EXE), None).and_then(|child| child.begin(order).map(|()| child));
    let child = match begun {
        Ok(child) => child,
        Err(why) => return Ok(Err(why).into()),
    };
    loop {
        start::wait(&child, signals, CLEAN_WORD, what)?;
        match child.ended() {
            Some(answer) => return Ok(answer),
            None => tracing::warn!("waiting for the kernel to let go of {what}"),
        }
    }
}
