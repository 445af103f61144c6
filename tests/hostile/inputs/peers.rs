//! Calls between members: frames on a connection, what they carry, and the answers.

use std::sync::atomic::{AtomicBool, Ordering};

use pkgctl::engine::command::Entry;
use pkgctl::engine::{NodeId, codec};
use pkgctl::net::frame::{self, FrameError};
use pkgctl::net::listener::Standing;
use pkgctl::net::peers::serve;
use pkgctl::package::Millis;
use pkgctl::raft::record::{LogMark, LogRecord, Payload, Vote};
use pkgctl::raft::wire::{
    Answer, Append, Appended, Ask, Asked, ReadIndexed, SnapshotPart, SnapshotTaken, Transfer, Transferred,
};
use pkgctl::raft::{Committed, PeerCall, PeerService, ProposeError};

use serde::de::DeserializeOwned;

use super::http::in_time;
use super::{choice, chosen, scene};

const ANSWER_MAX_BYTES: usize = 64 << 20;
const REQUESTS: u8 = 0;

/// Reads every call as consensus would.
struct Reader {
    understood: AtomicBool,
}

impl PeerService for Reader {
    async fn serve(&self, _from: NodeId, call: PeerCall, body: Vec<u8>) -> Vec<u8> {
        let understood = match call {
            PeerCall::Append => reads::<Append>(&body),
            PeerCall::Vote | PeerCall::PreVote => reads::<Ask>(&body),
            PeerCall::Snapshot => reads::<SnapshotPart>(&body),
            PeerCall::Transfer => reads::<Transfer>(&body),
            PeerCall::Propose => reads::<Entry>(&body),
            PeerCall::Ask | PeerCall::ReadIndex | PeerCall::LedIndex => reads::<Millis>(&body),
        };
        self.understood.fetch_or(understood, Ordering::Relaxed);
        body
    }
}

fn reads<T: DeserializeOwned>(body: &[u8]) -> bool {
    codec::decode::<T>(body).is_ok()
}

/// A member's connection that sends anything, or answers with anything.
pub fn run(bytes: &[u8]) -> bool {
    let (mode, mut rest) = choice(bytes);
    if mode & 1 == REQUESTS {
        let mut answers = Vec::new();
        let mut stream = tokio::io::join(rest, &mut answers);
        let reader = Reader { understood: AtomicBool::new(false) };
        in_time(serve(&mut stream, NodeId(2), &reader, || Standing::Known));
        return reader.understood.into_inner();
    }
    match in_time(frame::read(&mut rest, ANSWER_MAX_BYTES)).expect("memory does not keep one waiting") {
        Ok((_, body)) => {
            let raft = [reads::<Answer<Appended>>(&body), reads::<Answer<Asked>>(&body), reads::<Answer<Vote>>(&body)];
            let rest = [
                reads::<Answer<Transferred>>(&body),
                reads::<Answer<SnapshotTaken>>(&body),
                reads::<ReadIndexed>(&body),
            ];
            raft.iter().chain(&rest).any(|read| *read) || reads::<Result<Committed, ProposeError>>(&body)
        }
        Err(FrameError::TooLarge { bytes, limit, .. }) => {
            assert!(bytes > limit);
            false
        }
        Err(FrameError::CutOff | FrameError::Stream(_)) => false,
    }
}

/// One record of each kind.
pub fn records() -> Vec<LogRecord> {
    let entry = scene::entry(scene::commands().swap_remove(5)).into();
    let payloads = [Payload::Blank, Payload::Command(entry), Payload::Membership(Default::default())];
    let mark = |index| LogMark { term: 1, index };
    payloads.into_iter().zip(0..).map(|(payload, index)| LogRecord { mark: mark(index), payload }).collect()
}

pub fn seeds() -> Vec<Vec<u8>> {
    let vote = Vote { term: 1, node: NodeId(2), committed: true };
    let mark = Some(LogMark { term: 1, index: 3 });
    let bytes = codec::seal(&scene::state());
    let part = SnapshotPart { vote, last: mark, total: bytes.len() as u64, at: 0, bytes };
    let calls: [(PeerCall, Vec<u8>); 5] = [
        (PeerCall::Append, codec::encode(&Append { vote, after: None, entries: records(), committed: mark })),
        (PeerCall::Vote, codec::encode(&Ask { vote, last: mark, transfer: false })),
        (PeerCall::Transfer, codec::encode(&Transfer { from: vote, to: NodeId(1), last: mark })),
        (PeerCall::Snapshot, codec::encode(&part)),
        (PeerCall::ReadIndex, codec::encode(&Millis(100))),
    ];
    let framed = |kind: u8, body: &[u8]| {
        let mut out = Vec::new();
        in_time(frame::write(&mut out, kind, body)).expect("memory takes it").expect("it fits");
        out
    };
    let asked: Answer<Asked> = Ok(Asked { vote, granted: true, last: mark });
    let appended: Answer<Appended> = Ok(Appended::UpTo(mark));
    let answers = [codec::encode(&asked), codec::encode(&appended)];
    let all = calls.iter().flat_map(|(call, body)| framed(*call as u8, body)).collect::<Vec<u8>>();
    let requests = calls.iter().map(|(call, body)| chosen(REQUESTS, &framed(*call as u8, body)));
    let answers = answers.iter().map(|body| chosen(1, &framed(0, body)));
    requests.chain(answers).chain([chosen(REQUESTS, &all)]).collect()
}
