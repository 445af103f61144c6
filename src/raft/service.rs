//! Calls from other nodes: decoded, given to openraft, answered.
//!
//! A call that speaks for another node than the one its certificate names is refused, and a restarted voter keeps quiet:
//! for one election timeout it neither votes nor stands, because an old leader may still trust a lease that it gave.

use std::sync::atomic::Ordering;

use openraft::AsyncRuntime;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest, VoteRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::arrival::Arrived;
use super::bind::types::{described, entry_of, log_id, mark, vote, vote_of};
use super::bind::wire::{Answer, Append, Appended, Ask, Asked, SnapshotPart, SnapshotTaken, Transfer, Transferred};
use super::consensus::Consensus;
use super::peers::{PeerCall, Peers};
use super::propose::{Forwarded, ProposeError};
use super::record::Vote;
use crate::engine::NodeId;
use crate::engine::codec::{decode, encode};
use crate::package::Millis;

impl<Rt: AsyncRuntime, P: Peers> Consensus<Rt, P> {
    /// Answers one call of another node. `from` was proved by its certificate.
    pub async fn serve(&self, from: NodeId, call: PeerCall, body: Vec<u8>) -> Vec<u8> {
        match call {
            PeerCall::Append => answer(self.append(from, &body).await),
            PeerCall::Vote => answer(self.vote(from, &body).await),
            PeerCall::PreVote => answer(self.pre_vote(from, &body).await),
            PeerCall::Snapshot => answer(self.install(from, &body).await),
            PeerCall::Transfer => answer(self.take_over(from, &body).await),
            PeerCall::Propose => encode(&self.forwarded(&body).await),
            PeerCall::ReadIndex => answer(self.read_for(&body).await),
            PeerCall::LedIndex => answer(self.led_index()),
            PeerCall::Ask => answer::<()>(Err("this question is for the agent, not for Raft".to_owned())),
        }
    }

    async fn append(&self, from: NodeId, body: &[u8]) -> Answer<Appended> {
        let append: Append = parse(body)?;
        speaks_for(from, append.vote)?;
        let entries: Result<Vec<_>, String> = append.entries.iter().map(entry_of).collect();
        let request = AppendEntriesRequest {
            vote: vote_of(append.vote),
            prev_log_id: append.after.map(log_id),
            entries: entries?,
            leader_commit: append.committed.map(log_id),
        };
        let answer = self.inner.raft.append_entries(request).await.map_err(|e| e.to_string())?;
        Ok(match answer {
            AppendEntriesResponse::Success => Appended::All,
            AppendEntriesResponse::PartialSuccess(last) => Appended::UpTo(last.map(mark)),
            AppendEntriesResponse::Conflict => Appended::Conflict,
            AppendEntriesResponse::HigherVote(higher) => Appended::HigherVote(vote(&higher)),
        })
    }

    async fn vote(&self, from: NodeId, body: &[u8]) -> Answer<Asked> {
        let request = self.vote_request(from, body)?;
        let given = self.inner.raft.vote(request).await.map_err(|e| e.to_string())?;
        Ok(Asked { vote: vote(&given.vote), granted: given.vote_granted, last: given.last_log_id.map(mark) })
    }

    async fn pre_vote(&self, from: NodeId, body: &[u8]) -> Answer<Asked> {
        let request = self.vote_request(from, body)?;
        let given = self.inner.raft.pre_vote(request).await.map_err(|e| e.to_string())?;
        Ok(Asked { vote: vote(&given.vote), granted: given.vote_granted, last: given.last_log_id.map(mark) })
    }

    fn vote_request(&self, from: NodeId, body: &[u8]) -> Answer<VoteRequest<super::bind::types::Types<Rt>>> {
        let ask: Ask = parse(body)?;
        speaks_for(from, ask.vote)?;
        self.not_quiet()?;
        let last_log_id = ask.last.map(log_id);
        Ok(VoteRequest { vote: vote_of(ask.vote), last_log_id, leadership_transfer: ask.transfer })
    }

    async fn install(&self, from: NodeId, body: &[u8]) -> Answer<SnapshotTaken> {
        let part: SnapshotPart = parse(body)?;
        let leader = part.vote;
        speaks_for(from, leader)?;
        let known = vote(&self.inner.raft.metrics().borrow_watched().vote);
        if known.term > leader.term {
            return Ok(SnapshotTaken::Done(known));
        }
        let arrived = self.inner.arrivals.take::<Rt>(part).await.map_err(|e| format!("the snapshot: {e}"))?;
        let whole = match arrived {
            Arrived::UpTo(at) => return Ok(SnapshotTaken::Next(at)),
            Arrived::Whole(whole) => whole,
        };
        let state = whole.state().map_err(|e| e.to_string())?;
        if let Some(cluster) = &state.cluster
            && cluster.id != self.identity().cluster
        {
            return Err(format!("the snapshot is of cluster {}", cluster.id));
        }
        drop(state);
        let done = self.inner.raft.install_full_snapshot(vote_of(leader), described(whole)?).await;
        Ok(SnapshotTaken::Done(vote(&done.map_err(|e| e.to_string())?.vote)))
    }

    async fn take_over(&self, from: NodeId, body: &[u8]) -> Answer<Transferred> {
        let transfer: Transfer = parse(body)?;
        speaks_for(from, transfer.from)?;
        self.not_quiet()?;
        let request = TransferLeaderRequest::new(vote_of(transfer.from), transfer.to.0, transfer.last.map(log_id));
        match self.inner.raft.handle_transfer_leader(request).await {
            Ok(Ok(())) => Ok(Transferred::Taken),
            Ok(Err(TransferLeaderError::VoteChanged { actual, .. })) => Ok(Transferred::VoteChanged(vote(&actual))),
            Ok(Err(TransferLeaderError::LogNotFlushed { actual, .. })) => Ok(Transferred::Behind(actual.map(mark))),
            Err(fatal) => Err(fatal.to_string()),
        }
    }

    async fn forwarded(&self, body: &[u8]) -> Result<super::propose::Committed, ProposeError> {
        match decode::<Forwarded>(body) {
            Ok(Forwarded { within, entry }) => self.propose(entry, within.duration()).await,
            Err(e) => Err(ProposeError::Fatal { why: format!("the leader did not understand the command: {e}") }),
        }
    }

    async fn read_for(&self, body: &[u8]) -> Answer<crate::engine::LogIndex> {
        let within: Millis = parse(body)?;
        self.read_index(within.duration()).await
    }

    fn not_quiet(&self) -> Result<(), String> {
        if self.inner.quiet.load(Ordering::Acquire) {
            return Err(format!("node {} restarted a moment ago and does not vote yet", self.node()));
        }
        Ok(())
    }
}

fn answer<T: Serialize>(answer: Answer<T>) -> Vec<u8> {
    encode(&answer)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    decode(body).map_err(|e| e.to_string())
}

fn speaks_for(from: NodeId, vote: Vote) -> Result<(), String> {
    if vote.node == from { Ok(()) } else { Err(format!("node {from} speaks for node {}", vote.node)) }
}
