//! [`Lab`]: the front of a lab, for tests and the demo. It orders; the bed, a process of its own, does.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{BufReader, Error, ErrorKind};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tempfile::TempDir;
use thiserror::Error;

use super::moment::Moment;
use super::order::{Answer, BedNode, BedSpec, Cable, Direction, Order, receive, send};
use super::process::Handle;
use super::spec::{self, CLIENT, LabSpec, MAX_NODES, Place};
use super::{beats, process};

/// How long to wait for another lab on this machine to end.
const LOCK_LIMIT: Duration = Duration::from_secs(1800);
/// How long the bed may take for one order, or to end.
const BED_LIMIT: Duration = Duration::from_secs(60);

/// Why the lab did not do what was asked.
#[derive(Debug, Error)]
pub enum LabError {
    /// The machine does not allow a lab to this user: a reason to skip a test, not to fail it.
    #[error("no lab can be built here: {reason}")]
    NotPermitted { reason: String },
    #[error("another lab has been on this machine for half an hour ({holder}); end it, then try again")]
    Busy { holder: String },
    #[error("the lab has no running node {node}; power it on first")]
    NotRunning { node: String },
    #[error("{reason}; the lab still stands")]
    Refused { reason: String },
    #[error("in {node}, {what} had not ended after {limit:?} and was killed; it printed: {printed}")]
    TimedOut { node: String, what: String, limit: Duration, printed: String },
    #[error("the lab cannot {what}: {source}")]
    Io { what: &'static str, source: Error },
}

fn io(what: &'static str) -> impl FnOnce(Error) -> LabError {
    move |source| LabError::Io { what, source }
}

/// The command a node runs, by node.
type CommandOf = Box<dyn Fn(&Place) -> Vec<String> + Send + Sync>;

/// A cluster of nodes and a client in namespaces on this machine. Dropping it takes everything down and leaves nothing.
///
/// All methods may be called from any thread; those that order something of the bed take turns.
pub struct Lab {
    bed: Mutex<Bed>,
    places: BTreeMap<String, Place>,
    command: CommandOf,
    inits: Mutex<BTreeMap<String, i32>>,
    privileged: bool,
    realtime: bool,
    // Removed after the bed has ended, in this order of declaration.
    scratch: TempDir,
    shared: TempDir,
}

struct Bed {
    process: Child,
    orders: Option<BufReader<UnixStream>>,
}

impl Lab {
    /// Builds a lab and, unless the spec says otherwise, powers its nodes on. Waits while another lab is on this
    /// machine, and says so on standard error.
    pub fn build(spec: LabSpec) -> Result<Self, LabError> {
        assert!(spec.nodes.len() <= MAX_NODES, "a lab has at most {MAX_NODES} nodes");
        let scratch = directory(&std::env::temp_dir())?;
        let shared = directory(Path::new("/dev/shm")).or_else(|_| directory(scratch.path()))?;
        let beats = shared.path().join("beats");
        beats::create(&beats).map_err(io("make its map of beats"))?;
        let places = places(&spec, scratch.path(), &beats)?;
        let bed_spec = bed_spec(&spec, &places, vec![scratch.path().into(), shared.path().into()]);
        let mut bed = Bed::start(&spec.binary, &bed_spec)?;
        let (privileged, realtime) = bed.ready()?;
        let lab = Self {
            bed: Mutex::new(bed),
            places,
            command: spec.command,
            inits: Mutex::default(),
            privileged,
            realtime,
            scratch,
            shared,
        };
        lab.power_on(CLIENT)?;
        if spec.powered {
            for node in &spec.nodes {
                lab.power_on(node)?;
            }
        }
        Ok(lab)
    }

    /// Whether the lab needed no user namespace: built by root.
    pub fn privileged(&self) -> bool {
        self.privileged
    }

    /// Whether processes of the lab may have SCHED_FIFO; without it leases are best-effort and the fast profile refused.
    pub fn realtime(&self) -> bool {
        self.realtime
    }

    /// Where a node, or the client, lives. Panics on a name that the lab was not built with.
    pub fn place(&self, node: &str) -> &Place {
        self.places.get(node).unwrap_or_else(|| panic!("the lab was built without a node {node}"))
    }

    /// The address of a node's interface.
    pub fn address(&self, node: &str) -> Ipv4Addr {
        self.place(node).address
    }

