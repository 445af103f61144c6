//! The way to an agent, and its answers as values or as what a verb says when it fails.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::args::Args;
use super::exit::Failed;
use super::print::Out;
use crate::api::types::Failure;
use crate::config::Places;
use crate::net::http::{ANSWER_TIME_MAX, Answer, Endpoint, HttpError};

/// How long an answer to a question may take; no question asks to wait for more than a few seconds.
const GET_WITHIN: Duration = Duration::from_secs(20);
/// After this a word is said.
const PATIENCE: Duration = Duration::from_secs(3);

/// An agent to talk to.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Endpoint,
    out: Out,
    /// Where this installation's files lie.
    pub places: Places,
}

impl Client {
    /// Finds the agent: `--socket`, `PKGCTL_SOCKET`, then the socket below the root.
    pub fn find(args: &Args) -> Result<Self, Failed> {
        let places = Places::under(args.root.as_deref());
        let named = args.socket.clone().or_else(|| std::env::var_os("PKGCTL_SOCKET").map(PathBuf::from));
        let socket = named.unwrap_or_else(|| places.api_socket());
        Ok(Self { endpoint: Endpoint::Unix(socket), out: Out::new(args.json), places })
    }

    /// GET.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failed> {
        value(self.send("GET", path, None).await?)
    }

    /// GET of something that may not exist.
    pub async fn get_if_any<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Failed> {
        let answer = self.send("GET", path, None).await?;
        if answer.status == 404 { Ok(None) } else { value(answer).map(Some) }
    }

    /// GET of bytes, with the answer's headers.
    pub async fn get_raw(&self, path: &str) -> Result<Answer, Failed> {
        let answer = self.send("GET", path, None).await?;
        if answer.status == 200 { Ok(answer) } else { Err(refused(&answer)) }
    }

    /// POST or PUT of JSON.
    pub async fn call<B: Serialize, T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &B,
    ) -> Result<T, Failed> {
        let body = serde_json::to_vec(body).map_err(|e| Failed::usage(e.to_string()))?;
        value(self.send(method, path, Some(body)).await?)
    }

    async fn send(&self, method: &str, path: &str, body: Option<Vec<u8>>) -> Result<Answer, Failed> {
        let changes_nothing = method == "GET";
        let within = if changes_nothing { GET_WITHIN } else { ANSWER_TIME_MAX };
        let asking = self.endpoint.request_within(within, method, path, body);
        tokio::pin!(asking);
        let answer = match timeout(PATIENCE, &mut asking).await {
            Ok(answer) => answer,
            Err(_elapsed) => {
                self.out.progress("(the agent has not answered yet)");
                asking.await
            }
        };
        answer.map_err(|error| match error {
            HttpError::Unreachable { .. } => Failed::unreachable(error.to_string()),
            HttpError::Lost { why } if changes_nothing => Failed::unreachable(format!(
                "{why}; nothing was changed. Is the agent stuck? `systemctl status pkgctl-agent`"
            )),
            HttpError::Lost { .. } => Failed::unknown(error.to_string()),
        })
    }
}

fn value<T: DeserializeOwned>(answer: Answer) -> Result<T, Failed> {
    if answer.status != 200 {
        return Err(refused(&answer));
    }
    let bad = |e| Failed::outcome(format!("the agent's answer cannot be read ({e}); is it another version of pkgctl?"));
    serde_json::from_slice(&answer.body).map_err(bad)
}

fn refused(answer: &Answer) -> Failed {
    let text = || String::from_utf8_lossy(&answer.body).into_owned();
    let message = serde_json::from_slice::<Failure>(&answer.body).map_or_else(|_| text(), |f| f.message);
    match answer.status {
        400 | 422 => Failed::usage(message),
        503 => Failed::unreachable(message),
        504 => Failed::unknown(message),
        _ => Failed::rejected(message),
    }
}
