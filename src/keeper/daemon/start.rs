//! Before the first turn: the lock, privileges, and an end of everything an earlier life left (rules 5 and 9).

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::addresses::Addresses;
use super::agent_end::AgentEnd;
use super::attend::Shown;
use super::inits::Inits;
use super::leashes::{Leashes, OWN_EXE};
use super::storages::{self, Storages};
use super::turn::{Daemon, Hands};
use super::waits::Waits;
use super::watchdog::Watchdog;
use super::{KeeperError, Options, RUN_MODE, file, lock, system};
use crate::config;
use crate::engine::lease::Rules;
use crate::host::clock::{Clock, boot_now};
use crate::host::own_files;
use crate::host::sched::{KEEPER_PRIORITY, Scheduling, lock_memory, prefer_fifo, protect_from_oom};
use crate::host::systemd::Systemd;
use crate::keeper::core::Settings;
use crate::keeper::ip::{self, Event, IpWorker, Order, Setup};
use crate::keeper::leash::{Leash, LeashEvent, leash_margin};
use crate::net::random;

/// Time between two looks at what an earlier life left.
const CLEAN_RETRY: Duration = Duration::from_secs(1);
/// How long the trial leash may live.
const TRIAL: Duration = Duration::from_secs(5);

/// Runs a keeper until it is told to end. [`block_signals`] comes first.
///
/// # Errors
/// It did not start; nothing was changed that matters. Once it runs, only a fault of the system itself ends it.
pub fn run(options: &Options) -> Result<(), KeeperError> {
    let systemd = Systemd::of_environment();
    let run_dir = options.places.run_dir();
    own_files::dir(&run_dir, RUN_MODE).map_err(file("use the directory", &run_dir))?;
    let _lock = lock::take(&run_dir)?;
    let signals = signals()?;
    let scheduling = privileges(options.scheduling)?;
    // Every leash takes a handful of descriptors; programs get the usual limit back.
    raise_limit(Resource::RLIMIT_NOFILE);
    let clock = Arc::new(Clock::start());
    // Whatever a dying leash leaves becomes this process's child and is reaped by descriptor.
    prctl::set_child_subreaper(true).map_err(system("become the reaper of its leashes"))?;

    let inits = Inits::open(&run_dir)?;
    let waits = Waits::none(&systemd, options.places.keeper_waits());
    await_inits(&inits, &signals, &waits)?;
    let record = storages::clean(&run_dir, &signals, &waits)?;
    waits.say("taking away what an earlier keeper left of addresses");
    let addresses = addresses(&run_dir, &clock, scheduling.is_fifo(), &signals)?;
    let fifo = scheduling.is_fifo() && trial(&signals)?;
    let word = if fifo { Scheduling::Fifo } else { Scheduling::BestEffort { refusal: String::new() } };

    // Not before: what is left of an earlier life must not be kept alive by petting.
    let watchdog = Watchdog::start(options.watchdog.clone(), as_keeper(scheduling.is_fifo()));
    waits.over();
    let agent = AgentEnd::listen(&options.places.keeper_socket())?;
    let settings = Settings {
        nonce: random::nonce(),
        agent_grace: options.agent_grace,
        leash_margin: leash_margin(fifo),
        scheduling: word.word().to_owned(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        enforcement: options.enforcement,
        rules: Rules::ALL,
    };
    tracing::info!(nonce = settings.nonce.0, scheduling = settings.scheduling, "keeper started");
    let storages = Storages::new(inits.clone(), record, options.places.own_dirs());
    let hands = Hands { addresses, leashes: Leashes::new(inits), storages };
    let mut daemon = Daemon::new(settings, clock, signals, agent, hands, Shown::new(systemd))?;
    daemon.watchdog = watchdog;
    daemon.run()
}

/// Signals that ask for an orderly end, and the one that asks for nothing here.
fn end_signals() -> SigSet {
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])
}

/// Has signals come as a descriptor and not as an interruption. To be called before any thread is started: a thread
/// that does not block them gets them. Leashes reset their signals themselves.
///
/// # Errors
/// As the kernel gives them.
pub fn block_signals() -> Result<(), KeeperError> {
    end_signals().thread_block().map_err(system("block signals"))
}

