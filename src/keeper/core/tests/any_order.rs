//! Whatever happens in whatever order, what must never happen does not.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

/// Something that may happen; numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Time(u64),
    Frozen(u64),
    Renewed,
    Attach,
    Hang,
    Alive,
    Register,
    Expire,
    Retire,
    Terminate,
    Start { resource: u8, token: u64 },
    StartIp { resource: u8, token: u64 },
    SetIp { resource: u8, token: u64 },
    StartStorage { resource: u8, token: u64 },
    Stop { resource: u8, token: u64 },
    StopStorage { resource: u8, token: u64 },
    StopIp { resource: u8, token: u64 },
    Release { token: u64 },
    Program { which: usize, event: u8 },
    Address { which: usize, event: u8 },
    Storage { which: usize, good: bool },
    Stranger { from: u64, kind: u8, session: u64, seq: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (resource, token) = (0..3u8, 1..30u64);
    let place = (resource, token);
    prop::collection::vec(
        prop_oneof![
            3 => (1..200u64).prop_map(Step::Time),
            1 => prop_oneof![9 => 1..200u64, 1 => 200..4000u64].prop_map(Step::Frozen),
            20 => Just(Step::Renewed),
            1 => Just(Step::Attach),
            1 => Just(Step::Hang),
            3 => Just(Step::Alive),
            6 => Just(Step::Register),
            1 => prop_oneof![7 => Just(Step::Alive), 2 => Just(Step::Expire), 1 => Just(Step::Retire)],
            1 => prop_oneof![19 => Just(Step::Attach), 1 => Just(Step::Terminate)],
            5 => place.clone().prop_map(|(resource, token)| Step::Start { resource, token }),
            2 => place.clone().prop_map(|(resource, token)| Step::StartIp { resource, token }),
            2 => place.clone().prop_map(|(resource, token)| Step::SetIp { resource, token }),
            4 => place.clone().prop_map(|(resource, token)| Step::StartStorage { resource, token }),
            2 => place.clone().prop_map(|(resource, token)| Step::StopStorage { resource, token }),
            6 => (0..8usize, any::<bool>()).prop_map(|(which, good)| Step::Storage { which, good }),
            3 => place.clone().prop_map(|(resource, token)| Step::Stop { resource, token }),
            2 => place.prop_map(|(resource, token)| Step::StopIp { resource, token }),
            2 => (1..12u64).prop_map(|token| Step::Release { token }),
            8 => (0..8usize, 0..4u8).prop_map(|(which, event)| Step::Program { which, event }),
            4 => (0..8usize, 0..5u8).prop_map(|(which, event)| Step::Address { which, event }),
            2 => stranger(0..8),
            2 => stranger(0..2),
        ],
        1..200,
    )
}

/// A datagram of one of these kinds, from anybody.
fn stranger(kinds: std::ops::Range<u8>) -> impl Strategy<Value = Step> {
    let drawn = (0..5u64, kinds, 0..12u64, 0..6u64);
    drawn.prop_map(|(from, kind, session, seq)| Step::Stranger { from, kind, session, seq })
}

/// What a process does for a LUN or filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Do,
    Undo,
}

/// The world outside the core, as far as what it does is lawful.
struct World {
    bench: Bench,
    /// Leashes that are not gone.
    leashes: BTreeSet<Place>,
    /// Addresses the worker holds or works on.
    addresses: BTreeSet<Place>,
    /// LUNs and filesystems of which something may be left, with the operation that is under way.
    storages: BTreeMap<Place, Option<Doing>>,
    /// The largest token released with an answer of Ok.
    released: Token,
    over: BTreeSet<SessionId>,
    sessions: Vec<SessionId>,
    /// The largest seq that this voter acked of each session.
    acked: BTreeMap<SessionId, u64>,
    /// The last renewal sent and not acked.
    renewal: Option<(SessionId, u64)>,
    exited: bool,
}

impl World {
    fn new() -> Self {
        let (bench, session) = Bench::leased();
        let (leashes, addresses, over) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let storages = BTreeMap::new();
        let released = Token(0);
        Self {
            bench,
            leashes,
            addresses,
            storages,
            released,
            over,
            sessions: vec![session],
            acked: BTreeMap::new(),
            renewal: None,
            exited: false,
        }
    }

    fn place(&self, resource: u8, token: u64) -> Place {
        let session = *self.sessions.last().unwrap();
        place("p", ["a", "b", "c"][usize::from(resource)], token, session)
    }

