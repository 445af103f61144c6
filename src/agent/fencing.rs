//! Fencing carried out: the attempt goes into the log first, then an agent runs somewhere, then the log says how it ended.

use std::time::Duration;

use openraft::AsyncRuntime;

use super::ask::{Answer, Question};
use super::brain::{Brain, Event, PROPOSAL_WITHIN};
use super::platform::Platform;
use super::spawn;
use crate::engine::command::Entry;
use crate::engine::fence::call::{CODE_OFF, FenceAsk, FenceSaid, FenceVerb};
use crate::engine::fence::{FenceAction, FenceDevice, FenceOutcome};
use crate::engine::{Command, LogIndex, NodeId, Reply, codec};
use crate::package::{Millis, NodeName};
use crate::raft::Consensus;
use crate::raft::peers::{PeerCall, Peers};

/// How long a question that only looks may take an agent.
const LOOK_MAX: Millis = Millis::from_secs(20);
/// How long switching on may take an agent: somebody waits for the answer at a terminal.
const ON_MAX: Millis = Millis::from_secs(90);
/// What an answer may take beyond the agent's own time.
const ANSWER_MARGIN: Duration = Duration::from_secs(5);
/// How long an executor waits for the entry that began the attempt.
const BEGUN_WITHIN: Duration = Duration::from_secs(5);
/// Attempts to put an outcome into the log; after them another leader finds the attempt lost.
const SAY_ATTEMPTS: usize = 5;
/// What an action that went well exits with.
const CODE_FENCED: i32 = 0;

/// Whatever runs fence agents, here or on other members.
pub(super) struct Fencer<P: Platform> {
    pub(super) me: NodeId,
    pub(super) platform: P,
    pub(super) peers: P::Peers,
    pub(super) consensus: Consensus<P::Rt, P::Peers>,
}

impl<P: Platform> Clone for Fencer<P> {
    fn clone(&self) -> Self {
        let (me, platform, peers) = (self.me, self.platform.clone(), self.peers.clone());
        Self { me, platform, peers, consensus: self.consensus.clone() }
    }
}

/// What an executor has come to.
enum Tried {
    Fenced,
    Absent,
    Failed(String),
}

impl<P: Platform> Brain<P> {
    /// Begins an attempt, unless this leader is at one already.
    pub(super) fn fence(
        &mut self,
        node: NodeId,
        action: FenceAction,
        after: LogIndex,
        executors: Vec<NodeId>,
        why: &str,
    ) {
        let key = format!("fence {node}");
        if self.fencing.contains(&node) || !self.flights.take_off(&key, self.platform.now()) {
            return;
        }
        tracing::warn!(why, "fencing node {node}");
        self.fencing.insert(node);
        let begin = self.entry(Command::BeginFence { node, after, why: why.to_owned() });
        let by = begin.by.clone();
        let fencer = self.fencer.clone();
        let back = self.to_self.clone();
        spawn::<P>(async move {
            if let Some(begun) = fencer.begun(begin).await {
                let outcome = fencer.attempt(node, action, begun, executors).await;
                tracing::warn!(?outcome, "fencing node {node} has ended");
                fencer.say(Command::EndFence { node, begun, outcome }, &by).await;
            }
            let _ = back.send(Event::FenceEnded(node)).await;
            let _ = back.send(Event::Landed { key, well: false }).await;
        });
    }
}

impl<P: Platform> Fencer<P> {
    /// The entry's index, if it is committed and was accepted: only then may anything be done.
    async fn begun(&self, begin: Entry) -> Option<LogIndex> {
        let committed = self.consensus.submit(begin, PROPOSAL_WITHIN).await.ok()?;
        match committed.reply {
            Reply::Done => Some(committed.index),
            other => {
                tracing::info!(?other, "no attempt to fence has begun");
                None
            }
        }
    }

    async fn attempt(
        &self,
        node: NodeId,
        action: FenceAction,
        begun: LogIndex,
        executors: Vec<NodeId>,
    ) -> FenceOutcome {
        let mut failures = Vec::new();
        for executor in executors {
            let name = self.name(executor);
            match self.end_from(executor, node, action, begun).await {
                Tried::Fenced => return FenceOutcome::Fenced { action, by: executor },
                Tried::Absent => failures.push(format!("{name} has not got the agent")),
                Tried::Failed(why) => {
                    failures.push(format!("{name}: {why}"));
                    break;
                }
            }
        }
        FenceOutcome::Failed { why: failures.join("; ") }
    }

    async fn end_from(&self, executor: NodeId, node: NodeId, action: FenceAction, begun: LogIndex) -> Tried {
        let answer = if executor == self.me {
            self.end_here(node, action, begun).await
        } else {
            let Some((_, device)) = self.device(node) else {
                return Tried::Failed("it has no fence device".to_owned());
            };
            let within = device.delay.duration() + device.timeout.duration() * 2 + ANSWER_MARGIN + BEGUN_WITHIN;
            match self.ask(executor, &Question::EndNode { node, action, begun }, within).await {
                Ok(Answer::Fence(said)) => said,
                Ok(Answer::No { why }) | Err(why) => FenceSaid::Failed { why },
                Ok(Answer::Reached(_) | Answer::Waits(_) | Answer::Raft(_) | Answer::HandedOver) => {
                    FenceSaid::Failed { why: "it answered another question".to_owned() }
                }
            }
        };
        match answer {
            FenceSaid::Ran { code: CODE_FENCED, .. } => Tried::Fenced,
            FenceSaid::Absent => Tried::Absent,
            other @ (FenceSaid::Ran { .. } | FenceSaid::Failed { .. }) => {
                Tried::Failed(other.expect(action.word(), CODE_FENCED).err().unwrap_or_default())
            }
        }
    }

