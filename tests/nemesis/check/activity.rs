//! Check 1: no two nodes ever act for one package, by what the programs recorded and what the outside client saw.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use pkgctl::lab::verdict::{Fault, judge};
use pkgctl::lab::{Lab, Life, Moment, Observer, Probe, read_lives};

use super::tokens::Tokens;
use crate::field::Target;

/// Ten packages are probed; together that is a probe every five milliseconds.
const PROBE_EVERY: Duration = Duration::from_millis(50);
/// What has been judged is kept for so long, so that an overlap across the edge of two looks is seen.
const EDGE: Duration = Duration::from_secs(5);
/// Looks are to come at least this often: the map holds about a minute of beats.
pub const LOOK_EVERY: Duration = Duration::from_secs(15);

/// One program's start, by what tells it from others.
pub type Start = (u64, String, u64);

/// What has been seen of one package lately.
pub struct Watch {
    observer: Observer,
    beats: BTreeMap<Start, Vec<Moment>>,
    /// Up to where the beats have been read, by start.
    read: BTreeMap<Start, Moment>,
    tokens: Tokens,
    judged: Moment,
    pub answered: usize,
    pub double_activity: Duration,
}

impl Watch {
    pub fn start(lab: &Lab, of: &Target) -> Result<Self> {
        let observer = Observer::start_every(lab, of.at, PROBE_EVERY)?;
        Ok(Self {
            observer,
            beats: BTreeMap::new(),
            read: BTreeMap::new(),
            tokens: Tokens::default(),
            judged: Moment::now(),
            answered: 0,
            double_activity: Duration::ZERO,
        })
    }

    /// Reads and judges what has happened since the last look.
    pub fn look(&mut self, lab: &Lab, of: &Target) -> Result<()> {
        self.read(of)?;
        let observer = std::mem::replace(&mut self.observer, Observer::start_every(lab, of.at, PROBE_EVERY)?);
        self.judge(&observer.finish(), of)
    }

    /// When each program that has acted lately did so last.
    pub fn last_acts(&self) -> impl Iterator<Item = (&Start, Moment)> {
        self.read.iter().map(|(start, at)| (start, *at))
    }

    /// Whether a probe sent since a moment has been answered.
    pub fn is_answered(&self, since: Moment) -> bool {
        self.observer.wait_for_answer(since, Duration::ZERO, |_| true).is_some()
    }

    /// Takes in the newest beats without judging them.
    pub fn read(&mut self, of: &Target) -> Result<()> {
        let lives = read_lives(&of.beats)?;
        if let Err(why) = self.tokens.check(&lives) {
            bail!("{}: {why}", of.name);
        }
        for life in lives {
            let start = (life.token, life.node.clone(), life.pid);
            let since = self.read.get(&start).copied().unwrap_or_default();
            let known = life.beats.iter().any(|beat| *beat <= since) || life.forgotten == 0;
            let Some(newest) = life.beats.last().copied().filter(|newest| *newest > since) else { continue };
            if !known {
                bail!("{}: beats of {start:?} were overwritten before they were read; look more often", of.name);
            }
            let new = life.beats.into_iter().filter(|beat| *beat > since);
            self.beats.entry(start.clone()).or_default().extend(new);
            self.read.insert(start, newest);
        }
        Ok(())
    }

    fn judge(&mut self, probes: &[Probe], of: &Target) -> Result<()> {
        let to = Moment::now();
        let life = |(start, beats): (&Start, &Vec<Moment>)| {
            let (token, node, pid) = start.clone();
            Life { node, token, pid, beats: beats.clone(), forgotten: 0 }
        };
        let lives: Vec<Life> = self.beats.iter().map(life).collect();
        let window = Fault { at: self.judged, owner: String::new(), from: self.judged, to };
        let verdict = judge(&window, probes, &lives, PROBE_EVERY);
        self.answered += verdict.answered;
        self.double_activity += verdict.double_activity;
        if !verdict.double_activity.is_zero() {
            let spans = lives.iter().filter_map(|l| Some((&l.node, l.token, *l.beats.first()?, *l.beats.last()?)));
            bail!("two nodes acted for {} at once: {verdict:?}; {:?}", of.name, spans.collect::<Vec<_>>());
        }
        self.judged = Moment(to.0.saturating_sub(u64::try_from(EDGE.as_nanos()).unwrap_or(0))).max(self.judged);
        let keep = self.judged;
        self.beats.values_mut().for_each(|beats| beats.retain(|beat| *beat >= keep));
        self.beats.retain(|_, beats| !beats.is_empty());
        Ok(())
    }
}
