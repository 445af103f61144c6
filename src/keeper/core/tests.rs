//! Tests of the core, rule by rule, with time fed by hand: node 1 of three, whose other voters the test plays.

mod any_order;
mod ends;
mod lease;
mod programs;
mod storages;
mod tokens;
mod watchdog;

use std::collections::BTreeMap;

use super::*;
use crate::engine::lease::{Fact, Learn, Rules};
use crate::engine::{ClusterId, HolderTime, Incarnation, LogIndex, Nonce, Profile, SessionId, SetId, Token, VoterTime};
use crate::keeper::protocol::{Exit, LeaseView, Op, Outcome, Place, ProgramSpec, Storage, ToKeeper, VERSION, Welcome};
use crate::package::{FilesystemResource, IpResource, LunResource, Millis, PackageName, ResourceName};

const ME: NodeId = NodeId(1);
const NONCE: Nonce = Nonce(77);
const TTL: Millis = Millis(1500);
/// Rule 1 for a ttl of 1500 ms: 1500 − 30 − 2.
const LEASE_MS: u64 = 1468;
const MARGIN_MS: u64 = 40;
const GRACE: Duration = Duration::from_secs(15);

/// A core, the time it is, and everything it has said since it was last looked at.
struct Bench {
    core: Core,
    ms: u64,
    said: Vec<Effect>,
    index: u64,
    next_id: u64,
}

impl Bench {
    /// A keeper with an agent attached that has said who this node is; no session yet.
    fn attached() -> Self {
        Self::attached_with(Enforcement::Kernel)
    }

    fn attached_with(enforcement: Enforcement) -> Self {
        let settings = Settings {
            nonce: NONCE,
            agent_grace: GRACE,
            leash_margin: Duration::from_millis(MARGIN_MS),
            scheduling: "fifo".to_owned(),
            program: "test".to_owned(),
            enforcement,
            rules: Rules::ALL,
        };
        let mut bench =
            Self { core: Core::new(settings, now(10_000)), ms: 10_000, said: Vec::new(), index: 0, next_id: 0 };
        bench.attach();
        let peers = BTreeMap::new();
        let keys = BTreeMap::new();
        let configuration = Configuration {
            cluster: ClusterId(1),
            node: ME,
            profile: Profile::Default,
            keys,
            sealing_key: None,
            keys_at: LogIndex(0),
            peers,
        };
        bench.frame(ToKeeper::Configure(configuration));
        let members = [NodeId(1), NodeId(2), NodeId(3)].into();
        bench.learn(Fact::SetAdded { set: SetId(1), members });
        let incarnation = Incarnation(2);
        bench.learn(Fact::VoterUp { voter: ME, nonce: NONCE, incarnation });
        bench
    }

    /// And a session whose lease has just begun.
    fn leased() -> (Self, SessionId) {
        Self::leased_with(Enforcement::Kernel)
    }

    fn leased_with(enforcement: Enforcement) -> (Self, SessionId) {
        let mut bench = Self::attached_with(enforcement);
        let session = bench.register();
        bench.renewed();
        (bench, session)
    }

    fn attach(&mut self) -> Welcome {
        self.input(Input::AgentConnected);
        self.frame(ToKeeper::Hello { version: VERSION, program: "test".to_owned() });
        let told = self.told();
        told.into_iter().find_map(|f| if let FromKeeper::Welcome(w) = f { Some(w) } else { None }).expect("a welcome")
    }

    fn input(&mut self, input: Input) {
        let effects = self.core.handle(now(self.ms), input);
        assert!(self.core.next_wake(now(self.ms)) > Duration::ZERO, "it would turn and turn for nothing");
        self.said.extend(effects);
    }

    fn frame(&mut self, frame: ToKeeper) {
        self.input(Input::Frame(frame));
    }

    fn learn(&mut self, fact: Fact) {
        self.index += 1;
        self.frame(ToKeeper::Learn(Learn::Step { index: LogIndex(self.index), facts: vec![fact] }));
    }

