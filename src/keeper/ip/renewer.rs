//! The thread that keeps lease elements alive: grants, renews and deletes them, and does nothing else, so that only
//! other nftables transactions can hold it up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::errno::Errno;

use super::loss::{Cause, Facts, Loss};
use super::{Clock, IpError, Lease, Setup};
use crate::engine::HolderTime;
use crate::host::netlink::nft::{Batch, BatchError, Nft, Slot, element};
use crate::keeper::guard::{Next, Pace, Permitting, Renewal, Renewed, Slice, kernel_timeout};

/// Calls that may wait for the thread.
const CALLS_MAX: usize = 64;
/// How often a first grant starts over when we are paused in the middle of it.
const GRANT_ATTEMPTS_MAX: u32 = 5;
/// Longest wait with nothing to renew.
const IDLE: Duration = Duration::from_secs(1);

/// Why an element was not granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum GrantError {
    #[error("this node holds no lease")]
    NoLease,
    #[error("too little of this node's lease is left")]
    TooLate,
    #[error("it was paused {GRANT_ATTEMPTS_MAX} times between asking and being granted")]
    Paused,
    #[error("{0}")]
    Kernel(BatchError),
    #[error("the renewing thread has ended")]
    Ended,
}

enum Call {
    Grant {
        slot: Slot,
        reply: SyncSender<Result<u64, GrantError>>,
    },
    Revoke {
        slot: Slot,
        reply: SyncSender<Result<(), BatchError>>,
    },
    /// The lease has changed.
    Look,
    End,
}

#[derive(Default)]
struct Shared {
    lease: Mutex<Option<Lease>>,
    longest_ns: AtomicU64,
}

