//! The leader's work: silences collected, the planner asked, its steps spawned.
//!
//! Nothing here is authority: every decision is a command that `apply` checks, or a step that consensus checks. A new
//! leader starts over with what it sees itself (rule 17).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::ask::{Answer, Question};
use super::brain::{Brain, Event};
use super::holdup::Holdup;
use super::platform::Platform;
use super::spawn;
use crate::engine::codec;
use crate::engine::lease::{Collector, Reach, Retirement};
use crate::engine::planner::{self, Agreement, Observations, Step};
use crate::engine::{Command, Incarnation, NodeId, SessionId, SetId, VoterTime};
use crate::keeper::protocol::{Op, Outcome, ToKeeper};
use crate::package::Millis;
use crate::raft::peers::{PeerCall, Peers};
use crate::raft::{PROMOTE_LAG, RaftStatus, Role};

/// How long another node's agent may take to answer a question.
const ASK_WITHIN: std::time::Duration = std::time::Duration::from_secs(3);

/// The key of the one change of Raft's members that is under way.
const RAFT_CHANGE: &str = "change Raft's members";

/// A keeper says how its lease stands about once a second; one that has not for so long is dead or frozen.
const KEEPER_SILENCE_MAX: std::time::Duration = std::time::Duration::from_millis(2500);

/// What a leader gathers; dropped with its leadership.
#[derive(Default)]
pub(super) struct Leading {
    term: u64,
    collectors: BTreeMap<SessionId, Collector>,
    retirement: Option<Retirement>,
    reach: Reach,
}

impl<P: Platform> Brain<P> {
    pub(super) fn heard_silence(&mut self, session: SessionId, since: Millis) {
        let last = self.platform.now().back(since.duration());
        self.silent.insert(session, last);
    }

    pub(super) fn heard_again(&mut self, session: SessionId) {
        self.silent.remove(&session);
        if let Some(leading) = self.leading.as_mut()
            && leading.collectors.remove(&session).is_some()
        {
            self.tell_keeper(ToKeeper::Abandon { session });
        }
    }

    pub(super) fn agreed(&mut self, session: SessionId, voter: NodeId, incarnation: Incarnation) {
        let now = self.platform.now();
        if let Some(collector) = self.leading.as_mut().and_then(|l| l.collectors.get_mut(&session)) {
            collector.agreed(voter, incarnation, now);
        }
    }

    pub(super) fn reached(&mut self, host: NodeId, keepers: BTreeMap<NodeId, bool>, asked: VoterTime) {
        if let Some(leading) = self.leading.as_mut() {
            leading.reach.heard(host, keepers, asked);
        }
    }

    pub(super) fn sets_known(&mut self, sets: &BTreeMap<NodeId, Option<SetId>>) {
        let now = self.platform.now();
        if let Some(retirement) = self.leading.as_mut().and_then(|l| l.retirement.as_mut()) {
            for (keeper, set) in sets {
                set.iter().for_each(|set| retirement.confirm(*keeper, *set, now));
            }
        }
    }

    /// Leads, if this node is the leader.
    pub(super) fn lead(&mut self, now: VoterTime) {
        let status = self.consensus.status();
        if status.role != Role::Leader {
            self.resign();
            return;
        }
        if self.leading.as_ref().is_none_or(|l| l.term != status.term) {
            self.resign();
            self.leading = Some(Leading { term: status.term, ..Leading::default() });
        }
        self.hand_over_if_deaf(&status, now);
        self.drop_settled();
        let seen = self.observe(&status, now);
        let plan = self.consensus.read(|state| planner::plan(state, &seen));
        self.notes = plan.notes;
        if let Some(why) = self.holdup.take(plan.waits, now) {
            tracing::warn!("a change of the cluster waits: {why}");
        }
        // Words about one set are no words about the next, which others may have died before.
        if !plan.decisions.iter().any(|decision| is_about_next_set(&decision.step))
            && let Some(leading) = self.leading.as_mut()
        {
            leading.reach = Reach::default();
        }
        for decision in plan.decisions {
            self.take_step(decision.step, &decision.why, now);
        }
    }

    /// A leader whose keeper is dead or frozen hears of no silence and can collect no agreement: somebody else must lead,
    /// or nothing would fail over (I4).
    fn hand_over_if_deaf(&mut self, status: &RaftStatus, now: VoterTime) {
        let deaf = now.since(self.keeper_heard) > KEEPER_SILENCE_MAX && status.voters.len() > 1;
        if deaf {
            self.hand_over("this node's keeper is not heard", now);
        }
    }

