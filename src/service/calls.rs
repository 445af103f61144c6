//! Requests of other members: consensus's own, and questions to this node's agent.

use crate::agent::Agent;
use crate::agent::platform::Platform;
use crate::engine::NodeId;
use crate::raft::peers::{PeerCall, PeerService};

/// Serves other members.
pub(super) struct Calls<P: Platform>(pub(super) Agent<P>);

impl<P: Platform> PeerService for Calls<P> {
    async fn serve(&self, from: NodeId, call: PeerCall, body: Vec<u8>) -> Vec<u8> {
        match call {
            PeerCall::Ask => self.0.answer(&body).await,
            PeerCall::Append
            | PeerCall::Vote
            | PeerCall::PreVote
            | PeerCall::Snapshot
            | PeerCall::Transfer
            | PeerCall::Propose
            | PeerCall::ReadIndex
            | PeerCall::LedIndex => self.0.consensus.serve(from, call, body).await,
        }
    }
}
