//! A process that holds addresses as a keeper does: the address worker, with a lease fed by hand. Tests stop, thaw and
//! kill it. It is this test program again, running only [`child`].

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use pkgctl::engine::profile::lease_length;
use pkgctl::engine::{HolderTime, SessionId, Token};
use pkgctl::keeper::ip::{Act, Clock, Event, IpWorker, Lease, Order, Setup};
use pkgctl::keeper::protocol::Place;
use pkgctl::package::{IpResource, Millis, PackageName, ResourceName};

/// Names the run directory to the process that is a keeper.
const CHILD: &str = "PKGCTL_GUARD_KEEPER";
/// Far more than any machine takes; only a failing test waits this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// One clock for all processes of a test.
pub fn now() -> HolderTime {
    let reading = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("a clock");
    HolderTime(u64::try_from(Duration::from(reading).as_nanos()).expect("a reading"))
}

/// The process.
pub struct Keeper {
    child: Child,
    orders: ChildStdin,
    lines: mpsc::Receiver<String>,
    seen: VecDeque<String>,
}

impl Keeper {
    /// Starts it in this thread's network namespace. Its lease is renewed as long as it runs; `none` until `lease`.
    pub fn start(run: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this test's executable"));
        command.args(["keeper_process", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(CHILD, run).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a keeper process");
        let (send, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().expect("its output"));
        thread::spawn(move || {
            output.lines().map_while(Result::ok).filter(|l| l.contains("event ")).try_for_each(|l| send.send(l))
        });
        let orders = child.stdin.take().expect("its input");
        Self { child, orders, lines, seen: VecDeque::new() }
    }

    pub fn order(&mut self, order: &str) {
        writeln!(self.orders, "{order}").expect("the keeper reads");
    }

    /// Takes an address over and waits until it is up.
    pub fn up(&mut self, package: &str, address: &str) {
        self.order(&format!("up {package} {address}"));
        self.expect(&format!("done up {package}/{address}"));
    }

    /// Waits for an event that contains `text`; events before it stay for later.
    pub fn expect(&mut self, text: &str) -> String {
        if let Some(at) = self.seen.iter().position(|line| line.contains(text)) {
            return self.seen.remove(at).expect("it is there");
        }
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => self.seen.push_back(line),
                Err(_) => panic!("no event with '{text}'; seen: {:#?}", self.seen),
            }
        }
    }

    /// Events so far that contain `text`.
    pub fn count(&mut self, text: &str) -> usize {
        self.seen.extend(self.lines.try_iter());
        self.seen.iter().filter(|line| line.contains(text)).count()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }

    /// Stops every thread of it, and returns a time before which it read its clock last.
    pub fn freeze(&self) -> HolderTime {
        kill(self.pid(), Signal::SIGSTOP).expect("it can be stopped");
        match waitpid(self.pid(), Some(WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Stopped(..)) => now(),
            other => panic!("the keeper did not stop: {other:?}"),
        }
    }

    pub fn thaw(&self) {
        kill(self.pid(), Signal::SIGCONT).expect("it can be continued");
    }

    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it is ours");
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn place(package: &str, resource: &str) -> Place {
    Place {
        package: PackageName::new(package).expect("a name"),
        resource: ResourceName::new(resource.replace(':', "_")).expect("a name"),
        token: Token(7),
        session: SessionId(3),
    }
}

/// How the process feeds its lease.
#[derive(Clone, Copy)]
enum Feed {
    None,
    /// A lease renewed all the time, until it has once run out (rule 8a).
    Renewed(Millis, HolderTime),
    Fixed,
}

/// The body of the keeper process; returns at once in any other.
pub fn child() {
    let Some(run) = std::env::var_os(CHILD) else { return };
    let setup = Setup {
        clock: Clock::reading(now),
        record: Path::new(&run).join("addresses.json"),
        on_thread: Arc::new(|_| {}),
    };
    let worker = IpWorker::start(setup).expect("the worker starts");
    let (send, orders) = mpsc::channel();
    thread::spawn(move || std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    let mut feed = Feed::None;
    loop {
        feed = renew(&worker, feed);
        poll(&mut [PollFd::new(worker.as_fd(), PollFlags::POLLIN)], 10_u16).expect("poll");
        while let Some(event) = worker.next_event() {
            println!("event {}", words(&event));
        }
        loop {
            match orders.try_recv() {
                Ok(line) => feed = obey(&worker, &line, feed),
                Err(mpsc::TryRecvError::Empty) => break,
                Err(mpsc::TryRecvError::Disconnected) => return,
            }
        }
    }
}

fn renew(worker: &IpWorker, feed: Feed) -> Feed {
    match feed {
        Feed::Renewed(_, until) if now() >= until => {
            worker.order(Order::SetLease(None)).expect("taken");
            Feed::None
        }
        Feed::Renewed(ttl, _) => {
            let until = now() + lease_length(ttl);
            worker.order(Order::SetLease(Some(Lease { until, ttl }))).expect("taken");
            Feed::Renewed(ttl, until)
        }
        Feed::None | Feed::Fixed => feed,
    }
}

fn obey(worker: &IpWorker, line: &str, feed: Feed) -> Feed {
    let words: Vec<&str> = line.split_whitespace().collect();
    let order = match words[..] {
        ["lease", ttl_ms] => {
            let ttl = Millis(ttl_ms.parse().expect("a ttl"));
            return renew(worker, Feed::Renewed(ttl, HolderTime(u64::MAX)));
        }
        ["until", ttl_ms, from_now_ms] => {
            let until = now() + Millis(from_now_ms.parse().expect("a time")).duration();
            let lease = Lease { until, ttl: Millis(ttl_ms.parse().expect("a ttl")) };
            worker.order(Order::SetLease(Some(lease))).expect("taken");
            return Feed::Fixed;
        }
        ["none"] => {
            worker.order(Order::SetLease(None)).expect("taken");
            return Feed::None;
        }
        ["up", package, address] => up(package, address, super::scene::DEVICE),
        ["up", package, address, device] => up(package, address, device),
        ["down", package, address] => Order::Down { place: place(package, address) },
        ["announce"] => Order::Announce,
        ["clean"] => Order::CleanAll,
        _ => panic!("no such order: {line}"),
    };
    worker.order(order).expect("the order is taken");
    feed
}

fn up(package: &str, address: &str, device: &str) -> Order {
    let ip: std::net::IpAddr = address.parse().expect("an address");
    let resource = IpResource { address: ip, prefix: if ip.is_ipv4() { 24 } else { 64 }, device: device.into() };
    Order::Up { place: place(package, address), ip: resource }
}

fn words(event: &Event) -> String {
    let at = |place: &Place| format!("{}/{}", place.package, place.resource.as_str().replace('_', ":"));
    let act = |act: &Act| match act {
        Act::Up => "up",
        Act::Down => "down",
    };
    match event {
        Event::Done { place, act: a } => format!("done {} {}", act(a), at(place)),
        Event::Failed { place, act: a, why } => format!("failed {} {}: {why}", act(a), at(place)),
        Event::Set { place } => format!("set {}", at(place)),
        Event::Lapsed { place, why } => format!("lapsed {}: {why}", at(place)),
        Event::Cleaned(Ok(())) => "cleaned".into(),
        Event::Cleaned(Err(why)) => format!("unclean: {why}"),
        Event::Note { text, .. } => format!("note {text}"),
    }
}
