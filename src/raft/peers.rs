//! The port through which a node's consensus and agent talk to other nodes: one request, one answer.
//!
//! `net` implements it over mutual TLS, the simulator over its own network.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use crate::engine::NodeId;

/// What a request is for; a byte on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PeerCall {
    /// Raft: append entries, heartbeats included.
    Append = 1,
    /// Raft: vote.
    Vote = 2,
    /// Raft: pre-vote.
    PreVote = 3,
    /// Raft: a part of a snapshot.
    Snapshot = 4,
    /// Raft: leadership is handed to you.
    Transfer = 5,
    /// A command for the leader.
    Propose = 6,
    /// A question to one node's agent (what runs, what does your keeper reach).
    Ask = 7,
    /// Raft: how far must a linearizable read have applied; for the leader.
    ReadIndex = 8,
    /// Raft: how far have you applied, if you lead as far as you know.
    LedIndex = 9,
}

impl TryFrom<u8> for PeerCall {
    type Error = u8;
    fn try_from(byte: u8) -> Result<Self, u8> {
        Ok(match byte {
            1 => Self::Append,
            2 => Self::Vote,
            3 => Self::PreVote,
            4 => Self::Snapshot,
            5 => Self::Transfer,
            6 => Self::Propose,
            7 => Self::Ask,
            8 => Self::ReadIndex,
            9 => Self::LedIndex,
            other => return Err(other),
        })
    }
}

/// Why there is no answer. The request may or may not have been carried out unless it is `Unreachable`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// No connection could be made; the request was not sent.
    #[error("node {node} at {address} cannot be reached: {why}")]
    Unreachable {
        /// Whom.
        node: NodeId,
        /// Where.
        address: SocketAddr,
        /// Why.
        why: String,
    },
    /// No answer in time.
    #[error("node {node} did not answer within {within:?}")]
    Timeout {
        /// Whom.
        node: NodeId,
        /// How long was waited.
        within: Duration,
    },
    /// The connection broke after the request was sent.
    #[error("connection to node {node} broke: {why}")]
    Broken {
        /// Whom.
        node: NodeId,
        /// Why.
        why: String,
    },
}

/// Requests to other nodes.
pub trait Peers: Clone + Send + Sync + 'static {
    /// One request to one node; the answer's bytes, or an error, within `within`.
    fn call(
        &self,
        to: NodeId,
        address: SocketAddr,
        call: PeerCall,
        body: Vec<u8>,
        within: Duration,
    ) -> impl Future<Output = Result<Vec<u8>, PeerError>> + Send;
}

/// Requests from other nodes. `from` was proved by the caller's certificate.
pub trait PeerService: Send + Sync + 'static {
    /// Answers one request.
    fn serve(&self, from: NodeId, call: PeerCall, body: Vec<u8>) -> impl Future<Output = Vec<u8>> + Send;
}
