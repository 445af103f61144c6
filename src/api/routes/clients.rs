//! Operators elsewhere: giving them a certificate, and making it void.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::body::{Body, By, Called};
use super::packages::change;
use crate::api::door::{Door, DoorError};
use crate::api::failure::Refusal;
use crate::api::types::{Changed, ClientIssued, ClientRequest, ClientView};
use crate::engine::Command;
use crate::engine::operator::ClientName;
use crate::net::identity::{Authority, IdentityError};

/// `PUT /v1/cluster/clients/NAME`: the name goes into the log first, then the certificate is signed.
pub async fn issue<D: Door>(
    State(door): State<D>,
    Called(given): Called,
    by: By,
    Body(asked): Body<ClientRequest>,
) -> Result<Json<ClientIssued>, Refusal> {
    let name = name(&given)?;
    let (cluster, endpoints) = door.read(|state| (state.cluster.clone(), member_addresses(state)));
    let unknown =
        || DoorError::Unavailable("this node does not know its cluster yet; try again in a moment".to_owned());
    let cluster = cluster.ok_or_else(unknown)?;
    let authority = Authority::load(cluster.id, &cluster.ca_certificate, &cluster.ca_key);
    let certificate = authority.and_then(|authority| authority.sign_client(&asked.request, &name)).map_err(unusable)?;
    let Json(_) = change(&door, Command::AdmitOperator { name }, by).await?;
    Ok(Json(ClientIssued { certificate, authority: cluster.ca_certificate, endpoints }))
}

/// `DELETE /v1/cluster/clients/NAME`.
pub async fn revoke<D: Door>(State(door): State<D>, Called(given): Called, by: By) -> Result<Json<Changed>, Refusal> {
    change(&door, Command::RevokeOperator { name: name(&given)? }, by).await
}

/// `GET /v1/cluster/clients`.
pub async fn list<D: Door>(State(door): State<D>) -> Result<Json<Vec<ClientView>>, Refusal> {
    door.linearize().await?;
    let view =
        |(name, operator): (&ClientName, &_)| ClientView { name: name.clone(), operator: Clone::clone(operator) };
    Ok(Json(door.read(|state| state.operators.iter().map(view).collect())))
}

fn member_addresses(state: &crate::engine::State) -> Vec<std::net::SocketAddr> {
    state.nodes.iter().filter(|(id, _)| !state.leaving.contains(id)).map(|(_, node)| node.address).collect()
}

fn name(given: &str) -> Result<ClientName, Refusal> {
    ClientName::new(given).map_err(Refusal::bad_request)
}

fn unusable(error: IdentityError) -> Refusal {
    match error {
        IdentityError::Request { .. } => Refusal::bad_request(error.to_string()),
        IdentityError::Io { .. }
        | IdentityError::Exposed { .. }
        | IdentityError::Owner { .. }
        | IdentityError::Incomplete { .. }
        | IdentityError::Certificate { .. }
        | IdentityError::Key { .. } => {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "no_authority", error.to_string())
        }
    }
}
