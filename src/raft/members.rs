//! Who takes part in Raft, and who leads. Lease sets are another matter, and follow (leases.md rule 14).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use openraft::errors::{ChangeMembershipError, ClientWriteError, InitializeError, RaftError};
use openraft::{AsyncRuntime, ChangeMembers};

use super::bind::types::Types;
use super::consensus::Consensus;
use super::peers::Peers;
use super::propose::{Committed, ProposeError};
use super::record::Member;
use super::status::{RaftStatus, Role};
use crate::engine::command::Entry;
use crate::engine::{LogIndex, NodeId};

/// A learner this close to the leader's log may become a voter: commits do not have to wait for it to catch up.
pub const PROMOTE_LAG: u64 = 64;

/// Why membership or leadership did not change as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// This node does not lead.
    #[error("this node does not lead; ask the leader")]
    NotLeader {
        /// Who does, if known.
        leader: Option<(NodeId, SocketAddr)>,
    },
    /// Another change is under way.
    #[error("another change of members is under way; wait for it to end")]
    Busy,
    /// It is not a member.
    #[error("node {node} is not a member of Raft")]
    NotMember {
        /// Which one.
        node: NodeId,
    },
    /// It is not a voter.
    #[error("node {node} has no vote and cannot lead")]
    NotVoter {
        /// Which one.
        node: NodeId,
    },
    /// It has not caught up, or was not heard of lately.
    #[error("node {node} is at entry {matched} of {last}; wait until it has caught up")]
    Behind {
        /// Which one.
        node: NodeId,
        /// How far it is.
        matched: LogIndex,
        /// The end of the log.
        last: LogIndex,
    },
    /// There would be no voter left, or nobody else can lead.
    #[error("no other voter would be left")]
    LastVoter,
    /// Voters are there, and nobody could take over.
    #[error(
        "no other voter takes over now ({nodes}): leadership cannot be handed over, and this node leads on as long as a majority \
         hears it; nothing was changed. `pkgctl raft status` shows when each was heard last"
    )]
    Unheard {
        /// The other voters, each with when it was heard.
        nodes: String,
    },
    /// The target did not take over in time; a new election was brought about.
    #[error("node {to} did not take over; the voters elect anew")]
    NotTaken {
        /// Who was to lead.
        to: NodeId,
    },
    /// It may or may not have changed.
    #[error("whether the members changed is not known: {why}")]
    Unknown {
        /// What happened.
        why: String,
    },
}

