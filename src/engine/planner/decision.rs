//! What the planner answers: decisions, each with the sentence that explains it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use crate::engine::fence::FenceAction;
use crate::engine::{Command, LogIndex, NodeId, SessionId, SetId};
use crate::package::PackageName;

/// Decisions in the order in which they should be carried out, and what was left undone and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to do.
    pub decisions: Vec<Decision>,
    /// What is not done, for `why` and `status`.
    pub notes: Vec<Note>,
    /// What a change under way, of the members or of the datagrams' key, waits for.
    pub waits: Option<Waits>,
}

/// What a change under way waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Its step.
    pub step: ChangeStep,
    /// The sentence for people: what is missing and what to do.
    pub why: String,
}

/// The steps of such a change that may have to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeStep {
    /// What a node owns that is being removed moves away.
    Drain,
    /// Raft's own change of members.
    Raft,
    /// The next lease set (rule 14).
    Add,
    /// The end of the one before (rule 17).
    Retire,
    /// That everybody accepts the new key of the datagrams.
    UseKey,
    /// That nobody seals with an older one.
    DropKeys,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to do.
    pub step: Step,
    /// The sentence the operator reads.
    pub why: String,
}

/// Why a package stays as it is although it should run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Which one.
    pub package: PackageName,
    /// The sentence.
    pub why: String,
}

/// Something the leader can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Put a command into the log.
    Propose(Command),
    /// Ask the voters to let a silent session expire (rule 10).
    Collect(SessionId),
    /// Take a joined node into Raft as a learner.
    AddLearner {
        /// Who.
        node: NodeId,
        /// Where it answers.
        address: SocketAddr,
    },
    /// Give a learner that has caught up a vote in Raft.
    Promote(NodeId),
    /// Take a node that is being removed out of Raft, vote and all.
    Remove(NodeId),
    /// End a change of voters that an earlier leader began and did not live to end: until then a majority of the old
    /// voters is needed too, and no other change can begin.
    FinishChange,
    /// Have another voter lead.
    StepDown,
    /// Make a new key of the datagrams and put it into the log.
    AddKey {
        /// Its id.
        id: u32,
    },
    /// Find out which of these keepers are ready, and whom the hosts reach of them (rule 14).
    AskReach {
        /// The members of the set to come.
        members: BTreeSet<NodeId>,
        /// The nodes with a live session, which must reach a majority of them, and the members themselves.
        hosts: BTreeSet<NodeId>,
    },
    /// Fence a node: put the attempt into the log, run the agent on the first of these that has it, say how it ended.
    Fence {
        /// Which node.
        node: NodeId,
        /// How.
        action: FenceAction,
        /// The attempt before.
        after: LogIndex,
        /// Who may run the agent, in this order; never the node itself.
        executors: Vec<NodeId>,
    },
    /// Collect confirmations of the newest set from the old set's keepers, then wait (rule 17).
    Confirm {
        /// The set to be retired.
        old: SetId,
        /// The set that must be known.
        newer: SetId,
        /// The old set's members.
        keepers: BTreeSet<NodeId>,
    },
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.why)
    }
}

impl fmt::Display for Step {
    /// One line, as in the planner's text scenarios.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Propose(command) => propose(command, f),
            Step::Collect(session) => write!(f, "collect agreements to expire session {session}"),
            Step::AddLearner { node, address } => write!(f, "add learner {node} at {address}"),
            Step::Promote(node) => write!(f, "make {node} a voter"),
            Step::Remove(node) => write!(f, "take {node} out of Raft"),
            Step::FinishChange => f.write_str("finish the change of voters"),
            Step::StepDown => f.write_str("hand leadership over"),
            Step::AddKey { id } => write!(f, "add datagram key {id}"),
            Step::AskReach { members, hosts } => {
                write!(f, "ask hosts {} whether they reach {}", ids(hosts), ids(members))
            }
            Step::Fence { node, action, executors, .. } => {
                let each: Vec<String> = executors.iter().map(NodeId::to_string).collect();
                write!(f, "fence {node} ({}) from {}", action.word(), each.join(" or "))
            }
            Step::Confirm { old, newer, keepers } => {
                write!(f, "confirm lease set {newer} with {} to retire {old}", ids(keepers))
            }
        }
    }
}

fn propose(command: &Command, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match command {
        Command::ExpireSession { session, agreed, moves, .. } => {
            let voters = agreed.iter().map(|(voter, _)| *voter).collect();
            write!(f, "expire session {session} agreed by {}", ids(&voters))?;
            moves.iter().try_for_each(|m| write!(f, ", {} (token {}) to session {}", m.package, m.token, m.to))
        }
        Command::Assign { package, session, .. } => write!(f, "assign {package} to session {session}"),
        Command::ClearFailure { package, node } => write!(f, "clear failure of {package} on {node}"),
        Command::AddLeaseSet { members, .. } => write!(f, "add lease set {}", ids(members)),
        Command::RetireLeaseSet { set } => write!(f, "retire lease set {set}"),
        Command::ForgetNode { node } => write!(f, "forget node {node}"),
        Command::MovePackage { package, token, to, .. } => write!(f, "move {package} (token {token}) to node {to}"),
        Command::UseKey { id } => write!(f, "use datagram key {id}"),
        Command::DropKeys { keep } => write!(f, "drop all datagram keys but {keep}"),
        other @ (Command::CreateCluster { .. }
        | Command::IssueToken { .. }
        | Command::AddNode { .. }
        | Command::RemoveNode { .. }
        | Command::KeepNode { .. }
        | Command::VoterUp { .. }
        | Command::Register { .. }
        | Command::DefinePackage { .. }
        | Command::DeletePackage { .. }
        | Command::AdmitOperator { .. }
        | Command::RevokeOperator { .. }
        | Command::RunPackage { .. }
        | Command::StopPackage { .. }
        | Command::Release { .. }
        | Command::Report { .. }
        | Command::SetFence { .. }
        | Command::DeleteFence { .. }
        | Command::OrderFence { .. }
        | Command::BeginFence { .. }
        | Command::EndFence { .. }
        | Command::ConfirmFence { .. }
        | Command::ConfirmUnlisted
        | Command::SayWhole
        | Command::RotateKey
        | Command::AddKey { .. }
        | Command::HaveKeys { .. }
        | Command::Kv(_)
        | Command::SayWatchdog { .. }
        | Command::SayHttp { .. }) => write!(f, "{other:?}"),
    }
}

fn ids(nodes: &BTreeSet<NodeId>) -> String {
    let each: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
    format!("{{{}}}", each.join(" "))
}
