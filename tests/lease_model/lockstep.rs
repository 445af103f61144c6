//! The model and the shipped machines, step by step: whatever the model lets happen is done to `Holder`, `Promiser`,
//! `Retirement` and `apply` as well, and after each step they must allow, refuse and count alike.
//!
//! The holder runs without rule 8a: the model renews for ever, which is more than the shipped holder dares.

use std::collections::{BTreeMap, BTreeSet};

use pkgctl::engine::apply::apply_under;
use pkgctl::engine::command::Entry;
use pkgctl::engine::event::Timeline;
use pkgctl::engine::lease::{
    Fact as Told, Holder, Knowledge, Learn, Message, Notice, Promiser, Retirement, Rule, Rules,
};
use pkgctl::engine::state::{Cluster, Node, Session, State, VoterLife};
use pkgctl::engine::{
    ClusterId, Command, HolderTime, Incarnation, LogIndex, NodeId, Nonce, Profile, Reply, SessionId, SetId, VoterTime,
    WallMillis,
};
use pkgctl::package::{Millis, NodeName};
use stateright::Model;

use super::model::Step;
use super::state::{Bounds, World};

/// A tick of the model. Long enough that what rule 1 takes off a lease is less than one.
const TICK: u64 = 1000;
const SESSION: SessionId = SessionId(1);
/// Somebody else's session, which lives on.
const OTHER: SessionId = SessionId(2);
const HOST: NodeId = NodeId(90);
/// The log's length before anything happens.
const BEGINNING: LogIndex = LogIndex(10);
/// The walks begin long after every clock's start.
const START: u64 = 1_000_000;

/// The shipped machines in one arrangement with the model's world.
struct Real {
    bounds: Bounds,
    /// In force in all of them but the holder.
    rules: Rules,
    now: u64,
    state: State,
    /// What each entry since the beginning told keepers.
    log: Vec<(LogIndex, Vec<Told>)>,
    holder: Holder,
    targets: Knowledge,
    /// The renewals sent at each tick.
    renewals: BTreeMap<u64, BTreeMap<NodeId, Message>>,
    voters: Vec<RealVoter>,
    /// Acks under way: by voter, set and tick of their t0.
    acks: BTreeMap<(usize, u8, u64), Message>,
    agreed: BTreeMap<NodeId, Incarnation>,
    /// The sets in order.
    sets: Vec<SetId>,
    retirement: Option<Retirement>,
    lives: u64,
}

#[derive(Clone)]
struct RealVoter {
    nonce: Nonce,
    promiser: Promiser,
    knowledge: Knowledge,
    /// Entries of the log that it knows.
    known: usize,
}

fn id(voter: usize) -> NodeId {
    NodeId(voter as u64 + 1)
}

fn members(bits: u8) -> BTreeSet<NodeId> {
    (0..8).filter(|v| bits & 1 << v != 0).map(id).collect()
}

fn node(at: NodeId) -> Node {
    let name = NodeName::new(format!("n{at}")).unwrap();
    let address = format!("10.0.0.{at}:7420").parse().unwrap();
    Node { name, address, links: Vec::new(), request: Nonce(at.0) }
}

fn beginning(bounds: &Bounds) -> State {
    let voters: Vec<NodeId> = (0..bounds.voters()).map(id).collect();
    let cluster = Cluster {
        id: ClusterId(1),
        name: "model".into(),
        profile: Profile::Default,
        ca_certificate: String::new(),
        ca_key: String::new(),
        datagram_keys: BTreeMap::new(),
    };
    let session = |node: NodeId| Session { node, nonce: Nonce(7), ttl: ttl(bounds) };
    let life = |v: &NodeId| VoterLife { nonce: Nonce(v.0), incarnation: Incarnation(3) };
    State {
        applied: BEGINNING,
        cluster: Some(cluster),
        nodes: voters.iter().copied().chain([HOST, NodeId(91)]).map(|id| (id, node(id))).collect(),
        raft_voters: voters.iter().copied().collect(),
        voter_lives: voters.iter().map(|v| (*v, life(v))).collect(),
        lease_sets: BTreeMap::from([(SetId(5), members(bounds.sets[0]))]),
        sessions: BTreeMap::from([(SESSION, session(HOST)), (OTHER, session(NodeId(91)))]),
        ..State::default()
    }
}