fn signals() -> Result<SignalFd, KeeperError> {
    SignalFd::with_flags(&end_signals(), SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(system("watch for signals"))
}

fn privileges(wanted: config::Scheduling) -> Result<Scheduling, KeeperError> {
    let scheduling = match wanted {
        config::Scheduling::Auto | config::Scheduling::Fifo => prefer_fifo(KEEPER_PRIORITY),
        config::Scheduling::BestEffort => {
            Scheduling::BestEffort { refusal: "the configuration asks for no more".to_owned() }
        }
    };
    match (&scheduling, wanted) {
        (Scheduling::BestEffort { refusal }, config::Scheduling::Fifo) => {
            return Err(KeeperError::Scheduling { refusal: refusal.clone() });
        }
        (Scheduling::BestEffort { refusal }, config::Scheduling::Auto) => {
            tracing::warn!("{refusal}: deadlines get a wider margin, and this node's stalls may cost it its lease");
        }
        (Scheduling::BestEffort { .. }, config::Scheduling::BestEffort) | (Scheduling::Fifo, _) => {}
    }
    if let Err(why) = lock_memory() {
        tracing::info!("{why}");
    }
    if let Err(why) = protect_from_oom() {
        tracing::info!("not protected from the OOM killer: {why}");
    }
    Ok(scheduling)
}

/// Raises a soft limit to the hard one, for which nobody has to be asked.
fn raise_limit(resource: Resource) {
    let raised = getrlimit(resource).and_then(|(_, hard)| setrlimit(resource, hard, hard));
    if let Err(why) = raised {
        tracing::warn!("a limit was not raised: {why}");
    }
}

/// Waits until nothing of an earlier life runs. They have been told to die by the kernel; one that cannot die yet is
/// waited for, however long it takes: until then nobody may say that the node is clean.
fn await_inits(inits: &Inits, signals: &SignalFd, waits: &Waits<'_>) -> Result<(), KeeperError> {
    loop {
        let left = inits.left()?;
        if left.is_empty() {
            return Ok(());
        }
        let what = format!("{} namespaces with programs that have not ended", left.len());
        tracing::warn!("waiting for {what}");
        waits.say(&format!("waiting for {what}, left by an earlier keeper"));
        for init in &left {
            // It may have ended meanwhile.
            let _ = init.kill();
        }
        wait(left[0].as_fd(), signals, CLEAN_RETRY, &what)?;
    }
}

/// Waits for a descriptor or some time, whichever comes first; a signal ends the start.
pub(super) fn wait(fd: impl AsFd, signals: &SignalFd, time: Duration, what: &str) -> Result<(), KeeperError> {
    let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    // An interruption only means another look.
    let _ = poll(&mut fds, timeout);
    match fds[1].any() {
        Some(true) => Err(KeeperError::NotClean { what: what.to_owned() }),
        Some(false) | None => Ok(()),
    }
}

/// Schedules a thread like the keeper's main one.
fn as_keeper(fifo: bool) -> impl FnOnce() + Send + 'static {
    move || {
        if fifo {
            // Granted to the main thread, so granted here.
            let _ = prefer_fifo(KEEPER_PRIORITY);
        }
    }
}

/// Starts the address worker and lets it take away everything an earlier life left.
fn addresses(run_dir: &Path, clock: &Arc<Clock>, fifo: bool, signals: &SignalFd) -> Result<Addresses, KeeperError> {
    let setup = Setup {
        clock: ip::Clock::of(Arc::clone(clock)),
        record: run_dir.join("addresses.json"),
        on_thread: Arc::new(move |_| as_keeper(fifo)()),
    };
    let worker = match IpWorker::start(setup) {
        Ok(worker) => worker,
        Err(why) => {
            tracing::warn!("{why}; packages with an address cannot run here");
            return Ok(Addresses::Unguarded { why: why.to_string() });
        }
    };
    let mut ordered = false;
    loop {
        if !ordered {
            ordered = worker.order(Order::CleanAll).is_ok();
        }
        wait(&worker, signals, CLEAN_RETRY, "addresses")?;
        while let Some(event) = worker.next_event() {
            match event {
                Event::Cleaned(Ok(())) => return Ok(Addresses::Guarded(worker)),
                Event::Cleaned(Err(why)) => {
                    tracing::error!("{why}");
                    ordered = false;
                    wait(signals, signals, CLEAN_RETRY, &why)?;
                }
                Event::Note { text, .. } => tracing::warn!("{text}"),
                Event::Set { .. } | Event::Done { .. } | Event::Failed { .. } | Event::Lapsed { .. } => {}
            }
        }
    }
}

/// Tries a leash once: whether leashes and their inits get SCHED_FIFO too decides the margin of all of them. One that
/// cannot be had at all is only reported: each program's start will say so again.
fn trial(signals: &SignalFd) -> Result<bool, KeeperError> {
    let mut leash = match Leash::spawn(Path::new(OWN_EXE), boot_now() + TRIAL) {
        Ok(leash) => leash,
        Err(why) => {
            tracing::error!("{why}");
            return Ok(false);
        }
    };
    let mut fifo = false;
    loop {
        wait(leash.events_fd(), signals, TRIAL, "a trial leash")?;
        while let Some(event) = leash.next_event() {
            match event {
                LeashEvent::Ready { .. } => {
                    fifo = leash.fifo();
                    leash.kill();
                }
                LeashEvent::Failed(why) => tracing::error!("programs cannot run on this node: {why}"),
                LeashEvent::Gone(_) => return Ok(fifo),
                LeashEvent::Started { .. } | LeashEvent::Refused { .. } | LeashEvent::Exited { .. } => {}
            }
        }
    }
}
