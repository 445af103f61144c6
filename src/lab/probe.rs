//! `pkgctl lab-observe`: the outside client. Every five milliseconds, or as told, it opens a new connection and asks, without waiting
//! for earlier ones; it prints one line of JSON per probe, in the order in which they end.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::moment::Moment;
use super::program::Reply;

/// Time between two probes, unless it is told otherwise.
pub const PROBE_EVERY: Duration = Duration::from_millis(5);
/// A probe without an answer by then has failed. Shorter than the second after which the kernel repeats a SYN: a probe
/// sent during an outage must not be answered after it and shorten it.
pub const PROBE_LIMIT: Duration = Duration::from_millis(900);
/// Probes under way at once; reached only when the machine itself stands still.
const MAX_PROBES: usize = 1024;
const MAX_ANSWER_BYTES: u64 = 4096;

/// One probe and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Just before the connection was opened.
    pub sent: Moment,
    /// When it was answered or had failed.
    pub ended: Moment,
    pub result: ProbeResult,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeResult {
    Answered(Reply),
    /// Refused, reset, unreachable or out of time: the reason in a few words.
    Failed(String),
}

#[derive(Parser)]
#[command(name = "pkgctl lab-observe")]
struct Arguments {
    /// Whom to ask.
    #[arg(long)]
    target: SocketAddr,
    /// Milliseconds between two probes.
    #[arg(long, default_value_t = 5)]
    every_ms: u64,
}

/// Probes until its standard input ends, then waits for the probes under way.
pub fn main(args: &[String]) -> ExitCode {
    let arguments = match Arguments::try_parse_from(["pkgctl lab-observe"].into_iter().chain(args.iter().map(|a| &**a)))
    {
        Ok(arguments) => arguments,
        Err(e) => e.exit(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(observe(&arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("lab-observe: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn observe(arguments: &Arguments) -> Result<()> {
    let target = arguments.target;
    let (ended, mut results) = mpsc::channel(MAX_PROBES);
    let mut stop = until_input_ends();
    let mut tick = interval(Duration::from_millis(arguments.every_ms.max(1)));
    // After a pause of the machine: one probe now, the next in five milliseconds, none in retrospect.
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                let Ok(slot) = ended.clone().try_reserve_owned() else { continue };
                tokio::spawn(async move { slot.send(probe(target).await) });
            }
            Some(result) = results.recv() => print(&result)?,
            _ = &mut stop => break,
        }
    }
    drop(ended);
    while let Some(result) = results.recv().await {
        print(&result)?;
    }
    Ok(())
}

fn print(probe: &Probe) -> Result<()> {
    let mut line = serde_json::to_vec(probe)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

/// Standard input carries nothing; its end is the order to stop.
fn until_input_ends() -> oneshot::Receiver<()> {
    let (ended, stop) = oneshot::channel();
    std::thread::spawn(move || {
        let mut byte = [0];
        while matches!(std::io::stdin().read(&mut byte), Ok(1)) {}
        let _ = ended.send(());
    });
    stop
}

async fn probe(target: SocketAddr) -> Probe {
    let sent = Moment::now();
    let result = match timeout(PROBE_LIMIT, ask(target)).await {
        Ok(Ok(reply)) => ProbeResult::Answered(reply),
        Ok(Err(e)) => ProbeResult::Failed(e.to_string()),
        Err(_) => ProbeResult::Failed(format!("no answer within {PROBE_LIMIT:?}")),
    };
    Probe { sent, ended: Moment::now(), result }
}

async fn ask(target: SocketAddr) -> Result<Reply> {
    let mut connection = TcpStream::connect(target).await?;
    // Closing resets: thousands of probes must not fill either side with connections in TIME_WAIT.
    socket2::SockRef::from(&connection).set_linger(Some(Duration::ZERO))?;
    connection.set_nodelay(true)?;
    connection.write_all(format!("GET / HTTP/1.1\r\nhost: {target}\r\nconnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    connection.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await?;
    parse(&answer)
}

fn parse(answer: &[u8]) -> Result<Reply> {
    let bad = || Error::new(ErrorKind::InvalidData, "an answer that is not the demo program's");
    let text = std::str::from_utf8(answer).map_err(|_| bad())?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(bad)?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(bad());
    }
    serde_json::from_str(body).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_demo_programs_own_answer_counts() {
        let good = b"HTTP/1.1 200 OK\r\ncontent-length: 33\r\n\r\n{\"node\":\"n1\",\"token\":7,\"at\":42}\n";
        assert_eq!(parse(good).unwrap(), Reply { node: "n1".to_owned(), token: 7, at: Moment(42) });
        for other in
            [&b""[..], b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 500 Oh\r\n\r\n{\"node\":\"n1\",\"token\":7,\"at\":42}"]
        {
            assert!(parse(other).is_err());
        }
    }
}
