//! `pkgctl demo-program`: what a package runs in the lab. It answers HTTP with its node's name and token, and records in
//! the map of beats that it lives.

use std::io::{Error, Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use serde::{Deserialize, Serialize};

use super::beats::Pen;
use super::moment::Moment;

/// How often the program records that it lives.
pub(super) const BEAT_EVERY: Duration = Duration::from_millis(1);
/// Connections served at once; more are closed unanswered.
const MAX_CONNECTIONS: usize = 512;
const MAX_REQUEST_BYTES: usize = 4096;
/// A client that has not sent its request by then is dropped.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);

#[derive(Parser)]
#[command(name = "pkgctl demo-program")]
struct Arguments {
    /// Address and port to answer on.
    #[arg(long)]
    listen: SocketAddr,
    /// The lab's map of beats.
    #[arg(long)]
    beats: Option<PathBuf>,
    /// The node's name; otherwise PKG_NODE of the environment, otherwise the host name.
    #[arg(long)]
    name: Option<String>,
}

/// What every request is answered with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The node that answers.
    pub node: String,
    /// The fencing token it was started under (PKG_TOKEN), 0 without one.
    pub token: u64,
    /// When the answer was written, by the clock all nodes of a lab share.
    pub at: Moment,
}

/// Serves until it is killed.
pub fn main(args: &[String]) -> ExitCode {
    let arguments =
        match Arguments::try_parse_from(["pkgctl demo-program"].into_iter().chain(args.iter().map(|a| &**a))) {
            Ok(arguments) => arguments,
            Err(e) => e.exit(),
        };
    match serve(&arguments) {
        Ok(never) => match never {},
        Err(e) => {
            eprintln!("demo-program: cannot serve on {}: {e}", arguments.listen);
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> Result<std::convert::Infallible> {
    let node = match (&arguments.name, std::env::var("PKG_NODE")) {
        (Some(name), _) => name.clone(),
        (None, Ok(name)) => name,
        (None, Err(_)) => nix::unistd::gethostname()?.to_string_lossy().into_owned(),
    };
    let token = match std::env::var("PKG_TOKEN") {
        Ok(token) => token.parse().map_err(|_| Error::other(format!("PKG_TOKEN is not a number: {token:?}")))?,
        Err(_) => 0,
    };
    // Beats come first: from here on this program acts, whether or not it can answer.
    if let Some(map) = &arguments.beats {
        start_beating(map, &node, token)?;
    }
    let listener = TcpListener::bind(arguments.listen)?;
    let open = Arc::new(AtomicUsize::new(0));
    let name: Arc<str> = node.into();
    loop {
        // An accept can fail for one connection's own reasons (it was reset); the next one is another matter.
        let Ok((connection, _)) = listener.accept() else { continue };
        let (open, name) = (Arc::clone(&open), Arc::clone(&name));
        if open.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            open.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        thread::Builder::new().spawn(move || {
            // A client that goes away in the middle is its own affair.
            let _ = answer(connection, &name, token);
            open.fetch_sub(1, Ordering::Relaxed);
        })?;
    }
}

/// Beats once now and then from a thread of its own, which a stuck client cannot delay.
fn start_beating(map: &Path, node: &str, token: u64) -> Result<()> {
    let pen = Pen::begin(map, node, token).map_err(|e| Error::other(format!("{}: {e}", map.display())))?;
    pen.beat(Moment::now());
    let tick = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
    tick.set(Expiration::Interval(TimeSpec::from_duration(BEAT_EVERY)), TimerSetTimeFlags::empty())?;
    thread::Builder::new().name("beats".to_owned()).spawn(move || {
        // However many ticks a pause has swallowed, they count as one beat: at the moment after it.
        while tick.wait().is_ok() {
            pen.beat(Moment::now());
        }
    })?;
    Ok(())
}

fn answer(mut connection: TcpStream, node: &str, token: u64) -> Result<()> {
    connection.set_read_timeout(Some(REQUEST_LIMIT))?;
    connection.set_nodelay(true)?;
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = connection.read(&mut chunk)?;
        if read == 0 || request.len() + read > MAX_REQUEST_BYTES {
            return Ok(());
        }
        request.extend_from_slice(&chunk[..read]);
    }
    let reply = Reply { node: node.to_owned(), token, at: Moment::now() };
    let body = serde_json::to_string(&reply)?;
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len() + 1
    );
    connection.write_all(format!("{head}{body}\n").as_bytes())
}
