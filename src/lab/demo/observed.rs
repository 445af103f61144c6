//! Before anything else the observer is shown what it is there to see: with the leases switched off, a cut-off owner goes
//! on acting while its standby takes over. If the observer does not see that, its word about leases is worth nothing.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::cluster::{Cluster, WHOLE_WITHIN};
use super::fault::{Fault, Outcome};
use super::story;
use crate::engine::Profile;
use crate::lab::verdict::{Fault as Window, judge};
use crate::lab::{Direction, Moment, PROBE_EVERY};

/// How long both may act before the demonstration ends.
const BOTH_ACT: Duration = Duration::from_millis(500);

/// Builds a cluster without leases, cuts its owner's link, and answers what the observer saw; it is never good. The
/// cluster is taken down again. `say` hears each step.
pub fn run_unleased(binary: PathBuf, nodes: &[&str], profile: Profile, say: &dyn Fn(&str)) -> Result<Outcome> {
    let cluster = Cluster::build_unleased(binary, nodes, profile, say)?;
    let (owner, token, _) = cluster.owner()?;
    let observer = cluster.watch()?;
    let from = Moment::now();
    say(&format!("link-cut, without leases: testpkg1 runs on {owner}; its link is cut, and nothing ends what it does"));
    let at = cluster.lab.cut(&owner, Direction::Both)?;
    let other = story::follow(&observer, at, WHOLE_WITHIN, |node| node != owner, say);
    let other = other.context("no other node took over from the one that was cut off")?;
    observer
        .wait_for_answer(other.ended.after(BOTH_ACT), WHOLE_WITHIN, |_| true)
        .context("the node that took over stopped answering")?;
    let window = Window { at, owner: owner.clone(), from, to: Moment::now() };
    let verdict = judge(&window, &observer.finish(), &cluster.lab.lives()?, PROBE_EVERY);
    let story = format!("{owner} (token {token}) went on acting beside its successor");
    Ok(Outcome { fault: Fault::LinkCut, at, verdict, good: false, story })
}
