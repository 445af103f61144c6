//! What a fault cost, computed from what the observer saw and what the programs recorded. Pure.
//!
//! **Outage**: the longest time between the send times of consecutive answered probes, the edges of the window taken as
//! answered (so an outage that does not end counts to the window's end). A probe answered later than [`LATE`] does not
//! end an outage: its packets may have waited somewhere for the outage to end.
//!
//! **Double activity**: an actor is a node with a token. Its acts are the beats of its programs and the moments at which
//! it wrote its answers. Acts of one actor no more than [`JOIN`] apart join into a span. Double activity is
//! - the time during which spans of two actors overlap, and
//! - for acts outside those overlaps that fall within another actor's *life*, between its first and its last act: one
//!   [`BEAT`] each, counted for the actor of the pair that has fewer of them, and at least one if there are any. That
//!   other one acted before and after, so both were alive, even when the machine was too busy for beats to join.
//!
//! So it is zero exactly when no actor acted within another's life, and it claims no time about which nothing is known: a
//! program that was stopped, or a machine that stood still, adds nothing but the acts themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use super::beats::Life;
use super::moment::Moment;
use super::probe::{Probe, ProbeResult};

/// Acts of one actor at most this far apart are taken as continuous activity.
pub const JOIN: Duration = Duration::from_millis(5);
/// What a single act counts for that stands alone: the time between two beats.
pub const BEAT: Duration = Duration::from_millis(1);
/// An answer later than this proves nothing about the time its probe was sent.
pub const LATE: Duration = Duration::from_millis(100);

/// A fault, and the time around it that is looked at.
#[derive(Clone, Debug)]
pub struct Fault {
    /// When it happened.
    pub at: Moment,
    /// The node that owned the package then.
    pub owner: String,
    /// The window: probes sent and acts done outside are ignored.
    pub from: Moment,
    pub to: Moment,
}

/// What it cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub outage: Duration,
    /// From the fault to the first answer from another node; `None` if none came.
    pub first_other: Option<Duration>,
    pub double_activity: Duration,
    pub answered: usize,
    /// Answered, but later than [`LATE`].
    pub late: usize,
    /// Refused, reset, or without an answer in time.
    pub failed: usize,
    /// The longest time the observer itself stood still: it should have sent a probe and did not. An outage or a lateness
    /// of about this length may be the machine's, not the cluster's.
    pub stall: Duration,
    /// Whether the last probes of the window were answered.
    pub healed: bool,
}

/// Judges one fault. `probes` are sorted by the time they were sent; `probe_every` is the time between two.
pub fn judge(fault: &Fault, probes: &[Probe], lives: &[Life], probe_every: Duration) -> Verdict {
    let probes: Vec<&Probe> = probes.iter().filter(|p| p.sent >= fault.from && p.sent <= fault.to).collect();
    let (mut answered, mut late) = (0, 0);
    for probe in &probes {
        answered += usize::from(is_answered(probe));
        late += usize::from(is_answered(probe) && !is_prompt(probe));
    }
    let prompt: Vec<Moment> = probes.iter().filter(|p| is_prompt(p)).map(|p| p.sent).collect();
    let sent: Vec<Moment> = probes.iter().map(|p| p.sent).collect();
    Verdict {
        outage: longest_gap(fault, &prompt),
        first_other: first_other(fault, &probes),
        double_activity: double_activity(fault, &probes, lives),
        answered,
        late,
        failed: probes.len() - answered,
        stall: longest_gap(fault, &sent).saturating_sub(probe_every),
        healed: probes.last().is_some_and(|p| is_prompt(p)),
    }
}

fn is_answered(probe: &Probe) -> bool {
    matches!(probe.result, ProbeResult::Answered(_))
}

fn is_prompt(probe: &Probe) -> bool {
    is_answered(probe) && probe.ended.since(probe.sent) <= LATE
}

/// The longest step from the window's start over `moments` to its end.
fn longest_gap(fault: &Fault, moments: &[Moment]) -> Duration {
    let starts = std::iter::once(&fault.from).chain(moments);
    let ends = moments.iter().chain(std::iter::once(&fault.to));
    starts.zip(ends).map(|(start, end)| end.since(*start)).max().unwrap_or_default()
}

fn first_other(fault: &Fault, probes: &[&Probe]) -> Option<Duration> {
    let other = |probe: &&&Probe| {
        probe.ended >= fault.at && matches!(&probe.result, ProbeResult::Answered(reply) if reply.node != fault.owner)
    };
    probes.iter().filter(other).map(|probe| probe.ended.since(fault.at)).min()
}