    fn hand_over(&mut self, why: &str, now: VoterTime) {
        let key = "hand leadership over";
        if !self.flights.take_off(key, now) {
            return;
        }
        tracing::warn!("{why}: leadership is handed over");
        let (consensus, back) = (self.consensus.clone(), self.to_self.clone());
        spawn::<P>(async move {
            let well = consensus.step_down().await.is_ok();
            let _ = back.send(Event::Landed { key: key.to_owned(), well }).await;
        });
    }

    fn resign(&mut self) {
        let Some(leading) = self.leading.take() else { return };
        self.notes.clear();
        self.holdup = Holdup::default();
        leading.collectors.into_keys().for_each(|session| self.tell_keeper(ToKeeper::Abandon { session }));
    }

    /// Forgets collections and silences of sessions that are over.
    fn drop_settled(&mut self) {
        let live: BTreeSet<SessionId> = self.consensus.read(|s| s.sessions.keys().copied().collect());
        // A session newer than what is applied here is not over: this node has yet to learn of it.
        let applied = self.consensus.read(|s| s.applied.0);
        self.silent.retain(|id, _| live.contains(id) || id.0 > applied);
        let Some(leading) = self.leading.as_mut() else { return };
        let over: Vec<_> = leading.collectors.keys().filter(|id| !live.contains(id)).copied().collect();
        for session in over {
            leading.collectors.remove(&session);
            let _ = self.hands.keeper.try_send(ToKeeper::Abandon { session });
        }
    }

    fn observe(&mut self, status: &RaftStatus, now: VoterTime) -> Observations {
        let wall = self.platform.wall();
        let silent = self.silent.keys().copied().collect();
        let me = self.me;
        let at_it = self.flights.is_under_way(RAFT_CHANGE);
        let Some(leading) = self.leading.as_mut() else { return Observations::default() };
        leading.reach.forget_old(now);
        let last = status.last_log.unwrap_or_default().0;
        let matched = |id: &NodeId| status.peers.get(id).and_then(|peer| peer.matched);
        let near = |id: &&NodeId| matched(id).is_some_and(|at| at.0 + PROMOTE_LAG >= last);
        self.consensus.read(|state| Observations {
            wall,
            silent,
            deaf: !state.lease_sets.values().any(|set| set.contains(&me)),
            agreed: leading.collectors.iter().filter_map(|(id, c)| Some((*id, agreement(c, state)?))).collect(),
            learners: status.learners.clone(),
            caught_up: status.learners.iter().filter(near).copied().collect(),
            raft_changing: status.changing,
            raft_half_changed: status.changing && !at_it,
            ready: leading.reach.ready(),
            reach: leading.reach.reached(),
            me: Some(me),
            fencing: self.fencing.clone(),
            retirable: leading.retirement.as_mut().and_then(|r| r.due(state, now).then(|| r.old())),
        })
    }

    fn take_step(&mut self, step: Step, why: &str, now: VoterTime) {
        let key = step.to_string();
        match step {
            Step::Propose(command) => {
                tracing::debug!(why, "{key}");
                self.propose(key, command);
            }
            Step::Collect(session) => self.collect(session, now),
            Step::AddLearner { node, address } => self.change_raft(key, why, RaftChange::Learner(node, address)),
            Step::Promote(node) => self.change_raft(key, why, RaftChange::Voter(node)),
            Step::Remove(node) => self.change_raft(key, why, RaftChange::Remove(node)),
            Step::FinishChange => self.change_raft(key, why, RaftChange::Finish),
            Step::AddKey { id } => self.propose(key, Command::AddKey { id, key: self.platform.datagram_key() }),
            Step::StepDown => self.hand_over(why, now),
            Step::AskReach { members, hosts } => self.ask_reach(&members, hosts),
            Step::Fence { node, action, after, executors } => self.fence(node, action, after, executors, why),
            Step::Confirm { old, newer, keepers } => self.confirm(old, newer, keepers, now),
        }
    }

    fn collect(&mut self, session: SessionId, now: VoterTime) {
        let last_heard = self.silent.get(&session).copied().unwrap_or(now);
        let Some(leading) = self.leading.as_mut() else { return };
        if leading.collectors.contains_key(&session) {
            return;
        }
        let asked = self.consensus.read(|state| {
            let ttl = state.sessions.get(&session)?.ttl;
            let voters: BTreeSet<NodeId> = state.lease_sets.values().flatten().copied().collect();
            Some((ttl, voters.into_iter().collect()))
        });
        let Some((ttl, voters)) = asked else { return };
        leading.collectors.insert(session, Collector::new(session, last_heard, now).under(self.rules));
        self.tell_keeper(ToKeeper::Collect { session, ttl, voters });
    }

