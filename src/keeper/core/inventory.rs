//! Everything that is up on this node, or on its way up or down: one item per resource.

use std::collections::BTreeMap;

use super::address::{Address, Step, Until};
use super::limits::{ITEMS_MAX, SIGTERM, TEARDOWN_GRACE};
use super::outbox::Outbox;
use super::ports::{AddressEvent, Effect, ProgramEvent, StorageEvent};
use super::program::{Asker, End, Program};
use super::storage::Storage;
use super::waiter::Waiter;
use crate::engine::HolderTime;
use crate::keeper::protocol::{FromKeeper, Outcome, Place, ProgramSpec, Running};
use crate::keeper::storage::Task;
use crate::package::{IpResource, Millis, PackageName, ResourceName};

/// What is up.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    items: BTreeMap<(PackageName, ResourceName), Item>,
    /// Items are numbered in the order of their starts, so that they can be stopped in reverse.
    last_number: u64,
}

#[derive(Clone, Debug)]
struct Item {
    place: Place,
    number: u64,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Program(Program),
    Address(Address),
    Storage(Storage),
}

impl Body {
    fn word(&self) -> &'static str {
        match self {
            Body::Program(_) => "a program",
            Body::Address(_) => "an address",
            Body::Storage(_) => "storage",
        }
    }
}

impl Inventory {
    /// Starts a program, or finds it started (L18). The caller has checked the place's right to start.
    pub fn start_program(
        &mut self,
        place: Place,
        program: ProgramSpec,
        waiter: Waiter,
        deadline: HolderTime,
        out: &mut Outbox,
    ) {
        if let Some(here) = self.occupied(&place) {
            let answer = match &mut here.body {
                Body::Program(program) => program.start_again(waiter),
                other @ (Body::Address(_) | Body::Storage(_)) => Some(is_another(&place, other)),
            };
            return answer.into_iter().for_each(|outcome| out.answer(waiter, outcome));
        }
        if self.add(&place, Body::Program(Program::starting(waiter)), waiter, out) {
            out.push(Effect::Spawn { place, program, deadline });
        }
    }

    /// Takes an address over, or finds it taken over (L18). The caller has checked the place's right to start.
    pub fn start_address(&mut self, place: Place, ip: IpResource, until: Until, waiter: Waiter, out: &mut Outbox) {
        if let Some(here) = self.occupied(&place) {
            let answer = match &mut here.body {
                Body::Address(address) => address.start_again(until, waiter),
                other @ (Body::Program(_) | Body::Storage(_)) => Some(is_another(&place, other)),
            };
            return answer.into_iter().for_each(|outcome| out.answer(waiter, outcome));
        }
        if self.add(&place, Body::Address(Address::starting(ip.clone(), until, waiter)), waiter, out) {
            out.push(Effect::StartAddress { place, ip });
        }
    }

    /// Takes a LUN or mounts a filesystem, or finds it there (L18). The caller has checked the place's right to start.
    pub fn start_storage(&mut self, place: Place, task: Task, waiter: Waiter, deadline: HolderTime, out: &mut Outbox) {
        if let Some(here) = self.occupied(&place) {
            let answer = match &mut here.body {
                Body::Storage(storage) => storage.start_again(waiter),
                other @ (Body::Program(_) | Body::Address(_)) => Some(is_another(&place, other)),
            };
            return answer.into_iter().for_each(|outcome| out.answer(waiter, outcome));
        }
        if self.add(&place, Body::Storage(Storage::starting(task.clone(), waiter)), waiter, out) {
            out.push(Effect::StartStorage { place, task, deadline });
        }
    }

    /// Refuses a start on top of storage of the same package that is on its way down: it would find an empty directory.
    ///
    /// # Errors
    /// The sentence that says which.
    pub fn admit(&self, place: &Place) -> Result<(), String> {
        let package = self.items.values().filter(|item| item.place.package == place.package);
        let falling = package.filter(|item| item.place.resource != place.resource).find(|item| match &item.body {
            Body::Storage(storage) => !storage.is_wanted(),
            Body::Program(_) | Body::Address(_) => false,
        });
        match falling {
            None => Ok(()),
            Some(item) => Err(format!("'{}' is being given up, and nothing starts on top of it", item.place.resource)),
        }
    }

