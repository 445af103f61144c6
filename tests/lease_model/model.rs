//! The model: what can happen next, in a network that keeps every message for ever and delivers it when it likes.
//!
//! One session is followed exactly; the other hosts act as soon as they are made owners, which is the worst they can do.
//! A renewal may reach any voter at any time with any age, which covers loss, delay, duplication and reordering; acks
//! stay until they are of no use any more.

use pkgctl::engine::lease::Rule;
use stateright::{Model, Property};

use super::state::{Bounds, Driven, FACTS, Fact, Voter, World};

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Time passes: so many of the holder's ticks, so many of the voters'.
    Tick(u8, u8),
    /// A renewal of that age reaches a voter, and it acks.
    Renew(usize, u8),
    /// An ack of a voter reaches the holder: the set it names, the age of its t0.
    Ack(usize, u8, u8),
    /// A voter agrees to the session's expiry.
    Agree(usize),
    /// A keeper learns the next fact of the log.
    Learn(usize),
    /// A keeper learns of a lease set ahead of what precedes it.
    LearnAhead(usize),
    /// A keeper applies its own `VoterUp`.
    Up(usize),
    Restart(usize),
    /// A `VoterUp` comes into the log.
    VoterUp(usize),
    /// The next lease set comes into the log.
    AddSet,
    /// A keeper tells the leader that it knows the newest set.
    Confirm(usize),
    /// The oldest lease set is retired.
    Retire,
    /// A collector counts the agreements.
    Count,
    /// The session's expiry comes into the log, with the package's move to another host.
    Expire,
    /// The owner stops and releases the package.
    Release,
    /// The keeper forgets what it released.
    Forget,
    /// The keeper dies, and what it supervises with it.
    Die,
    /// A new keeper on the same host registers a session that supersedes this one.
    Supersede,
}

impl Bounds {
    fn tick(&self, last: &World, holder: u8, voters: u8) -> World {
        let mut now = *last;
        now.lease = now.lease.saturating_sub(holder);
        now.wait = now.wait.map(|wait| wait.saturating_sub(voters));
        for voter in &mut now.voters[..self.voters()] {
            voter.until_up = voter.until_up.saturating_sub(voters);
            voter.promise = voter.promise.saturating_sub(voters);
            voter.heard = (voter.heard + holder).min(self.lease);
            voter.barred = (voter.barred + holder).min(self.lease);
            if self.law.holds(Rule::SendTime) {
                voter.acks = self.older(voter.acks, holder);
            }
        }
        now
    }

    /// The same acks later; those that are too old to be of use are gone.
    fn older(&self, acks: u32, by: u8) -> u32 {
        let mask = (1u32 << self.lease) - 1;
        (0..self.sets.len()).fold(0, |all, set| {
            let shift = set * usize::from(self.lease);
            all | (((acks >> shift & mask) << by) & mask) << shift
        })
    }

    pub fn may_ack(&self, world: &World, voter: usize) -> bool {
        let v = &world.voters[voter];
        let fenced = v.fenced && self.law.holds(Rule::Fence);
        let fresh = v.fresh && self.law.holds(Rule::VoterUpFirst);
        let ended = self.law.holds(Rule::LogRefuse) && world.knows_end(voter);
        !fenced && !fresh && !ended && !world.dead
    }

    pub fn may_agree(&self, world: &World, voter: usize) -> bool {
        let v = &world.voters[voter];
        let lapsed = v.promise == 0 || !self.law.holds(Rule::PromiseLapsed);
        let up = v.until_up == 0 || !self.law.holds(Rule::UpForTtl);
        lapsed && up && !v.fresh && !world.knows_end(voter) && !(v.agreed && v.fenced)
    }

    /// Rules 6, 6a and 10, second halves.
    fn renewed(&self, last: &World, voter: usize, age: u8) -> Option<World> {
        let mut now = *last;
        let set = now.set_of(voter);
        if !self.replays {
            now.voters[voter].barred = age;
        }
        now.voters[voter].promise = now.voters[voter].promise.max(self.ttl);
        if self.late_acks {
            now.voters[voter].acks |= self.ack(set, age);
            return Some(now);
        }
        self.acked(&now, voter, set, age)
    }

