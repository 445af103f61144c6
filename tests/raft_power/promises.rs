//! What must be in a store, given what its writer said before it died.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pkgctl::raft::store::Table;
use pkgctl::raft::store::disk::RealDisk;
use pkgctl::raft::store::load::open;

use crate::writer::record;

/// What was promised.
#[derive(Clone, Default)]
pub struct Promises {
    /// Lines heard.
    pub said: u64,
    /// Acknowledged entries: index → term.
    entries: BTreeMap<u64, u64>,
    vote: u64,
    purged: Option<u64>,
}

impl Promises {
    /// Takes in one line of the writer; other lines are the test harness's own.
    pub fn hear(&mut self, line: &str) {
        let mut words = line.split(' ');
        let what = words.next().unwrap_or_default();
        let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        match (what, numbers.as_slice()) {
            ("acked", [index, term]) => drop(self.entries.insert(*index, *term)),
            ("voted", [term]) => self.vote = *term,
            // Whether it comes about or not, these entries are given up.
            ("truncating", [last]) => drop(self.entries.split_off(&(last + 1))),
            ("purged", [index]) => self.purged = Some(*index),
            _ => return,
        }
        self.said += 1;
    }

    /// Opens the store and looks.
    ///
    /// # Errors
    /// The promise that was broken.
    pub fn check<T: Table>(&self, dir: &Path) -> Result<(), String> {
        let store = open::<T>(dir, Arc::new(RealDisk)).map_err(|e| e.to_string())?;
        let vote = store.log.vote().map_err(|e| e.to_string())?.map_or(0, |vote| vote.term);
        if vote < self.vote {
            return Err(format!("it voted in term {} and remembers {vote}", self.vote));
        }
        let purged = store.log.purged().map(|mark| mark.index);
        if purged < self.purged {
            return Err(format!("it was purged to {:?} and remembers {purged:?}", self.purged));
        }
        let first = purged.map_or(0, |index| index + 1);
        for (index, term) in self.entries.range(first..) {
            let found = store.log.records(*index..*index + 1).map_err(|e| e.to_string())?;
            // A later term may have overridden it in the meantime: truncated, and its own entry not yet acknowledged.
            let kept = found
                .first()
                .is_some_and(|found| **found == record(found.mark.term, *index) && found.mark.term >= *term);
            if !kept {
                let found = found.first().map(|found| found.mark);
                return Err(format!("entry {index} of term {term} was acknowledged; there is {found:?}"));
            }
        }
        Ok(())
    }
}