    /// What is there already under the same ownership, unless it is only the news of an end.
    fn occupied(&mut self, place: &Place) -> Option<&mut Item> {
        let key = key(place);
        if self.items.get(&key).is_some_and(Item::is_gone) {
            self.items.remove(&key);
        }
        self.items.get_mut(&key).filter(|item| item.place == *place)
    }

    fn add(&mut self, place: &Place, body: Body, waiter: Waiter, out: &mut Outbox) -> bool {
        let key = key(place);
        if let Some(other) = self.items.get(&key) {
            out.answer(waiter, refused(format!("it is still here under token {}; stop that first", other.place.token)));
            return false;
        }
        if self.items.len() >= ITEMS_MAX {
            out.answer(waiter, refused(format!("{ITEMS_MAX} resources are up on this node, and no more are allowed")));
            return false;
        }
        self.last_number += 1;
        self.items.insert(key, Item { place: place.clone(), number: self.last_number, body });
        true
    }

    /// Stops a program in good order. One that is not here is stopped.
    pub fn stop_program(
        &mut self,
        place: &Place,
        signal: i32,
        grace: Millis,
        waiter: Waiter,
        now: HolderTime,
        out: &mut Outbox,
    ) {
        let Some(item) = self.stoppable(place, waiter, out) else { return };
        let answer = match &mut item.body {
            Body::Program(program) => program.stop(place, signal, grace, Asker::Agent(waiter), now, out),
            other @ (Body::Address(_) | Body::Storage(_)) => Some(is_another(place, other)),
        };
        answer.into_iter().for_each(|outcome| out.answer(waiter, outcome));
    }

    /// Gives an address up. One that is not here is given up.
    pub fn stop_address(&mut self, place: &Place, waiter: Waiter, out: &mut Outbox) {
        let Some(item) = self.stoppable(place, waiter, out) else { return };
        let answer = match &mut item.body {
            Body::Address(address) => address.stop(place, waiter, out),
            other @ (Body::Program(_) | Body::Storage(_)) => Some(is_another(place, other)),
        };
        answer.into_iter().for_each(|outcome| out.answer(waiter, outcome));
    }

    /// Unmounts or gives up. What is not here is given up.
    pub fn stop_storage(&mut self, place: &Place, within: Millis, waiter: Waiter, now: HolderTime, out: &mut Outbox) {
        let Some(item) = self.stoppable(place, waiter, out) else { return };
        let answer = match &mut item.body {
            Body::Storage(storage) => storage.stop(place, within, Asker::Agent(waiter), now, out),
            other @ (Body::Program(_) | Body::Address(_)) => Some(is_another(place, other)),
        };
        answer.into_iter().for_each(|outcome| out.answer(waiter, outcome));
    }

    /// The item to stop; none if there is nothing to do, and then that is answered.
    fn stoppable(&mut self, place: &Place, waiter: Waiter, out: &mut Outbox) -> Option<&mut Item> {
        let key = key(place);
        if self.items.get(&key).is_some_and(|item| item.is_gone() && item.place == *place) {
            self.items.remove(&key);
        }
        let Some(item) = self.items.get_mut(&key) else {
            out.answer(waiter, Outcome::Ok);
            return None;
        };
        if item.place != *place {
            let why = format!("what is here runs under token {}, not {}", item.place.token, place.token);
            out.answer(waiter, refused(why));
            return None;
        }
        Some(item)
    }

    /// Whether anything of a package is here that is not gone.
    pub fn has_any_of(&self, package: &PackageName) -> bool {
        self.items.values().any(|item| item.place.package == *package && !item.is_gone())
    }

    /// Whether anything at all is here that is not gone.
    pub fn is_empty(&self) -> bool {
        self.items.values().all(Item::is_gone)
    }

