//! Takers in every order: whoever is paused wherever, the newest ownership can take the LUN, and none that it has
//! ended writes again.

use std::collections::BTreeSet;

use super::memory::{MemoryLun, Nexus};
use super::take::ROUNDS_MAX;
use super::*;
use crate::engine::{ClusterId, NodeId, Token};

const CLUSTER: ClusterId = ClusterId(77);
const POLICY: Policy = Policy { abort: Abort::Yes, preempt_foreign: false };

fn key(node: u64, token: u64) -> Key {
    Key::of(CLUSTER, NodeId(node), Token(token)).unwrap()
}

/// One node with one ownership: taking, having taken or failed, giving up, gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    nexus: Nexus,
    key: Key,
    doing: Doing,
    /// It has acted, whatever it does now.
    has_acted: bool,
    /// A newer one came to act while this one did: it was frozen, with the LUN mounted.
    is_overtaken: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Doing {
    Taking(Take),
    /// It would mount and write.
    Acting,
    Refused(TakeError),
    Leaving(GiveUp),
    Gone,
}

impl Node {
    fn new(number: u8, token: u64) -> Self {
        let key = key(number.into(), token);
        Self {
            nexus: Nexus(number),
            key,
            doing: Doing::Taking(Take::new(key, POLICY)),
            has_acted: false,
            is_overtaken: false,
        }
    }

    /// What it does next, if anything; an owner that acts may be told to give up.
    fn step(&mut self, lun: &mut MemoryLun, may_leave: bool) -> bool {
        let mut port = lun.port(self.nexus);
        match &mut self.doing {
            Doing::Taking(take) => match take.step(&mut port) {
                Step::More => {}
                Step::Done => (self.doing, self.has_acted) = (Doing::Acting, true),
                Step::Failed(why) => self.doing = Doing::Refused(why),
            },
            Doing::Leaving(leave) => match leave.step(&mut port) {
                Step::More => {}
                Step::Done => self.doing = Doing::Gone,
                Step::Failed(fault) => panic!("{fault}"),
            },
            Doing::Acting | Doing::Refused(_) if may_leave => self.doing = Doing::Leaving(GiveUp::new(self.key)),
            Doing::Acting | Doing::Refused(_) | Doing::Gone => return false,
        }
        true
    }
}

type World = (MemoryLun, Vec<Node>);

/// Every world that can be reached when nodes take their steps in any order, leave in order or stop for ever anywhere.
fn explore(start: World, check: impl Fn(&World)) -> usize {
    let mut seen = BTreeSet::from([start.clone()]);
    let mut open = vec![start];
    while let Some(world) = open.pop() {
        check(&world);
        for at in 0..world.1.len() {
            let (mut lun, mut nodes) = world.clone();
            if let Doing::Taking(_) = nodes[at].doing {
                // Its process is killed wherever it is, and its keeper undoes what it began.
                let mut killed = nodes.clone();
                killed[at].doing = Doing::Leaving(GiveUp::new(killed[at].key));
                if at + 1 < killed.len() && seen.insert((lun.clone(), killed.clone())) {
                    open.push((lun.clone(), killed));
                }
            }
            let acted = nodes[at].has_acted;
            if !nodes[at].step(&mut lun, true) {
                continue;
            }
            if nodes[at].has_acted && !acted {
                nodes[..at].iter_mut().for_each(|old| old.is_overtaken |= old.doing == Doing::Acting);
            }
            if seen.insert((lun.clone(), nodes.clone())) {
                open.push((lun, nodes));
            }
        }
    }
    seen.len()
}

/// What must hold in every world, with the newest ownership last.
fn newest_wins((lun, nodes): &World) {
    // It thaws and writes what it has mounted: refused from the moment a newer one has acted, and for good, whether that
    // one still has the LUN or has given it up. (One that is only on its way has nothing mounted to write.)
    for old in nodes.iter().filter(|old| old.is_overtaken && old.doing == Doing::Acting) {
        assert!(!lun.may_write(old.nexus), "{old:?} writes beside {nodes:?}: {lun:?}");
    }
    let (newest, older) = nodes.split_last().unwrap();
    if newest.doing == Doing::Acting {
        assert!(lun.may_write(newest.nexus), "the owner cannot write: {lun:?}");
    }
    if newest.has_acted && newest.doing != Doing::Acting {
        return;
    }
    // Whoever stops for ever wherever they are: the newest finishes, holds, and is not refused.
    let (mut lun, mut newest) = (lun.clone(), newest.clone());
    while newest.step(&mut lun, false) {}
    assert_eq!(newest.doing, Doing::Acting);
    let held = lun.port(newest.nexus).reservation().unwrap().expect("it is reserved");
    assert!(held.key.is_of(newest.key) && held.kind == ReservationKind::WriteExclusiveRegistrantsOnly, "{held:?}");
    // And those that go on come to an end without acting beside it.
    for old in &mut older.to_vec() {
        let before = old.doing.clone();
        while old.step(&mut lun, false) {}
        let acts_anew = old.doing == Doing::Acting && before != Doing::Acting;
        assert!(!acts_anew, "{before:?} came to act after the newest did");
        assert!(old.doing != Doing::Acting || !lun.may_write(old.nexus), "{old:?} writes");
    }
    assert!(lun.may_write(newest.nexus));
}

