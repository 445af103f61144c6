//! A simulated process: a set of tasks that run, stand still or end together.
//!
//! A task runs only while its process does. Stopped (SIGSTOP, swap, stolen CPUs), it is not polled, and finds every timer
//! that ran out meanwhile when it goes on. Killed, it is dropped where it stands: what it held in memory is gone, and
//! what it had given to the disk is the disk's. And every poll may come late by a little, so that seeds order what the
//! executor would always run in one order.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft_rt_sim::{SimJoinHandle, SimRuntime, SimSleep};

use crate::random::Random;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Process>>> = const { RefCell::new(None) };
}

/// The process whose task is being polled.
pub fn current() -> Option<Arc<Process>> {
    CURRENT.with(|current| current.borrow().clone())
}

struct Entered(Option<Arc<Process>>);

impl Entered {
    fn into(process: &Arc<Process>) -> Self {
        Self(CURRENT.with(|current| current.replace(Some(process.clone()))))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.0.take();
        CURRENT.with(|current| *current.borrow_mut() = before);
    }
}

/// One process.
pub struct Process {
    /// How far its clock's rate is off, in millionths.
    ppm: i64,
    inner: Mutex<Inner>,
    chance: Mutex<Random>,
}

#[derive(Default)]
struct Inner {
    dead: bool,
    stopped: bool,
    parked: Vec<Waker>,
    tasks: BTreeMap<u64, Arc<dyn Task>>,
    born: u64,
}

trait Task: Send + Sync {
    /// Drops the future.
    fn end(&self);
}

struct Body<F>(Mutex<Option<Pin<Box<F>>>>);

impl<F: Future + Send> Task for Body<F> {
    fn end(&self) {
        // One that is being polled is dropped right after that.
        let body = self.0.try_lock().ok().and_then(|mut body| body.take());
        drop(body);
    }
}

impl Process {
    /// A process on a machine whose clock's rate is that far off.
    pub fn new(ppm: i64, chance: Random) -> Arc<Self> {
        Arc::new(Self { ppm, inner: Mutex::default(), chance: Mutex::new(chance) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a task of this process.
    pub fn spawn<F>(self: &Arc<Self>, future: F) -> SimJoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let body = Arc::new(Body(Mutex::new(Some(Box::pin(future)))));
        let id = {
            let mut inner = self.lock();
            inner.born += 1;
            let id = inner.born;
            if !inner.dead {
                inner.tasks.insert(id, body.clone());
            }
            id
        };
        SimRuntime::spawn(Gate { process: self.clone(), id, body, hold: None, late: true })
    }

    /// Whether it has been killed.
    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// Lets nothing of it run until [`Self::go_on`].
    pub fn stop(&self) {
        self.lock().stopped = true;
    }

    /// Lets it run again.
    pub fn go_on(&self) {
        let parked = {
            let mut inner = self.lock();
            inner.stopped = false;
            std::mem::take(&mut inner.parked)
        };
        parked.into_iter().for_each(Waker::wake);
    }

    /// Ends it where it stands.
    pub fn kill(self: &Arc<Self>) {
        let (tasks, parked) = {
            let mut inner = self.lock();
            inner.dead = true;
            (std::mem::take(&mut inner.tasks), std::mem::take(&mut inner.parked))
        };
        let _entered = Entered::into(self);
        tasks.into_values().for_each(|task| task.end());
        drop(parked);
    }

    /// True time in which this process's clock shows that much.
    pub fn stretch(&self, shown: Duration) -> Duration {
        // Rounded up: a pause that is not over yet must not take no time at all.
        let nanos = (shown.as_nanos() * 1_000_000).div_ceil(u128::try_from(1_000_000 + self.ppm).unwrap_or(1_000_000));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 4))
    }

    /// How late the next poll comes.
    fn lateness(&self) -> Option<Duration> {
        let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        match chance.below(4000) {
            0 => Some(Duration::from_micros(chance.below(20_000))),
            1..160 => Some(Duration::from_micros(chance.below(150))),
            _ => None,
        }
    }
}

struct Gate<F> {
    process: Arc<Process>,
    id: u64,
    body: Arc<Body<F>>,
    hold: Option<Pin<Box<SimSleep>>>,
    /// Whether the next poll may come late.
    late: bool,
}

impl<F: Future> Gate<F> {
    /// Whether the process runs; if not, its task is woken when it does.
    fn may_run(&self, cx: &Context<'_>) -> bool {
        let mut inner = self.process.lock();
        if inner.dead {
            return false;
        }
        if inner.stopped {
            inner.parked.push(cx.waker().clone());
        }
        !inner.stopped
    }

    fn is_held(&mut self, cx: &mut Context<'_>) -> bool {
        if self.late && self.hold.is_none() {
            self.hold = self.process.lateness().map(|by| Box::pin(SimRuntime::sleep(by)));
        }
        let Some(hold) = &mut self.hold else { return false };
        let held = hold.as_mut().poll(cx).is_pending();
        self.late = held;
        if !held {
            self.hold = None;
        }
        held
    }
}

impl<F: Future> Future for Gate<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        if !this.may_run(cx) || this.is_held(cx) {
            return Poll::Pending;
        }
        this.late = true;
        let _entered = Entered::into(&this.process);
        let mut body = this.body.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(future) = body.as_mut() else { return Poll::Pending };
        let polled = future.as_mut().poll(cx);
        if polled.is_ready() || this.process.is_dead() {
            let done = body.take();
            drop(body);
            drop(done);
            this.process.lock().tasks.remove(&this.id);
        }
        polled
    }
}
