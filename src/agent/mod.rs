//! One node at work: the loop that ties consensus, keeper, planner and supervisors together.
//!
//! - [`platform`]: what an agent needs of the world around it.
//! - `brain`: the one loop; `life`, `runner`, `leading` are its parts for the keeper, for packages, and for the leader.
//! - `told`: what the keeper is told of the cluster.
//! - `flights`: what is under way, one at a time per key; `ops`: operations of the keeper and their answers.
//! - `leadership`: stepping down and standing for election, as an operator asks. `holdup`: what a change of the cluster waits for.
//! - `fencing`: fence agents, run here or on other members.
//! - [`ask`]: questions between agents; `view`: what the loop publishes; `door`: how routes reach all of it.

pub mod ask;
pub mod platform;

mod brain;
mod door;
mod fencing;
mod flights;
mod holdup;
mod leadership;
mod leading;
mod life;
mod ops;
mod runner;
mod told;
mod view;

use std::net::SocketAddr;
use std::time::Duration;

use openraft::{AsyncRuntime, Instant};

use self::ask::{Answer, Question};
use self::brain::{Brain, Event};
use self::fencing::Fencer;
use self::ops::{Hands, Ops};
use self::platform::Platform;
use self::view::LocalView;
use crate::engine::lease::Rules;
use crate::engine::{NodeId, codec};
use crate::keeper::link::KeeperLink;
use crate::keeper::protocol::{Op, Outcome, ToKeeper};
use crate::package::NodeName;
use crate::raft::{Consensus, Failure};

/// How long a keeper that is told to retire may take to stop everything, before it is left to the kernel.
const RETIRED_WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked at meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a node is made of.
pub struct Parts<P: Platform> {
    /// This node.
    pub me: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Where it answers.
    pub address: SocketAddr,
    /// Where it answers plain HTTP, if it does.
    pub http: Option<SocketAddr>,
    /// The world around it.
    pub platform: P,
    /// The way to other nodes.
    pub peers: P::Peers,
    /// Its consensus, started.
    pub consensus: Consensus<P::Rt, P::Peers>,
    /// The link to its keeper.
    pub keeper: KeeperLink,
    /// The lease rules that a leader's collectors hold: all of them; simulations drop one.
    pub rules: Rules,
}

/// A running agent: what others may ask of it.
pub struct Agent<P: Platform> {
    /// This node.
    pub me: NodeId,
    name: NodeName,
    address: SocketAddr,
    /// Its consensus.
    pub consensus: Consensus<P::Rt, P::Peers>,
    /// The world around it.
    pub platform: P,
    view: LocalView,
    hands: Hands<P>,
    fencer: Fencer<P>,
    peers: P::Peers,
}

impl<P: Platform> Clone for Agent<P> {
    fn clone(&self) -> Self {
        Self {
            me: self.me,
            name: self.name.clone(),
            address: self.address,
            consensus: self.consensus.clone(),
            platform: self.platform.clone(),
            view: self.view.clone(),
            hands: self.hands.clone(),
            fencer: self.fencer.clone(),
            peers: self.peers.clone(),
        }
    }
}

impl<P: Platform> Agent<P> {
    /// Starts the loop and answers the handle to it.
    pub fn start(parts: Parts<P>) -> Self {
        let view = LocalView::default();
        let hands = Hands { platform: parts.platform.clone(), ops: Ops::default(), keeper: parts.keeper.to.clone() };
        let agent = Self {
            me: parts.me,
            name: parts.name.clone(),
            address: parts.address,
            consensus: parts.consensus.clone(),
            platform: parts.platform.clone(),
            view: view.clone(),
            hands: hands.clone(),
            fencer: Fencer {
                me: parts.me,
                platform: parts.platform.clone(),
                peers: parts.peers.clone(),
                consensus: parts.consensus.clone(),
            },
            peers: parts.peers.clone(),
        };
        let from_keeper = parts.keeper.from.clone();
        let mut changes = parts.consensus.changes();
        let mut progress = parts.consensus.leadership();
        let brain = Brain::new(parts, hands, agent.fencer.clone(), view);
        let to_brain = brain.to_self.clone();
        pump::<P, _>(from_keeper, to_brain.clone(), Event::Keeper);
        let to_follow = to_brain.clone();
        spawn::<P>(async move {
            while let Some(step) = changes.next().await {
                if to_follow.send(Event::Changed(step)).await.is_err() {
                    return;
                }
            }
        });
        spawn::<P>(async move {
            while progress.changed().await {
                if to_brain.send(Event::Raft).await.is_err() {
                    return;
                }
            }
        });
        spawn::<P>(brain.run());
        agent
    }

    /// Answers another agent's question.
    pub async fn answer(&self, body: &[u8]) -> Vec<u8> {
        let answer = match codec::decode(body) {
            Ok(Question::Reach { keepers }) => self.reach(keepers.into_iter().collect()).await,
            Ok(Question::Waits) => Answer::Waits(self.view.get().waits),
            Ok(Question::Raft) => Answer::Raft(Box::new(self.consensus.status())),
            Ok(Question::HandOver { to }) => self.hand_over(to).await,
            Ok(Question::Fence(ask)) => Answer::Fence(self.fencer.answer(ask).await),
            Ok(Question::EndNode { node, action, begun }) => {
                Answer::Fence(self.fencer.end_here(node, action, begun).await)
            }
            Err(error) => Answer::No { why: error.to_string() },
        };
        codec::encode(&answer)
    }

    /// Waits until this node can take part no more, has the keeper stop everything in order and renew no more, and says
    /// why. A keeper that is not there has nothing to retire; one that hangs is not waited for: the kernel ends its lease.
    pub async fn retired(&self) -> Failure {
        let failure = self.consensus.failed().await;
        let _ = self.hands.keeper.send(ToKeeper::Retire { why: failure.why.clone() }).await;
        let deadline = <P::Rt as AsyncRuntime>::Instant::now() + RETIRED_WITHIN;
        while self.has_lease() && <P::Rt as AsyncRuntime>::Instant::now() < deadline {
            P::Rt::sleep(LOOK_AGAIN).await;
        }
        failure
    }

    fn has_lease(&self) -> bool {
        let local = self.view.get().local;
        local.keeper_version.is_some() && local.lease.is_live()
    }

    async fn reach(&self, nodes: Vec<NodeId>) -> Answer {
        match self.hands.carry_out(Op::Reach { nodes }).await {
            Outcome::Reached(reached) => Answer::Reached(reached),
            Outcome::Failed { why } | Outcome::Refused { why } => Answer::No { why },
            Outcome::Ok | Outcome::Started { .. } | Outcome::Sets(_) => {
                Answer::No { why: "the keeper answered another question".to_owned() }
            }
        }
    }
}

/// Starts a task that comes back as an event, or ends with the agent; nobody waits for its end.
fn spawn<P: Platform>(task: impl Future<Output = ()> + Send + 'static) {
    drop(P::Rt::spawn(task));
}

/// Carries one stream of facts into the loop's own.
fn pump<P: Platform, T: Send + 'static>(
    from: async_channel::Receiver<T>,
    to: async_channel::Sender<Event>,
    wrap: fn(T) -> Event,
) {
    spawn::<P>(async move {
        while let Ok(item) = from.recv().await {
            if to.send(wrap(item)).await.is_err() {
                return;
            }
        }
    });
}