fn ttl(bounds: &Bounds) -> Millis {
    Millis(u64::from(bounds.ttl) * TICK)
}

impl Real {
    fn new(bounds: &Bounds, rules: Rules) -> Self {
        let state = beginning(bounds);
        let knowledge = Knowledge::of(&state);
        let long_up = VoterTime::from_millis(0);
        let voter = |v: usize| RealVoter {
            nonce: Nonce(id(v).0),
            promiser: Promiser::new(id(v), Nonce(id(v).0), long_up).under(rules),
            knowledge: knowledge.clone(),
            known: 0,
        };
        let mut targets = knowledge.clone();
        targets.sets.insert(SetId(1), (0..bounds.voters()).map(id).collect());
        let every = Millis(TICK).duration();
        // Renewals of every age that is of use are under way from the beginning.
        let first = START - u64::from(bounds.lease - 1) * TICK;
        let holder = Holder::new(SESSION, ttl(bounds), every, HolderTime::from_millis(first));
        let mut real = Self {
            bounds: bounds.clone(),
            rules,
            now: first,
            voters: (0..bounds.voters()).map(voter).collect(),
            state,
            log: Vec::new(),
            holder: holder.under(Rules::without(Rule::QueryMode)),
            targets,
            renewals: BTreeMap::new(),
            acks: BTreeMap::new(),
            agreed: BTreeMap::new(),
            sets: vec![SetId(5)],
            retirement: None,
            lives: 100,
        };
        real.send();
        while real.now < START {
            real.now += TICK;
            real.send();
        }
        real
    }

    fn at(&self) -> VoterTime {
        VoterTime::from_millis(self.now)
    }

    fn send(&mut self) {
        let sent = self.holder.poll(HolderTime::from_millis(self.now), &self.targets);
        self.renewals.insert(self.now, sent.into_iter().collect());
    }

    fn then(&self, age: u8) -> u64 {
        self.now - u64::from(age) * TICK
    }

    /// A voter's answer to a renewal of that age, if it acks.
    fn renew(&self, v: usize, voter: &mut RealVoter, age: u8) -> Option<Message> {
        let message = self.renewals.get(&self.then(age))?.get(&id(v))?;
        let said = voter.promiser.receive(self.at(), HOST, message, &voter.knowledge);
        said.into_iter().find_map(|notice| match notice {
            Notice::Send { message: message @ Message::Ack { .. }, .. } => Some(message),
            _ => None,
        })
    }

    /// The incarnation in which a voter agrees, if it does so at once.
    fn ask(&self, voter: &mut RealVoter) -> Option<Incarnation> {
        let question = Message::Ask { session: SESSION, ttl: ttl(&self.bounds) };
        let said = voter.promiser.receive(self.at(), id(0), &question, &voter.knowledge);
        said.into_iter().find_map(|notice| match notice {
            Notice::Send { message: Message::Agreed { incarnation, .. }, .. } => Some(incarnation),
            _ => None,
        })
    }

    fn propose(&mut self, command: Command) -> Reply {
        let index = LogIndex(self.state.applied.0 + 1);
        let applied = apply_under(
            &self.rules,
            &mut self.state,
            index,
            &Entry { wall: WallMillis(0), by: "model".into(), command },
        );
        self.log.push((index, applied.facts));
        applied.reply
    }

    fn expire(&self) -> Command {
        let agreed = self.agreed.iter().map(|(voter, incarnation)| (*voter, *incarnation)).collect();
        Command::ExpireSession { session: SESSION, agreed, moves: Vec::new(), timeline: Timeline::default() }
    }

