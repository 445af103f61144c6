//! What calls between nodes carry: our own values, encoded by `engine::codec`, never openraft's types.

use serde::{Deserialize, Serialize};

use crate::engine::{LogIndex, NodeId};
use crate::raft::record::{LogMark, LogRecord, Vote};

/// `PeerCall::Append`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// The leader's vote.
    pub vote: Vote,
    /// The entry before the first of these.
    pub after: Option<LogMark>,
    /// None for a heartbeat.
    pub entries: Vec<LogRecord>,
    /// How far the leader knows the log to be committed.
    pub committed: Option<LogMark>,
}

/// The answer to an [`Append`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Appended {
    /// All entries are there.
    All,
    /// Entries up to there are.
    UpTo(Option<LogMark>),
    /// The entry before the first one is another here.
    Conflict,
    /// There is a later vote.
    HigherVote(Vote),
}

/// `PeerCall::Vote` and `PeerCall::PreVote`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The candidate's vote.
    pub vote: Vote,
    /// Its last entry.
    pub last: Option<LogMark>,
    /// Whether the leader told it to stand.
    pub transfer: bool,
}

/// The answer to an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The voter's vote afterwards.
    pub vote: Vote,
    /// Whether it was given.
    pub granted: bool,
    /// The voter's last entry.
    pub last: Option<LogMark>,
}

/// `PeerCall::Transfer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// The leader's vote.
    pub from: Vote,
    /// Who is to lead.
    pub to: NodeId,
    /// Which entry it must have.
    pub last: Option<LogMark>,
}

/// The answer to a [`Transfer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transferred {
    /// It stands for election, if it was meant.
    Taken,
    /// The sender leads no more.
    VoteChanged(Vote),
    /// It has not yet written the entry.
    Behind(Option<LogMark>),
}

/// A node's answer, or why it gives none; the request was not carried out then.
pub type Answer<T> = Result<T, String>;

/// The answer to `PeerCall::ReadIndex` and `PeerCall::LedIndex`.
pub type ReadIndexed = Result<LogIndex, String>;

/// `PeerCall::Snapshot`: a part of a snapshot, as sealed on disk; an empty one behind the last asks to install it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotPart {
    /// The leader's vote.
    pub vote: Vote,
    /// The last entry that the snapshot covers.
    pub last: Option<LogMark>,
    /// How long all of it is, in bytes.
    pub total: u64,
    /// Where this part begins.
    pub at: u64,
    /// The part.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// The answer to a [`SnapshotPart`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotTaken {
    /// All before this place is there.
    Next(u64),
    /// It was installed, or there is a later vote: the vote afterwards.
    Done(Vote),
}
