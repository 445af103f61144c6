//! The link to this node's keeper: a Unix socket, made again whenever it breaks; starts the keeper where nobody else
//! does. A keeper outlives the agent that started it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::config::{Places, Scheduling};
use crate::engine::frame::{self, Frames};
use crate::keeper::link::{KeeperEvent, KeeperLink};
use crate::keeper::protocol::{FRAME_MAX_BYTES, FromKeeper, ToKeeper, VERSION};
use crate::package::Millis;

/// Pause between attempts to reach a keeper that is not there yet.
const RETRY: Duration = Duration::from_millis(50);
/// The longest pause between the end of a keeper that this agent started and the start of another; the first is
/// [`RETRY`], and it doubles until a link is made.
const START_PAUSE_MAX: Duration = Duration::from_secs(5);
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
    /// The machine's watchdog, if it is to be used, and how long it bears a keeper that stands still.
    pub watchdog: Option<(PathBuf, Option<Millis>)>,
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
    let (mut starts, mut waits) = (Starts::default(), None);
    while !events.is_closed() {
        match UnixStream::connect(keeper.places.keeper_socket()).await {
            Ok(stream) => {
                starts.linked();
                waits = None;
                if let Err(why) = talk(stream, &orders, &events).await {
                    tracing::warn!("the link to the keeper broke: {why}; it is being made again");
                }
                if events.send(KeeperEvent::Detached).await.is_err() {
                    return;
                }
            }
            Err(_) if keeper.start => starts.turn(|| spawn(&keeper)),
            Err(error) => tracing::debug!(%error, "no keeper yet"),
        }
        let now = std::fs::read_to_string(keeper.places.keeper_waits()).ok();
        if now != waits {
            waits.clone_from(&now);
            if events.send(KeeperEvent::Waits(now)).await.is_err() {
                return;
            }
        }
        sleep(RETRY).await;
    }
}

/// Tells the keeper at that socket to end, on a connection of its own, and waits until it has, for so long at most. One
/// that is not there has ended.
pub async fn end_keeper(socket: &Path, why: String, within: Duration) {
    let ending = async {
        let stream = UnixStream::connect(socket).await?;
        let (mut reader, mut writer) = stream.into_split();
        let hello = ToKeeper::Hello { version: VERSION, program: env!("CARGO_PKG_VERSION").to_owned() };
        write(&mut writer, &hello).await?;
        write(&mut writer, &ToKeeper::End { why }).await?;
        tokio::io::copy(&mut reader, &mut tokio::io::sink()).await
    };
    match timeout(within, ending).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "no keeper to end"),
        Err(_elapsed) => tracing::warn!("the keeper has not ended within {within:?}; it holds no lease. Restart it"),
    }
}

/// A started process that may have ended.
trait Started {
    /// How it ended; none while it runs.
    fn ended(&mut self) -> io::Result<Option<String>>;
}

impl Started for Child {
    fn ended(&mut self) -> io::Result<Option<String>> {
        Ok(self.try_wait()?.map(|status| status.to_string()))
    }
}

/// Keepers that this agent starts: one at a time, more and more rarely while they end at once, and each way of failing
/// said once in a row.
struct Starts<C> {
    child: Option<C>,
    /// Before the start that follows the next failure.
    pause: Duration,
    /// Until the next start.
    left: Duration,
    said: Option<String>,
}

impl<C> Default for Starts<C> {
    fn default() -> Self {
        Self { child: None, pause: RETRY, left: Duration::ZERO, said: None }
    }
}

impl<C: Started> Starts<C> {
    /// A keeper answers; the child is its process, or has nothing to do with it and ends by itself.
    fn linked(&mut self) {
        let child = self.child.take();
        *self = Self { child, ..Self::default() };
    }

    /// To be called every [`RETRY`] while no keeper answers: starts one, unless the one started before is still on its
    /// way or the pause after its end is not over.
    fn turn(&mut self, start: impl FnOnce() -> io::Result<C>) {
        if let Some(child) = &mut self.child {
            match child.ended() {
                Ok(None) => return,
                Ok(Some(how)) => self.failed(&format!("the keeper ended with {how}; its log says why")),
                Err(error) => self.failed(&format!("the keeper's end is not known: {error}")),
            }
            self.child = None;
        }
        self.left = self.left.saturating_sub(RETRY);
        if !self.left.is_zero() {
            return;
        }
        match start() {
            Ok(child) => self.child = Some(child),
            Err(error) => self.failed(&format!("the keeper cannot be started: {error}")),
        }
    }

    fn failed(&mut self, why: &str) {
        self.left = self.pause;
        self.pause = (self.pause * 2).min(START_PAUSE_MAX);
        if self.is_news(why) {
            tracing::warn!(
                "{why}; this node can own nothing until one runs. It is tried again and again, after pauses of up to \
                 {START_PAUSE_MAX:?}, and this is not repeated"
            );
        }
    }

    fn is_news(&mut self, why: &str) -> bool {
        self.said.replace(why.to_owned()).as_deref() != Some(why)
    }
}

fn spawn(keeper: &KeeperStart) -> io::Result<Child> {
    let path = keeper.places.log_dir().join("keeper.log");
    let log = super::own_files::append(&path)?;
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
        .args(keeper.watchdog.iter().flat_map(|(path, _)| ["--watchdog".into(), path.clone().into_os_string()]))
        .args(keeper.watchdog.iter().flat_map(|(_, timeout)| timeout).map(|t| format!("--watchdog-timeout={}ms", t.0)))
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
                | FromKeeper::Note { .. }) => KeeperEvent::Said(Box::new(other)),
            };
            if events.send(event).await.is_err() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that ends in the given way, or runs on.
    struct Fake(Option<&'static str>);

    impl Started for Fake {
        fn ended(&mut self) -> io::Result<Option<String>> {
            Ok(self.0.map(str::to_owned))
        }
    }

    /// At which turns a keeper is started that ends at once or cannot be started.
    fn started_at(starts: &mut Starts<Fake>, turns: u32, start: fn() -> io::Result<Fake>) -> Vec<u32> {
        let mut at = Vec::new();
        for turn in 0..turns {
            starts.turn(|| {
                at.push(turn);
                start()
            });
        }
        at
    }

    #[test]
    fn a_keeper_that_ends_at_once_is_started_more_and_more_rarely_until_a_link_was_made() {
        for start in [|| Ok(Fake(Some("exit status: 1"))), || Err(io::Error::other("no such file"))] {
            let mut starts = Starts::default();
            let at = started_at(&mut starts, 10_000, start);
            let pauses: Vec<u32> = at.windows(2).map(|two| two[1] - two[0]).collect();
            assert_eq!(pauses[..7], [1, 2, 4, 8, 16, 32, 64]);
            assert!(pauses[7..].iter().all(|turns| RETRY * *turns == START_PAUSE_MAX), "{pauses:?}");
            starts.linked();
            assert_eq!(started_at(&mut starts, 4, start)[..2], [0, 1]);
        }
    }

    #[test]
    fn a_keeper_on_its_way_is_waited_for() {
        let mut starts = Starts::default();
        assert_eq!(started_at(&mut starts, 1000, || Ok(Fake(None))), [0]);
    }

    #[test]
    fn a_failure_is_said_once_until_another_or_a_link_follows() {
        let mut starts = Starts::<Fake>::default();
        let said = ["a", "a", "b", "b", "a"].map(|why| starts.is_news(why));
        assert_eq!(said, [true, false, true, false, true]);
        starts.linked();
        assert!(starts.is_news("a"));
    }
}