    fn step(&mut self, step: Step) {
        let b = &mut self.bench;
        match step {
            Step::Time(ms) => b.run(ms),
            Step::Frozen(ms) => b.frozen(ms),
            Step::Renewed => {
                self.renewal.take().into_iter().for_each(|(session, seq)| b.ack(2, session, seq));
                b.run(100);
            }
            Step::Attach => drop(b.attach()),
            Step::Hang => b.input(Input::AgentGone),
            Step::Alive => b.frame(ToKeeper::Alive),
            Step::Register => self.register(),
            Step::Expire => {
                let session = *self.sessions.last().unwrap();
                b.learn(Fact::Expired { session });
            }
            Step::Retire => b.frame(ToKeeper::Retire { why: "test".to_owned() }),
            Step::Terminate => b.input(Input::Terminate),
            Step::Start { resource, token } => {
                let place = self.place(resource, token);
                self.bench.op(Op::StartProgram { place, program: program() });
            }
            Step::StartIp { resource, token } => {
                let place = self.place(resource, token);
                self.bench.op(Op::StartIp { place, ip: ip() });
            }
            Step::SetIp { resource, token } => {
                let place = self.place(resource, token);
                self.bench.op(Op::SetIp { place, ip: ip() });
            }
            Step::StartStorage { resource, token } => {
                let place = self.place(resource, token);
                self.bench.op(Op::StartStorage { place, storage: filesystem() });
            }
            Step::StopStorage { resource, token } => {
                let place = self.place(resource, token);
                self.bench.op(Op::StopStorage { place, within: Millis(300) });
            }
            Step::Storage { which, good } => self.storage(which, good),
            Step::Stop { resource, token } => {
                let place = self.place(resource, token);
                self.bench.op(Op::StopProgram { place, signal: 15, grace: Millis(300) });
            }
            Step::StopIp { resource, token } => {
                let place = self.place(resource, token);
                self.bench.op(Op::StopIp { place });
            }
            Step::Release { token } => self.release(Token(token)),
            Step::Program { which, event } => self.program(which, event),
            Step::Address { which, event } => self.address(which, event),
            Step::Stranger { from, kind, session, seq } => self.stranger(NodeId(from), kind, SessionId(session), seq),
        }
        self.look();
    }

    /// As an agent does: only once the session before is over, or none was.
    fn register(&mut self) {
        if self.sessions.last().is_none_or(|last| self.over.contains(last)) {
            let session = self.bench.register();
            self.sessions.push(session);
        }
    }

    fn release(&mut self, token: Token) {
        let package = PackageName::new("p").unwrap();
        // Whether something is up is looked at before: the answer must not come while it is.
        let up = self.is_up();
        let id = self.bench.op(Op::Release { package, token });
        let released = self.bench.said.iter().any(
            |effect| matches!(effect, Effect::Tell(FromKeeper::Done { id: done, outcome: Outcome::Ok }) if *done == id),
        );
        assert!(!(released && up), "rule 20: released with {}", self.shown());
        if released {
            self.released = self.released.max(token);
        }
    }

    fn program(&mut self, which: usize, event: u8) {
        let Some(place) = self.leashes.iter().nth(which % self.leashes.len().max(1)).cloned() else { return };
        let event = match event {
            0 => ProgramEvent::Started { pid: 7 },
            1 => ProgramEvent::Failed { why: "test".to_owned() },
            2 => ProgramEvent::Exited { exit: Exit::Code(1) },
            _ => {
                self.leashes.remove(&place);
                ProgramEvent::Gone { by_deadline: which.is_multiple_of(2) }
            }
        };
        self.bench.program(&place, event);
    }

    fn address(&mut self, which: usize, event: u8) {
        let Some(place) = self.addresses.iter().nth(which % self.addresses.len().max(1)).cloned() else { return };
        let why = "test".to_owned();
        let (event, left) = match event {
            0 => (AddressEvent::Up, true),
            3 => (AddressEvent::Set, true),
            1 => (AddressEvent::Stuck { why }, true),
            _ => (AddressEvent::Down, false),
        };
        // The worker says these only to an order that it was given.
        if !left {
            self.addresses.remove(&place);
        }
        self.bench.address(&place, event);
    }

