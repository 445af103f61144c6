//! Check 5: nothing idle is disturbed (I5). A program whose node and package neither a fault nor a command touched during
//! a round is the same process at its end.
//!
//! Two nodes of five may be touched: the three others, the program's own among them, are a majority, so no lease may
//! lapse. Agents that are killed and leaders that are lost touch nobody.

use std::collections::BTreeSet;
use std::time::Duration;

use pkgctl::lab::Moment;

use super::activity::{Start, Watch};
use crate::fault::Planned;
use crate::field::{Field, NODES};

/// A program that has not beaten for so long is not running; a loaded machine may keep it for a while.
const LIVELY: Duration = Duration::from_secs(5);
/// How many nodes may be touched in a round.
const TOUCHED_MAX: usize = 2;

/// The program of each package that runs now. The watches have just read.
pub fn running(watches: &[Watch], now: Moment) -> Vec<Option<Start>> {
    let newest = |watch: &Watch| {
        let acted = watch.last_acts().max_by_key(|(_, at)| *at).map(|(start, at)| (start.clone(), at));
        acted.filter(|(_, at)| now.since(*at) < LIVELY).map(|(start, _)| start)
    };
    watches.iter().map(newest).collect()
}

/// Compares who ran before and after; how many programs were to be left alone, and were.
pub fn check(
    field: &Field,
    plan: &[Planned],
    commanded: &BTreeSet<usize>,
    before: &[Option<Start>],
    after: &[Option<Start>],
) -> Result<usize, String> {
    let touched: BTreeSet<&str> = plan.iter().flat_map(|p| p.fault.touches()).collect();
    if touched.len() > TOUCHED_MAX {
        return Ok(0);
    }
    let packages: BTreeSet<usize> =
        plan.iter().filter_map(|p| p.fault.package()).chain(commanded.iter().copied()).collect();
    let mut kept = 0;
    for (number, (before, after)) in before.iter().zip(after).enumerate() {
        let Some(start) = before else { continue };
        if packages.contains(&number) || touched.contains(start.1.as_str()) {
            continue;
        }
        debug_assert!(NODES.contains(&start.1.as_str()));
        if after.as_ref() != Some(start) {
            let name = &field.targets[number].name;
            return Err(format!(
                "{name} ran on {} (token {}, pid {}), which nothing touched, and now {after:?} runs; touched: {touched:?}",
                start.1, start.0, start.2
            ));
        }
        kept += 1;
    }
    Ok(kept)
}
