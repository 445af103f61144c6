//! Leadership as an operator asks for it, from any node: how consensus stands, stepping down, standing for election.

use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::async_runtime::Instant;

use super::Agent;
use super::ask::{Answer, Question};
use super::platform::Platform;
use crate::api::door::DoorError;
use crate::engine::{NodeId, codec};
use crate::raft::peers::{PeerCall, PeerError, Peers};
use crate::raft::{MembersError, RaftStatus};

/// How long the leader may take to say how it stands; the rest is told without.
const ASK_WITHIN: Duration = Duration::from_secs(2);
/// How long a leader may take to hand over.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(10);
/// How long a node that stands for election may take to lead.
const ELECTED_WITHIN: Duration = Duration::from_secs(5);
/// Time between two looks whether it leads.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl<P: Platform> Agent<P> {
    /// The leader's own word on consensus; none when no leader answers.
    pub(super) async fn raft_of_the_leader(&self) -> Option<RaftStatus> {
        let here = self.consensus.status();
        if here.is_leader() {
            return Some(here);
        }
        match self.ask_the_leader(&Question::Raft, ASK_WITHIN).await {
            Ok(Answer::Raft(status)) => Some(*status).filter(RaftStatus::is_leader),
            Ok(_) | Err(_) => None,
        }
    }

    /// Has the leader hand over, whoever it is.
    pub(super) async fn have_handed_over(&self, to: Option<NodeId>) -> Result<(), DoorError> {
        let answer = if self.consensus.status().is_leader() {
            self.hand_over(to).await
        } else {
            self.ask_the_leader(&Question::HandOver { to }, HAND_OVER_WITHIN).await?
        };
        match answer {
            Answer::HandedOver => Ok(()),
            Answer::No { why } => Err(DoorError::Refused(why)),
            Answer::Reached(_) | Answer::Waits(_) | Answer::Raft(_) | Answer::Fence(_) => {
                Err(DoorError::Unknown("the leader answered another question; `pkgctl raft status`".to_owned()))
            }
        }
    }

    /// Has this node lead, if it can: a leader that answers hands over, and without one it stands for election.
    pub(super) async fn stand_for_election(&self) -> Result<(), DoorError> {
        let status = self.consensus.status();
        if status.is_leader() {
            return Ok(());
        }
        if status.leader.is_some() {
            match self.have_handed_over(Some(self.me)).await {
                // One that does not answer is no leader to ask.
                Err(DoorError::Unavailable(_) | DoorError::Unknown(_)) => {}
                done => return done,
            }
        }
        self.consensus.stand().await.map_err(refused)?;
        let deadline = <P::Rt as AsyncRuntime>::Instant::now() + ELECTED_WITHIN;
        while <P::Rt as AsyncRuntime>::Instant::now() < deadline {
            if self.consensus.status().is_leader() {
                return Ok(());
            }
            P::Rt::sleep(LOOK_EVERY).await;
        }
        Err(DoorError::Refused(format!(
            "this node stood for election and did not win within {ELECTED_WITHIN:?}: a majority hears a leader, or cannot be \
             reached; `pkgctl raft status` shows which"
        )))
    }

    /// This node leads: it hands over.
    pub(super) async fn hand_over(&self, to: Option<NodeId>) -> Answer {
        let done = match to {
            Some(to) => self.consensus.transfer_leader(to).await,
            None => self.consensus.step_down().await,
        };
        match done {
            Ok(()) => Answer::HandedOver,
            Err(error) => Answer::No { why: error.to_string() },
        }
    }

    pub(super) async fn ask_the_leader(&self, question: &Question, within: Duration) -> Result<Answer, DoorError> {
        let Some((leader, address)) = self.consensus.status().leader else {
            return Err(DoorError::Unavailable(
                "no leader is known here; nothing was changed. `pkgctl raft status` shows who is missing".to_owned(),
            ));
        };
        let asked = self.peers.call(leader, address, PeerCall::Ask, codec::encode(question), within).await;
        let said = asked.map_err(|error| match error {
            PeerError::Unreachable { .. } => DoorError::Unavailable(format!("{error}; nothing was changed")),
            PeerError::Timeout { .. } | PeerError::Broken { .. } => DoorError::Unknown(error.to_string()),
        })?;
        codec::decode(&said).map_err(|error| DoorError::Unknown(format!("the leader's answer: {error}")))
    }
}

fn refused(error: MembersError) -> DoorError {
    DoorError::Refused(error.to_string())
}