    /// Ends a machine from here: the action, and where it is `off`, that `status` says so. Only for an attempt that the
    /// log has begun and not ended, and never this machine itself.
    pub(super) async fn end_here(&self, node: NodeId, action: FenceAction, begun: LogIndex) -> FenceSaid {
        if node == self.me {
            return FenceSaid::Failed { why: "a node never fences itself".to_owned() };
        }
        if self.consensus.applied(begun, BEGUN_WITHIN).await.is_err() {
            return FenceSaid::Failed { why: format!("entry {begun}, which begins the attempt, has not arrived here") };
        }
        let Some((name, device)) = self.device(node) else {
            return FenceSaid::Failed { why: "it has no fence device".to_owned() };
        };
        if device.delay > Millis(0) {
            P::Rt::sleep(device.delay.duration()).await;
        }
        let current = |s: &crate::engine::State| s.fencing.get(&node).is_some_and(|f| f.under_way && f.begun == begun);
        if !self.consensus.read(current) {
            return FenceSaid::Failed { why: "the attempt is over: nobody waits for it any more".to_owned() };
        }
        let ended = self.run(&device, &name, action.word(), device.timeout).await;
        match (action, &ended) {
            (FenceAction::Reboot, _) | (FenceAction::Off, FenceSaid::Absent | FenceSaid::Failed { .. }) => ended,
            (FenceAction::Off, FenceSaid::Ran { code, .. }) if *code != CODE_FENCED => ended,
            (FenceAction::Off, FenceSaid::Ran { .. }) => {
                let said = self.run(&device, &name, FenceVerb::Status.word(), device.timeout).await;
                match said.expect(FenceVerb::Status.word(), CODE_OFF) {
                    Ok(()) => ended,
                    Err(why) => FenceSaid::Failed { why: format!("'off' went well, but then {why}") },
                }
            }
        }
    }

    /// Answers a question that ends no machine.
    pub(super) async fn answer(&self, ask: FenceAsk) -> FenceSaid {
        match ask {
            FenceAsk::Metadata { agent } => {
                let input = "action=metadata\n".to_owned();
                self.platform.run_fence_agent(agent, input, LOOK_MAX.duration(), true).await
            }
            FenceAsk::Run { node, verb } => {
                let Some((name, device)) = self.device(node) else {
                    return FenceSaid::Failed { why: "it has no fence device".to_owned() };
                };
                let within = match verb {
                    FenceVerb::On => device.timeout.min(ON_MAX),
                    FenceVerb::Status | FenceVerb::Monitor => device.timeout.min(LOOK_MAX),
                };
                self.run(&device, &name, verb.word(), within).await
            }
        }
    }

    /// Has a member answer such a question.
    pub(super) async fn ask_of(&self, member: NodeId, ask: FenceAsk) -> FenceSaid {
        if member == self.me {
            return self.answer(ask).await;
        }
        let at_most = match &ask {
            FenceAsk::Run { verb: FenceVerb::On, .. } => ON_MAX,
            FenceAsk::Metadata { .. } | FenceAsk::Run { verb: FenceVerb::Status | FenceVerb::Monitor, .. } => LOOK_MAX,
        };
        let within = at_most.duration() + ANSWER_MARGIN;
        match self.ask(member, &Question::Fence(ask), within).await {
            Ok(Answer::Fence(said)) => said,
            Ok(Answer::No { why }) | Err(why) => FenceSaid::Failed { why },
            Ok(Answer::Reached(_) | Answer::Waits(_) | Answer::Raft(_) | Answer::HandedOver) => {
                FenceSaid::Failed { why: "it answered another question".to_owned() }
            }
        }
    }

    async fn run(&self, device: &FenceDevice, name: &NodeName, action: &str, within: Millis) -> FenceSaid {
        let (agent, input) = (device.agent.clone(), device.input(name, action));
        match self.platform.run_fence_agent(agent, input, within.duration(), false).await {
            FenceSaid::Absent => FenceSaid::Absent,
            FenceSaid::Ran { code, output } => FenceSaid::Ran { code, output: device.censor(&output) },
            FenceSaid::Failed { why } => FenceSaid::Failed { why: device.censor(&why) },
        }
    }

    async fn ask(&self, member: NodeId, question: &Question, within: Duration) -> Result<Answer, String> {
        let address = self.consensus.read(|s| s.nodes.get(&member).map(|n| n.address));
        let address = address.ok_or_else(|| "it is no member".to_owned())?;
        let bytes = self.peers.call(member, address, PeerCall::Ask, codec::encode(question), within).await;
        let bytes = bytes.map_err(|why| why.to_string())?;
        codec::decode(&bytes).map_err(|_| "its version of pkgctl cannot be asked that".to_owned())
    }

    async fn say(&self, command: Command, by: &str) {
        for _ in 0..SAY_ATTEMPTS {
            let entry = Entry { wall: self.platform.wall(), by: by.to_owned(), command: command.clone() };
            match self.consensus.submit(entry, PROPOSAL_WITHIN).await {
                Ok(_) => return,
                Err(why) => tracing::warn!("how a fencing ended is not in the log yet: {why}"),
            }
        }
    }

    fn device(&self, node: NodeId) -> Option<(NodeName, FenceDevice)> {
        self.consensus.read(|s| Some((s.member_or_former(node)?.clone(), s.fence_devices.get(&node)?.clone())))
    }

    fn name(&self, node: NodeId) -> String {
        self.consensus.read(|s| s.name_of(node))
    }
}