impl<Rt: AsyncRuntime, P: Peers> Consensus<Rt, P> {
    /// Makes a cluster of this node alone and proposes its first entry (`CreateCluster`). Repeating it after a crash
    /// goes on where it ended; the entry itself is refused if the cluster exists.
    ///
    /// # Errors
    /// As for `submit`.
    pub async fn found(&self, address: SocketAddr, entry: Entry, within: Duration) -> Result<Committed, ProposeError> {
        let members = BTreeMap::from([(self.node().0, Member { address })]);
        match self.inner.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(RaftError::APIError(e @ InitializeError::NotInMembers(_))) => {
                return Err(ProposeError::Fatal { why: e.to_string() });
            }
            Err(RaftError::Fatal(fatal)) => return Err(ProposeError::Fatal { why: self.fatal(&fatal) }),
        }
        self.submit(entry, within).await
    }

    /// Lets a node follow the log without a vote. Returns the entry's index, once it is committed.
    ///
    /// # Errors
    /// When this node does not lead or another change is under way.
    pub async fn add_learner(&self, node: NodeId, address: SocketAddr) -> Result<LogIndex, MembersError> {
        let added = self.inner.raft.add_learner(node.0, Member { address }, false).await;
        self.changed(added.map(|written| written.log_id.index))
    }

    /// Gives a learner that has caught up a vote.
    ///
    /// # Errors
    /// When it has not caught up, this node does not lead, or another change is under way.
    pub async fn promote(&self, node: NodeId) -> Result<LogIndex, MembersError> {
        let status = self.leading()?;
        if !status.addresses.contains_key(&node) {
            return Err(MembersError::NotMember { node });
        }
        self.caught_up(node, PROMOTE_LAG)?;
        self.change(ChangeMembers::AddVoterIds([node.0].into()), true).await
    }

    /// Takes a voter's vote; it goes on following the log.
    ///
    /// # Errors
    /// When no voter would be left, this node does not lead, or another change is under way.
    pub async fn demote(&self, node: NodeId) -> Result<LogIndex, MembersError> {
        let status = self.leading()?;
        if status.voters == BTreeSet::from([node]) {
            return Err(MembersError::LastVoter);
        }
        self.change(ChangeMembers::RemoveVoters([node.0].into()), true).await
    }

    /// Takes a node out of Raft, vote and all.
    ///
    /// # Errors
    /// When no voter would be left, this node does not lead, or another change is under way.
    pub async fn remove(&self, node: NodeId) -> Result<LogIndex, MembersError> {
        let status = self.leading()?;
        if status.voters.contains(&node) {
            if status.voters.len() == 1 {
                return Err(MembersError::LastVoter);
            }
            return self.change(ChangeMembers::RemoveVoters([node.0].into()), false).await;
        }
        self.change(ChangeMembers::RemoveNodes([node.0].into()), true).await
    }

    /// Ends a change of voters that an earlier leader left half done. Who has no vote then goes on following the log.
    ///
    /// # Errors
    /// When this node does not lead, or the first half is not committed yet.
    pub async fn finish_change(&self) -> Result<LogIndex, MembersError> {
        self.leading()?;
        self.change(ChangeMembers::AddVoterIds(BTreeSet::new()), true).await
    }

    /// Hands leadership to a voter that has caught up, and waits until it leads.
    ///
    /// # Errors
    /// When it cannot lead, or did not take over in time.
    pub async fn transfer_leader(&self, to: NodeId) -> Result<(), MembersError> {
        let status = self.leading()?;
        if to == self.node() {
            return Ok(());
        }
        if !status.voters.contains(&to) {
            return Err(MembersError::NotVoter { node: to });
        }
        self.caught_up(to, PROMOTE_LAG)?;
        let failed = |e: openraft::errors::Fatal<Types<Rt>>| MembersError::Unknown { why: e.to_string() };
        self.inner.raft.trigger().transfer_leader(to.0).await.map_err(failed)?;
        let patience = 2 * self.profile().election().1;
        if self.leads_no_more(patience).await {
            return Ok(());
        }
        // From here on openraft takes no write on this node while it leads, and there is no way back: a leader that
        // falls silent is voted out.
        self.inner.raft.runtime_config().heartbeat(false);
        let silent = self.leads_no_more(4 * patience).await;
        self.inner.raft.runtime_config().heartbeat(true);
        if silent { Err(MembersError::NotTaken { to }) } else { Err(self.unheard(&self.status())) }
    }

    /// Hands leadership to the voter that has caught up best.
    ///
    /// # Errors
    /// When there is no other voter, or none took over.
    pub async fn step_down(&self) -> Result<(), MembersError> {
        let status = self.leading()?;
        let others = status.voters.iter().filter(|id| **id != status.node);
        let rank = |id: &&NodeId| status.peers.get(id).map(|peer| (peer.matched, std::cmp::Reverse(peer.heard)));
        let best = others.max_by_key(rank).copied().ok_or(MembersError::LastVoter)?;
        if all_silent(&status, 2 * self.profile().election().1) {
            return Err(self.unheard(&status));
        }
        self.transfer_leader(best).await
    }

    /// Stands for election now, unless a majority hears a leader.
    ///
    /// # Errors
    /// When this node has no vote, or Raft has stopped.
    pub async fn stand(&self) -> Result<(), MembersError> {
        let me = self.node();
        if !self.status().voters.contains(&me) {
            return Err(MembersError::NotVoter { node: me });
        }
        self.inner.raft.trigger().elect(true).await.map_err(|e| MembersError::Unknown { why: e.to_string() })
    }

    /// Makes a snapshot soon, whatever the log's length.
    ///
    /// # Errors
    /// When Raft has stopped.
    pub async fn trigger_snapshot(&self) -> Result<(), MembersError> {
        self.inner.raft.trigger().snapshot().await.map_err(|e| MembersError::Unknown { why: e.to_string() })
    }

    fn unheard(&self, status: &RaftStatus) -> MembersError {
        MembersError::Unheard { nodes: self.read(|state| others_heard(status, |id| state.name_of(id))) }
    }

    async fn leads_no_more(&self, within: Duration) -> bool {
        let waiting = self.inner.raft.wait(Some(within));
        waiting.metrics(|m| m.state != openraft::ServerState::Leader, "another leader").await.is_ok()
    }

    fn leading(&self) -> Result<RaftStatus, MembersError> {
        let status = self.status();
        match status.role {
            Role::Leader => Ok(status),
            Role::Learner | Role::Follower | Role::Candidate | Role::Down => {
                Err(MembersError::NotLeader { leader: status.leader })
            }
        }
    }

    fn caught_up(&self, node: NodeId, lag: u64) -> Result<(), MembersError> {
        let status = self.status();
        let last = status.last_log.unwrap_or_default();
        let matched = status.peers.get(&node).and_then(|peer| peer.matched);
        match matched {
            _ if node == status.node => Ok(()),
            Some(matched) if matched.0 + lag >= last.0 => Ok(()),
            Some(_) | None => Err(MembersError::Behind { node, matched: matched.unwrap_or_default(), last }),
        }
    }

    async fn change(&self, change: ChangeMembers<u64, Member>, retain: bool) -> Result<LogIndex, MembersError> {
        let changed = self.inner.raft.change_membership(change, retain).await;
        self.changed(changed.map(|written| written.log_id.index))
    }

    fn changed(
        &self,
        outcome: Result<u64, RaftError<Types<Rt>, ClientWriteError<Types<Rt>>>>,
    ) -> Result<LogIndex, MembersError> {
        match outcome {
            Ok(index) => Ok(LogIndex(index)),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Err(MembersError::NotLeader { leader: self.hint(&forward) })
            }
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => Err(match error {
                ChangeMembershipError::InProgress(_) => MembersError::Busy,
                ChangeMembershipError::EmptyMembership(_) => MembersError::LastVoter,
                ChangeMembershipError::LearnerNotFound(e) => MembersError::NotMember { node: NodeId(e.node_id) },
                other => MembersError::Unknown { why: other.to_string() },
            }),
            Err(RaftError::APIError(
                e @ (ClientWriteError::LogEntryDiscarded(_) | ClientWriteError::PreconditionFailed(_)),
            )) => Err(MembersError::Unknown { why: e.to_string() }),
            Err(RaftError::Fatal(fatal)) => Err(MembersError::Unknown { why: self.fatal(&fatal) }),
        }
    }
}