    /// Rule 8.
    fn acked(&self, last: &World, voter: usize, set: u8, age: u8) -> Option<World> {
        let mut now = *last;
        let age = if self.law.holds(Rule::SendTime) { age } else { 0 };
        let heard = &mut now.voters[voter].heard;
        *heard = age.min(*heard);
        let newer = now.star.is_none_or(|star| set > star && self.law.holds(Rule::NewestSet));
        if newer {
            now.star = Some(set);
        }
        let star = now.star?;
        let reached = |age: u8| self.is_majority(now.who(self, |v| v.heard <= age), star);
        if let Some(age) = (0..self.lease).find(|age| reached(*age)) {
            now.lease = now.lease.max(self.lease - age);
        }
        Some(now)
    }

    /// Rule 12: a majority of every unretired lease set.
    pub fn agreed(&self, world: &World) -> bool {
        let agreed = world.who(self, |v| v.agreed);
        let first = if self.law.holds(Rule::EverySet) { world.retired } else { world.newest() };
        (first..=world.newest()).all(|set| self.is_majority(agreed, set))
    }

    fn voter_steps(&self, world: &World, voter: usize, steps: &mut Vec<Step>) {
        let v = &world.voters[voter];
        if self.may_ack(world, voter) {
            let ages = if self.late_renewals { self.lease } else { 1 };
            steps.extend((0..ages.min(v.barred)).map(|age| Step::Renew(voter, age)));
        }
        let sets = 0..u8::try_from(self.sets.len()).expect("a few");
        let acks = sets.flat_map(|set| (0..self.lease).map(move |age| (set, age)));
        steps.extend(
            acks.filter(|(set, age)| v.acks & self.ack(*set, *age) != 0).map(|(set, age)| Step::Ack(voter, set, age)),
        );
        if self.may_agree(world, voter) {
            steps.push(Step::Agree(voter));
        }
        // Its own `VoterUp` stands between facts: neither is passed over.
        match v.up_after {
            Some(after) if v.known >= after => steps.push(Step::Up(voter)),
            Some(_) | None if v.known < world.length => steps.push(Step::Learn(voter)),
            Some(_) | None => {}
        }
        if !self.law.drives(Driven::OnePrefix) && world.set_of(voter) < world.newest() {
            steps.push(Step::LearnAhead(voter));
        }
        if self.restarts.is_none_or(|most| world.restarts < most) {
            steps.push(Step::Restart(voter));
        }
        let again = !v.fresh && v.fenced && self.renewals_of_life.is_none_or(|most| world.renewals_of_life < most);
        if v.up_after.is_none() && (v.fresh || again) {
            steps.push(Step::VoterUp(voter));
        }
        let is_old = self.sets[usize::from(world.retired)] & (1 << voter) != 0;
        if world.retired < world.newest() && is_old && !v.confirmed && world.set_of(voter) == world.newest() {
            steps.push(Step::Confirm(voter));
        }
    }

    fn log_steps(&self, world: &World, steps: &mut Vec<Step>) {
        let room = usize::from(world.length) < FACTS;
        let newest = world.newest();
        // Rule 15: at most two unretired sets.
        if room && usize::from(newest) + 1 < self.sets.len() && world.retired == newest {
            steps.push(Step::AddSet);
        }
        let waited = world.wait == Some(0) || !self.law.holds(Rule::RetireWait);
        if world.retired < newest && waited {
            steps.push(Step::Retire);
        }
        if !room || world.ended() {
            return;
        }
        let checked = self.law.drives(Driven::CheckedInApply);
        if self.agreed(world) && !checked && !world.counted {
            steps.push(Step::Count);
        }
        if if checked { self.agreed(world) } else { world.counted } {
            steps.push(Step::Expire);
        }
    }

    fn owner_steps(&self, world: &World, steps: &mut Vec<Step>) {
        if !self.owner_acts {
            return;
        }
        if world.owns && world.lease > 0 && !world.released && !world.dead {
            steps.push(Step::Release);
        }
        if world.released && !self.law.holds(Rule::ReleasedToken) {
            steps.push(Step::Forget);
        }
        if !world.dead {
            steps.push(Step::Die);
        }
        if world.dead && !world.ended() && usize::from(world.length) < FACTS {
            steps.push(Step::Supersede);
        }
    }

    /// The package goes to another host, which acts at once.
    fn give(&self, world: &mut World) {
        match (world.owns, self.law.drives(Driven::OwnerCheck)) {
            (true, _) => world.given |= 1,
            (false, false) => world.given |= 2,
            (false, true) => {}
        }
        world.owns = false;
    }

