//! What keepers say to each other, one datagram each. `net::datagram` authenticates and frames them.

use serde::{Deserialize, Serialize};

use crate::engine::{Incarnation, NodeId, Nonce, SessionId, SetId};
use crate::package::Millis;

/// A datagram's content. The sender's node id and the cluster are in the authenticated header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// Holder to voter: extend your promise (rule 6).
    Renew {
        /// The holder's session.
        session: SessionId,
        /// Names the reading of t0 that all copies share (rule 3).
        seq: u64,
        /// The session's lease time, as registered.
        ttl: Millis,
        /// The life of the voter's keeper that this is for (rule 6a).
        life: Nonce,
    },
    /// Holder to voter: can you hear me? Nothing is promised (rule 8a).
    Query {
        /// The holder's session.
        session: SessionId,
        /// As in `Renew`.
        seq: u64,
        /// As in `Renew`.
        life: Nonce,
    },
    /// Voter to holder, to `Renew` and `Query` alike (rule 6).
    Ack {
        /// The session asked about.
        session: SessionId,
        /// The seq answered.
        seq: u64,
        /// True when this answers a `Renew` and a promise was made.
        promised: bool,
        /// Newest lease set the voter knows, and its members.
        set: SetId,
        /// The set's members.
        members: Vec<NodeId>,
    },
    /// Voter to holder: no.
    Refuse {
        /// The session asked about.
        session: SessionId,
        /// The seq answered.
        seq: u64,
        /// Why not.
        why: Refusal,
    },
    /// Collector to voter: may this session expire? Parked while the voter's promise runs (rule 10).
    Ask {
        /// Which session.
        session: SessionId,
        /// Its lease time.
        ttl: Millis,
    },
    /// Voter to collector: it may; I refuse it from now on in this incarnation (rule 10).
    Agreed {
        /// Which session.
        session: SessionId,
        /// The voter's incarnation.
        incarnation: Incarnation,
    },
    /// Leader to keeper: which lease set do you know? (rules 16 and 17)
    AskSet {
        /// Matches the answer to the question.
        nonce: Nonce,
    },
    /// Keeper to leader.
    KnowsSet {
        /// As asked.
        nonce: Nonce,
        /// Newest lease set known by the keeper.
        set: Option<SetId>,
    },
    /// Are you there? Proves a path in both directions before a lease set or a join relies on it.
    Ping {
        /// Matches the answer to the question.
        nonce: Nonce,
    },
    /// I am.
    Pong {
        /// As asked.
        nonce: Nonce,
        /// Whether this keeper, as voter, could ack and agree (rule 9).
        ready: bool,
    },
}

/// Why a voter did not ack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The log says that the session has ended; it is over at the holder at once (rule 6).
    Expired,
    /// This voter agreed to its expiry in this incarnation.
    Fenced,
    /// This voter has not applied its own `VoterUp` yet (rule 9).
    NotReady,
    /// It was for another life of this voter's keeper (rule 6a).
    OtherLife {
        /// The one that there is now.
        life: Nonce,
    },
}
