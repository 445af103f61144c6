//! `pkgctl logs P [-f]`: what the package's programs wrote on this node, and what pkgctl says about it.

use std::io::Write;

use super::args;
use super::client::Client;
use super::exit::Failed;

/// How long one question for more may wait.
const WITHIN_MS: u64 = 10_000;

/// Prints the end of the log, and goes on with `-f`.
pub async fn logs(client: &Client, verb: &args::Logs) -> Result<(), Failed> {
    let path = format!("/v1/packages/{}/log", verb.package);
    let mut next = print(client, &format!("{path}?tail={}", verb.tail)).await?;
    if !verb.follow {
        return Ok(());
    }
    loop {
        next = print(client, &format!("{path}?offset={next}&within_ms={WITHIN_MS}")).await?;
    }
}

async fn print(client: &Client, path: &str) -> Result<u64, Failed> {
    let answer = client.get_raw(path).await?;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&answer.body).and_then(|()| stdout.flush()).map_err(|e| Failed::outcome(e.to_string()))?;
    let next = answer.header(crate::api::routes::NEXT_OFFSET).and_then(|v| v.parse().ok());
    next.ok_or_else(|| Failed::outcome("the agent did not say where its log goes on".to_owned()))
}
