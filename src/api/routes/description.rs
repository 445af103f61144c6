//! What every route takes and answers, for programs: an OpenAPI 3.1 description, written by hand in `api/openapi.json`.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

const TEXT: &str = include_str!("../openapi.json");

/// `GET /v1/openapi.json`.
pub async fn describe() -> Response {
    ([(CONTENT_TYPE, "application/json")], TEXT).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// Path and method of every route that these sources add.
    fn served(sources: &[&str]) -> BTreeSet<(String, String)> {
        let mut all = BTreeSet::new();
        for source in sources {
            let flat: String = source.split("#[cfg(test)]").next().unwrap_or_default().split_whitespace().collect();
            // What a route's methods are called by before it is added.
            let named = |name: &str| flat.split(&format!("let{name}=")).nth(1).and_then(|rest| rest.split(';').next());
            for route in flat.split(".route(\"").skip(1) {
                let (path, rest) = route.split_once("\",").unwrap();
                let rest = rest.split(".route(").next().unwrap();
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let methods = named(&name).unwrap_or(rest);
                for method in ["get", "put", "post", "delete"] {
                    let call = format!("{method}(");
                    let begins = |at: usize| at == 0 || methods.as_bytes()[at - 1] == b'.';
                    if methods.match_indices(&call).any(|(at, _)| begins(at)) {
                        all.insert((path.replace("{*key}", "{key}"), method.to_owned()));
                    }
                }
            }
        }
        all
    }

    #[test]
    fn every_route_is_described_and_every_description_is_of_a_route() {
        let served = served(&[
            include_str!("mod.rs"),
            include_str!("kv/mod.rs"),
            include_str!("local.rs"),
            include_str!("plain.rs"),
        ]);
        let described: Value = serde_json::from_str(TEXT).unwrap();
        let paths = described["paths"].as_object().unwrap();
        let methods = |(path, item): (&String, &Value)| {
            item.as_object().unwrap().keys().map(|method| (path.clone(), method.clone())).collect::<Vec<_>>()
        };
        let described: BTreeSet<_> = paths.iter().flat_map(methods).collect();
        assert!(served.len() > 40, "{served:?}");
        assert_eq!(described, served);
    }

    #[test]
    fn whatever_the_description_refers_to_is_there() {
        let described: Value = serde_json::from_str(TEXT).unwrap();
        for reference in TEXT.split("\"$ref\": \"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(described.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
