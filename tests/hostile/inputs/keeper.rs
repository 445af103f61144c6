//! What reaches the keeper: its agent's frames, other keepers' messages, and what a leash and its init say.

use std::time::Duration;

use pkgctl::engine::frame::{Frames, encode};
use pkgctl::engine::lease::{Fact, Learn, Message, Rules};
use pkgctl::engine::time::BootTime;
use pkgctl::engine::{
    ClusterId, HolderTime, Incarnation, LogIndex, NodeId, Nonce, Profile, SessionId, SetId, Token, VoterTime, codec,
};
use pkgctl::keeper::core::{Core, Effect, Enforcement, Input, Now, Settings};
use pkgctl::keeper::leash::wire::{ExecRequest, FromInit, FromLeash, deadline, deadline_bytes};
use pkgctl::keeper::protocol::{Configuration, Exit, FRAME_MAX_BYTES, FromKeeper, Op, Place, ToKeeper, VERSION};
use pkgctl::package::{IpResource, Millis, PackageName, ResourceName};
use serde::de::DeserializeOwned;

use super::datagrams::messages;
use super::{choice, chosen};

const ME: NodeId = NodeId(1);
const NONCE: Nonce = Nonce(77);
const SESSION: SessionId = SessionId(9);
const STEPS_MAX: usize = 64;
const FRAMES: u8 = 0;
const DATAGRAM: u8 = 1;
const TIME: u8 = 2;

/// A keeper that is attached to, knows who it is, and is fed any frames, any authentic messages and any passing of time.
pub fn run(bytes: &[u8]) -> bool {
    let settings = Settings {
        nonce: NONCE,
        agent_grace: Duration::from_secs(15),
        leash_margin: Duration::from_millis(40),
        scheduling: "fifo".to_owned(),
        program: "test".to_owned(),
        enforcement: Enforcement::Kernel,
        rules: Rules::ALL,
    };
    let mut at = Duration::from_secs(100);
    let mut core = Core::new(settings, now(at));
    core.handle(now(at), Input::AgentConnected);
    for frame in beginning() {
        core.handle(now(at), Input::Frame(frame));
    }
    let (mut agent, mut taken) = (Frames::new(FRAME_MAX_BYTES), 0);
    for (kind, from, part) in parts(bytes) {
        match kind % 3 {
            FRAMES => {
                agent.push(part);
                while let Ok(Some(frame)) = agent.pop::<ToKeeper>() {
                    taken += 1;
                    told(&core.handle(now(at), Input::Frame(frame)));
                }
            }
            DATAGRAM => {
                let Ok(message) = codec::decode::<Message>(part) else { continue };
                taken += 1;
                told(&core.handle(now(at), Input::Datagram { from: NodeId(from.into()), message }));
            }
            _ => {
                at += Duration::from_millis(u64::from(from) * 10);
                told(&core.handle(now(at), Input::Tick));
            }
        }
        let _ = core.next_wake(now(at));
    }
    taken > 0
}

fn now(at: Duration) -> Now {
    let ns = u64::try_from(at.as_nanos()).expect("a few minutes");
    Now { holder: HolderTime(ns), voter: VoterTime(ns) }
}

/// Whatever a keeper says, its agent can read.
fn told(effects: &[Effect]) {
    for effect in effects {
        if let Effect::Tell(word) = effect {
            let bytes = encode(word, FRAME_MAX_BYTES).expect("a keeper's word fits a frame");
            let mut frames = Frames::new(FRAME_MAX_BYTES);
            frames.push(&bytes);
            frames.pop::<FromKeeper>().expect("an agent reads it").expect("it is whole");
        }
    }
}

/// Kind, sender, length (2 bytes), bytes; as often as there are any.
fn parts(mut bytes: &[u8]) -> Vec<(u8, u8, &[u8])> {
    let mut parts = Vec::new();
    while let Some(([kind, from, a, b], rest)) = bytes.split_first_chunk()
        && parts.len() < STEPS_MAX
    {
        let length = usize::from(u16::from_be_bytes([*a, *b])).min(rest.len());
        let (part, left) = rest.split_at(length);
        parts.push((*kind, *from, part));
        bytes = left;
    }
    parts
}