    fn register(&mut self) -> SessionId {
        let session = SessionId(self.index + 1);
        self.learn(Fact::Registered { session, node: ME, nonce: NONCE, ttl: TTL });
        session
    }

    /// Time goes on, with the core called whenever it wants to be.
    fn run(&mut self, for_ms: u64) {
        let end = self.ms + for_ms;
        while self.ms < end {
            let wake = self.core.next_wake(now(self.ms)).as_millis() as u64;
            self.ms = end.min(self.ms + wake.max(1));
            self.input(Input::Tick);
        }
    }

    /// Time goes on without the core being called: it is frozen.
    fn frozen(&mut self, for_ms: u64) {
        self.ms += for_ms;
    }

    /// Runs until the next renewal and acks it as node 2; with node 1's own ack that is a majority.
    fn renewed(&mut self) -> HolderTime {
        let message = self.next_renewal();
        let Message::Renew { session, seq, .. } = message else { panic!("{message:?}") };
        self.ack(2, session, seq);
        HolderTime(seq)
    }

    fn next_renewal(&mut self) -> Message {
        for _ in 0..1000 {
            if let Some(message) = self.sent_to(2).into_iter().find(is_renewal) {
                return message;
            }
            self.run(1);
        }
        panic!("no renewal within a second");
    }

    fn ack(&mut self, from: u64, session: SessionId, seq: u64) {
        let members = vec![NodeId(1), NodeId(2), NodeId(3)];
        let message = Message::Ack { session, seq, promised: true, set: SetId(1), members };
        self.input(Input::Datagram { from: NodeId(from), message });
    }

    /// Keeps the lease and the agent going for that long.
    fn live(&mut self, for_ms: u64) {
        let end = self.ms + for_ms;
        while self.ms < end {
            self.frame(ToKeeper::Alive);
            self.renewed();
        }
    }

    /// The messages sent to a node since last asked.
    fn sent_to(&mut self, node: u64) -> Vec<Message> {
        let mut sent = Vec::new();
        self.said.retain(|effect| match effect {
            Effect::Send { to, message } if *to == NodeId(node) => {
                sent.push(message.clone());
                false
            }
            _ => true,
        });
        sent
    }

    /// What the agent was told since last asked.
    fn told(&mut self) -> Vec<FromKeeper> {
        let mut told = Vec::new();
        self.said.retain(|effect| match effect {
            Effect::Tell(frame) => {
                told.push(frame.clone());
                false
            }
            _ => true,
        });
        told
    }

    /// The other effects since last asked, as text.
    fn done(&mut self) -> Vec<String> {
        let (mut done, mut left) = (Vec::new(), Vec::new());
        for effect in std::mem::take(&mut self.said) {
            match effect {
                Effect::Spawn { place, .. } => done.push(format!("spawn {}", place.resource)),
                Effect::Arm { place, deadline } => done.push(format!("arm {} {}", place.resource, at_ms(deadline))),
                Effect::Signal { place, signal } => done.push(format!("signal {} {signal}", place.resource)),
                Effect::Kill { place } => done.push(format!("kill {}", place.resource)),
                Effect::StartAddress { place, .. } => done.push(format!("up {}", place.resource)),
                Effect::StopAddress { place } => done.push(format!("down {}", place.resource)),
                Effect::StartStorage { place, task, .. } => {
                    done.push(format!("take {} {}", place.resource, task.name()))
                }
                Effect::StopStorage { place, .. } => done.push(format!("undo {}", place.resource)),
                Effect::Lease { until, .. } => done.push(format!("lease {:?}", until.map(at_ms))),
                Effect::Watchdog(order) => done.push(format!("watchdog {order:?}")),
                Effect::Exit => done.push("exit".to_owned()),
                Effect::Disconnect { .. } => done.push("disconnect".to_owned()),
                Effect::Log { .. } | Effect::Configure(_) | Effect::Announce => {}
                other @ (Effect::Send { .. } | Effect::Tell(_)) => left.push(other),
            }
        }
        self.said = left;
        done
    }

