//! Requests as values: who asks, and names, queries and bodies with errors in our own form.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::api::failure::Refusal;
use crate::net::http::Caller;
use crate::package::PackageName;

/// How long a body may take to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// Who asks, in words for the ledger: `root`, `user 1000`, `operator anna`. The listener knows and says.
#[derive(Clone, Debug)]
pub struct By(pub String);

impl<S: Send + Sync> FromRequestParts<S> for By {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        let who = match parts.extensions.get::<Caller>() {
            Some(Caller::Local { uid: 0 }) => "root".to_owned(),
            Some(caller @ (Caller::Local { .. } | Caller::Remote(_) | Caller::Plain { .. })) => caller.to_string(),
            None => "somebody unknown".to_owned(),
        };
        Ok(By(who))
    }
}

/// The name in the path, decoded once.
pub struct Called(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Called {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let bad = |why: String| Refusal::bad_request(format!("the address names nothing: {why}"));
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|e| bad(e.to_string()))?;
        Ok(Self(params.iter().next().map(|(_, name)| name.to_owned()).unwrap_or_default()))
    }
}

/// Root on this machine, or the agent's own user, in words for the ledger. Nobody else may do what is asked for here: it
/// is about this node's own files.
#[derive(Clone, Debug)]
pub struct Root(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Root {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let own = nix::unistd::geteuid().as_raw();
        let is_root = match parts.extensions.get::<Caller>() {
            Some(Caller::Local { uid }) => *uid == 0 || *uid == own,
            Some(Caller::Remote(_) | Caller::Plain { .. }) | None => false,
        };
        let By(who) = By::from_request_parts(parts, state).await?;
        if is_root {
            return Ok(Self(who));
        }
        let text = format!("only root on the node itself may ask for this, not {who}; nothing was changed");
        Err(Refusal::new(StatusCode::FORBIDDEN, "not_root", text))
    }
}

/// A query, with errors in our own form.
pub struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        let bad = |why: &str| Refusal::bad_request(format!("the query cannot be read: {why}"));
        if !is_text(parts.uri.query().unwrap_or_default()) {
            return Err(bad("it is not UTF-8 (a transaction takes any bytes, as `base64`)"));
        }
        Query::try_from_uri(&parts.uri).map(|Query(asked)| Self(asked)).map_err(|e: QueryRejection| bad(&e.body_text()))
    }
}

/// Whether a query is UTF-8 once its escapes are read; where it is not, its reader would put other characters in.
fn is_text(query: &str) -> bool {
    let mut bytes = Vec::with_capacity(query.len());
    let mut rest = query.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => (bytes.push(byte), rest = &after[2..]),
            None => (bytes.push(*first), rest = after),
        };
    }
    std::str::from_utf8(&bytes).is_ok()
}

/// A body as it is.
pub struct Raw(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let late = |_| {
            let text = format!("the body did not arrive within {BODY_TIME_MAX:?}; nothing was changed");
            Refusal::new(StatusCode::REQUEST_TIMEOUT, "too_slow", text)
        };
        let refused = |e: BytesRejection| match e.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let text = "the body is longer than this route takes; nothing was changed";
                Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text)
            }
            _ => Refusal::bad_request(format!("the body cannot be read: {}", e.body_text())),
        };
        timeout(BODY_TIME_MAX, Bytes::from_request(request, state)).await.map_err(late)?.map(Self).map_err(refused)
    }
}

/// A JSON body; an empty one is `{}`.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let Raw(bytes) = Raw::from_request(request, state).await?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        let bad = |why: String| Refusal::bad_request(format!("the body is not what this route takes: {why}"));
        // Serde would take an array for the fields in their order, and an empty one for defaults.
        if text.trim_ascii_start().first() != Some(&b'{') {
            return Err(bad("write a JSON object".to_owned()));
        }
        serde_json::from_slice(text).map(Body).map_err(|e| bad(e.to_string()))
    }
}

/// A package's name out of the path.
pub fn name(given: &str) -> Result<PackageName, Refusal> {
    PackageName::new(given).map_err(|e| Refusal::bad_request(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::identity::{ClientName, Subject};

    #[test]
    fn a_query_is_text_once_its_escapes_are_read() {
        for text in ["", "if_value=%C3%A9", "from=a+b&to=%3C", "a=%", "a=%zz", "a=%2", "é"] {
            assert!(is_text(text), "{text}");
        }
        for bytes in ["if_value=%ff", "if_value=%C3", "from=a%80b"] {
            assert!(!is_text(bytes), "{bytes}");
        }
    }

    #[tokio::test]
    async fn only_root_on_the_node_itself_is_root() {
        let own = nix::unistd::geteuid().as_raw();
        let operator = Subject::Client(ClientName::new("root").unwrap());
        let remote = [Caller::Remote(operator), Caller::Remote(Subject::Node(crate::engine::NodeId(1)))];
        let plain = Caller::Plain { from: "127.0.0.1:5".parse().unwrap() };
        let others = remote.into_iter().chain([plain, Caller::Local { uid: own + 1 }]).map(|caller| (caller, false));
        let roots = [0, own].map(|uid| (Caller::Local { uid }, true));
        for (caller, admitted) in others.chain(roots) {
            let request = axum::http::Request::builder().extension(caller.clone()).body(()).unwrap();
            let root = Root::from_request_parts(&mut request.into_parts().0, &()).await;
            assert_eq!(root.is_ok(), admitted, "{caller}");
        }
        let nobody = axum::http::Request::new(());
        assert!(Root::from_request_parts(&mut nobody.into_parts().0, &()).await.is_err());
    }
}
