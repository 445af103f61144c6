//! What calls between nodes carry: our own values, encoded by `engine::codec`, never openraft's types.

use serde::{Deserialize, Serialize};

use crate::engine::codec::{decode, encode};
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

/// `PeerCall::Snapshot`: the vote, then the snapshot as sealed on disk, copied once and not encoded again.
pub fn encode_snapshot(vote: Vote, sealed: &[u8]) -> Vec<u8> {
    let vote = encode(&vote);
    let length = u32::try_from(vote.len()).expect("a vote is small").to_be_bytes();
    let mut out = Vec::with_capacity(length.len() + vote.len() + sealed.len());
    out.extend_from_slice(&length);
    out.extend_from_slice(&vote);
    out.extend_from_slice(sealed);
    out
}

/// The parts of [`encode_snapshot`].
///
/// # Errors
/// When they are not all there; the snapshot's own seal is checked by who opens it.
pub fn decode_snapshot(body: &[u8]) -> Result<(Vote, Vec<u8>), String> {
    let (length, rest) = body.split_at_checked(4).ok_or("a snapshot without a vote")?;
    let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]);
    let length = usize::try_from(length).map_err(|e| e.to_string())?;
    let (vote, sealed) = rest.split_at_checked(length).ok_or("a snapshot with half a vote")?;
    Ok((decode(vote).map_err(|e| e.to_string())?, sealed.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_call_comes_apart_again_and_a_cut_one_is_refused() {
        let vote = Vote { term: 3, node: NodeId(2), committed: true };
        let body = encode_snapshot(vote, b"sealed");
        assert_eq!(decode_snapshot(&body), Ok((vote, b"sealed".to_vec())));
        for cut in 0..body.len() - b"sealed".len() {
            assert!(decode_snapshot(&body[..cut]).is_err(), "{cut}");
        }
    }
}
