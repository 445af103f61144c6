//! When the machine's watchdog is petted, and when on purpose not.
//!
//! A keeper that is dead or frozen pets nobody. One that lives stops petting when its lease has ended and something that
//! had to be down by then is not: the watchdog then resets the machine, and only one node acts.

use std::time::Duration;

use super::Core;
use super::limits::{WATCHDOG_GRACE, WATCHDOG_TTLS};
use super::outbox::Outbox;
use super::ports::{Effect, Now, WatchdogEvent, WatchdogOrder};
use crate::engine::HolderTime;
use crate::engine::state;
use crate::package::Millis;

/// Pets per timeout: four of them in a row may be lost.
const PETS_PER_TIMEOUT: u32 = 5;

/// The watchdog as far as the core knows.
#[derive(Clone, Debug, Default)]
pub struct Watchdog {
    stage: Stage,
    /// The sessions' lease time, once the agent has said it.
    ttl: Option<Millis>,
    /// Since when something is up that must not be.
    overdue: Option<HolderTime>,
}

#[derive(Clone, Debug, Default)]
enum Stage {
    /// None is configured, or nobody has said yet what came of opening it.
    #[default]
    None,
    Unusable(String),
    Armed {
        timeout: Millis,
        /// Whether somebody has asked for that timeout, so that it is not stretched.
        is_chosen: bool,
        pet_at: HolderTime,
    },
    /// Not petted, because of this.
    Starved {
        timeout: Millis,
        is_chosen: bool,
        why: String,
    },
}

impl Watchdog {
    /// What came of the device.
    fn event(&mut self, event: WatchdogEvent, now: HolderTime, out: &mut Outbox) {
        match event {
            WatchdogEvent::Opened { timeout, is_chosen } => {
                self.stage = match std::mem::take(&mut self.stage) {
                    // It was being stretched when something outlived its lease.
                    Stage::Starved { why, .. } => Stage::Starved { timeout, is_chosen, why },
                    Stage::None | Stage::Unusable(_) | Stage::Armed { .. } => {
                        Stage::Armed { timeout, is_chosen, pet_at: now }
                    }
                };
                self.check_length(now, out);
            }
            WatchdogEvent::Unusable { why } => {
                out.note(None, format!("{why}. This node goes on without a watchdog"));
                self.stage = Stage::Unusable(why);
            }
        }
    }

    /// The least that it must bear.
    fn least(&self) -> Option<Millis> {
        self.ttl.map(|ttl| Millis(ttl.0 * u64::from(WATCHDOG_TTLS)))
    }

    /// A stall that a lease survives must not reset the machine: what nobody has chosen is stretched at the next pet, and
    /// what somebody has is not used.
    fn check_length(&mut self, now: HolderTime, out: &mut Outbox) {
        let Some(least) = self.least() else { return };
        let Stage::Armed { timeout, is_chosen, pet_at } = &mut self.stage else { return };
        if *timeout >= least {
            return;
        }
        if !*is_chosen {
            *pet_at = now;
        } else {
            let why = format!(
                "the watchdog's timeout of {timeout} is shorter than {least}, {WATCHDOG_TTLS} times the lease time: write \
                 watchdog_timeout = \"{least}\" or more"
            );
            out.push(Effect::Watchdog(WatchdogOrder::Disarm));
            out.note(None, format!("{why}. It is disarmed, and this node goes on without it"));
            self.stage = Stage::Unusable(why);
        }
    }

    /// The sessions' lease time is known.
    fn set_ttl(&mut self, ttl: Millis, now: HolderTime, out: &mut Outbox) {
        self.ttl = Some(ttl);
        self.check_length(now, out);
    }