    fn op(&mut self, op: Op) -> u64 {
        self.next_id += 1;
        self.frame(ToKeeper::Do { id: self.next_id, op });
        self.next_id
    }

    /// Asks for something and answers what came of it at once, if anything.
    fn ask(&mut self, op: Op) -> Option<Outcome> {
        let id = self.op(op);
        self.outcome(id)
    }

    fn outcome(&mut self, id: u64) -> Option<Outcome> {
        self.told().into_iter().find_map(|frame| match frame {
            FromKeeper::Done { id: done, outcome } if done == id => Some(outcome),
            _ => None,
        })
    }

    fn start(&mut self, place: &Place) -> Option<Outcome> {
        self.ask(Op::StartProgram { place: place.clone(), program: program() })
    }

    fn start_ip(&mut self, place: &Place) -> Option<Outcome> {
        self.ask(Op::StartIp { place: place.clone(), ip: ip() })
    }

    /// A program that runs.
    fn running(&mut self, place: &Place, pid: i32) {
        self.op(Op::StartProgram { place: place.clone(), program: program() });
        self.program(place, ProgramEvent::Started { pid });
        self.told();
        self.done();
    }

    fn program(&mut self, place: &Place, event: ProgramEvent) {
        self.input(Input::Program { place: place.clone(), event });
    }

    fn gone(&mut self, place: &Place) {
        self.program(place, ProgramEvent::Gone { by_deadline: false });
    }

    fn address(&mut self, place: &Place, event: AddressEvent) {
        self.input(Input::Address { place: place.clone(), event });
    }

    fn storage(&mut self, place: &Place, event: StorageEvent) {
        self.input(Input::Storage { place: place.clone(), event });
    }

    fn start_storage(&mut self, place: &Place) -> Option<Outcome> {
        let storage = if place.resource.as_str() == "lun" { lun() } else { filesystem() };
        self.ask(Op::StartStorage { place: place.clone(), storage })
    }

    fn last_view(&mut self) -> Option<LeaseView> {
        let mut told = self.told().into_iter().rev();
        told.find_map(|frame| if let FromKeeper::Lease(view) = frame { Some(view) } else { None })
    }
}

fn is_renewal(message: &Message) -> bool {
    matches!(message, Message::Renew { .. })
}

fn is_query(message: &Message) -> bool {
    matches!(message, Message::Query { .. })
}

fn now(ms: u64) -> Now {
    Now { holder: HolderTime::from_millis(ms), voter: VoterTime::from_millis(ms) }
}

fn at_ms(at: HolderTime) -> u64 {
    at.0 / 1_000_000
}

fn place(package: &str, resource: &str, token: u64, session: SessionId) -> Place {
    let (package, resource) = (PackageName::new(package).unwrap(), ResourceName::new(resource).unwrap());
    Place { package, resource, token: Token(token), session }
}

fn program() -> ProgramSpec {
    ProgramSpec {
        command: vec!["/bin/true".to_owned()],
        credentials: None,
        working_directory: "/".to_owned(),
        environment: BTreeMap::new(),
        log: "/dev/null".to_owned(),
    }
}

fn ip() -> IpResource {
    IpResource { address: "10.0.0.100".parse().unwrap(), prefix: 24, device: "eth0".to_owned() }
}

fn lun() -> Storage {
    Storage::Lun(LunResource { device: "/dev/x".to_owned(), abort: true, preempt_foreign: false })
}

fn filesystem() -> Storage {
    Storage::Filesystem(FilesystemResource {
        device: "/dev/x".to_owned(),
        mount: "/srv/x".to_owned(),
        filesystem: "ext4".to_owned(),
        options: Vec::new(),
        fsck: false,
        unfenced: false,
    })
}

fn is_refused(outcome: &Option<Outcome>) -> bool {
    matches!(outcome, Some(Outcome::Refused { .. }))
}