impl Shared {
    fn lease(&self) -> Option<Lease> {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's owner.
pub(super) struct Renewer {
    caller: Caller,
    thread: Option<JoinHandle<()>>,
}

/// Asks the thread; calls wait for the answer.
#[derive(Clone)]
pub(super) struct Caller {
    calls: SyncSender<Call>,
    shared: Arc<Shared>,
    port: u32,
}

impl Renewer {
    /// Starts the thread; `lost` is told of every element that ends without an order.
    pub fn start(setup: &Setup, lost: Box<dyn Fn(Loss) + Send>) -> Result<Self, IpError> {
        let nft = Nft::open()?;
        let port = nft.port();
        let (calls, inbox) = mpsc::sync_channel(CALLS_MAX);
        let shared = Arc::new(Shared::default());
        let looked_at = setup.clock.now();
        let mut keep = Keep {
            nft,
            clock: setup.clock.clone(),
            shared: Arc::clone(&shared),
            lost,
            open: BTreeMap::new(),
            grants: 0,
            looked_at,
        };
        let on_thread = Arc::clone(&setup.on_thread);
        let thread = thread::Builder::new()
            .name("renewer".into())
            .spawn(move || {
                on_thread("renewer");
                keep.run(&inbox);
            })
            .map_err(|e| IpError::thread(&e))?;
        Ok(Self { caller: Caller { calls, shared, port }, thread: Some(thread) })
    }

    /// A handle for the worker's thread.
    pub fn caller(&self) -> Caller {
        self.caller.clone()
    }

    /// Takes the newest lease. Never waits: a full queue means that the thread will look anyway.
    pub fn set_lease(&self, lease: Option<Lease>) {
        *self.caller.shared.lease.lock().unwrap_or_else(PoisonError::into_inner) = lease;
        let _ = self.caller.calls.try_send(Call::Look);
    }

    /// The longest transaction seen.
    pub fn longest_transaction(&self) -> Duration {
        Duration::from_nanos(self.caller.shared.longest_ns.load(Ordering::Relaxed))
    }
}

impl Drop for Renewer {
    fn drop(&mut self) {
        let _ = self.caller.calls.send(Call::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Caller {
    /// Port of its socket, whose ruleset events are ours.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Opens a slot that has no element. Returns the number of this grant.
    pub fn grant(&self, slot: Slot) -> Result<u64, GrantError> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.calls.send(Call::Grant { slot, reply }).map_err(|_| GrantError::Ended)?;
        answer.recv().unwrap_or(Err(GrantError::Ended))
    }

    /// Shuts a slot, whether it is open or not.
    pub fn revoke(&self, slot: Slot) -> Result<(), BatchError> {
        let (reply, answer) = mpsc::sync_channel(1);
        let ended = || BatchError::RefusedWhole(Errno::ESRCH);
        self.calls.send(Call::Revoke { slot, reply }).map_err(|_| ended())?;
        answer.recv().unwrap_or_else(|_| Err(ended()))
    }
}

struct Opened {
    grant: u64,
    slice: Slice,
}

/// The thread's state.
struct Keep {
    nft: Nft,
    clock: Clock,
    shared: Arc<Shared>,
    lost: Box<dyn Fn(Loss) + Send>,
    open: BTreeMap<Slot, Opened>,
    grants: u64,
    looked_at: HolderTime,
}

impl Keep {
    fn run(&mut self, inbox: &Receiver<Call>) {
        loop {
            let wait = self.look();
            match inbox.recv_timeout(wait) {
                Ok(Call::Grant { slot, reply }) => drop(reply.send(self.grant(slot))),
                Ok(Call::Revoke { slot, reply }) => {
                    self.open.remove(&slot);
                    let _ = reply.send(self.shut(slot));
                }
                Ok(Call::Look) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Call::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Renews what is due; returns how long to wait.
    fn look(&mut self) -> Duration {
        let Some(lease) = self.shared.lease() else {
            for (slot, opened) in std::mem::take(&mut self.open) {
                let _ = self.shut(slot);
                (self.lost)(Loss { slot, grant: opened.grant, cause: Cause::NoLease });
            }
            self.looked_at = self.clock.now();
            return IDLE;
        };
        let pace = Pace::of(lease.ttl);
        let mut next_look = self.clock.now() + IDLE;
        for slot in self.open.keys().copied().collect::<Vec<_>>() {
            if let Some(until) = self.look_at(slot, &pace) {
                next_look = next_look.min(until);
            }
        }
        self.looked_at = self.clock.now();
        next_look.since(self.looked_at)
    }

    /// Looks at one element with the newest lease; returns when to look again, none if it has ended.
    fn look_at(&mut self, slot: Slot, pace: &Pace) -> Option<HolderTime> {
        let lease = self.shared.lease()?;
        let opened = self.open.get(&slot)?;
        let now = self.clock.now();
        match opened.slice.next(now, lease.until, pace) {
            Next::Wait(until) => Some(until),
            Next::Renew(renewal) => self.renew(slot, renewal, now, &lease, pace),
            Next::Lapsed => {
                let cause = self.cause(now, Duration::ZERO, &lease, pace);
                self.lose(slot, cause);
                None
            }
        }
    }

    fn renew(
        &mut self,
        slot: Slot,
        renewal: Renewal,
        before: HolderTime,
        lease: &Lease,
        pace: &Pace,
    ) -> Option<HolderTime> {
        let outcome = self.commit(&element::renew(slot, self.timeout(renewal.length())));
        // Read after the acknowledgement: the commit came before it.
        let after = self.clock.now();
        let opened = self.open.get_mut(&slot)?;
        let cause = match outcome {
            Ok(()) => match opened.slice.renewed(renewal, after) {
                Renewed::Held(()) => return Some(after),
                Renewed::Late(()) => self.cause(after, after.since(before), lease, pace),
            },
            Err(e) if e.is_absent() => self.cause(after, after.since(before), lease, pace),
            Err(BatchError::Unknown(_)) => {
                opened.slice.unknown(renewal, after);
                return Some(after + pace.tight);
            }
            // Nothing changed; there is time to try again until the element runs out.
            Err(e @ (BatchError::Refused(_) | BatchError::RefusedWhole(_))) => {
                if after < opened.slice.bound() {
                    return Some(after + pace.tight);
                }
                Cause::Refused { why: e.to_string() }
            }
        };
        self.lose(slot, cause);
        None
    }

    /// Takes an element that has ended out of the books. Deleted again, since it may be there in one of the tables, or
    /// have been acknowledged after its bound.
    fn lose(&mut self, slot: Slot, cause: Cause) {
        let _ = self.shut(slot);
        if let Some(opened) = self.open.remove(&slot) {
            (self.lost)(Loss { slot, grant: opened.grant, cause });
        }
    }

    fn cause(&self, now: HolderTime, transaction: Duration, lease: &Lease, pace: &Pace) -> Cause {
        let longest = Duration::from_nanos(self.shared.longest_ns.load(Ordering::Relaxed));
        Cause::of(Facts { now, looked_at: self.looked_at, transaction, longest, until: lease.until }, pace)
    }

    /// The first grant, compare-and-set through the permit.
    fn grant(&mut self, slot: Slot) -> Result<u64, GrantError> {
        self.open.remove(&slot);
        for _ in 0..GRANT_ATTEMPTS_MAX {
            let lease = self.shared.lease().ok_or(GrantError::NoLease)?;
            let pace = Pace::of(lease.ttl);
            let now = self.clock.now();
            let permitting = Permitting::begin(now, lease.until, &pace).ok_or(GrantError::TooLate)?;
            self.permit(slot, permitting.length()).map_err(GrantError::Kernel)?;
            let permit = permitting.permitted(self.clock.now());
            let granting = permit.grant(lease.until, &pace).ok_or(GrantError::TooLate)?;
            match self.commit(&element::grant(slot, self.timeout(granting.length()))) {
                Ok(()) => {
                    if let Renewed::Held(slice) = granting.granted(self.clock.now()) {
                        self.grants += 1;
                        self.open.insert(slot, Opened { grant: self.grants, slice });
                        return Ok(self.grants);
                    }
                }
                // The permit has run out, or an old element is in the way, or we cannot know.
                Err(BatchError::Refused(all))
                    if all.iter().all(|(_, e)| matches!(e, Errno::ENOENT | Errno::EEXIST)) => {}
                Err(BatchError::Unknown(_)) => {}
                Err(e @ (BatchError::Refused(_) | BatchError::RefusedWhole(_))) => return Err(GrantError::Kernel(e)),
            }
            self.shut(slot).map_err(GrantError::Kernel)?;
        }
        Err(GrantError::Paused)
    }

    fn permit(&mut self, slot: Slot, length: Duration) -> Result<(), BatchError> {
        // One left from an attempt that was given up must not stand in for the new one: its bound is not known.
        self.commit(&element::clear_permit(slot))?;
        self.commit(&element::permit(slot, self.timeout(length)))
    }

    /// Deletes the element in both tables; that there is none is no error.
    fn shut(&mut self, slot: Slot) -> Result<(), BatchError> {
        let mut outcome = Ok(());
        for batch in element::revoke(slot) {
            match self.commit(&batch) {
                Ok(()) => {}
                Err(e) if e.is_absent() => {}
                Err(e) => outcome = Err(e),
            }
        }
        outcome
    }

    fn timeout(&self, length: Duration) -> Duration {
        kernel_timeout(length, self.clock.slow())
    }

    /// Commits and keeps the longest time it took.
    fn commit(&mut self, batch: &Batch) -> Result<(), BatchError> {
        let before = self.clock.now();
        let outcome = self.nft.commit(batch);
        let took = u64::try_from(self.clock.now().since(before).as_nanos()).unwrap_or(u64::MAX);
        self.shared.longest_ns.fetch_max(took, Ordering::Relaxed);
        outcome
    }
}
