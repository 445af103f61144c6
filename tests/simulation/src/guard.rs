//! A keeper's address worker and its renewing thread, on the simulated kernel: what may be asked for is decided by the
//! shipped `keeper::guard`; here it is asked, late, and the answer is read late.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::channel::oneshot;
use pkgctl::engine::HolderTime;
use pkgctl::keeper::core::{AddressEvent, Input};
use pkgctl::keeper::guard::{Next, Pace, Permitting, Renewal, Renewed, Slice, kernel_timeout};
use pkgctl::keeper::protocol::Place;
use pkgctl::package::Millis;

use openraft::AsyncRuntime;

use crate::keeper::Inbox;
use crate::kernel::element;
use crate::machine::Machine;
use crate::rt::HostRt;
use crate::world::World;

/// As the shipped renewer: how often a grant starts over, and how long it waits with nothing to do.
const GRANT_ATTEMPTS_MAX: u32 = 5;
const IDLE: Duration = Duration::from_secs(1);
/// Duplicate address detection: two probes and the wait for answers.
const PROBING: Duration = Duration::from_millis(25);

enum Call {
    Grant { place: Place, reply: oneshot::Sender<Result<(), String>> },
    Revoke { place: Place, reply: oneshot::Sender<()> },
    Look,
}

/// A keeper's addresses.
pub struct Guard {
    world: Arc<World>,
    machine: Arc<Machine>,
    to_keeper: async_channel::Sender<Inbox>,
    calls: async_channel::Sender<Call>,
    lease: Mutex<Option<(HolderTime, Millis)>>,
    /// Addresses taken over or being so; a stop takes them out.
    there: Mutex<BTreeMap<Place, u64>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guard {
    /// Starts the renewing thread, as a task of the keeper's process.
    pub fn start(world: Arc<World>, machine: Arc<Machine>, to_keeper: async_channel::Sender<Inbox>) -> Arc<Self> {
        let (calls, inbox) = async_channel::unbounded();
        let guard =
            Arc::new(Self { world, machine, to_keeper, calls, lease: Mutex::default(), there: Mutex::default() });
        let keep = Keep { guard: guard.clone(), open: BTreeMap::new() };
        drop(HostRt::spawn(keep.run(inbox)));
        guard
    }

    /// Takes the newest lease.
    pub fn set_lease(&self, lease: Option<(HolderTime, Millis)>) {
        *locked(&self.lease) = lease;
        let _ = self.calls.try_send(Call::Look);
    }

    fn tell(&self, place: &Place, event: AddressEvent) {
        let _ = self.to_keeper.try_send(Inbox::Input(Input::Address { place: place.clone(), event }));
    }

    /// Begins to take an address over.
    pub fn begin(self: &Arc<Self>, place: Place) {
        let (guard, number) = (self.clone(), self.world.chance().next());
        locked(&self.there).insert(place.clone(), number);
        drop(HostRt::spawn(async move { guard.take_over(place, number).await }));
    }

    async fn take_over(&self, place: Place, number: u64) {
        HostRt::sleep(self.world.pause(300, 3_000)).await;
        let fails = self.world.chance().chance(self.world.weather().fails);
        let wanted = || locked(&self.there).get(&place) == Some(&number);
        if !wanted() {
            return;
        }
        if fails {
            locked(&self.there).remove(&place);
            return self.tell(&place, AddressEvent::Failed { why: "its device is missing".to_owned() });
        }
        self.tell(&place, AddressEvent::Set);
        HostRt::sleep(PROBING).await;
        if !wanted() {
            return;
        }
        let (reply, answer) = oneshot::channel();
        let _ = self.calls.send(Call::Grant { place: place.clone(), reply }).await;
        let granted = answer.await.unwrap_or_else(|_| Err("the renewing thread has ended".to_owned()));
        match granted {
            Ok(()) if wanted() => self.tell(&place, AddressEvent::Up),
            // Given up meanwhile: the stop that did so closes it.
            Ok(()) => {}
            Err(why) => {
                if locked(&self.there).get(&place) == Some(&number) {
                    locked(&self.there).remove(&place);
                    self.tell(&place, AddressEvent::Failed { why });
                }
            }
        }
    }

    /// Gives an address up.
    pub fn end(self: &Arc<Self>, place: Place) {
        let guard = self.clone();
        drop(HostRt::spawn(async move { guard.give_up(place).await }));
    }

    async fn give_up(&self, place: Place) {
        HostRt::sleep(self.world.pause(200, 2_000)).await;
        self.revoke(&place).await;
        if self.world.chance().chance(self.world.weather().hangs / 4) {
            return self.tell(&place, AddressEvent::Stuck { why: "it could not be deleted".to_owned() });
        }
        locked(&self.there).remove(&place);
        // A grant that was under way when the stop came.
        self.revoke(&place).await;
        self.tell(&place, AddressEvent::Down);
    }

    async fn revoke(&self, place: &Place) {
        let (reply, answer) = oneshot::channel();
        let _ = self.calls.send(Call::Revoke { place: place.clone(), reply }).await;
        let _done = answer.await;
    }

    fn lost(&self, place: &Place, why: &str) {
        if locked(&self.there).remove(place).is_some() {
            self.tell(place, AddressEvent::Lapsed { why: why.to_owned() });
        }
    }
}

/// The renewing thread.
struct Keep {
    guard: Arc<Guard>,
    open: BTreeMap<Place, Slice>,
}

impl Keep {
    async fn run(mut self, inbox: async_channel::Receiver<Call>) {
        loop {
            let wait = self.look().await;
            match HostRt::timeout(wait.max(Duration::from_micros(50)), inbox.recv()).await {
                Ok(Ok(Call::Grant { place, reply })) => drop(reply.send(self.grant(&place).await)),
                Ok(Ok(Call::Revoke { place, reply })) => {
                    self.open.remove(&place);
                    self.shut(&place).await;
                    let _ = reply.send(());
                }
                Ok(Ok(Call::Look)) | Err(_) => {}
                Ok(Err(_closed)) => return,
            }
        }
    }