    fn storage(&mut self, which: usize, good: bool) {
        let under_way: Vec<_> =
            self.storages.iter().filter_map(|(place, doing)| Some((place.clone(), (*doing)?))).collect();
        let Some((place, doing)) = under_way.get(which % under_way.len().max(1)).cloned() else { return };
        let why = "test".to_owned();
        let event = match (doing, good) {
            (Doing::Do, true) => StorageEvent::Up,
            (Doing::Do, false) => StorageEvent::Failed { why },
            (Doing::Undo, true) => StorageEvent::Down,
            (Doing::Undo, false) => StorageEvent::Stuck { why },
        };
        // What failed may have left something; only what was undone has not.
        match event {
            StorageEvent::Down => drop(self.storages.remove(&place)),
            _ => drop(self.storages.insert(place.clone(), None)),
        }
        self.bench.storage(&place, event);
    }

    /// One operation at a time for a place; nothing is undone under what runs on top of it at a lapse.
    fn begin(&mut self, place: Place, doing: Doing) {
        let before = self.storages.insert(place.clone(), Some(doing)).flatten();
        assert_eq!(before, None, "two operations at a time for {place:?}");
    }

    fn is_up(&self) -> bool {
        !self.leashes.is_empty() || !self.addresses.is_empty() || !self.storages.is_empty()
    }

    fn shown(&self) -> String {
        format!("{:?} {:?} {:?} up", self.leashes, self.addresses, self.storages)
    }

    fn stranger(&mut self, from: NodeId, kind: u8, session: SessionId, seq: u64) {
        let (ttl, nonce, set, incarnation) = (TTL, Nonce(session.0), SetId(1), Incarnation(9));
        // Now and then it was for another life of this keeper.
        let life = if seq == 5 { Nonce(NONCE.0 - 1) } else { NONCE };
        let message = match kind {
            0 => Message::Renew { session, seq, ttl, life },
            1 => Message::Query { session, seq, life },
            2 => Message::Ack { session, seq, promised: true, set, members: vec![from] },
            3 => Message::Ask { session, ttl },
            4 => Message::Agreed { session, incarnation },
            5 => Message::Ping { nonce },
            6 => Message::Pong { nonce, ready: true },
            _ => Message::KnowsSet { nonce, set: Some(set) },
        };
        self.bench.input(Input::Datagram { from, message });
    }

    /// Looks at what the core has said, and holds the promises against it.
    fn look(&mut self) {
        let now = HolderTime::from_millis(self.bench.ms);
        for effect in std::mem::take(&mut self.bench.said) {
            match effect {
                Effect::Spawn { place, deadline, .. } => {
                    assert!(place.token > self.released, "rule 20: {place:?} after {:?}", self.released);
                    assert!(deadline <= now + Duration::from_millis(LEASE_MS - MARGIN_MS), "rule 22");
                    assert!(!self.over.contains(&place.session), "under a session that is over");
                    let taken = self.leashes.iter().any(|other| other.resource == place.resource);
                    assert!(!taken, "a namespace shared with leftovers: {place:?} of {:?}", self.leashes);
                    self.leashes.insert(place);
                }
                Effect::StartAddress { place, .. } => {
                    assert!(place.token > self.released, "rule 20");
                    self.addresses.insert(place);
                }
                Effect::StartStorage { place, deadline, .. } => {
                    assert!(place.token > self.released, "rule 20");
                    assert!(deadline <= now + Duration::from_millis(LEASE_MS - MARGIN_MS), "rule 22");
                    assert!(!self.over.contains(&place.session), "under a session that is over");
                    self.begin(place, Doing::Do);
                }
                Effect::StopStorage { place, .. } => self.begin(place, Doing::Undo),
                Effect::Send { message: Message::Renew { session, seq, .. }, .. } => {
                    assert!(!self.over.contains(&session), "rule 8a: renewed after it was over");
                    self.renewal = Some((session, seq));
                }
                Effect::Send { message: Message::Query { session, seq, .. }, .. } => {
                    assert!(!self.over.contains(&session), "rule 8a: asked after it was over");
                    self.renewal = Some((session, seq));
                }
                Effect::Send { message: Message::Ack { session, seq, .. }, .. } => {
                    let before = self.acked.insert(session, seq);
                    assert!(Some(seq) > before && seq != 5, "rule 6a: {session} {seq} after {before:?}");
                }
                Effect::Tell(FromKeeper::Lease(view)) if view.over => {
                    assert!(!self.is_up(), "rule 5: over with {}", self.shown());
                    self.over.extend(view.session);
                }
                Effect::Exit => {
                    assert!(!self.is_up(), "it ends with {}", self.shown());
                    self.exited = true;
                }
                _ => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, rng_seed: RngSeed::Fixed(6), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_in_whatever_order_no_rule_is_broken(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            if world.exited {
                break;
            }
        }
    }
}
