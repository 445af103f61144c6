//! What is promised of each fault: docs and README claim no more than this.

use pkgctl::lab::demo::fault::Fault;

use crate::figures::median;
use crate::report::Series;
use crate::run::ms;

/// Added to the lease for agreement, start and first answer.
const FAILOVER_MS: f64 = 200.0;
/// Added to what the program itself takes.
const HANDLING_MS: f64 = 50.0;

/// What a series has to keep.
pub enum Bound {
    /// The median of its outages, in milliseconds.
    Outage(f64),
    /// No probe failed.
    Undisturbed,
    /// Healed, and nothing else.
    Healed,
}

pub fn bound(series: &Series) -> Bound {
    let ttl = ms(series.profile.ttl().duration());
    match series.fault {
        Fault::PowerOff | Fault::PowerOffLeader | Fault::LinkCut | Fault::LinkCutOut => {
            Bound::Outage(ttl + FAILOVER_MS)
        }
        Fault::LinkCutIn => Bound::Outage(1.25 * ttl + FAILOVER_MS),
        Fault::ProgramKill => Bound::Outage(HANDLING_MS + series.own.start),
        Fault::Move | Fault::Stop => Bound::Outage(HANDLING_MS + series.own.start + series.own.stop),
        Fault::LeaderKill | Fault::AgentKill => Bound::Undisturbed,
        Fault::Freeze => Bound::Healed,
    }
}

/// What a series missed, in a sentence each.
pub fn missed(series: &Series) -> Vec<String> {
    let mut missed = Vec::new();
    let bad = series.runs.iter().filter(|run| !run.outcome.good).count();
    if bad > 0 {
        missed.push(format!("{bad} runs were not healed as they should have been, or two nodes acted"));
    }
    match bound(series) {
        Bound::Outage(limit) => {
            let found = median(&series.outages());
            if found > limit {
                missed.push(format!("the median outage is {found:.1} ms, more than {limit:.1} ms"));
            }
        }
        Bound::Undisturbed => {
            let failed: usize = series.runs.iter().map(|run| run.outcome.verdict.failed).sum();
            if failed > 0 {
                missed.push(format!("{failed} probes failed, and none should"));
            }
        }
        Bound::Healed => {}
    }
    missed
}