    fn now(&self) -> HolderTime {
        self.guard.machine.times().holder
    }

    fn lease(&self) -> Option<(HolderTime, Millis)> {
        *locked(&self.guard.lease)
    }

    /// Before and after a transaction something may come between; now and then another one holds it up for long.
    async fn come_between(&self) {
        let world = &self.guard.world;
        let held_up = world.weather().held_up;
        let pause = if world.chance().chance(held_up) { world.pause(1_000, 400_000) } else { world.pause(10, 120) };
        HostRt::sleep(pause).await;
    }

    fn timeout(&self, length: Duration) -> Duration {
        kernel_timeout(length, self.guard.machine.slowness())
    }

    async fn shut(&self, place: &Place) {
        self.come_between().await;
        element::close(&self.guard.world, &self.guard.machine, place);
    }

    async fn look(&mut self) -> Duration {
        let Some((until, ttl)) = self.lease() else {
            for place in std::mem::take(&mut self.open).into_keys() {
                self.shut(&place).await;
                self.guard.lost(&place, "this node has no lease any more");
            }
            return IDLE;
        };
        let pace = Pace::of(ttl);
        let mut next = self.now() + IDLE;
        for place in self.open.keys().cloned().collect::<Vec<_>>() {
            let Some(slice) = self.open.get(&place).copied() else { continue };
            match slice.next(self.now(), until, &pace) {
                Next::Wait(at) => next = next.min(at),
                Next::Renew(renewal) => {
                    self.renew(&place, slice, renewal).await;
                    next = self.now();
                }
                Next::Lapsed => self.lose(&place).await,
            }
        }
        next.since(self.now())
    }

    async fn lose(&mut self, place: &Place) {
        self.shut(place).await;
        self.open.remove(place);
        self.guard.lost(place, "its element ran out");
    }

    async fn renew(&mut self, place: &Place, mut slice: Slice, renewal: Renewal) {
        let timeout = self.timeout(renewal.length());
        self.come_between().await;
        let answer = element::renew(&self.guard.world, &self.guard.machine, place, timeout);
        self.come_between().await;
        match answer.map(|()| slice.renewed(renewal, self.now())) {
            Ok(Renewed::Held(())) => drop(self.open.insert(place.clone(), slice)),
            Ok(Renewed::Late(())) | Err(element::Absent) => self.lose(place).await,
        }
    }

    async fn grant(&mut self, place: &Place) -> Result<(), String> {
        self.open.remove(place);
        for _ in 0..GRANT_ATTEMPTS_MAX {
            let (until, ttl) = self.lease().ok_or("this node holds no lease")?;
            let pace = Pace::of(ttl);
            let permitting = Permitting::begin(self.now(), until, &pace).ok_or("too little of the lease is left")?;
            let timeout = self.timeout(permitting.length());
            self.come_between().await;
            element::permit(&self.guard.world, &self.guard.machine, place, timeout);
            self.come_between().await;
            let permit = permitting.permitted(self.now());
            let granting = permit.grant(until, &pace).ok_or("too little of the lease is left")?;
            let timeout = self.timeout(granting.length());
            self.come_between().await;
            let answer = element::grant(&self.guard.world, &self.guard.machine, place, timeout);
            self.come_between().await;
            if answer.is_ok()
                && let Renewed::Held(slice) = granting.granted(self.now())
            {
                self.open.insert(place.clone(), slice);
                return Ok(());
            }
            self.shut(place).await;
        }
        Err("it was paused too often between asking and being granted".to_owned())
    }
}
