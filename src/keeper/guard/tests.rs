//! What the bookkeeping promises, against a simulated kernel that counts timeouts from its own commits, with the
//! caller paused for any time between any two of its steps.

use proptest::prelude::*;

use super::*;

const TTL: Millis = Millis(1500);
const MS: fn(u64) -> Duration = Duration::from_millis;

fn at(ms: u64) -> HolderTime {
    HolderTime::from_millis(ms)
}

/// An element opened at `now` with a lease until `t`.
fn open(now: HolderTime, t: HolderTime, pace: &Pace) -> Slice {
    let permit = Permitting::begin(now, t, pace).expect("time for a permit").permitted(now);
    let grant = permit.grant(t, pace).expect("time for a grant");
    match grant.granted(now) {
        Renewed::Held(slice) => slice,
        Renewed::Late(_) => panic!("nothing was paused"),
    }
}

#[test]
fn a_slice_is_two_fifths_of_the_ttl_and_renewed_six_times() {
    let pace = Pace::of(TTL);
    assert_eq!((pace.slice, pace.every, pace.tight), (MS(600), MS(100), MS(30)));
    let fast = Pace::of(Millis(400));
    assert_eq!(fast.slice, MS(160));
    assert!(fast.tight <= fast.every && fast.every < MS(27));
}

#[test]
fn the_kernel_is_asked_for_less_than_the_length_and_never_for_no_timeout() {
    assert_eq!(kernel_timeout(MS(600), 0.0), MS(597));
    assert_eq!(kernel_timeout(MS(600), 0.08), MS(552), "a clock slewed hard is allowed for");
    assert_eq!(kernel_timeout(MS(600), -0.08), MS(597));
    assert_eq!(kernel_timeout(MS(600), f64::NAN), MS(597));
    assert_eq!(kernel_timeout(Duration::from_micros(900), 0.0), Duration::ZERO);
    assert!(2 * Pace::of(Millis(400)).least_gain() > MS(10), "what is asked for never rounds to zero");
}

#[test]
fn while_acks_come_whole_slices_are_renewed_every_sixth() {
    let pace = Pace::of(TTL);
    let mut slice = open(at(0), at(1468), &pace);
    assert_eq!(slice.bound(), at(600));
    assert_eq!(slice.next(at(99), at(1567), &pace), Next::Wait(at(100)));
    let Next::Renew(renewal) = slice.next(at(100), at(1568), &pace) else { panic!("due") };
    assert_eq!(renewal.length(), MS(600));
    assert_eq!(slice.renewed(renewal, at(101)), Renewed::Held(()));
    assert_eq!(slice.bound(), at(701));
}

#[test]
fn a_renewal_never_reaches_past_the_horizon_whenever_it_commits() {
    let pace = Pace::of(TTL);
    let t = at(1000);
    let mut slice = open(at(0), t, &pace);
    let mut now = at(0);
    while now < t {
        match slice.next(now, t, &pace) {
            Next::Renew(renewal) => {
                assert!(slice.bound() + renewal.length() <= horizon(t));
                slice.renewed(renewal, now);
            }
            Next::Wait(until) => {
                assert!(until > now);
                now = until;
            }
            Next::Lapsed => break,
        }
    }
    assert!(slice.bound() <= horizon(t));
    assert!(slice.bound() + 3 * pace.tight >= horizon(t), "and it uses nearly all of the lease: {:?}", slice.bound());
}

#[test]
fn an_acknowledgement_after_the_bound_is_late() {
    let pace = Pace::of(TTL);
    let mut slice = open(at(0), at(1468), &pace);
    let Next::Renew(renewal) = slice.next(at(150), at(1600), &pace) else { panic!("due") };
    assert_eq!(slice.renewed(renewal, at(601)), Renewed::Late(()));
    assert_eq!(slice.bound(), at(1200), "the bound still covers what the kernel may hold");
}

#[test]
fn an_unknown_outcome_counts_as_done_for_the_bound() {
    let pace = Pace::of(TTL);
    let mut slice = open(at(0), at(1468), &pace);
    let Next::Renew(renewal) = slice.next(at(150), at(1600), &pace) else { panic!("due") };
    slice.unknown(renewal, at(151));
    assert_eq!(slice.bound(), at(751));
}

#[test]
fn past_its_bound_an_element_is_lapsed_even_if_the_lease_goes_on() {
    let pace = Pace::of(TTL);
    let slice = open(at(0), at(1468), &pace);
    assert_eq!(slice.next(at(600), at(9000), &pace), Next::Lapsed);
}

#[test]
fn nothing_is_granted_with_too_little_of_the_lease_left() {
    let pace = Pace::of(TTL);
    assert_eq!(Permitting::begin(at(0), at(100), &pace), None);
    let permit = Permitting::begin(at(0), at(1468), &pace).unwrap().permitted(at(1400));
    assert_eq!(permit.grant(at(1468), &pace), None);
}

#[test]
fn a_grant_acknowledged_after_the_permit_ran_out_is_late() {
    let pace = Pace::of(TTL);
    let permit = Permitting::begin(at(0), at(1468), &pace).unwrap().permitted(at(1));
    let grant = permit.grant(at(1468), &pace).unwrap();
    assert!(matches!(grant.granted(at(500)), Renewed::Late(_)));
}

