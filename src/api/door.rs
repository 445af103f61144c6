//! What routes may ask of the agent behind them. Every change goes through [`Door::submit`], whoever asks.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::local::Local;
use crate::engine::fence::call::{FenceAsk, FenceSaid};
use crate::engine::kv::Range;
use crate::engine::planner::Note;
use crate::engine::{Command, LogIndex, NodeId, Reply, State, WallMillis};
use crate::package::{NodeName, PackageName};
use crate::raft::{RaftStatus, Watch};

/// Why the door could not answer. The text says what happened, what still holds, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DoorError {
    /// Nothing was changed.
    #[error("{0}")]
    Unavailable(String),
    /// Nothing was changed, and will not be however often it is tried.
    #[error("{0}")]
    TooLarge(String),
    /// The change may or may not have been made.
    #[error("{0}")]
    Unknown(String),
    /// It cannot be done as things are, and nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// The node cannot go on.
    #[error("{0}")]
    Fatal(String),
}

/// How long a join token is good that an operator makes, in seconds: it is carried by hand.
pub const TOKEN_VALID_S: u64 = 3600;

/// A join token that is not in the log yet.
#[derive(Clone, Debug)]
pub struct TokenOffer {
    /// To be shown once.
    pub token: String,
    /// What is stored of it.
    pub digest: String,
    /// When it stops being good, by this node's wall clock.
    pub expires: WallMillis,
    /// How long that is, in seconds.
    pub valid_s: u64,
}

/// A member node's door.
pub trait Door: Clone + Send + Sync + 'static {
    /// Puts a command into the log, through the leader wherever it is, and answers what became of it once this node has
    /// applied it. `by` is who asked, for the ledger: `root@n1`.
    fn submit(&self, command: Command, by: String)
    -> impl Future<Output = Result<(LogIndex, Reply), DoorError>> + Send;

    /// Has a member run a fence agent in a way that ends no machine.
    fn fence_ask(&self, member: NodeId, ask: FenceAsk) -> impl Future<Output = FenceSaid> + Send;

    /// Waits until this node has applied everything committed before the call; a cut-off node answers an error.
    fn linearize(&self) -> impl Future<Output = Result<LogIndex, DoorError>> + Send;

    /// Waits until this node has applied what the leader had when it was asked; on the leader nothing is waited for. A leader
    /// that was replaced within the last election timeout, and has not heard of it, answers too.
    fn catch_up(&self) -> impl Future<Output = Result<LogIndex, DoorError>> + Send;

    /// Follows the keys of a range: every change after that entry, in the log's order.
    fn watch(&self, range: Range, after: LogIndex) -> Watch;

    /// Waits until more than `after` has been applied, or `within` has passed; answers what has been applied.
    fn applied_after(&self, after: LogIndex, within: Duration) -> impl Future<Output = LogIndex> + Send;

    /// Reads this node's copy of the state.
    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T;

    /// How consensus stands on this node.
    fn raft(&self) -> RaftStatus;

    /// What this node shows of itself.
    fn local(&self) -> Local;

    /// This node's name.
    fn node_name(&self) -> NodeName;

    /// Why packages that should run do not, in the planner's words; empty on a node that does not lead.
    fn notes(&self) -> Vec<Note>;

    /// What a membership change under way waits for and what to do, by the leader's word; none when nothing has waited
    /// for long, or the leader could not be asked.
    fn change_waits(&self) -> impl Future<Output = Option<String>> + Send;

    /// How consensus stands on the leader, who alone knows how far the others are; none when no leader answers.
    fn leaders_raft(&self) -> impl Future<Output = Option<RaftStatus>> + Send;

    /// Has the leader, whoever that is, hand leadership over: to that node, or to whoever is best placed.
    fn step_down(&self, to: Option<NodeId>) -> impl Future<Output = Result<(), DoorError>> + Send;

    /// Whether somebody who may be a member of some cluster takes connections at that cluster port: a machine that does
    /// is not off.
    fn answers(&self, address: SocketAddr) -> impl Future<Output = bool> + Send;

    /// Has this node stand for election: a leader that lives hands over to it.
    fn stand(&self) -> impl Future<Output = Result<(), DoorError>> + Send;

    /// A new join token for this cluster, good for so many seconds.
    ///
    /// # Errors
    /// There is no cluster in this node's copy of the state yet.
    fn new_token(&self, valid_s: u64) -> Result<TokenOffer, DoorError>;

    /// The log file of a package on this node.
    fn log_file(&self, package: &PackageName) -> PathBuf;
}