    fn change_raft(&mut self, what: String, why: &str, change: RaftChange) {
        if !self.flights.take_off(RAFT_CHANGE, self.platform.now()) {
            return;
        }
        tracing::info!(why, "{what}");
        let (consensus, back) = (self.consensus.clone(), self.to_self.clone());
        spawn::<P>(async move {
            let result = match change {
                RaftChange::Learner(node, address) => consensus.add_learner(node, address).await,
                RaftChange::Voter(node) => consensus.promote(node).await,
                RaftChange::Remove(node) => consensus.remove(node).await,
                RaftChange::Finish => consensus.finish_change().await,
            };
            if let Err(error) = &result {
                tracing::warn!(what, %error, "membership change did not complete; it is tried again");
            }
            let _ = back.send(Event::Landed { key: RAFT_CHANGE.to_owned(), well: result.is_ok() }).await;
        });
    }

    fn ask_reach(&mut self, members: &BTreeSet<NodeId>, hosts: BTreeSet<NodeId>) {
        for host in hosts {
            let key = format!("ask {host} whom it reaches");
            if self.flights.take_off(&key, self.platform.now()) {
                self.ask_one(key, host, members.clone());
            }
        }
    }

    fn ask_one(&self, key: String, host: NodeId, keepers: BTreeSet<NodeId>) {
        let address = self.consensus.read(|s| s.nodes.get(&host).map(|n| n.address));
        let asked = self.platform.now();
        let (hands, peers, back, mine) =
            (self.hands.clone(), self.peers.clone(), self.to_self.clone(), host == self.me);
        spawn::<P>(async move {
            let reached = match address {
                _ if mine => match hands.carry_out(Op::Reach { nodes: keepers.into_iter().collect() }).await {
                    Outcome::Reached(reached) => Some(reached),
                    Outcome::Ok
                    | Outcome::Started { .. }
                    | Outcome::Sets(_)
                    | Outcome::Failed { .. }
                    | Outcome::Refused { .. } => None,
                },
                None => None,
                Some(address) => ask_other::<P>(&peers, host, address, keepers).await,
            };
            if let Some(keepers) = reached {
                let _ = back.send(Event::Reached { host, keepers, asked }).await;
            }
            // Held back for a moment even when it went well: the answer, not haste, decides what is asked next.
            let _ = back.send(Event::Landed { key, well: false }).await;
        });
    }

    fn confirm(&mut self, old: SetId, newer: SetId, keepers: BTreeSet<NodeId>, now: VoterTime) {
        let Some(leading) = self.leading.as_mut() else { return };
        if leading.retirement.as_ref().is_none_or(|r| r.old() != old || r.newer() != newer) {
            leading.retirement = Some(Retirement::new(old, newer).under(self.rules));
        }
        let key = format!("confirm {newer}");
        if !self.flights.take_off(&key, now) {
            return;
        }
        let (hands, back) = (self.hands.clone(), self.to_self.clone());
        spawn::<P>(async move {
            let asked = Op::AskSets { nodes: keepers.into_iter().collect() };
            if let Outcome::Sets(sets) = hands.carry_out(asked).await {
                let _ = back.send(Event::Sets(sets)).await;
            }
            let _ = back.send(Event::Landed { key, well: false }).await;
        });
    }
}

/// Whether a lease set is to be added, or asked about.
fn is_about_next_set(step: &Step) -> bool {
    matches!(step, Step::AskReach { .. } | Step::Propose(Command::AddLeaseSet { .. }))
}

enum RaftChange {
    Learner(NodeId, SocketAddr),
    Voter(NodeId),
    Remove(NodeId),
    Finish,
}

fn agreement(collector: &Collector, state: &crate::engine::State) -> Option<Agreement> {
    let agreed = collector.ready(state)?;
    Some(Agreement { agreed, timeline: collector.timeline() })
}

async fn ask_other<P: Platform>(
    peers: &P::Peers,
    host: NodeId,
    address: SocketAddr,
    keepers: BTreeSet<NodeId>,
) -> Option<BTreeMap<NodeId, bool>> {
    let body = codec::encode(&Question::Reach { keepers });
    let bytes = peers.call(host, address, PeerCall::Ask, body, ASK_WITHIN).await.ok()?;
    match codec::decode(&bytes).ok()? {
        Answer::Reached(reached) => Some(reached),
        Answer::Fence(_) | Answer::Waits(_) | Answer::Raft(_) | Answer::HandedOver => None,
        Answer::No { why } => {
            tracing::debug!(%host, why, "did not say whom it reaches");
            None
        }
    }
}
