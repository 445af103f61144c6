//! The API for a caller that proved who it is, as long as the cluster admits it.

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use hyper::body::Body as _;

use super::identity::Subject;
use super::listener::{Admits, Standing};

/// The routes as long as their caller is admitted: whoever is removed or revoked loses the connections that are open too,
/// and answers that are under way.
pub(super) fn still_admitted(router: axum::Router, admits: Admits, subject: Subject) -> axum::Router {
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let (admits, subject) = (admits.clone(), subject.clone());
        async move {
            if admits(&subject) != Standing::Known {
                return not_admitted(&subject);
            }
            // What changes something was carried out, whoever may ask now, and its answer shows no more than that.
            let reads = request.method().is_safe();
            let answer = next.run(request).await;
            if reads && admits(&subject) != Standing::Known {
                return not_admitted(&subject);
            }
            answer.map(|body| while_admitted(body, admits, subject))
        }
    }))
}

/// A body of open length, such as a watch, breaks off before the first part that is made when its reader is admitted no
/// more. Who asks again is told why.
fn while_admitted(body: Body, admits: Admits, subject: Subject) -> Body {
    if body.size_hint().exact().is_some() {
        return body;
    }
    let checked = body.into_data_stream().map(move |part| {
        let part = part.map_err(|e| e.to_string())?;
        if admits(&subject) == Standing::Known { Ok(part) } else { Err(format!("{subject} is admitted no more")) }
    });
    Body::from_stream(checked)
}

/// What a bearer of this cluster's certificate is told whom the replicated state does not know.
pub(super) fn not_admitted(subject: &Subject) -> Response {
    let message = format!(
        "{subject} is not admitted by this cluster: removed, revoked, or not known on this member yet; nothing was \
         changed"
    );
    let body = serde_json::json!({"code": "not_admitted", "message": message});
    (StatusCode::FORBIDDEN, axum::Json(body)).into_response()
}
