//! The link to this node's keeper: a Unix socket, made again whenever it breaks; starts the keeper where nobody else
//! does. A keeper outlives the agent that started it.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::config::{Places, Scheduling};
use crate::engine::frame::{self, Frames};
use crate::keeper::link::{KeeperEvent, KeeperLink};
use crate::keeper::protocol::{FRAME_MAX_BYTES, FromKeeper, ToKeeper, VERSION};
use crate::package::Millis;

/// Pause between attempts to reach a keeper that is not there yet.
const RETRY: Duration = Duration::from_millis(50);
/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// Which keeper, and how to start it.
#[derive(Clone, Debug)]
pub struct KeeperStart {
    /// Where its socket and log lie.
    pub places: Places,
    /// Whether it uses real-time scheduling.
    pub scheduling: Scheduling,
    /// How long it renews without a word from its agent.
    pub agent_grace: Millis,
    /// Whether to start one when none answers; false where systemd runs it.
    pub start: bool,
}

/// Opens the link; it lives as long as both channels are held. Lives inside a tokio runtime.
pub fn open(keeper: KeeperStart) -> KeeperLink {
    let (to, orders) = async_channel::unbounded();
    let (events, from) = async_channel::unbounded();
    tokio::spawn(keep_up(keeper, orders, events));
    KeeperLink { to, from }
}

async fn keep_up(keeper: KeeperStart, orders: Receiver<ToKeeper>, events: Sender<KeeperEvent>) {
    let mut child: Option<Child> = None;
    while !events.is_closed() {
        match UnixStream::connect(keeper.places.keeper_socket()).await {
            Ok(stream) => {
                if let Err(why) = talk(stream, &orders, &events).await {
                    tracing::warn!("the link to the keeper broke: {why}; it is being made again");
                }
                if events.send(KeeperEvent::Detached).await.is_err() {
                    return;
                }
            }
            Err(_) if keeper.start => child = start_if_gone(&keeper, child),
            Err(error) => tracing::debug!(%error, "no keeper yet"),
        }
        sleep(RETRY).await;
    }
}

/// Starts a keeper unless the one started before is still on its way.
fn start_if_gone(keeper: &KeeperStart, child: Option<Child>) -> Option<Child> {
    if let Some(mut child) = child {
        match child.try_wait() {
            Ok(None) => return Some(child),
            Ok(Some(status)) => tracing::warn!("the keeper ended with {status}; its log says why; starting another"),
            Err(error) => tracing::warn!("the keeper's end is not known: {error}"),
        }
    }
    match spawn(keeper) {
        Ok(child) => Some(child),
        Err(error) => {
            tracing::error!("the keeper cannot be started: {error}; this node can own nothing until it is");
            None
        }
    }
}

fn spawn(keeper: &KeeperStart) -> io::Result<Child> {
    let path = keeper.places.log_dir().join("keeper.log");
    let log = std::fs::OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
    let mut command = Command::new("/proc/self/exe");
    // What systemd has told the agent is meant for the agent alone.
    super::systemd::ENVIRONMENT.iter().for_each(|name| {
        command.env_remove(name);
    });
    command
        .arg0("pkgctl")
        .arg("keeper")
        .arg("--root")
        .arg(keeper.places.root())
        .args(["--scheduling", keeper.scheduling.word()])
        .args(["--agent-grace", &format!("{}ms", keeper.agent_grace.0)])
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

/// One connection, from hello to its end.
async fn talk(stream: UnixStream, orders: &Receiver<ToKeeper>, events: &Sender<KeeperEvent>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let hello = ToKeeper::Hello { version: VERSION, program: env!("CARGO_PKG_VERSION").to_owned() };
    write(&mut writer, &hello).await?;
    // What was meant for the connection before is of no use in this one.
    while orders.try_recv().is_ok() {}
    let mut reading = tokio::spawn(read(reader, events.clone()));
    loop {
        tokio::select! {
            ended = &mut reading => return ended.map_err(io::Error::other)?,
            order = orders.recv() => match order {
                Ok(order) => write(&mut writer, &order).await.inspect_err(|_| reading.abort())?,
                Err(_) => {
                    reading.abort();
                    return Ok(());
                }
            },
        }
    }
}

async fn write(writer: &mut OwnedWriteHalf, frame: &ToKeeper) -> io::Result<()> {
    let bytes = frame::encode(frame, FRAME_MAX_BYTES).map_err(io::Error::other)?;
    writer.write_all(&bytes).await
}

async fn read(mut reader: OwnedReadHalf, events: Sender<KeeperEvent>) -> io::Result<()> {
    let mut frames = Frames::new(FRAME_MAX_BYTES);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match reader.read(&mut buffer).await? {
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the keeper closed it")),
            count => frames.push(&buffer[..count]),
        }
        while let Some(frame) = frames.pop::<FromKeeper>().map_err(io::Error::other)? {
            let event = match frame {
                FromKeeper::Welcome(welcome) => KeeperEvent::Attached(Box::new(welcome)),
                other @ (FromKeeper::Lease(_)
                | FromKeeper::Leaving { .. }
                | FromKeeper::Silent { .. }
                | FromKeeper::Heard { .. }
                | FromKeeper::Agreed { .. }
                | FromKeeper::WantsVoterUp
                | FromKeeper::Exited { .. }
                | FromKeeper::Lapsed { .. }
                | FromKeeper::Done { .. }
                | FromKeeper::Note { .. }) => KeeperEvent::Said(other),
            };
            if events.send(event).await.is_err() {
                return Ok(());
            }
        }
    }
}
