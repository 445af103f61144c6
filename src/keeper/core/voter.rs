//! This keeper as a voter: nothing until the agent has said which node it is, then the engine's promiser.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::lease::{Knowledge, Message, Notice, Promiser, Rules};
use crate::engine::{NodeId, Nonce, SessionId, VoterTime};

/// Wishes for a new incarnation are spread over this much, by the keeper's nonce (rule 11).
const JITTER_MAX_MS: u64 = 500;

/// The voter of one keeper life.
#[derive(Clone, Debug)]
pub struct Voter {
    nonce: Nonce,
    /// It has been up since then (rule 10), whenever it was told which node it is.
    up_since: VoterTime,
    promiser: Option<Promiser>,
    rules: Rules,
    /// Sessions that are silent, and since when; for an agent that attaches later.
    silent: BTreeMap<SessionId, VoterTime>,
}

impl Voter {
    /// A keeper that starts now.
    pub fn new(nonce: Nonce, now: VoterTime, rules: Rules) -> Self {
        Self { nonce, up_since: now, promiser: None, rules, silent: BTreeMap::new() }
    }

    /// This node is known; it does not change in a keeper's life.
    pub fn begin(&mut self, node: NodeId) {
        self.promiser.get_or_insert_with(|| Promiser::new(node, self.nonce, self.up_since).under(self.rules));
    }

    /// Whether it could ack and agree (rule 9).
    pub fn is_ready(&self, knowledge: &Knowledge) -> bool {
        self.promiser.as_ref().is_some_and(|promiser| promiser.ready(knowledge))
    }

    /// Takes a message and answers it.
    pub fn receive(&mut self, from: NodeId, message: &Message, knowledge: &Knowledge, now: VoterTime) -> Vec<Notice> {
        let Some(promiser) = &mut self.promiser else { return Vec::new() };
        let notices = promiser.receive(now, from, message, knowledge);
        self.remember(&notices, knowledge, now);
        notices
    }

    /// What is due by now, or because the known log has grown.
    pub fn due(&mut self, knowledge: &Knowledge, now: VoterTime) -> Vec<Notice> {
        let Some(promiser) = &mut self.promiser else { return Vec::new() };
        let notices = promiser.poll(now, knowledge);
        self.remember(&notices, knowledge, now);
        notices
    }

    fn remember(&mut self, notices: &[Notice], knowledge: &Knowledge, now: VoterTime) {
        for notice in notices {
            match notice {
                Notice::Silent { session, since } => drop(self.silent.insert(*session, now.back(*since))),
                Notice::Heard { session } => drop(self.silent.remove(session)),
                Notice::Send { .. } => {}
            }
        }
        self.silent.retain(|session, _| !knowledge.has_ended(*session));
    }

    /// Sessions that are silent, and for how long; the notices of it may have gone to an earlier agent.
    pub fn silent(&self, now: VoterTime) -> Vec<(SessionId, Duration)> {
        self.silent.iter().map(|(session, since)| (*session, now.since(*since))).collect()
    }

    /// Whether it needs a new incarnation (rule 11).
    pub fn wants_voter_up(&mut self, now: VoterTime) -> bool {
        let jitter = Duration::from_millis(self.nonce.0 % JITTER_MAX_MS);
        self.promiser.as_mut().is_some_and(|promiser| promiser.wants_voter_up(now, jitter))
    }

    /// When something is due next.
    pub fn wake(&self) -> Option<VoterTime> {
        self.promiser.as_ref().and_then(Promiser::next_wake)
    }
}
