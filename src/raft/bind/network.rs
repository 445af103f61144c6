//! Openraft's calls to other nodes, over the `Peers` port.

use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AsyncRuntime, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::disk_time::DiskTime;
use super::types::{RaftSnapshot, RaftVote, Types, log_id, mark, record, vote, vote_of};
use super::wire::{Answer, Append, Appended, Ask, Asked, SnapshotPart, SnapshotTaken, Transfer, Transferred};
use crate::engine::NodeId;
use crate::engine::codec::{decode, encode};
use crate::raft::compact::Sendings;
use crate::raft::peers::{PeerCall, PeerError, Peers};
use crate::raft::record::{Member, Vote};
use crate::raft::store::snapshot::SnapshotFile;

/// Bytes of one append, unless its first entry alone is larger; well below what `net` accepts.
const APPEND_BYTES: usize = 2 << 20;
/// Bytes of one part of a snapshot. Parts go over connections of their own, so that heartbeats pass them by.
const PART_BYTES: usize = 1 << 20;
/// How long a part may take.
const PART_WITHIN: Duration = Duration::from_secs(10);
/// How long the whole snapshot may take to be synced, read and installed once it has arrived.
const INSTALL_WITHIN: Duration = Duration::from_secs(60);
/// How often parts may fail, once the first has arrived, before all is begun again.
const SETBACKS_MAX: u32 = 20;

/// Makes connections to nodes.
pub struct Network<Rt, P> {
    /// This node.
    pub me: NodeId,
    /// The port.
    pub peers: P,
    /// How long a request with entries may take.
    pub append_within: Duration,
    /// Where snapshots are read.
    pub disk_time: DiskTime,
    /// Who is being sent a snapshot.
    pub sendings: Sendings,
    /// The runtime.
    pub runtime: PhantomData<fn() -> Rt>,
}

/// One other node.
pub struct Remote<Rt, P> {
    me: NodeId,
    peers: P,
    append_within: Duration,
    disk_time: DiskTime,
    sendings: Sendings,
    to: NodeId,
    at: Member,
    _runtime: PhantomData<fn() -> Rt>,
}

impl<Rt: AsyncRuntime, P: Peers> RaftNetworkFactory<Types<Rt>> for Network<Rt, P> {
    type Network = Remote<Rt, P>;

    async fn new_client(&mut self, target: u64, member: &Member) -> Remote<Rt, P> {
        Remote {
            me: self.me,
            peers: self.peers.clone(),
            append_within: self.append_within,
            disk_time: self.disk_time,
            sendings: self.sendings.clone(),
            to: NodeId(target),
            at: *member,
            _runtime: PhantomData,
        }
    }
}

