//! Answers that are no success: a status, a word for machines, a sentence for people.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::door::DoorError;
use super::types::Failure;
use super::types::kv::KvFound;
use crate::engine::Rejected;

/// An answer that is no success.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    body: Failure,
}

impl Refusal {
    /// A refusal with its own word.
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, body: Failure { code: code.to_owned(), message: message.into(), found: None } }
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.body.message
    }

    /// With what a key had whose condition did not hold.
    #[must_use]
    pub fn found(mut self, found: Option<KvFound>) -> Self {
        self.body.found = found;
        self
    }

    /// The request itself is not usable.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

impl From<DoorError> for Refusal {
    fn from(error: DoorError) -> Self {
        let text = error.to_string();
        match error {
            DoorError::Unavailable(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text),
            DoorError::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text),
            DoorError::Unknown(_) => Self::new(StatusCode::GATEWAY_TIMEOUT, "unknown_outcome", text),
            DoorError::Refused(_) => Self::new(StatusCode::CONFLICT, "rejected", text),
            DoorError::Fatal(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "fatal", text),
        }
    }
}

impl From<Rejected> for Refusal {
    fn from(rejected: Rejected) -> Self {
        let text = rejected.to_string();
        match rejected {
            Rejected::NoSuchPackage { .. } => Self::new(StatusCode::NOT_FOUND, "no_such_package", text),
            Rejected::NoSuchNode { .. } => Self::new(StatusCode::NOT_FOUND, "no_such_node", text),
            Rejected::NoSuchOperator { .. } => Self::new(StatusCode::NOT_FOUND, "no_such_operator", text),
            Rejected::RequestNameTaken { .. } => Self::new(StatusCode::CONFLICT, "request_name_taken", text),
            Rejected::Invalid(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", text),
            Rejected::RevisionMoved { .. } => Self::new(StatusCode::CONFLICT, "revision_moved", text),
            Rejected::ClusterExists
            | Rejected::NoCluster
            | Rejected::OperatorRevoked { .. }
            | Rejected::AwaitsFormers { .. }
            | Rejected::NotAlone
            | Rejected::FormersLeft { .. }
            | Rejected::FormerNode { .. }
            | Rejected::TokenUnknown
            | Rejected::TokenExpired
            | Rejected::NameTaken { .. }
            | Rejected::NodeLeaving { .. }
            | Rejected::NodeOwns { .. }
            | Rejected::NodeNeeded { .. }
            | Rejected::LastVoter { .. }
            | Rejected::AddressTaken { .. }
            | Rejected::NodeNotListed { .. }
            | Rejected::NotHalted { .. }
            | Rejected::TokenMoved { .. }
            | Rejected::NotOwner { .. }
            | Rejected::Owned { .. }
            | Rejected::Unowned { .. }
            | Rejected::NotEligible { .. }
            | Rejected::SessionNotLive { .. }
            | Rejected::SessionInTheWay { .. }
            | Rejected::NoMajority { .. }
            | Rejected::TooManySets
            | Rejected::AwaitsFencing { .. }
            | Rejected::NobodyWaits { .. }
            | Rejected::FenceFirst { .. }
            | Rejected::NoFenceDevice { .. }
            | Rejected::FenceLives { .. }
            | Rejected::SetMoved { .. } => Self::new(StatusCode::CONFLICT, "rejected", text),
        }
    }
}