    /// Directory of the lab, removed with it.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Everything the node's init and command have printed so far.
    pub fn console(&self, node: &str) -> String {
        fs::read(&self.place(node).console).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    /// The lives of all demo programs so far.
    pub fn lives(&self) -> Result<Vec<beats::Life>, LabError> {
        beats::read_lives(&self.place(CLIENT).beats).map_err(io("read the map of beats"))
    }

    /// Makes new namespaces over the node's disk and starts its command there.
    pub fn power_on(&self, node: &str) -> Result<Moment, LabError> {
        let command = if node == CLIENT { Vec::new() } else { (self.command)(self.place(node)) };
        let (at, pid) = self.order(&Order::PowerOn { node: node.to_owned(), command })?;
        if let Some(pid) = pid {
            self.inits().insert(node.to_owned(), pid);
        }
        Ok(at)
    }

    /// As when the power fails. Returns when every process of the node is gone; its disk directory stays. The moment is
    /// just before the first effect.
    pub fn power_off(&self, node: &str) -> Result<Moment, LabError> {
        let (at, _) = self.order(&Order::PowerOff { node: node.to_owned() })?;
        self.inits().remove(node);
        Ok(at)
    }

    /// Cuts the node's cable on the far side, so that its carrier stays up; replaces an earlier cut.
    pub fn cut(&self, node: &str, direction: Direction) -> Result<Moment, LabError> {
        self.cable(node, Cable { cut: Some(direction), ..Cable::default() })
    }

    /// Makes the node's cable whole.
    pub fn heal(&self, node: &str) -> Result<Moment, LabError> {
        self.cable(node, Cable::default())
    }

    /// Makes this of the node's cable, whatever was wrong with it before. The node's own carrier stays up.
    pub fn cable(&self, node: &str, cable: Cable) -> Result<Moment, LabError> {
        self.order(&Order::Cable { node: node.to_owned(), cable }).map(|(at, _)| at)
    }

    /// Makes another map of beats, for programs whose lives are to be told apart from all others'.
    pub fn beats_for(&self, name: &str) -> Result<PathBuf, LabError> {
        let path = self.shared.path().join(format!("beats-{name}"));
        beats::create(&path).map_err(io("make a map of beats"))?;
        Ok(path)
    }

    /// The node's init, as this machine numbers it; for `pkgctl lab-enter`.
    pub fn init_pid(&self, node: &str) -> Result<i32, LabError> {
        let inits = self.inits();
        inits.get(node).copied().ok_or_else(|| LabError::NotRunning { node: node.to_owned() })
    }

    /// The node's processes, without its init and without zombies.
    pub fn processes(&self, node: &str) -> Result<Vec<process::Process>, LabError> {
        Ok(process::of_node(self.init_pid(node)?))
    }

    /// A command that will run inside the node, in namespaces and by the node's own names; stdio is the caller's choice.
    pub fn command_in(&self, node: &str, argv: &[&str]) -> Result<Command, LabError> {
        let mut command = Command::new(&self.place(node).binary);
        command.arg("lab-enter").arg(self.init_pid(node)?.to_string()).args(argv);
        Ok(command)
    }

    /// Runs a command inside the node to its end, at most for `limit`.
    pub fn run_in(&self, node: &str, argv: &[&str], limit: Duration) -> Result<Output, LabError> {
        // Files, not pipes: a daemon that the command leaves behind may hold its outputs open for ever.
        let open = || tempfile::tempfile_in(self.scratch()).map_err(io("make a file for a command's output"));
        let (out, err) = (open()?, open()?);
        let mut command = self.command_in(node, argv)?;
        let clone = |file: &fs::File| file.try_clone().map_err(io("share a command's output"));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(clone(&out)?)
            .stderr(clone(&err)?)
            .spawn()
            .map_err(io("start a command in a node"))?;
        let ended = Handle::open(child.id().cast_signed()).and_then(|handle| handle.wait_for_end(limit));
        if !matches!(ended, Ok(true)) {
            // Its child in the node follows by PDEATHSIG.
            let _ = child.kill();
        }
        let status = child.wait().map_err(io("wait for a command in a node"))?;
        let output = Output { code: status.code(), stdout: text(out), stderr: text(err) };
        match ended.map_err(io("wait for a command in a node"))? {
            true => Ok(output),
            false => Err(LabError::TimedOut {
                node: node.to_owned(),
                what: argv.join(" "),
                limit,
                printed: output.stdout + &output.stderr,
            }),
        }
    }

    fn inits(&self) -> MutexGuard<'_, BTreeMap<String, i32>> {
        self.inits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, order: &Order) -> Result<(Moment, Option<i32>), LabError> {
        let mut bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
        match bed.ask(order)? {
            Answer::Done { at, pid } => Ok((at, pid)),
            Answer::Failed { reason } | Answer::NotPermitted { reason } => Err(LabError::Refused { reason }),
            answer @ (Answer::Waiting { .. } | Answer::Ready { .. }) => Err(out_of_turn(&answer)),
        }
    }
}

impl Bed {
    fn start(binary: &Path, spec: &BedSpec) -> Result<Self, LabError> {
        let (ours, theirs) = UnixStream::pair().map_err(io("make a socket"))?;
        let process = Command::new(binary)
            .arg("lab-bed")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(io("start pkgctl lab-bed"))?;
        let mut bed = Self { process, orders: Some(BufReader::new(ours)) };
        send(bed.socket()?.get_mut(), spec).map_err(io("speak to its bed"))?;
        Ok(bed)
    }