    /// Pets it if that is due, unless something has been up for too long that must be down: `left`, in words. Answers
    /// whether there is news for others.
    fn mind(&mut self, left: Option<String>, now: HolderTime, out: &mut Outbox) -> bool {
        self.overdue = left.as_ref().map(|_| self.overdue.unwrap_or(now));
        let starve = left.filter(|_| self.starves_at().is_some_and(|at| at <= now));
        let least = self.least();
        match (&mut self.stage, starve) {
            (Stage::Armed { timeout, is_chosen, .. }, Some(left)) => {
                let (timeout, is_chosen, grace) = (*timeout, *is_chosen, Millis::from(WATCHDOG_GRACE));
                let why = format!("the lease ended more than {grace} ago, and here there is still {left}");
                out.note(
                    None,
                    format!(
                        "the watchdog is not petted any more: {why}. This machine resets within {timeout}, unless that \
                         goes away first"
                    ),
                );
                self.stage = Stage::Starved { timeout, is_chosen, why };
                true
            }
            (Stage::Starved { timeout, is_chosen, .. }, None) => {
                out.note(None, "what had to be down is down: the watchdog is petted again".to_owned());
                out.push(Effect::Watchdog(WatchdogOrder::Pet));
                let (timeout, is_chosen) = (*timeout, *is_chosen);
                self.stage = Stage::Armed { timeout, is_chosen, pet_at: now + every(timeout) };
                true
            }
            (Stage::Armed { timeout, is_chosen, pet_at }, None) => {
                if *pet_at <= now {
                    // Again with every pet until the answer comes: an order may find another one under way.
                    let longer = least.filter(|least| !*is_chosen && *timeout < *least);
                    let order = longer.map_or(WatchdogOrder::Pet, |timeout| WatchdogOrder::Stretch { timeout });
                    out.push(Effect::Watchdog(order));
                    *pet_at = now + every(*timeout);
                }
                false
            }
            (Stage::Starved { .. }, Some(_)) | (Stage::None | Stage::Unusable(_), _) => false,
        }
    }

    fn starves_at(&self) -> Option<HolderTime> {
        self.overdue.map(|since| since + WATCHDOG_GRACE)
    }

    /// When to be called with [`Self::mind`].
    pub(super) fn wake(&self) -> Option<HolderTime> {
        match &self.stage {
            Stage::Armed { pet_at, .. } => Some(self.starves_at().map_or(*pet_at, |at| at.min(*pet_at))),
            Stage::None | Stage::Unusable(_) | Stage::Starved { .. } => None,
        }
    }

    /// As others are told.
    pub(super) fn view(&self) -> Option<state::Watchdog> {
        match &self.stage {
            Stage::None => None,
            Stage::Unusable(why) => Some(state::Watchdog::Unusable { why: why.clone() }),
            Stage::Armed { timeout, .. } => Some(state::Watchdog::Armed { timeout: *timeout }),
            Stage::Starved { why, .. } => Some(state::Watchdog::Starved { why: why.clone() }),
        }
    }

    /// The process ends in good order, with everything down.
    pub(super) fn end(&mut self, out: &mut Outbox) {
        match std::mem::take(&mut self.stage) {
            Stage::Armed { .. } | Stage::Starved { .. } => out.push(Effect::Watchdog(WatchdogOrder::Disarm)),
            Stage::None | Stage::Unusable(_) => {}
        }
    }
}

fn every(timeout: Millis) -> Duration {
    timeout.duration() / PETS_PER_TIMEOUT
}

impl Core {
    pub(super) fn watchdog_event(&mut self, event: WatchdogEvent, now: Now) {
        self.watchdog.event(event, now.holder, &mut self.out);
        self.tell_lease(now);
    }

    pub(super) fn watchdog_ttl(&mut self, ttl: Millis, now: Now) {
        self.watchdog.set_ttl(ttl, now.holder, &mut self.out);
    }

    /// What must be down is whatever a session leaves that has ended.
    pub(super) fn mind_watchdog(&mut self, now: Now) {
        let left = self.tenure.is_ending().then(|| self.inventory.left()).flatten();
        if self.watchdog.mind(left, now.holder, &mut self.out) {
            self.tell_lease(now);
        }
    }
}