/// Whether no other voter has been heard for so long. Of a leader that has not asked yet nothing is said.
fn all_silent(status: &RaftStatus, beyond: Duration) -> bool {
    let mut others = status.voters.iter().filter(|id| **id != status.node);
    let heard = |id: &NodeId| status.peers.get(id).and_then(|peer| peer.heard);
    others.all(|id| heard(id).is_some_and(|ago| ago.duration() > beyond))
}

/// The other voters with when each was heard, for a sentence.
fn others_heard(status: &RaftStatus, name: impl Fn(NodeId) -> String) -> String {
    let others = status.voters.iter().filter(|id| **id != status.node);
    let each = others.map(|id| match status.peers.get(id).and_then(|peer| peer.heard) {
        Some(ago) => format!("{} was heard {ago} ago", name(*id)),
        None => format!("{} was not heard yet", name(*id)),
    });
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::Millis;
    use crate::raft::status::PeerProgress;

    fn leads(heard: &[Option<u64>]) -> RaftStatus {
        let peers =
            (2..).zip(heard).map(|(id, ago)| (NodeId(id), PeerProgress { matched: None, heard: ago.map(Millis) }));
        let peers: BTreeMap<NodeId, PeerProgress> = peers.collect();
        let voters = peers.keys().copied().chain([NodeId(1)]).collect();
        RaftStatus { voters, peers, ..RaftStatus::empty(NodeId(1), Role::Leader) }
    }

    #[test]
    fn a_leader_whose_voters_are_silent_names_them_instead_of_saying_that_there_are_none() {
        let beyond = Duration::from_secs(2);
        for (heard, silent) in
            [(&[Some(9000), Some(2001)][..], true), (&[Some(9000), Some(100)], false), (&[Some(9000), None], false)]
        {
            assert_eq!(all_silent(&leads(heard), beyond), silent, "{heard:?}");
        }
        let nodes = others_heard(&leads(&[Some(9000), None]), |id| format!("n{id}"));
        assert_eq!(nodes, "n2 was heard 9s ago, n3 was not heard yet");
        let said = MembersError::Unheard { nodes }.to_string();
        assert!(said.contains("n2 was heard") && said.contains("nothing was changed"), "{said}");
    }
}