    fn voter_does(&self, last: &World, step: Step, voter: usize) -> World {
        let mut now = *last;
        let newest = now.newest();
        let v = &mut now.voters[voter];
        match step {
            Step::Agree(_) => {
                v.fenced = true;
                // With a newer `VoterUp` in the log the incarnation it says is not current.
                v.agreed |= v.up_after.is_none();
            }
            Step::Learn(_) => v.known += 1,
            Step::LearnAhead(_) => v.ahead = newest,
            Step::Up(_) => {
                (v.fresh, v.up_after, v.fenced) = (false, None, false);
            }
            Step::Restart(_) => {
                let (acks, heard, agreed, confirmed) = (v.acks, v.heard, v.agreed, v.confirmed);
                // What was sent until now was for the life before (rule 6a).
                let barred = if self.replays { self.lease } else { 0 };
                let life = Voter { until_up: self.ttl, fresh: true, barred, ..Voter::default() };
                *v = Voter { acks, heard, agreed, confirmed, ..life };
                now.restarts = now.restarts.saturating_add(u8::from(self.restarts.is_some()));
            }
            Step::VoterUp(_) => {
                v.up_after = Some(now.length);
                v.agreed &= !self.law.holds(Rule::CurrentIncarnation);
                let counts = self.renewals_of_life.is_some() && !v.fresh;
                now.renewals_of_life = now.renewals_of_life.saturating_add(u8::from(counts));
            }
            Step::Confirm(_) => {
                v.confirmed = true;
                let confirmed = now.who(self, |v| v.confirmed);
                if self.is_majority(confirmed, now.retired) && now.wait.is_none() {
                    now.wait = Some(self.ttl);
                }
            }
            other => unreachable!("{other:?} is no voter's step"),
        }
        now
    }
}

impl Model for Bounds {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        let rates = if self.drift { 1..=2 } else { 1..=1 };
        steps.extend(rates.clone().flat_map(|holder| rates.clone().map(move |voters| Step::Tick(holder, voters))));
        (0..self.voters()).for_each(|voter| self.voter_steps(world, voter, steps));
        self.log_steps(world, steps);
        self.owner_steps(world, steps);
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut now = *last;
        let now = match step {
            Step::Tick(holder, voters) => self.tick(last, holder, voters),
            Step::Renew(voter, age) => self.renewed(last, voter, age)?,
            Step::Ack(voter, set, age) => self.acked(last, voter, set, age)?,
            Step::Agree(v)
            | Step::Learn(v)
            | Step::LearnAhead(v)
            | Step::Up(v)
            | Step::Restart(v)
            | Step::VoterUp(v)
            | Step::Confirm(v) => self.voter_does(last, step, v),
            Step::AddSet => {
                now.write(Fact::Set)?;
                now
            }
            Step::Retire => {
                now.retired += 1;
                now.wait = None;
                now.voters.iter_mut().for_each(|voter| voter.confirmed = false);
                now
            }
            Step::Count => World { counted: true, ..now },
            Step::Expire | Step::Supersede => {
                now.write(Fact::End)?;
                self.give(&mut now);
                now
            }
            Step::Release => {
                now.released = true;
                self.give(&mut now);
                now
            }
            Step::Forget => World { released: false, ..now },
            Step::Die => World { dead: true, gone: self.law.drives(Driven::CleanFirst), ..now },
        };
        Some(now.canonical(self)).filter(|now| now != last)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_ACTOR, |_, world: &World| u32::from(world.acts()) + world.given.count_ones() <= 1),
            Property::sometimes("a lease is held", |_, world: &World| world.lease > 0),
            Property::sometimes("the session expires", |_, world: &World| world.ended()),
            Property::sometimes("a lease is held by the last set", |bounds: &Bounds, world: &World| {
                world.lease > 0 && world.star == Some(last_of(bounds)) && world.retired == last_of(bounds)
            }),
            Property::sometimes("the session expires in the last set", |bounds: &Bounds, world: &World| {
                world.ended() && world.retired == last_of(bounds)
            }),
        ]
    }
}

/// I1: no two hosts act for the package.
pub const ONE_ACTOR: &str = "one actor";

fn last_of(bounds: &Bounds) -> u8 {
    u8::try_from(bounds.sets.len() - 1).expect("a few")
}
