//! A node: one life of its keeper (holder, voter, known prefix, token guard) and its agent (the applied state).

use std::collections::BTreeMap;

use pkgctl::engine::lease::{Holder, Knowledge, Promiser, Rules};
use pkgctl::engine::{HolderTime, NodeId, Nonce, SessionId, State, Token, VoterTime};
use pkgctl::package::PackageName;

use super::clock::Clock;

/// Something that acts on this node.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    pub token: Token,
    pub from: u64,
    /// It ends by itself then, whatever the keeper does: the kernel enforces it.
    pub until: HolderTime,
}

pub struct Node {
    pub id: NodeId,
    pub clock: Clock,
    pub up: bool,
    /// Counts keeper lives; what was meant for an earlier one is dropped.
    pub life: u64,
    pub nonce: Nonce,
    pub knowledge: Knowledge,
    pub promiser: Promiser,
    pub holder: Option<Holder>,
    /// Rule 20: the released token of each package.
    pub released: BTreeMap<PackageName, Token>,
    /// Sessions up to this one are never held again by this life.
    pub ended: SessionId,
    /// What the agent has applied.
    pub state: State,
    /// Sessions whose renewals this voter misses, since when.
    pub silent: BTreeMap<SessionId, VoterTime>,
    pub acts: BTreeMap<PackageName, Act>,
    /// Keepers that answered a ping, and whether they are ready.
    pub reached: BTreeMap<NodeId, bool>,
    /// Until then the agent applies nothing.
    pub stalled_until: u64,
    /// Until then nothing of ours runs; what acts goes on.
    pub frozen_until: u64,
    /// Until then the agent's proposals are lost.
    pub mute_until: u64,
    /// When a kind of proposal may be repeated.
    pub quiet: BTreeMap<&'static str, u64>,
    /// The earliest wake under way.
    pub wake: Option<u64>,
}

impl Node {
    pub fn new(id: NodeId, clock: Clock) -> Self {
        Self {
            id,
            clock,
            up: false,
            life: 0,
            nonce: Nonce(0),
            knowledge: Knowledge::default(),
            promiser: Promiser::new(id, Nonce(0), VoterTime(0)),
            holder: None,
            released: BTreeMap::new(),
            ended: SessionId(0),
            state: State::default(),
            silent: BTreeMap::new(),
            acts: BTreeMap::new(),
            reached: BTreeMap::new(),
            stalled_until: 0,
            frozen_until: 0,
            mute_until: 0,
            quiet: BTreeMap::new(),
            wake: None,
        }
    }

    /// A new keeper life; the agent's state survives on disk up to where its prefix is handed in.
    pub fn start(&mut self, nonce: Nonce, now: u64, rules: Rules, state: State) {
        self.up = true;
        self.life += 1;
        self.nonce = nonce;
        self.knowledge = Knowledge::default();
        self.promiser = Promiser::new(self.id, nonce, self.clock.voter(now)).under(rules);
        self.holder = None;
        self.released.clear();
        self.ended = SessionId(0);
        self.state = state;
        self.silent.clear();
        self.reached.clear();
        self.quiet.clear();
        self.wake = None;
    }

    /// Whether a kind of proposal may be made now; if so, not again for a while.
    pub fn may_propose(&mut self, what: &'static str, now: u64, pause: u64) -> bool {
        if self.mute_until > now || self.quiet.get(what).is_some_and(|until| now < *until) {
            return false;
        }
        self.quiet.insert(what, now + pause);
        true
    }

    /// The session held, if its lease runs now.
    pub fn held(&self, now: u64) -> Option<SessionId> {
        self.holder.as_ref().filter(|h| h.holds(self.clock.holder(now))).map(Holder::session)
    }

    /// When its machines want to be called, in true time.
    pub fn next_wake(&self) -> Option<u64> {
        let holder = self.holder.as_ref().and_then(Holder::next_wake).map(|at| self.clock.holder_instant(at));
        let voter = self.promiser.next_wake().map(|at| self.clock.voter_instant(at));
        [holder, voter].into_iter().flatten().min()
    }
}