impl<Rt: AsyncRuntime, P: Peers> Remote<Rt, P> {
    async fn call<A: DeserializeOwned>(
        &self,
        call: PeerCall,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<A, RPCError<Types<Rt>>> {
        let answer = self.peers.call(self.to, self.at.address, call, body, within).await;
        let bytes = answer.map_err(|e| match e {
            PeerError::Timeout { within, .. } => {
                RPCError::Timeout(Timeout { action: kind(call), id: self.me.0, target: self.to.0, timeout: within })
            }
            // Openraft waits before it tries an unreachable node again; a broken connection breaks again at once.
            PeerError::Unreachable { .. } | PeerError::Broken { .. } => unreachable(e),
        })?;
        let answer: Answer<A> = decode(&bytes).map_err(unreachable)?;
        answer.map_err(unreachable)
    }

    async fn ask<A: DeserializeOwned>(
        &self,
        call: PeerCall,
        question: &impl Serialize,
        within: Duration,
    ) -> Result<A, RPCError<Types<Rt>>> {
        self.call(call, encode(question), within).await
    }

    /// Sends a snapshot part by part, and goes on where it stopped when a part is lost.
    async fn send(&self, vote: Vote, snapshot: SnapshotFile) -> Result<Vote, RPCError<Types<Rt>>> {
        let (last, total) = (snapshot.head.last, snapshot.bytes);
        let (mut at, mut setbacks) = (0, 0);
        let sent = self.sendings.begin(self.to, last.map_or(0, |last| last.index));
        loop {
            let file = snapshot.clone();
            let read = self.disk_time.aside::<Rt, _>(move || file.read_at(at, PART_BYTES));
            let bytes = read.await.map_err(unreachable)?;
            let within = if bytes.is_empty() { INSTALL_WITHIN } else { PART_WITHIN };
            let part = SnapshotPart { vote, last, total, at, bytes };
            match self.ask(PeerCall::Snapshot, &part, within).await {
                Ok(SnapshotTaken::Done(vote)) => {
                    sent.arrived();
                    return Ok(vote);
                }
                Ok(SnapshotTaken::Next(next)) if next > at => at = next,
                Ok(SnapshotTaken::Next(_)) if setbacks == SETBACKS_MAX => {
                    return Err(unreachable(format!("node {} does not keep the parts of a snapshot", self.to)));
                }
                Ok(SnapshotTaken::Next(next)) => {
                    setbacks += 1;
                    at = next;
                }
                Err(e) if at == 0 || setbacks == SETBACKS_MAX => return Err(e),
                Err(_) => {
                    setbacks += 1;
                    Rt::sleep(self.append_within).await;
                }
            }
        }
    }

    async fn ask_vote(
        &self,
        call: PeerCall,
        rpc: VoteRequest<Types<Rt>>,
        within: Duration,
    ) -> Result<VoteResponse<Types<Rt>>, RPCError<Types<Rt>>> {
        let ask = Ask { vote: vote(&rpc.vote), last: rpc.last_log_id.map(mark), transfer: rpc.leadership_transfer };
        let asked: Asked = self.ask(call, &ask, within).await?;
        Ok(VoteResponse { vote: vote_of(asked.vote), vote_granted: asked.granted, last_log_id: asked.last.map(log_id) })
    }
}

impl<Rt: AsyncRuntime, P: Peers> RaftNetworkV2<Types<Rt>> for Remote<Rt, P> {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types<Rt>>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types<Rt>>, RPCError<Types<Rt>>> {
        let within = if rpc.entries.is_empty() { option.soft_ttl() } else { self.append_within };
        let mut append = Append {
            vote: vote(&rpc.vote),
            after: rpc.prev_log_id.map(mark),
            entries: rpc.entries.into_iter().map(record).collect(),
            committed: rpc.leader_commit.map(mark),
        };
        let whole = append.entries.len();
        let body = encode_bounded(&mut append);
        let sent = append.entries.last().map(|last| log_id(last.mark));
        let appended: Appended = self.call(PeerCall::Append, body, within).await?;
        Ok(match appended {
            Appended::All if append.entries.len() < whole => AppendEntriesResponse::PartialSuccess(sent),
            Appended::All => AppendEntriesResponse::Success,
            Appended::UpTo(last) => AppendEntriesResponse::PartialSuccess(last.map(log_id)),
            Appended::Conflict => AppendEntriesResponse::Conflict,
            Appended::HigherVote(higher) => AppendEntriesResponse::HigherVote(vote_of(higher)),
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types<Rt>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<Rt>>, RPCError<Types<Rt>>> {
        self.ask_vote(PeerCall::Vote, rpc, option.soft_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types<Rt>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<Rt>>, RPCError<Types<Rt>>> {
        self.ask_vote(PeerCall::PreVote, rpc, option.soft_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        leader: RaftVote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types<Rt>>, StreamingError<Types<Rt>>> {
        match Rt::select2(cancel, self.send(vote(&leader), snapshot.snapshot)).await {
            openraft::async_runtime::Select2::First(closed) => Err(StreamingError::Closed(closed)),
            openraft::async_runtime::Select2::Second(answer) => {
                Ok(SnapshotResponse::new(vote_of(answer.map_err(streaming)?)))
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types<Rt>>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types<Rt>>, RPCError<Types<Rt>>> {
        let transfer = Transfer {
            from: vote(req.from_leader()),
            to: NodeId(*req.to_node_id()),
            last: req.last_log_id().copied().map(mark),
        };
        let done: Transferred = self.ask(PeerCall::Transfer, &transfer, option.soft_ttl()).await?;
        Ok(match done {
            Transferred::Taken => Ok(()),
            Transferred::VoteChanged(actual) => {
                Err(TransferLeaderError::VoteChanged { expected: *req.from_leader(), actual: vote_of(actual) })
            }
            Transferred::Behind(actual) => Err(TransferLeaderError::LogNotFlushed {
                expected: req.last_log_id().copied(),
                actual: actual.map(log_id),
            }),
        })
    }
}

/// Encodes a request, leaving away its last entries as long as it is too large and has more than one.
fn encode_bounded(append: &mut Append) -> Vec<u8> {
    loop {
        let body = encode(append);
        let entries = append.entries.len();
        if body.len() <= APPEND_BYTES || entries <= 1 {
            return body;
        }
        append.entries.truncate(entries / 2);
    }
}

fn kind(call: PeerCall) -> RPCTypes {
    match call {
        PeerCall::Append | PeerCall::Propose | PeerCall::ReadIndex | PeerCall::LedIndex | PeerCall::Ask => {
            RPCTypes::AppendEntries
        }
        PeerCall::Vote | PeerCall::PreVote => RPCTypes::Vote,
        PeerCall::Snapshot => RPCTypes::InstallSnapshot,
        PeerCall::Transfer => RPCTypes::TransferLeader,
    }
}

fn unreachable<Rt: AsyncRuntime>(why: impl ToString) -> RPCError<Types<Rt>> {
    RPCError::Unreachable(Unreachable::from_string(why))
}

fn streaming<Rt: AsyncRuntime>(error: RPCError<Types<Rt>>) -> StreamingError<Types<Rt>> {
    match error {
        RPCError::Timeout(e) => StreamingError::Timeout(e),
        RPCError::Unreachable(e) => StreamingError::Unreachable(e),
        RPCError::Network(e) => StreamingError::Network(e),
        RPCError::RemoteError(never) => match never.source {},
    }
}
