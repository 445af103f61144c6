//! A real keeper process for a test, with the test as its agent and as the other voters of a cluster of three.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use pkgctl::config::Places;
use pkgctl::engine::frame::{self, Frames};
use pkgctl::engine::lease::{Fact, Learn, Message};
use pkgctl::engine::state::DatagramKey;
use pkgctl::engine::{BootTime, ClusterId, Incarnation, LogIndex, NodeId, Nonce, Profile, SessionId, SetId, Token};
use pkgctl::host::clock::boot_now;
use pkgctl::keeper::protocol::{
    Configuration, FRAME_MAX_BYTES, FromKeeper, Op, Outcome, Place, ProgramSpec, ToKeeper, VERSION, Welcome,
};
use pkgctl::net::datagram::{self, Keys};
use pkgctl::package::{Millis, PackageName, ResourceName};

use super::processes::eventually;

pub const EXE: &str = env!("CARGO_BIN_EXE_pkgctl");
/// Longest that anything here may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How often a thread that plays a voter looks whether it is to end.
const VOTER_LOOKS: Duration = Duration::from_millis(20);
pub const TTL: Millis = Millis(1500);
pub const CLUSTER: ClusterId = ClusterId(0x7e57);

/// A keeper process; killed when dropped.
pub struct Keeper {
    pub child: Child,
    pub places: Places,
}

