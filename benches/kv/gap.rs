//! Writes across the loss of a leader: one client, one write after another, the next endpoint when one does not answer.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use pkgctl::lab::Moment;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::load::Connection;
use crate::target::{Op, Target};

/// How long one endpoint may take; then the next is asked.
const PATIENCE: Duration = Duration::from_millis(100);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_millis(5);

/// What the process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    pub target: Target,
    pub endpoints: Vec<SocketAddr>,
    pub seconds: u64,
}

/// Runs as that process: prints the longest time between two acknowledged writes, in milliseconds.
pub fn main(spec: &str) -> Result<()> {
    let spec: Spec = serde_json::from_str(spec)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let longest = runtime.block_on(run(&spec));
    println!("{:.1}", longest.as_secs_f64() * 1000.0);
    Ok(())
}

async fn run(spec: &Spec) -> Duration {
    let begun = Moment::now();
    let (mut longest, mut last, mut at) = (Duration::ZERO, None::<Moment>, 0);
    let mut open = None;
    while Moment::now().since(begun) < Duration::from_secs(spec.seconds) {
        let endpoint = spec.endpoints[at % spec.endpoints.len()];
        match timeout(PATIENCE, write(spec.target, endpoint, open.take())).await {
            Ok(Ok(connection)) => {
                open = Some(connection);
                let now = Moment::now();
                longest = longest.max(last.map_or(Duration::ZERO, |last| now.since(last)));
                last = Some(now);
            }
            Ok(Err(_)) | Err(_) => {
                at += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    longest
}

async fn write(target: Target, at: SocketAddr, open: Option<Connection>) -> Result<Connection> {
    let mut connection = match open {
        Some(connection) => connection,
        None => Connection::open(at).await?,
    };
    let (status, _) = connection.ask(at, target.ask(Op::Put, "bench/gap", b"v")).await?;
    anyhow::ensure!(status == 200, "{status}");
    Ok(connection)
}