    /// Learns entries until one satisfies the condition.
    fn learn(&mut self, voter: usize, until: impl Fn(&Told) -> bool) -> Same {
        let v = &mut self.voters[voter];
        loop {
            let (index, facts) = self.log.get(v.known).ok_or("the log has no such fact")?.clone();
            v.known += 1;
            let found = facts.iter().any(&until);
            v.knowledge.learn(Learn::Step { index, facts });
            if found {
                return Ok(());
            }
        }
    }

    fn take(&mut self, step: Step) -> Same {
        match step {
            Step::Tick(..) => {
                self.now += TICK;
                self.send();
            }
            Step::Renew(v, age) => {
                let mut voter = self.voters[v].clone();
                let set = self.set_of(&voter);
                let ack = self.renew(v, &mut voter, age).ok_or("the voter does not ack")?;
                self.voters[v] = voter;
                self.acks.insert((v, set, self.then(age)), ack);
            }
            Step::Ack(v, set, age) => {
                let ack = self.acks.get(&(v, set, self.then(age))).ok_or("no such ack was sent")?.clone();
                self.holder.receive(HolderTime::from_millis(self.now), id(v), &ack);
            }
            Step::Agree(v) => {
                let mut voter = self.voters[v].clone();
                let incarnation = self.ask(&mut voter).ok_or("the voter does not agree")?;
                self.voters[v] = voter;
                self.agreed.insert(id(v), incarnation);
            }
            Step::Learn(v) => {
                let is_fact = |told: &Told| matches!(told, Told::SetAdded { .. } | Told::Expired { session: SESSION });
                self.learn(v, is_fact)?;
            }
            Step::Up(v) => {
                let nonce = self.voters[v].nonce;
                self.learn(v, |told| matches!(told, Told::VoterUp { nonce: up, .. } if *up == nonce))?;
            }
            Step::Restart(v) => {
                self.lives += 1;
                let nonce = Nonce(self.lives);
                let promiser = Promiser::new(id(v), nonce, self.at()).under(self.rules);
                let knowledge = Knowledge::of(&beginning(&self.bounds));
                self.voters[v] = RealVoter { nonce, promiser, knowledge, known: 0 };
                // The holder meets it before it renews again.
                self.targets.voters.insert(id(v), (nonce, Incarnation(0)));
            }
            Step::VoterUp(v) => {
                let nonce = self.voters[v].nonce;
                let reply = self.propose(Command::VoterUp { voter: id(v), nonce });
                same(matches!(reply, Reply::Incarnation(_)), true, "VoterUp")?;
            }
            Step::AddSet => {
                let old = *self.sets.last().expect("one");
                let next = members(self.bounds.sets[self.sets.len()]);
                let reply = self.propose(Command::AddLeaseSet { members: next, after: Some(old) });
                let Reply::Set(set) = reply else { return Err(format!("AddLeaseSet: {reply:?}")) };
                self.sets.push(set);
                self.retirement = Some(Retirement::new(old, set).under(self.rules));
            }
            Step::Confirm(v) => {
                let (now, set) = (self.at(), *self.sets.last().expect("one"));
                self.retirement.as_mut().expect("two sets").confirm(id(v), set, now);
            }
            Step::Retire => {
                let old = self.retirement.take().expect("two sets").old();
                same(self.propose(Command::RetireLeaseSet { set: old }), Reply::Done, "RetireLeaseSet")?;
            }
            Step::Expire => same(self.propose(self.expire()), Reply::Done, "ExpireSession")?,
            other => unreachable!("{other:?} is not among the bounds"),
        }
        Ok(())
    }

    fn set_of(&self, voter: &RealVoter) -> u8 {
        let (newest, _) = voter.knowledge.newest_set().expect("there is one from the beginning");
        u8::try_from(self.sets.iter().position(|set| *set == newest).expect("a set of the log")).unwrap()
    }