    /// What is here that is not gone, in words.
    pub fn left(&self) -> Option<String> {
        let mut left = self.items.values().filter(|item| !item.is_gone());
        let first = left.next()?;
        let what = match &first.body {
            Body::Program(_) => "program",
            Body::Address(_) => "address",
            Body::Storage(_) => "storage",
        };
        let of = format!("{what} '{}' of package '{}'", first.place.resource, first.place.package);
        match left.count() {
            0 => Some(of),
            others => Some(format!("{of}, and {others} more")),
        }
    }

    /// A package was released: the news of its ends is of no more interest.
    pub fn forget(&mut self, package: &PackageName) {
        self.items.retain(|(name, _), item| name != package || !item.is_gone());
    }

    /// Something happened to a program.
    pub fn program_event(&mut self, place: &Place, event: ProgramEvent, deadline_passed: bool, out: &mut Outbox) {
        let key = key(place);
        let Some(item) = self.items.get_mut(&key).filter(|item| item.place == *place) else { return };
        let Body::Program(program) = &mut item.body else { return };
        let ProgramEvent::Gone { by_deadline } = event else { return program.event(place, event, out) };
        let place = place.clone();
        match program.gone(by_deadline || deadline_passed, out) {
            End::Exited(exit) if !out.is_attached() => return program.leave_untold(exit),
            End::Exited(exit) => out.tell(FromKeeper::Exited { place, exit }),
            End::Lapsed(why) => out.tell(FromKeeper::Lapsed { place, why }),
            End::Answered => {}
        }
        self.items.remove(&key);
    }

    /// Something happened to an address.
    pub fn address_event(&mut self, place: &Place, event: AddressEvent, now: HolderTime, out: &mut Outbox) {
        let key = key(place);
        let Some(item) = self.items.get_mut(&key).filter(|item| item.place == *place) else { return };
        let Body::Address(address) = &mut item.body else { return };
        let step = address.event(event, now, out);
        self.take_step(place, step, out);
    }

    /// An operation on a LUN or filesystem has ended.
    pub fn storage_event(&mut self, place: &Place, event: StorageEvent, now: HolderTime, out: &mut Outbox) {
        let Some(item) = self.items.get_mut(&key(place)).filter(|item| item.place == *place) else { return };
        let Body::Storage(storage) = &mut item.body else { return };
        let step = storage.event(place, event, now, out);
        self.take_step(place, step, out);
    }

    fn take_step(&mut self, place: &Place, step: Step, out: &mut Outbox) {
        match step {
            Step::Here => {}
            Step::Gone => drop(self.items.remove(&key(place))),
            Step::Lapsed(why) => {
                self.items.remove(&key(place));
                out.tell(FromKeeper::Lapsed { place: place.clone(), why });
            }
        }
    }

    /// Whether any deadline of a leash, or of a process that takes or mounts, matters.
    pub fn has_armed(&self) -> bool {
        self.items.values().any(|item| match &item.body {
            Body::Program(program) => program.is_armed(),
            Body::Storage(storage) => storage.is_armed(),
            Body::Address(_) => false,
        })
    }

    /// The lease's end has moved: so do the deadlines (rule 22).
    pub fn arm(&self, deadline: HolderTime, out: &mut Outbox) {
        for item in self.items.values() {
            match &item.body {
                Body::Program(program) if program.is_armed() => {
                    out.push(Effect::Arm { place: item.place.clone(), deadline });
                }
                Body::Storage(storage) if storage.is_armed() => {
                    out.push(Effect::Arm { place: item.place.clone(), deadline });
                }
                Body::Program(_) | Body::Storage(_) | Body::Address(_) => {}
            }
        }
    }

    /// The deadline has passed: the kernel has killed leashes and whatever was about to take or mount, and this makes sure
    /// of it. Addresses are the guard's, which closes by itself.
    pub fn lapse_programs(&mut self, why: &str, out: &mut Outbox) {
        for item in self.items.values_mut() {
            match &mut item.body {
                Body::Program(program) => program.lapse(&item.place, why, out),
                Body::Storage(storage) if storage.is_armed() => storage.lapse(&item.place, why, out),
                Body::Storage(_) | Body::Address(_) => {}
            }
        }
    }

