//! `pkgctl logs P [-f]`: what the package's programs wrote on this node, and what pkgctl says about it.

use std::io::Write;

use super::args;
use super::client::Client;
use super::exit::Failed;
use super::print::Out;

/// How long one question for more may wait.
const WITHIN_MS: u64 = 2_000;

/// Prints the end of the log, and goes on with `-f`.
pub async fn logs(client: &Client, out: &Out, verb: &args::Logs) -> Result<(), Failed> {
    let path = format!("/v1/packages/{}/log", verb.package);
    let mut printer = Printer { json: out.is_json(), open: Vec::new() };
    let mut next = printer.print(client, &format!("{path}?tail={}", verb.tail)).await?;
    if !verb.follow {
        return printer.end();
    }
    let client = client.settled();
    loop {
        next = printer.print(&client, &format!("{path}?offset={next}&within_ms={WITHIN_MS}")).await?;
    }
}

struct Printer {
    json: bool,
    /// A line that has not ended yet; for machines only.
    open: Vec<u8>,
}

impl Printer {
    /// Prints one piece; answers where the next one begins.
    async fn print(&mut self, client: &Client, path: &str) -> Result<u64, Failed> {
        let answer = client.get_raw(path).await?;
        if self.json {
            self.open.extend_from_slice(&answer.body);
            while let Some(end) = self.open.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.open.drain(..=end).collect();
                self.write(&as_json(&line[..end]))?;
            }
        } else {
            self.write(&answer.body)?;
        }
        let next = answer.header(crate::api::routes::NEXT_OFFSET).and_then(|v| v.parse().ok());
        next.ok_or_else(|| Failed::outcome("the agent did not say where its log goes on".to_owned()))
    }

    fn end(&mut self) -> Result<(), Failed> {
        let open = std::mem::take(&mut self.open);
        if open.is_empty() { Ok(()) } else { self.write(&as_json(&open)) }
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Failed> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|e| Failed::outcome(e.to_string()))
    }
}

fn as_json(line: &[u8]) -> Vec<u8> {
    let mut text = serde_json::json!({"line": String::from_utf8_lossy(line)}).to_string().into_bytes();
    text.push(b'\n');
    text
}