    /// Both worlds allow, refuse and count alike.
    fn agrees_with(&mut self, world: &World) -> Same {
        let holds = self.holder.holds(HolderTime::from_millis(self.now));
        same(holds, world.lease > 0, "whether the lease is held")?;
        for v in 0..self.bounds.voters() {
            let acks = self.renew(v, &mut self.voters[v].clone(), 0).is_some();
            let takes = world.voters[v].barred > 0;
            same(acks, takes && self.bounds.may_ack(world, v), "whether a voter acks")?;
            let said = self.ask(&mut self.voters[v].clone()).is_some();
            let again = world.voters[v].agreed && world.voters[v].fenced;
            if !again {
                same(said, self.bounds.may_agree(world, v), "whether a voter agrees")?;
            }
        }
        if !world.ended() {
            let mut state = self.state.clone();
            let (index, wall) = (LogIndex(state.applied.0 + 1), WallMillis(0));
            let reply = apply_under(
                &self.rules,
                &mut state,
                index,
                &Entry { wall, by: "model".into(), command: self.expire() },
            )
            .reply;
            same(reply == Reply::Done, self.bounds.agreed(world), "whether the session may expire")?;
        }
        let (now, state) = (self.at(), &self.state);
        if let Some(retirement) = &mut self.retirement {
            same(retirement.due(state, now), world.wait == Some(0), "whether the old set may be retired")?;
        }
        Ok(())
    }
}

/// That the machines and the model are alike, or where they are not.
type Same = Result<(), String>;

fn same<T: PartialEq + std::fmt::Debug>(machines: T, model: T, what: &str) -> Same {
    if machines == model { Ok(()) } else { Err(format!("{what}: the machines say {machines:?}, the model {model:?}")) }
}

/// splitmix64.
fn chance(seed: &mut u64, below: usize) -> usize {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((z ^ (z >> 31)) % below as u64).unwrap()
}

/// Counts how often each kind of step was taken.
fn walk(bounds: &Bounds, rules: Rules, mut seed: u64, taken: &mut BTreeMap<String, usize>) -> Same {
    let (mut real, mut world) = (Real::new(bounds, rules), World::new(bounds));
    let mut path = Vec::new();
    for _ in 0..80 {
        let mut steps = Vec::new();
        bounds.actions(&world, &mut steps);
        let step = steps[chance(&mut seed, steps.len())];
        let Some(next) = bounds.next_state(&world, step) else { continue };
        path.push(step);
        real.take(step).and_then(|()| real.agrees_with(&next)).map_err(|why| format!("{why} after {path:?}"))?;
        let kind = format!("{step:?}").split('(').next().unwrap_or_default().to_owned();
        *taken.entry(kind).or_default() += 1;
        world = next;
    }
    Ok(())
}

fn walks(rules: Rules, taken: &mut BTreeMap<String, usize>) -> Same {
    for sets in [&[0b111][..], super::SWAP, super::REPLACE, &[0b001, 0b111]] {
        let bounds = Bounds { named: true, replays: false, ..Bounds::three().sets(sets) };
        (0..150).try_for_each(|seed| walk(&bounds, rules, seed, taken))?;
    }
    Ok(())
}

#[test]
fn the_shipped_machines_do_what_the_model_does() {
    let mut taken = BTreeMap::new();
    walks(Rules::ALL, &mut taken).unwrap_or_else(|why| panic!("{why}"));
    println!("{taken:?}");
    let kinds =
        ["Ack", "AddSet", "Agree", "Confirm", "Expire", "Learn", "Renew", "Restart", "Retire", "Tick", "Up", "VoterUp"];
    for kind in kinds {
        assert!(taken.get(kind).is_some_and(|count| *count > 20), "{kind} was hardly ever taken: {taken:?}");
    }
}

#[test]
fn machines_that_lack_a_rule_are_told_from_the_model() {
    let rules = [
        Rule::LogRefuse,
        Rule::TakenOnce,
        Rule::ThisLife,
        Rule::VoterUpFirst,
        Rule::PromiseLapsed,
        Rule::UpForTtl,
        Rule::Fence,
        Rule::CurrentIncarnation,
        Rule::EverySet,
        Rule::RetireWait,
    ];
    for rule in rules {
        let why = walks(Rules::without(rule), &mut BTreeMap::new());
        println!("{rule:?}: {}", why.expect_err("the walks do not notice that it is missing"));
    }
}