    fn socket(&mut self) -> Result<&mut BufReader<UnixStream>, LabError> {
        self.orders.as_mut().ok_or_else(gone)
    }

    fn ready(&mut self) -> Result<(bool, bool), LabError> {
        let mut waiting = None;
        loop {
            let limit = if waiting.is_some() { LOCK_LIMIT } else { BED_LIMIT };
            match self.next(limit) {
                Ok(Answer::Ready { privileged, realtime }) => return Ok((privileged, realtime)),
                Ok(Answer::NotPermitted { reason } | Answer::Failed { reason }) => {
                    return Err(LabError::NotPermitted { reason });
                }
                Ok(Answer::Waiting { holder }) => {
                    eprintln!("waiting for another lab on this machine to end ({holder})");
                    waiting = Some(holder);
                }
                Ok(answer @ Answer::Done { .. }) => return Err(out_of_turn(&answer)),
                Err(LabError::Io { source, .. }) if source.kind() == ErrorKind::WouldBlock && waiting.is_some() => {
                    // It hangs in the lock and would not see the end of the socket.
                    let _ = self.process.kill();
                    return Err(LabError::Busy { holder: waiting.unwrap_or_default() });
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn ask(&mut self, order: &Order) -> Result<Answer, LabError> {
        send(self.socket()?.get_mut(), order).map_err(io("speak to its bed"))?;
        self.next(BED_LIMIT)
    }

    fn next(&mut self, limit: Duration) -> Result<Answer, LabError> {
        let socket = self.socket()?;
        socket.get_mut().set_read_timeout(Some(limit)).map_err(io("speak to its bed"))?;
        receive(socket).map_err(io("hear its bed"))?.ok_or_else(gone)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.orders = None;
        let ended = Handle::open(self.process.id().cast_signed()).and_then(|bed| bed.wait_for_end(BED_LIMIT));
        if !matches!(ended, Ok(true)) {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

fn gone() -> LabError {
    io("hear its bed")(Error::new(ErrorKind::UnexpectedEof, "its process has ended, and with it every node"))
}

fn out_of_turn(answer: &Answer) -> LabError {
    LabError::Refused { reason: format!("the bed answered out of turn ({answer:?})") }
}

/// What a command in a node printed and how it ended.
#[derive(Debug)]
pub struct Output {
    /// `None` when the lab's own front was killed by a signal; a command killed by signal n gives 128 + n.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }
}

fn text(mut file: fs::File) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let mut bytes = Vec::new();
    let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A directory that programs of any user can pass through.
fn directory(parent: &Path) -> Result<TempDir, LabError> {
    tempfile::Builder::new()
        .prefix("pkgctl-lab-")
        .permissions(Permissions::from_mode(0o755))
        .tempdir_in(parent)
        .map_err(io("make its scratch directory"))
}

fn places(spec: &LabSpec, scratch: &Path, beats: &Path) -> Result<BTreeMap<String, Place>, LabError> {
    let numbered = spec.nodes.iter().enumerate().map(|(i, name)| (name.clone(), spec::node_address(i)));
    let nodes: Vec<(String, Ipv4Addr)> = numbered.collect();
    let client = (CLIENT.to_owned(), spec::client_address());
    let mut places = BTreeMap::new();
    for (name, address) in nodes.iter().cloned().chain([client]) {
        let disk: PathBuf = scratch.join(&name);
        fs::create_dir(&disk).map_err(io("make a node's disk"))?;
        let place = Place {
            address,
            disk,
            console: scratch.join(format!("{name}.console")),
            beats: beats.into(),
            binary: spec.binary.clone(),
            nodes: nodes.clone(),
            name: name.clone(),
        };
        places.insert(name, place);
    }
    Ok(places)
}

fn bed_spec(spec: &LabSpec, places: &BTreeMap<String, Place>, scratch: Vec<PathBuf>) -> BedSpec {
    let node = |place: &Place| {
        let aliases = spec.aliases.iter().filter(|(node, _)| *node == place.name).map(|(_, address)| *address);
        let wiring = spec::wiring(place.address, aliases);
        BedNode { name: place.name.clone(), wiring, console: place.console.clone() }
    };
    let small = spec.small.iter().map(|(name, below, bytes)| (places[name].disk.join(below), *bytes)).collect();
    BedSpec { nodes: places.values().map(node).collect(), scratch, small }
}
