//! What a voter remembers of one session.

use std::collections::BTreeMap;
use std::time::Duration;

use super::PARKED_MAX;
use crate::engine::lease::{Rule, Rules};
use crate::engine::{NodeId, VoterTime};
use crate::package::Millis;

#[derive(Clone, Debug)]
pub(super) struct Line {
    ttl: Millis,
    /// Whether the known log tells of the session; only then may it be agreed to expire.
    registered: bool,
    /// It does not expire with this voter's agreement before then.
    promise: Option<VoterTime>,
    /// The largest seq taken (rule 6a).
    taken: Option<u64>,
    fence: Option<Fence>,
    /// When a renewal was last heard, or the session was first known.
    heard: VoterTime,
    /// When its silence was last told.
    silent: Option<VoterTime>,
    /// Who asks whether it may expire, and when each asked last.
    parked: BTreeMap<NodeId, VoterTime>,
}

/// This voter agreed to the session's expiry in this incarnation.
#[derive(Clone, Copy, Debug, Default)]
struct Fence {
    /// Since when it has been heard nevertheless, without a pause of ttl/2, and last when.
    heard: Option<(VoterTime, VoterTime)>,
}

impl Line {
    pub fn new(ttl: Millis, now: VoterTime) -> Self {
        let parked = BTreeMap::new();
        Self { ttl, registered: false, promise: None, taken: None, fence: None, heard: now, silent: None, parked }
    }

    /// The log tells of it: the registered lease time counts, unless a renewal named a longer one.
    pub fn register(&mut self, ttl: Millis) {
        self.registered = true;
        self.ttl = self.ttl.max(ttl);
    }

    pub fn is_fenced(&self) -> bool {
        self.fence.is_some()
    }

    /// A newer incarnation: agreements made before it no longer count, so the fence is not needed (rule 11).
    pub fn forget_fence(&mut self) {
        self.fence = None;
    }

    pub fn heard_within(&self, now: VoterTime, time: Duration) -> bool {
        now.since(self.heard) < time
    }

    /// Rule 6a: whether this is newer than all that was taken of the session; then it is taken. A recorded datagram is
    /// not, nor is the copy that comes over a second link: the first one's answer goes back over every link.
    pub fn takes(&mut self, seq: u64) -> bool {
        let newer = Some(seq) > self.taken;
        self.taken = self.taken.max(Some(seq));
        newer
    }

    /// Its holder was heard. Returns whether a renewal ended a silence; a query does not, because its holder hears
    /// nobody and will lapse (rule 8a). Either shows that a fenced session lives (rule 11).
    pub fn hears(&mut self, now: VoterTime, renews: Option<Millis>) -> bool {
        let half = self.ttl.duration() / 2;
        if let Some(fence) = &mut self.fence {
            let since = fence.heard.filter(|(_, last)| now.since(*last) <= half).map_or(now, |(first, _)| first);
            fence.heard = Some((since, now));
        }
        if renews.is_none() {
            return false;
        }
        self.heard = now;
        self.silent.take().is_some()
    }

    /// Rule 6.
    pub fn promise(&mut self, now: VoterTime, ttl: Millis) {
        self.ttl = self.ttl.max(ttl);
        self.promise = self.promise.max(Some(now + self.ttl.duration()));
    }

    /// How long it has been silent, if that is to be told now: first after a quarter of its ttl, then again and again,
    /// because an agent that restarts has heard none of it.
    pub fn tells_silence(&mut self, now: VoterTime) -> Option<Duration> {
        if !self.registered || now < self.silence_due() {
            return None;
        }
        self.silent = Some(now);
        Some(now.since(self.heard))
    }

    fn silence_due(&self) -> VoterTime {
        self.silent.unwrap_or(self.heard) + self.ttl.duration() / 4
    }

    pub fn park(&mut self, now: VoterTime, asker: NodeId) {
        if self.parked.len() < PARKED_MAX || self.parked.contains_key(&asker) {
            self.parked.insert(asker, now);
        }
    }

    /// A question lasts as long as it is repeated.
    pub fn drop_stale_questions(&mut self, now: VoterTime) {
        let half = self.ttl.duration() / 2;
        self.parked.retain(|_, asked| now.since(*asked) <= half);
    }

    /// Rule 10: if it may expire by now, fences it first and answers whom to tell.
    pub fn agree(&mut self, now: VoterTime, up_since: VoterTime, rules: &Rules) -> Vec<NodeId> {
        let lapsed = now >= self.may_agree_at(up_since, rules);
        if self.parked.is_empty() || !self.registered || !lapsed {
            return Vec::new();
        }
        self.fence.get_or_insert_default();
        std::mem::take(&mut self.parked).into_keys().collect()
    }

    fn may_agree_at(&self, up_since: VoterTime, rules: &Rules) -> VoterTime {
        let promise = self.promise.filter(|_| rules.hold(Rule::PromiseLapsed)).unwrap_or_default();
        let up = if rules.hold(Rule::UpForTtl) { up_since + self.ttl.duration() } else { up_since };
        promise.max(up)
    }

    /// Rule 11.
    pub fn outlives_its_fence(&self, now: VoterTime, jitter: Duration) -> bool {
        let half = self.ttl.duration() / 2;
        let heard = self.fence.and_then(|fence| fence.heard);
        heard.is_some_and(|(first, last)| now.since(last) <= half && last.since(first) > self.ttl.duration() + jitter)
    }

    pub fn next_wake(&self, up_since: VoterTime, ready: bool, rules: &Rules) -> Option<VoterTime> {
        let silence = self.registered.then(|| self.silence_due());
        let asked = self.registered && ready && !self.parked.is_empty();
        let agree = asked.then(|| self.may_agree_at(up_since, rules));
        let stale = self.parked.values().min().map(|asked| *asked + self.ttl.duration() / 2 + Duration::from_nanos(1));
        [silence, agree, stale].into_iter().flatten().min()
    }
}
