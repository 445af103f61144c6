//! What the log says, step by step in log order, for whoever must keep up with it (rule 7).
//!
//! A reader gets the whole knowledge first and then every applied entry. One that falls behind by more than
//! [`FEED_MAX`] steps, or across a snapshot, gets the whole again: it never gets a gap.
//!
//! Entries about keys alone are nothing that a keeper must know, and there may be thousands in a second: they wake nobody,
//! and after them comes the whole.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use async_channel::{Receiver, Sender};

use super::applied::AppliedState;
use crate::engine::LogIndex;
use crate::engine::lease::{Fact, Knowledge, Learn};

/// Steps that wait for one reader; more become one whole.
pub const FEED_MAX: usize = 1024;

enum Waiting {
    Steps(VecDeque<(LogIndex, Vec<Fact>)>),
    Whole,
}

/// Where a reader is.
struct Place {
    waiting: Waiting,
    /// Quiet entries came after what is waiting.
    skipped: bool,
}

struct Line {
    waiting: Mutex<Place>,
    bell: Sender<()>,
}

/// All readers of one node's log.
#[derive(Default)]
pub struct Feed {
    lines: Mutex<Vec<Weak<Line>>>,
}

impl Feed {
    /// A new reader; its first change is the whole.
    pub fn subscribe(&self, applied: Arc<RwLock<AppliedState>>) -> Changes {
        let (bell, rung) = async_channel::bounded(1);
        let line = Arc::new(Line { waiting: Mutex::new(Place { waiting: Waiting::Whole, skipped: false }), bell });
        line.ring();
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&line));
        Changes { line, rung, applied }
    }

    /// An entry was applied. Called in log order, under the lock of the applied state.
    pub fn step(&self, index: LogIndex, facts: &[Fact]) {
        self.each(|line| {
            line.pass(|place| match &mut place.waiting {
                Waiting::Steps(steps) if steps.len() < FEED_MAX && !place.skipped => {
                    steps.push_back((index, facts.to_vec()));
                }
                Waiting::Steps(_) | Waiting::Whole => place.waiting = Waiting::Whole,
            });
            line.ring();
        });
    }

    /// An entry was applied that concerns only who reads keys. Called like [`Feed::step`].
    pub fn quiet(&self) {
        self.each(|line| line.pass(|place| place.skipped = true));
    }

    /// The state was replaced.
    pub fn whole(&self) {
        self.each(|line| {
            line.pass(|place| place.waiting = Waiting::Whole);
            line.ring();
        });
    }

    /// Nothing more will come; readers end after what waits for them.
    pub fn close(&self) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.drain(..).filter_map(|line| line.upgrade()).for_each(|line| {
            line.bell.close();
        });
    }

    fn each(&self, tell: impl Fn(&Line)) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|line| {
            let Some(line) = line.upgrade() else { return false };
            tell(&line);
            true
        });
    }
}

impl Line {
    fn pass<T>(&self, change: impl FnOnce(&mut Place) -> T) -> T {
        change(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ring(&self) {
        // Full means that it rings already, closed that nobody listens.
        let _ = self.bell.try_send(());
    }
}

/// One reader.
pub struct Changes {
    line: Arc<Line>,
    rung: Receiver<()>,
    applied: Arc<RwLock<AppliedState>>,
}

impl Changes {
    /// The next change; none when consensus was shut down.
    pub async fn next(&mut self) -> Option<Learn> {
        loop {
            if let Some(change) = self.take() {
                return Some(change);
            }
            if self.rung.recv().await.is_err() {
                return self.take();
            }
        }
    }

    /// The next change if there is one.
    pub fn take(&mut self) -> Option<Learn> {
        // In this order everywhere: the applied state, then a line. So no step slips between the two.
        let applied = self.applied.read().unwrap_or_else(PoisonError::into_inner);
        self.line.pass(|place| match &mut place.waiting {
            Waiting::Steps(steps) => steps.pop_front().map(|(index, facts)| Learn::Step { index, facts }),
            Waiting::Whole => {
                *place = Place { waiting: Waiting::Steps(VecDeque::new()), skipped: false };
                Some(Learn::Whole(Knowledge::of(&applied.state)))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::SessionId;

    fn fact(id: u64) -> Vec<Fact> {
        vec![Fact::Expired { session: SessionId(id) }]
    }

    #[test]
    fn a_reader_gets_the_whole_then_steps_then_the_whole_again_when_it_falls_behind() {
        let feed = Feed::default();
        let applied = Arc::new(RwLock::new(AppliedState::default()));
        let mut changes = feed.subscribe(applied.clone());
        assert!(matches!(changes.take(), Some(Learn::Whole(_))));
        assert_eq!(changes.take(), None);
        feed.step(LogIndex(1), &fact(1));
        feed.step(LogIndex(2), &[]);
        assert_eq!(changes.take(), Some(Learn::Step { index: LogIndex(1), facts: fact(1) }));
        assert_eq!(changes.take(), Some(Learn::Step { index: LogIndex(2), facts: Vec::new() }));

        for index in 0..=FEED_MAX as u64 {
            feed.step(LogIndex(3 + index), &fact(index));
        }
        Arc::make_mut(&mut applied.write().unwrap().state).applied = LogIndex(FEED_MAX as u64 + 3);
        let Some(Learn::Whole(known)) = changes.take() else { panic!("a gap") };
        assert_eq!(known.index, LogIndex(FEED_MAX as u64 + 3));
        assert_eq!(changes.take(), None);
    }

    #[test]
    fn entries_about_keys_alone_wake_nobody_and_leave_no_gap() {
        let feed = Feed::default();
        let applied = Arc::new(RwLock::new(AppliedState::default()));
        let mut changes = feed.subscribe(applied.clone());
        changes.take();
        feed.step(LogIndex(1), &fact(1));
        while changes.rung.try_recv().is_ok() {}
        feed.quiet();
        assert!(changes.rung.try_recv().is_err(), "nobody is woken");
        assert_eq!(changes.take(), Some(Learn::Step { index: LogIndex(1), facts: fact(1) }), "what waited still comes");
        assert_eq!(changes.take(), None);
        feed.step(LogIndex(3), &fact(3));
        assert!(changes.rung.try_recv().is_ok());
        Arc::make_mut(&mut applied.write().unwrap().state).applied = LogIndex(3);
        let Some(Learn::Whole(known)) = changes.take() else { panic!("a gap") };
        assert_eq!(known.index, LogIndex(3));
        feed.step(LogIndex(4), &fact(4));
        assert_eq!(changes.take(), Some(Learn::Step { index: LogIndex(4), facts: fact(4) }));
    }
}
