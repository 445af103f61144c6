//! Clients in a loop: each has a connection of its own and asks again when it is answered.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use pkgctl::lab::Moment;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use crate::target::{Ask, Op, Target};

/// Bytes of every value.
pub const VALUE_BYTES: usize = 256;
/// Keys that the clients of one measurement share.
const KEYS: u64 = 1000;

/// What one load process does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    pub target: Target,
    pub op: Op,
    pub at: SocketAddr,
    pub clients: usize,
    pub seconds: u64,
    /// Store that many distinct keys once, instead of going on for `seconds`.
    pub fill: Option<u64>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Operations answered in a second.
    pub rate: f64,
    /// Median latency, in milliseconds.
    pub p50: f64,
    /// The latency that one in a hundred exceeds, in milliseconds.
    pub p99: f64,
}

impl Measured {
    /// For people.
    pub fn sentence(&self) -> String {
        format!("{:.0}/s, p50 {:.3} ms, p99 {:.3} ms", self.rate, self.p50, self.p99)
    }
}

/// Runs as the load process: prints what it measured as JSON.
pub fn main(spec: &str) -> Result<()> {
    let spec: Spec = serde_json::from_str(spec)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    println!("{}", serde_json::to_string(&runtime.block_on(run(spec))?)?);
    Ok(())
}

async fn run(spec: Spec) -> Result<Measured> {
    let mut connections = Vec::new();
    for _ in 0..spec.clients {
        connections.push(Connection::open(spec.at).await?);
    }
    let begun = Moment::now();
    let clients: Vec<_> = connections
        .into_iter()
        .enumerate()
        .map(|(number, connection)| tokio::spawn(client(spec.clone(), number as u64, connection, begun)))
        .collect();
    let mut latencies = Vec::new();
    for client in clients {
        latencies.extend(client.await??);
    }
    let took = Moment::now().since(begun).as_secs_f64();
    latencies.sort();
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0;
    if latencies.is_empty() {
        bail!("nothing was answered");
    }
    Ok(Measured { rate: latencies.len() as f64 / took, p50: at(0.50), p99: at(0.99) })
}

async fn client(spec: Spec, number: u64, mut connection: Connection, begun: Moment) -> Result<Vec<Duration>> {
    let value = vec![b'v'; VALUE_BYTES];
    let mut latencies = Vec::new();
    let step = spec.clients as u64;
    let mut turn = number;
    loop {
        let key = match spec.fill {
            Some(keys) if turn >= keys => return Ok(latencies),
            Some(_) => format!("fill/{turn:08}"),
            None if Moment::now().since(begun) >= Duration::from_secs(spec.seconds) => return Ok(latencies),
            None => format!("bench/{:04}", turn * 7919 % KEYS),
        };
        turn += step;
        let asked = Moment::now();
        let (status, body) = connection.ask(spec.at, spec.target.ask(spec.op, &key, &value)).await?;
        // A key that was never written is no failure of a read.
        if status != 200 && !(status == 404 && spec.op != Op::Put) {
            bail!("{} answered {status}: {}", spec.at, String::from_utf8_lossy(&body));
        }
        latencies.push(Moment::now().since(asked));
    }
}

/// One connection.
pub struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    /// Connects.
    pub async fn open(at: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(at).await.with_context(|| format!("cannot connect to {at}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Asks and reads the whole answer.
    pub async fn ask(&mut self, at: SocketAddr, ask: Ask) -> Result<(u16, Bytes)> {
        let request = hyper::Request::builder()
            .method(ask.method)
            .uri(ask.path)
            .header("host", at.to_string())
            .body(Full::new(Bytes::from(ask.body)))?;
        self.0.ready().await?;
        let answer = self.0.send_request(request).await?;
        let status = answer.status().as_u16();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }
}