/// The kernel: elements with an expiry counted from the commit, and compare-and-set.
#[derive(Default)]
struct Kernel {
    permit: Option<HolderTime>,
    lease: Option<HolderTime>,
}

impl Kernel {
    fn live(element: Option<HolderTime>, now: HolderTime) -> bool {
        element.is_some_and(|expiry| now < expiry)
    }

    fn grant(&mut self, now: HolderTime, length: Duration) -> bool {
        let ok = Self::live(self.permit, now) && !Self::live(self.lease, now);
        if ok {
            (self.permit, self.lease) = (None, Some(now + length));
        }
        ok
    }

    fn renew(&mut self, now: HolderTime, length: Duration) -> bool {
        let ok = Self::live(self.lease, now);
        if ok {
            self.lease = Some(now + length);
        }
        ok
    }
}

/// A caller that may be paused between any two steps, and what it knows.
struct World {
    now: HolderTime,
    t: HolderTime,
    pauses: std::vec::IntoIter<u64>,
    kernel: Kernel,
}

impl World {
    /// Time passes between two steps of ours; meanwhile acks may have moved T on.
    fn pause(&mut self) {
        self.now = self.now + Duration::from_micros(self.pauses.next().unwrap_or(1000));
    }

    fn check(&self) {
        if let Some(expiry) = self.kernel.lease {
            assert!(expiry <= horizon(self.t), "element until {expiry:?}, lease until {:?}", self.t);
        }
    }

    fn first_grant(&mut self, pace: &Pace) -> Option<Slice> {
        let permitting = Permitting::begin(self.now, self.t, pace)?;
        self.pause();
        self.kernel.permit = Some(self.now + permitting.length());
        self.pause();
        let permit = permitting.permitted(self.now);
        self.pause();
        let grant = permit.grant(self.t, pace)?;
        self.pause();
        let committed = self.kernel.grant(self.now, grant.length());
        self.check();
        self.pause();
        match committed.then(|| grant.granted(self.now))? {
            Renewed::Held(slice) => Some(slice),
            Renewed::Late(_) => {
                self.pause();
                self.kernel.lease = None;
                None
            }
        }
    }

    /// False when the element is over.
    fn step(&mut self, slice: &mut Slice, pace: &Pace, read_t_before: bool) -> bool {
        let (now, t) = (self.now, self.t);
        self.pause();
        let t = if read_t_before { t } else { self.t };
        match slice.next(now, t, pace) {
            Next::Lapsed => false,
            Next::Wait(until) => {
                self.now = self.now.max(until);
                true
            }
            Next::Renew(renewal) => {
                self.pause();
                let committed = self.kernel.renew(self.now, renewal.length());
                self.check();
                self.pause();
                if !committed {
                    return false;
                }
                let outcome = slice.renewed(renewal, self.now);
                assert!(self.kernel.lease <= Some(slice.bound()), "B bounds the element's expiry");
                if outcome == Renewed::Late(()) {
                    self.pause();
                    self.kernel.lease = None;
                    return false;
                }
                true
            }
        }
    }
}

proptest! {
    #[test]
    fn an_element_never_outlives_its_lease_wherever_the_caller_is_paused(
        ttl in prop_oneof![Just(400_u64), Just(1500), Just(10_000)],
        pauses in prop::collection::vec(
            prop_oneof![30 => 0_u64..2_000, 3 => 0_u64..100_000, 1 => 0_u64..2_000_000],
            1..600,
        ),
        acks in 0_usize..30,
        before in any::<bool>(),
    ) {
        let pace = Pace::of(Millis(ttl));
        let length = crate::engine::profile::lease_length(Millis(ttl));
        let mut world = World { now: at(5), t: at(5) + length, pauses: pauses.into_iter(), kernel: Kernel::default() };
        // Acks come for a while, then no more: that is when lengths are cut to fit.
        if let Some(mut slice) = world.first_grant(&pace) {
            for step in 0..200 {
                if step < acks && world.now < world.t {
                    world.t = world.t.max(world.now + length);
                }
                if !world.step(&mut slice, &pace, before) {
                    break;
                }
            }
        }
        world.check();
    }

    #[test]
    fn an_unpaused_caller_with_acks_never_lets_its_element_lapse(
        ttl in prop_oneof![Just(400_u64), Just(1500), Just(10_000)],
        steps in 10_usize..200,
        latency in 0_u64..3_000,
    ) {
        let pace = Pace::of(Millis(ttl));
        let length = crate::engine::profile::lease_length(Millis(ttl));
        let pauses = vec![latency; steps * 8];
        let mut world = World { now: at(5), t: at(5) + length, pauses: pauses.into_iter(), kernel: Kernel::default() };
        let mut slice = world.first_grant(&pace).expect("a first grant");
        for _ in 0..steps {
            world.t = world.t.max(world.now + length);
            prop_assert!(world.step(&mut slice, &pace, true));
            prop_assert!(world.kernel.lease > Some(world.now));
        }
    }
}