#[test]
fn an_old_owner_paused_anywhere_never_holds_in_the_end_and_never_writes_beside_the_new_one() {
    let worlds = explore((MemoryLun::new(), vec![Node::new(1, 5), Node::new(2, 7)]), newest_wins);
    assert!(worlds > 100, "only {worlds} worlds");
}

#[test]
fn of_three_owners_in_any_order_the_newest_holds() {
    let nodes = vec![Node::new(1, 5), Node::new(2, 7), Node::new(3, 9)];
    let worlds = explore((MemoryLun::new(), nodes), newest_wins);
    assert!(worlds > 1000, "only {worlds} worlds");
}

#[test]
fn a_node_that_owns_again_ends_what_it_was_registered_under_before() {
    let mut lun = MemoryLun::new();
    take(&mut lun.port(Nexus(1)), key(1, 5), POLICY).unwrap();
    take(&mut lun.port(Nexus(1)), key(1, 9), POLICY).unwrap();
    assert_eq!(lun.port(Nexus(1)).keys().unwrap(), [key(1, 9).heir()]);
    assert!(lun.may_write(Nexus(1)) && !lun.may_write(Nexus(2)));
}

#[test]
fn a_newer_owner_is_left_alone_and_nothing_of_the_older_stays() {
    let mut lun = MemoryLun::new();
    take(&mut lun.port(Nexus(2)), key(2, 9), POLICY).unwrap();
    let why = take(&mut lun.port(Nexus(1)), key(1, 5), POLICY).unwrap_err();
    assert_eq!(why, TakeError::Newer { key: key(2, 9), token: Token(9) });
    assert!(!lun.is_registered(Nexus(1)) && lun.may_write(Nexus(2)));
    let same = take(&mut lun.port(Nexus(3)), key(3, 9), POLICY);
    assert!(matches!(same, Err(TakeError::Newer { .. })), "two nodes that claim one ownership: neither steals");
}

#[test]
fn another_clusters_lun_is_not_stolen_unless_the_package_says_so() {
    let strangers = [Key(0xABCD), Key::of(ClusterId(78), NodeId(1), Token(1)).unwrap()];
    for stranger in strangers {
        let mut lun = MemoryLun::new();
        lun.occupy(Nexus(9), stranger, Some(ReservationKind::WriteExclusive));
        let before = lun.clone();
        let why = take(&mut lun.port(Nexus(1)), key(1, 5), POLICY).unwrap_err();
        assert_eq!(lun, before, "nothing was changed");
        let text = why.to_string();
        assert!(text.contains(&stranger.to_string()) && text.contains("preempt_foreign = true"), "{text}");
        let policy = Policy { preempt_foreign: true, ..POLICY };
        take(&mut lun.port(Nexus(1)), key(1, 5), policy).unwrap();
        assert!(lun.may_write(Nexus(1)) && !lun.may_write(Nexus(9)));
    }
}

#[test]
fn what_was_given_up_in_order_is_anybodys() {
    let mut lun = MemoryLun::new();
    for (node, token) in [(1, 5), (2, 9)] {
        take(&mut lun.port(Nexus(node)), key(node.into(), token), POLICY).unwrap();
        give_up(&mut lun.port(Nexus(node)), key(node.into(), token)).unwrap();
        assert_eq!(lun, MemoryLun::new());
    }
    give_up(&mut lun.port(Nexus(2)), key(2, 9)).unwrap();
}

#[test]
fn what_was_preempted_stays_reserved_when_it_is_given_up_so_that_the_old_owner_never_writes_again() {
    let mut lun = MemoryLun::new();
    take(&mut lun.port(Nexus(1)), key(1, 5), POLICY).unwrap();
    for (node, token) in [(2, 9), (3, 11)] {
        take(&mut lun.port(Nexus(node)), key(node.into(), token), POLICY).unwrap();
        give_up(&mut lun.port(Nexus(node)), key(node.into(), token)).unwrap();
        assert!(!lun.may_write(Nexus(1)), "frozen with it mounted, and thawed now");
    }
    // It comes back and gives up what it has not: nothing changes.
    give_up(&mut lun.port(Nexus(1)), key(1, 5)).unwrap();
    assert_eq!(lun.port(Nexus(1)).keys().unwrap(), [key(3, 11).heir()]);
    take(&mut lun.port(Nexus(1)), key(1, 12), POLICY).unwrap();
    assert!(lun.may_write(Nexus(1)) && !lun.may_write(Nexus(3)));
}

