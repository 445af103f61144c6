//! How routes reach the agent: its side of `api::door`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Agent;
use super::ask::{Answer, Question};
use super::platform::Platform;
use crate::api::door::{Door, DoorError, TokenOffer};
use crate::api::local::Local;
use crate::engine::command::Entry;
use crate::engine::fence::call::{FenceAsk, FenceSaid};
use crate::engine::kv::Range;
use crate::engine::planner::Note;
use crate::engine::{Command, LogIndex, NodeId, Reply, State, WallMillis};
use crate::net::identity::credentials::fingerprint_pem;
use crate::net::token::JoinToken;
use crate::package::{NodeName, PackageName};
use crate::raft::{ProposeError, RaftStatus, ReadError, Watch};

/// How long a change may look for a leader before its asker is told.
const SUBMIT_WITHIN: Duration = Duration::from_secs(10);
/// How long a read may look for a leader that can prove itself; an election ends well within it.
const READ_WITHIN: Duration = Duration::from_secs(3);
/// How long the leader may take to say what a change waits for; without its word the rest of the status is told.
const ASK_WITHIN: Duration = Duration::from_secs(1);

impl<P: Platform> Door for Agent<P> {
    async fn submit(&self, command: Command, by: String) -> Result<(LogIndex, Reply), DoorError> {
        let entry = Entry { wall: self.platform.wall(), by, command };
        let committed = self.consensus.submit(entry, SUBMIT_WITHIN).await.map_err(explain)?;
        // What is acknowledged here can be read here.
        let applied = self.consensus.applied(committed.index, SUBMIT_WITHIN).await;
        applied.map_err(|e| DoorError::Unknown(unread(committed.index, &e)))?;
        Ok((committed.index, committed.reply))
    }

    async fn fence_ask(&self, member: NodeId, ask: FenceAsk) -> FenceSaid {
        self.fencer.ask_of(member, ask).await
    }

    async fn linearize(&self) -> Result<LogIndex, DoorError> {
        self.consensus.linearize(READ_WITHIN).await.map_err(|e| DoorError::Unavailable(e.to_string()))
    }

    async fn catch_up(&self) -> Result<LogIndex, DoorError> {
        self.consensus.catch_up(READ_WITHIN).await.map_err(|e| DoorError::Unavailable(e.to_string()))
    }

    fn watch(&self, range: Range, after: LogIndex) -> Watch {
        self.consensus.watch(range, after)
    }

    async fn applied_after(&self, after: LogIndex, within: Duration) -> LogIndex {
        let next = LogIndex(after.0.saturating_add(1));
        match self.consensus.applied(next, within).await {
            Ok(applied) => applied,
            Err(_) => self.consensus.read(|state| state.applied),
        }
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.consensus.read(look)
    }

    fn raft(&self) -> RaftStatus {
        self.consensus.status()
    }

    fn local(&self) -> Local {
        self.view.get().local
    }

    fn node_name(&self) -> NodeName {
        self.name.clone()
    }

    fn notes(&self) -> Vec<Note> {
        self.view.get().notes
    }

    async fn change_waits(&self) -> Option<String> {
        let changing = self.consensus.read(|state| state.members_change() || state.key_step().is_some());
        match self.consensus.status().leader.filter(|_| changing)? {
            (leader, _) if leader == self.me => self.view.get().waits,
            _ => match self.ask_the_leader(&Question::Waits, ASK_WITHIN).await.ok()? {
                Answer::Waits(why) => why,
                Answer::Reached(_) | Answer::Raft(_) | Answer::HandedOver | Answer::Fence(_) | Answer::No { .. } => {
                    None
                }
            },
        }
    }

    async fn leaders_raft(&self) -> Option<RaftStatus> {
        self.raft_of_the_leader().await
    }

    async fn step_down(&self, to: Option<NodeId>) -> Result<(), DoorError> {
        self.have_handed_over(to).await
    }

    async fn answers(&self, address: SocketAddr) -> bool {
        self.platform.answers(address).await
    }

    async fn stand(&self) -> Result<(), DoorError> {
        self.stand_for_election().await
    }

    fn new_token(&self, valid_s: u64) -> Result<TokenOffer, DoorError> {
        let unknown =
            || DoorError::Unavailable("this node does not know its cluster yet; try again in a moment".into());
        let certificate = self.consensus.read(|s| s.cluster.as_ref().map(|c| c.ca_certificate.clone()));
        let authority = fingerprint_pem(&certificate.ok_or_else(unknown)?);
        let authority = authority.map_err(|e| DoorError::Fatal(e.to_string()))?;
        let token = JoinToken::issue(authority, self.address);
        let expires = WallMillis(self.platform.wall().0 + valid_s * 1000);
        Ok(TokenOffer { token: token.to_string(), digest: token.digest(), expires, valid_s })
    }

    fn log_file(&self, package: &PackageName) -> PathBuf {
        PathBuf::from(self.platform.log_file(package))
    }
}

fn explain(error: ProposeError) -> DoorError {
    let text = error.to_string();
    match error {
        ProposeError::NoLeader { .. } | ProposeError::NotLeader { .. } => DoorError::Unavailable(text),
        ProposeError::TooLarge { .. } => DoorError::TooLarge(text),
        ProposeError::Unknown { .. } => DoorError::Unknown(text),
        ProposeError::Fatal { .. } => DoorError::Fatal(text),
    }
}

/// That a change is in the log for good, and this node cannot say what came of it: it may have been removed meanwhile.
fn unread(index: LogIndex, why: &ReadError) -> String {
    format!(
        "entry {index} is committed, and this node cannot say what came of it: {why}. Ask another member: under the same \
         Idempotency-Key the same request is answered there as it was, and not carried out again; without one, look with \
         `pkgctl status` or `pkgctl kv get` before you repeat it"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_this_node_cannot_answer_for_says_where_to_ask_again() {
        let said = unread(LogIndex(7300), &ReadError::Fatal { why: "Raft has stopped".to_owned() });
        for words in ["entry 7300 is committed", "Raft has stopped", "another member", "Idempotency-Key"] {
            assert!(said.contains(words), "{said}");
        }
    }
}