fn part(kind: u8, from: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("seeds are small").to_be_bytes();
    [&[kind, from], &length[..], bytes].concat()
}

fn beginning() -> Vec<ToKeeper> {
    let configuration = Configuration {
        cluster: ClusterId(1),
        node: ME,
        profile: Profile::Default,
        keys: [].into(),
        sealing_key: None,
        keys_at: LogIndex(0),
        peers: [].into(),
    };
    let members = [ME, NodeId(2), NodeId(3)].into();
    let facts = vec![
        Fact::SetAdded { set: SetId(1), members },
        Fact::VoterUp { voter: ME, nonce: NONCE, incarnation: Incarnation(2) },
        Fact::Registered { session: SESSION, node: ME, nonce: NONCE, ttl: Millis(1500) },
        Fact::Registered { session: SessionId(10), node: NodeId(2), nonce: Nonce(2), ttl: Millis(1500) },
    ];
    vec![
        ToKeeper::Hello { version: VERSION, program: "test".to_owned() },
        ToKeeper::Configure(configuration),
        ToKeeper::Learn(Learn::Step { index: LogIndex(11), facts }),
        ToKeeper::Alive,
    ]
}

fn place() -> Place {
    let name = |given: &str| (PackageName::new(given), ResourceName::new(given));
    let (Ok(package), Ok(resource)) = name("p1") else { unreachable!("it is a name") };
    Place { package, resource, token: Token(12), session: SESSION }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let ip = IpResource { address: [10, 0, 0, 100].into(), prefix: 24, device: "eth0".into() };
    let package = place().package;
    let mut frames = beginning();
    frames.extend([
        ToKeeper::Collect { session: SessionId(10), ttl: Millis(1500), voters: vec![ME, NodeId(2)] },
        ToKeeper::Abandon { session: SessionId(10) },
        ToKeeper::Retire { why: "test".to_owned() },
        ToKeeper::Do { id: 1, op: Op::StartIp { place: place(), ip } },
        ToKeeper::Do { id: 2, op: Op::Release { package, token: Token(12) } },
        ToKeeper::Do { id: 3, op: Op::Reach { nodes: vec![NodeId(2)] } },
    ]);
    let frame = |frame: &ToKeeper| part(FRAMES, 0, &encode(frame, FRAME_MAX_BYTES).expect("it fits"));
    let datagram = |message: &Message| part(DATAGRAM, 2, &codec::encode(message));
    let ack = Message::Ack { session: SESSION, seq: 1, promised: true, set: SetId(1), members: vec![ME, NodeId(2)] };
    let life = [datagram(&ack), part(TIME, 10, &[]), frame(&frames[7]), part(TIME, 200, &[]), datagram(&ack)];
    let mut seeds: Vec<Vec<u8>> = frames.iter().map(frame).collect();
    seeds.extend(messages().iter().map(datagram));
    seeds.push(life.concat());
    seeds
}

/// What keeper, leash and init say to each other.
pub fn leash(bytes: &[u8]) -> bool {
    let (which, rest) = choice(bytes);
    match which % 4 {
        0 => comes_back::<FromLeash>(rest),
        1 => comes_back::<ExecRequest>(rest),
        2 => comes_back::<FromInit>(rest),
        _ => deadline(rest).is_some_and(|at| {
            assert_eq!(deadline_bytes(at), rest);
            true
        }),
    }
}

fn comes_back<T: DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> bool {
    let Ok(value) = codec::decode::<T>(bytes) else { return false };
    assert_eq!(codec::decode::<T>(&codec::encode(&value)), Ok(value));
    true
}

pub fn leash_seeds() -> Vec<Vec<u8>> {
    let exec = ExecRequest {
        op: 1,
        argv: vec!["/bin/true".to_owned()],
        environment: [("A".to_owned(), "b".to_owned())].into(),
        credentials: None,
        directory: "/".to_owned(),
    };
    vec![
        chosen(0, &codec::encode(&FromLeash::Init { fifo: true })),
        chosen(1, &codec::encode(&exec)),
        chosen(2, &codec::encode(&FromInit::Ready { random_pids: true, fifo: false })),
        chosen(2, &codec::encode(&FromInit::Exited { op: 1, exit: Exit::Signal(9) })),
        chosen(3, &deadline_bytes(BootTime(1))),
    ]
}