/// A device that refuses some commands.
struct Refusing<'l>(memory::Port<'l>, fn(&str) -> Option<PrFault>);

impl Refusing<'_> {
    fn or<T>(
        &mut self,
        what: &str,
        act: impl FnOnce(&mut memory::Port<'_>) -> Result<T, PrFault>,
    ) -> Result<T, PrFault> {
        self.1(what).map_or_else(|| act(&mut self.0), Err)
    }
}

impl Reservations for Refusing<'_> {
    fn register(&mut self, key: Key) -> Result<(), PrFault> {
        self.or("register", |lun| lun.register(key))
    }
    fn unregister(&mut self, key: Key) -> Result<(), PrFault> {
        self.or("unregister", |lun| lun.unregister(key))
    }
    fn reserve(&mut self, key: Key) -> Result<(), PrFault> {
        self.or("reserve", |lun| lun.reserve(key))
    }
    fn release(&mut self, key: Key) -> Result<(), PrFault> {
        self.or("release", |lun| lun.release(key))
    }
    fn preempt(&mut self, own: Key, victim: Key, abort: Abort) -> Result<(), PrFault> {
        self.or("preempt", |lun| lun.preempt(own, victim, abort))
    }
    fn clear(&mut self, key: Key) -> Result<(), PrFault> {
        self.or("clear", |lun| lun.clear(key))
    }
    fn keys(&mut self) -> Result<Vec<Key>, PrFault> {
        self.or("keys", |lun| lun.keys())
    }
    fn reservation(&mut self) -> Result<Option<Reservation>, PrFault> {
        self.or("reservation", |lun| lun.reservation())
    }
}

#[test]
fn a_device_that_fails_at_any_step_leaves_nothing_of_ours_registered_but_what_keeps_an_old_owner_out() {
    fn broken() -> PrFault {
        PrFault::Failed { what: "a command", why: "input/output error".to_owned() }
    }
    let refusals: [fn(&str) -> Option<PrFault>; 5] = [
        |what| (what == "keys").then(broken),
        |what| (what == "register").then(broken),
        |what| (what == "preempt").then(broken),
        |what| (what == "reserve").then(broken),
        |what| (what == "reservation").then(broken),
    ];
    for refuse in refusals {
        let mut lun = MemoryLun::new();
        let outcome = take(&mut Refusing(lun.port(Nexus(1)), refuse), key(1, 5), POLICY);
        assert!(matches!(outcome, Err(TakeError::Device { .. }) | Ok(())), "{outcome:?}");
        assert!(outcome.is_ok() || !lun.is_registered(Nexus(1)));
        // With an old owner there: either it has the LUN still, or it is kept out.
        let mut lun = MemoryLun::new();
        take(&mut lun.port(Nexus(2)), key(2, 3), POLICY).unwrap();
        let outcome = take(&mut Refusing(lun.port(Nexus(1)), refuse), key(1, 5), POLICY);
        assert_eq!(outcome, Err(TakeError::Device { fault: broken() }));
        assert!(lun.is_registered(Nexus(2)) || lun.is_registered(Nexus(1)), "{lun:?}");
        assert!(lun.port(Nexus(1)).reservation().unwrap().is_some());
    }
}

#[test]
fn a_device_that_never_settles_is_given_up_after_a_stated_number_of_rounds() {
    let mut lun = MemoryLun::new();
    let restless = |what: &str| (what == "reserve").then_some(PrFault::Conflict { what: "reserve" });
    let outcome = take(&mut Refusing(lun.port(Nexus(1)), restless), key(1, 5), POLICY);
    assert_eq!(outcome, Err(TakeError::Restless), "{ROUNDS_MAX} rounds");
    assert!(!lun.is_registered(Nexus(1)));
}

#[test]
fn kinds_have_their_two_numbers() {
    let kind = ReservationKind::WriteExclusiveRegistrantsOnly;
    assert_eq!((ReservationKind::of_linux(3), ReservationKind::of_scsi(5)), (Some(kind), Some(kind)));
    assert_eq!(ReservationKind::of_scsi(8), Some(ReservationKind::ExclusiveAccessAllRegistrants));
    assert!(ReservationKind::of_linux(0).is_none() && ReservationKind::of_scsi(2).is_none());
}