    /// The right to run anything has ended: everything is ended at once.
    pub fn lapse_all(&mut self, why: &str, out: &mut Outbox) {
        self.lapse_programs(why, out);
        for item in self.items.values_mut() {
            match &mut item.body {
                Body::Address(address) => address.give_up(&item.place, why, out),
                // Once what was started on top of it is gone.
                Body::Storage(storage) => storage.lapse(&item.place, why, out),
                Body::Program(_) => {}
            }
        }
    }

    /// The keeper itself stops everything in good order: of each package the item started last, then the one before.
    /// To be called again whenever something is gone.
    pub fn tear_down(&mut self, why: &str, now: HolderTime, out: &mut Outbox) {
        let last = self.last_of_each();
        for item in self.items.values_mut().filter(|item| last.get(&item.place.package) == Some(&item.number)) {
            let asker = Asker::Keeper { why };
            let _none = match &mut item.body {
                Body::Program(program) if program.is_wanted() => {
                    program.stop(&item.place, SIGTERM, Millis::from(TEARDOWN_GRACE), asker, now, out)
                }
                Body::Address(address) => {
                    address.give_up(&item.place, why, out);
                    None
                }
                Body::Storage(storage) if storage.is_wanted() => {
                    storage.stop(&item.place, Millis::from(TEARDOWN_GRACE), asker, now, out)
                }
                Body::Program(_) | Body::Storage(_) => None,
            };
        }
    }

    /// The number of each package's item that was started last and is not gone.
    fn last_of_each(&self) -> BTreeMap<PackageName, u64> {
        let mut last: BTreeMap<PackageName, u64> = BTreeMap::new();
        for item in self.items.values().filter(|item| !item.is_gone()) {
            let number = last.entry(item.place.package.clone()).or_default();
            *number = item.number.max(*number);
        }
        last
    }

    /// Does what is due.
    pub fn tick(&mut self, now: HolderTime, out: &mut Outbox) {
        let last = self.last_of_each();
        for item in self.items.values_mut() {
            let nothing_on_top = last.get(&item.place.package) == Some(&item.number);
            match &mut item.body {
                Body::Storage(storage) => storage.tick(&item.place, nothing_on_top, now, out),
                Body::Program(program) => program.tick(&item.place, now, out),
                Body::Address(address) => address.tick(&item.place, now, out),
            }
        }
    }

    /// When to be called with [`Self::tick`].
    pub fn wake(&self) -> Option<HolderTime> {
        let wakes = self.items.values().filter_map(|item| match &item.body {
            Body::Program(program) => program.wake(),
            Body::Address(address) => address.wake(),
            Body::Storage(storage) => storage.wake(),
        });
        wakes.min()
    }

    /// What is up, for an agent that attaches. Ends that no agent has been told of are told with it.
    pub fn hand_over(&mut self) -> Vec<Running> {
        let shown = self.items.values().filter_map(|item| {
            let what = match &item.body {
                Body::Program(program) => program.shown(),
                Body::Address(address) => address.shown(),
                Body::Storage(storage) => storage.shown(),
            };
            what.map(|what| Running { place: item.place.clone(), what })
        });
        let shown = shown.collect();
        self.items.retain(|_, item| !item.is_gone());
        shown
    }
}

impl Item {
    fn is_gone(&self) -> bool {
        match &self.body {
            Body::Program(program) => program.is_gone(),
            Body::Address(_) | Body::Storage(_) => false,
        }
    }
}

fn is_another(place: &Place, body: &Body) -> Outcome {
    refused(format!("'{}' is {} here", place.resource, body.word()))
}

fn key(place: &Place) -> (PackageName, ResourceName) {
    (place.package.clone(), place.resource.clone())
}

fn refused(why: String) -> Outcome {
    Outcome::Refused { why }
}