impl Keeper {
    /// Starts one below a directory. It bears any silence of its agent, which the test is and forgets to be.
    pub fn start(root: &Path) -> Self {
        let mut command = Command::new(EXE);
        command
            .arg("keeper")
            .arg("--root")
            .arg(root)
            .args(["--log", "debug", "--agent-grace", "1h"])
            .stdin(Stdio::null());
        command.stderr(log_file(root));
        let child = command.spawn().expect("the keeper starts");
        Self { child, places: Places::under(Some(root)) }
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Connects as its agent, as soon as it listens.
    pub fn connect(&mut self) -> UnixStream {
        let stream = eventually("a keeper that listens", || {
            assert_eq!(self.child.try_wait().unwrap(), None, "the keeper has ended");
            UnixStream::connect(self.places.keeper_socket()).ok()
        });
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Waits for its end and answers its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.places.root().join("keeper.log")).unwrap_or_default();
            println!("the keeper's log:\n{log}");
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_file(root: &Path) -> Stdio {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(root.join("keeper.log")).unwrap();
    log.into()
}

/// The agent's end of a connection.
pub struct Agent {
    stream: UnixStream,
    frames: Frames,
    /// Everything heard that nobody has asked for yet.
    heard: Vec<FromKeeper>,
    pub welcome: Welcome,
    next_id: u64,
}

impl Agent {
    pub fn attach(keeper: &mut Keeper) -> Self {
        let stream = keeper.connect();
        let mut agent = Self::over(stream);
        agent.say(&ToKeeper::Hello { version: VERSION, program: "test".into() });
        match agent.next() {
            FromKeeper::Welcome(welcome) => agent.welcome = welcome,
            other => panic!("no welcome but {other:?}"),
        }
        agent
    }

    fn over(stream: UnixStream) -> Self {
        let welcome = Welcome {
            version: 0,
            program: String::new(),
            nonce: Nonce(0),
            scheduling: String::new(),
            lease: Default::default(),
            released: BTreeMap::new(),
            largest: BTreeMap::new(),
            running: Vec::new(),
            clean: false,
        };
        Self { stream, frames: Frames::new(FRAME_MAX_BYTES), heard: Vec::new(), welcome, next_id: 0 }
    }

    pub fn say(&mut self, frame: &ToKeeper) {
        self.stream.write_all(&frame::encode(frame, FRAME_MAX_BYTES).unwrap()).expect("the keeper reads");
    }

    fn next(&mut self) -> FromKeeper {
        let mut buffer = [0; 4096];
        loop {
            if let Some(frame) = self.frames.pop().expect("the keeper speaks our protocol") {
                return frame;
            }
            let bytes = self.stream.read(&mut buffer).expect("a word from the keeper in time");
            assert!(bytes > 0, "the keeper closed the connection");
            self.frames.push(&buffer[..bytes]);
        }
    }

    /// Waits for a word of a kind, keeping the others for later questions.
    pub fn hear<T>(&mut self, wanted: impl Fn(&FromKeeper) -> Option<T>) -> T {
        if let Some((at, found)) = self.heard.iter().enumerate().find_map(|(n, f)| wanted(f).map(|found| (n, found))) {
            self.heard.remove(at);
            return found;
        }
        let begun = boot_now();
        loop {
            let frame = self.next();
            if let Some(found) = wanted(&frame) {
                return found;
            }
            self.heard.push(frame);
            assert!(boot_now() - begun < PATIENCE, "not heard in time; heard {:#?}", self.heard);
        }
    }

    /// What was heard so far is of no more interest.
    pub fn forget(&mut self) {
        self.heard.clear();
    }

    /// Ends the connection, and waits until the keeper has seen it.
    pub fn hang_up(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("the keeper closes its end too");
    }

    pub fn op(&mut self, op: Op) -> u64 {
        self.next_id += 1;
        self.say(&ToKeeper::Do { id: self.next_id, op });
        self.next_id
    }

    pub fn outcome(&mut self, wanted: u64) -> Outcome {
        self.hear(|frame| match frame {
            FromKeeper::Done { id, outcome } if *id == wanted => Some(outcome.clone()),
            _ => None,
        })
    }

    pub fn ask(&mut self, op: Op) -> Outcome {
        let id = self.op(op);
        self.outcome(id)
    }

    /// Whether this host lets programs run in namespaces of their own; a refusal is printed once as a skip.
    pub fn can_run(&mut self, outcome: &Outcome, test: &str) -> Option<i32> {
        match outcome {
            Outcome::Started { pid } => Some(*pid),
            Outcome::Failed { why } if why.contains("namespace") => {
                println!("skipped: 1 ({test}: {why})");
                None
            }
            other => panic!("not started: {other:?}"),
        }
    }

    /// Waits for the lease of a session to begin.
    pub fn leased(&mut self, session: SessionId) {
        self.hear(|frame| match frame {
            FromKeeper::Lease(view) => (view.session == Some(session) && view.left > Millis(0)).then_some(()),
            _ => None,
        });
    }

    /// Waits for a session to be over.
    pub fn over_session(&mut self, session: SessionId) {
        self.hear(|frame| match frame {
            FromKeeper::Lease(view) => (view.session == Some(session) && view.over).then_some(()),
            _ => None,
        });
    }
}

/// The log as the test invents it, and the cluster it describes: nodes 1, 2 and 3.
pub struct Log {
    pub index: u64,
    pub addresses: BTreeMap<NodeId, SocketAddr>,
}

impl Log {
    /// With free ports on loopback.
    pub fn new() -> Self {
        let sockets: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let address = |(n, s): (usize, &UdpSocket)| (NodeId(n as u64 + 1), s.local_addr().unwrap());
        Self { index: 0, addresses: sockets.iter().enumerate().map(address).collect() }
    }

    pub fn configuration(&self, node: u64) -> Configuration {
        let peers = self.addresses.iter().map(|(node, address)| (*node, vec![*address])).collect();
        let keys = BTreeMap::from([(1, key())]);
        Configuration {
            cluster: CLUSTER,
            node: NodeId(node),
            profile: Profile::Default,
            keys,
            sealing_key: None,
            keys_at: LogIndex(0),
            peers,
        }
    }

    pub fn step(&mut self, fact: Fact) -> ToKeeper {
        self.index += 1;
        ToKeeper::Learn(Learn::Step { index: LogIndex(self.index), facts: vec![fact] })
    }

    pub fn lease_set(&mut self) -> ToKeeper {
        let set = SetId(self.index + 1);
        self.step(Fact::SetAdded { set, members: self.addresses.keys().copied().collect() })
    }

    pub fn voter_up(&mut self, node: u64, nonce: Nonce) -> ToKeeper {
        let incarnation = Incarnation(self.index + 1);
        self.step(Fact::VoterUp { voter: NodeId(node), nonce, incarnation })
    }

    pub fn register(&mut self, node: u64, nonce: Nonce) -> (SessionId, ToKeeper) {
        let session = SessionId(self.index + 1);
        (session, self.step(Fact::Registered { session, node: NodeId(node), nonce, ttl: TTL }))
    }
}

pub fn key() -> DatagramKey {
    DatagramKey([9; 32])
}

pub fn keys() -> Keys {
    Keys::new(&BTreeMap::from([(1, key())]))
}

/// Node 2 as voter: a thread that acks node 1's renewals while it is told to.
pub struct Voter {
    acks: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    /// When the last renewal that it acked was received, in nanoseconds of CLOCK_BOOTTIME.
    last_acked: Arc<AtomicU64>,
    heard: Arc<Mutex<Vec<Message>>>,
    thread: Option<JoinHandle<()>>,
}

impl Voter {
    pub fn start(log: &Log) -> Self {
        let socket = UdpSocket::bind(log.addresses[&NodeId(2)]).unwrap();
        socket.set_read_timeout(Some(VOTER_LOOKS)).unwrap();
        let acks = Arc::new(AtomicBool::new(true));
        let (stop, last_acked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let own = (Arc::clone(&acks), Arc::clone(&stop), Arc::clone(&last_acked), Arc::clone(&heard));
        let thread = std::thread::spawn(move || {
            let (acks, stop, last_acked, heard) = own;
            let mut buffer = [0; 2048];
            while !stop.load(Ordering::SeqCst) {
                let Ok((bytes, from)) = socket.recv_from(&mut buffer) else { continue };
                let received = boot_now();
                let Ok((NodeId(1), message)) = datagram::open(&keys(), CLUSTER, NodeId(2), &buffer[..bytes]) else {
                    continue;
                };
                heard.lock().unwrap().push(message.clone());
                if !acks.load(Ordering::SeqCst) {
                    continue;
                }
                if let Some(ack) = ack(&message) {
                    last_acked.store(received.0, Ordering::SeqCst);
                    let sealed = datagram::seal(&keys(), CLUSTER, NodeId(2), NodeId(1), &ack);
                    socket.send_to(&sealed, from).unwrap();
                }
            }
        });
        Self { acks, stop, last_acked, heard, thread: Some(thread) }
    }

    pub fn stop_acking(&self) {
        self.acks.store(false, Ordering::SeqCst);
    }

    pub fn ack_again(&self) {
        self.acks.store(true, Ordering::SeqCst);
    }

    /// When the promise that it made last ends: what anybody may rely on.
    pub fn promise_ends(&self) -> BootTime {
        BootTime(self.last_acked.load(Ordering::SeqCst)) + TTL.duration()
    }

    /// Everything heard since it was last asked.
    pub fn heard(&self) -> Vec<Message> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

impl Drop for Voter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The lease set is that of [`Log::lease_set`] as the first entry.
fn ack(message: &Message) -> Option<Message> {
    let members = vec![NodeId(1), NodeId(2), NodeId(3)];
    let ack = |session, seq, promised| Message::Ack { session, seq, promised, set: SetId(1), members };
    match message {
        Message::Renew { session, seq, .. } => Some(ack(*session, *seq, true)),
        Message::Query { session, seq, .. } => Some(ack(*session, *seq, false)),
        _ => None,
    }
}

/// A keeper as node 1 with a lease that node 2 upholds.
pub struct Bench {
    pub dir: PathBuf,
    _dir: tempfile::TempDir,
    pub keeper: Keeper,
    pub agent: Agent,
    pub log: Log,
    pub voter: Voter,
    pub session: SessionId,
}

impl Bench {
    pub fn leased() -> Self {
        Self::leased_in(|_| {})
    }

    /// With a run directory that was prepared.
    pub fn leased_in(prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = Places::under(Some(dir.path())).run_dir();
        std::fs::create_dir_all(&run_dir).unwrap();
        std::fs::set_permissions(&run_dir, std::fs::Permissions::from_mode(0o700)).unwrap();
        prepare(&run_dir);
        let mut keeper = Keeper::start(dir.path());
        let mut agent = Agent::attach(&mut keeper);
        let mut log = Log::new();
        let voter = Voter::start(&log);
        let session = introduce(&mut agent, &mut log);
        agent.leased(session);
        Self { dir: dir.path().to_owned(), _dir: dir, keeper, agent, log, voter, session }
    }

    pub fn place(&self, resource: &str, token: u64) -> Place {
        Place {
            package: PackageName::new("p").unwrap(),
            resource: ResourceName::new(resource).unwrap(),
            token: Token(token),
            session: self.session,
        }
    }

    /// A shell script as a program.
    pub fn script(&self, text: &str) -> ProgramSpec {
        ProgramSpec {
            command: ["/bin/sh", "-c", text].map(str::to_owned).to_vec(),
            credentials: None,
            working_directory: self.dir.display().to_string(),
            environment: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
            log: self.dir.join("program.log").display().to_string(),
        }
    }

    pub fn start(&mut self, place: &Place, text: &str, test: &str) -> Option<i32> {
        let program = self.script(text);
        let outcome = self.agent.ask(Op::StartProgram { place: place.clone(), program });
        self.agent.can_run(&outcome, test)
    }

    /// What is in a file that a program writes.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }
}

/// Tells a keeper that it is node 1 of three, and registers its session.
pub fn introduce(agent: &mut Agent, log: &mut Log) -> SessionId {
    let nonce = agent.welcome.nonce;
    agent.say(&ToKeeper::Configure(log.configuration(1)));
    let set = log.lease_set();
    agent.say(&set);
    let up = log.voter_up(1, nonce);
    agent.say(&up);
    let (session, registered) = log.register(1, nonce);
    agent.say(&registered);
    session
}