/// Whoever acts for a package: a node under a token.
type Actor<'a> = (&'a str, u64);

/// A closed interval of time, in nanoseconds; possibly one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    start: u64,
    end: u64,
}

/// The acts of an actor, rising, and the lives in which it did them.
#[derive(Default)]
struct Activity {
    acts: Vec<u64>,
    lives: Vec<Span>,
}

fn double_activity(fault: &Fault, probes: &[&Probe], lives: &[Life]) -> Duration {
    let actors: Vec<Activity> = activities(fault, probes, lives).into_values().collect();
    let overlaps = overlaps(&actors);
    let inside = |act: u64| overlaps.iter().any(|span| span.start <= act && act <= span.end);
    let alone = |actor: &Activity, other: &Activity| {
        let within = |act: u64| other.lives.iter().any(|life| life.start < act && act < life.end);
        actor.acts.iter().filter(|act| within(**act) && !inside(**act)).count()
    };
    let mut single = 0;
    for (index, actor) in actors.iter().enumerate() {
        for other in &actors[index + 1..] {
            let (ours, theirs) = (alone(actor, other), alone(other, actor));
            // The smaller count: else the silence of a stopped program would count with all that others did meanwhile.
            single += ours.min(theirs).max(usize::from(ours + theirs > 0 && overlaps.is_empty()));
        }
    }
    let overlapping: u64 = overlaps.iter().map(|span| span.end - span.start).sum();
    Duration::from_nanos(overlapping) + BEAT * u32::try_from(single).unwrap_or(u32::MAX)
}

fn activities<'a>(fault: &Fault, probes: &[&'a Probe], lives: &'a [Life]) -> BTreeMap<Actor<'a>, Activity> {
    let seen = |moment: &&Moment| fault.from <= **moment && **moment <= fault.to;
    let mut actors: BTreeMap<Actor<'a>, Activity> = BTreeMap::new();
    for life in lives {
        let acts: Vec<u64> = life.beats.iter().filter(seen).map(|beat| beat.0).collect();
        if let (Some(start), Some(end)) = (acts.iter().min(), acts.iter().max()) {
            let actor = actors.entry((&life.node, life.token)).or_default();
            actor.lives.push(Span { start: *start, end: *end });
            actor.acts.extend(&acts);
        }
    }
    let mut answers: BTreeMap<Actor<'a>, Vec<u64>> = BTreeMap::new();
    for probe in probes {
        if let ProbeResult::Answered(reply) = &probe.result
            && seen(&&reply.at)
        {
            answers.entry((&reply.node, reply.token)).or_default().push(reply.at.0);
        }
    }
    for (actor, acts) in answers {
        let activity = actors.entry(actor).or_default();
        // A program that keeps no beats: by I2 a token is never acted on again once released, so its answers are one life.
        if activity.lives.is_empty() {
            let start = acts.iter().copied().min().unwrap_or_default();
            let end = acts.iter().copied().max().unwrap_or_default();
            activity.lives.push(Span { start, end });
        }
        activity.acts.extend(acts);
    }
    actors.values_mut().for_each(|activity| activity.acts.sort_unstable());
    actors
}

/// Joins acts into spans.
fn spans(acts: &[u64]) -> Vec<Span> {
    let join = u64::try_from(JOIN.as_nanos()).unwrap_or(u64::MAX);
    let mut spans: Vec<Span> = Vec::new();
    for act in acts {
        match spans.last_mut() {
            Some(last) if act - last.end <= join => last.end = *act,
            Some(_) | None => spans.push(Span { start: *act, end: *act }),
        }
    }
    spans
}

/// The times during which two or more actors were active, of positive length, rising.
fn overlaps(actors: &[Activity]) -> Vec<Span> {
    // At the same moment ends come before starts: touching is not overlapping.
    let mut edges: Vec<(u64, i32)> = Vec::new();
    for actor in actors {
        for span in spans(&actor.acts).into_iter().filter(|span| span.end > span.start) {
            edges.push((span.start, 1));
            edges.push((span.end, -1));
        }
    }
    edges.sort_unstable();
    let (mut active, mut since, mut found) = (0, 0, Vec::new());
    for (at, step) in edges {
        let before = active;
        active += step;
        if before < 2 && active >= 2 {
            since = at;
        }
        if before >= 2 && active < 2 && at > since {
            found.push(Span { start: since, end: at });
        }
    }
    found
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
