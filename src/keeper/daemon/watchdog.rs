//! The machine's watchdog, on a thread of its own: some drivers (IPMI's) wait for their hardware at every pet, and the
//! keeper's loop waits for nothing. Only the loop orders pets, so that a loop that stands still ends them.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::config::WATCHDOG_TIMEOUT_DEFAULT;
use crate::host::watchdog::{Dog, no_way_out};
use crate::keeper::core::{WatchdogEvent, WatchdogOrder};
use crate::package::Millis;

/// Time between two attempts to open a device that could not be opened.
const OPEN_RETRY: Duration = Duration::from_secs(10);
/// How long the keeper's start waits for the first attempt; a driver that takes longer is heard of later.
const FIRST_WITHIN: Duration = Duration::from_secs(5);
/// Orders that wait; one that finds another under way would say the same.
const ORDERS_MAX: usize = 1;

/// Which watchdog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchdogOptions {
    /// The device.
    pub path: PathBuf,
    /// How long it is to bear a keeper that stands still; the core's choice if none is given.
    pub timeout: Option<Millis>,
}

/// The thread, as the loop sees it; nothing where no watchdog is configured.
#[derive(Default)]
pub(super) struct Watchdog(Option<Thread>);

struct Thread {
    orders: SyncSender<WatchdogOrder>,
    events: Receiver<WatchdogEvent>,
    /// What the first attempt brought, until the loop takes it.
    first: Option<WatchdogEvent>,
    thread: JoinHandle<()>,
}

impl Watchdog {
    /// Opens it, if one is configured, and waits for what comes of the first attempt. `on_thread` is called on the thread.
    pub(super) fn start(options: Option<WatchdogOptions>, on_thread: impl FnOnce() + Send + 'static) -> Self {
        let Some(options) = options else { return Self::default() };
        let (orders, to_do) = sync_channel(ORDERS_MAX);
        let (say, events) = channel();
        let spawned = Builder::new().name("watchdog".into()).spawn(move || {
            on_thread();
            serve(&options, &to_do, &say);
        });
        match spawned {
            Ok(thread) => {
                let first = events.recv_timeout(FIRST_WITHIN).ok();
                Self(Some(Thread { orders, events, first, thread }))
            }
            Err(why) => {
                tracing::error!("the watchdog's thread cannot be started: {why}. This node goes on without a watchdog");
                Self::default()
            }
        }
    }

    /// What has become of it.
    pub(super) fn next_event(&mut self) -> Option<WatchdogEvent> {
        let thread = self.0.as_mut()?;
        thread.first.take().or_else(|| thread.events.try_recv().ok())
    }

    /// Carries out an order of the core, without waiting for a pet. A disarmed watchdog is left alone.
    pub(super) fn order(&mut self, order: WatchdogOrder) {
        match order {
            WatchdogOrder::Pet | WatchdogOrder::Stretch { .. } => {
                let Some(thread) = &self.0 else { return };
                if let Err(TrySendError::Full(_)) = thread.orders.try_send(order) {
                    tracing::warn!("the watchdog's driver takes longer for a pet than there is between two");
                }
            }
            WatchdogOrder::Disarm => {
                let Some(thread) = self.0.take() else { return };
                // It fails only if the thread has ended.
                let _ = thread.orders.send(order);
                let _ = thread.thread.join();
            }
        }
    }
}

fn serve(options: &WatchdogOptions, to_do: &Receiver<WatchdogOrder>, say: &Sender<WatchdogEvent>) {
    let mut told = None;
    let mut dog = loop {
        match Dog::open(&options.path, options.timeout.unwrap_or(WATCHDOG_TIMEOUT_DEFAULT)) {
            Ok(dog) => break dog,
            Err(why) => {
                let why = why.to_string();
                if told.as_ref() != Some(&why) {
                    told = Some(why.clone());
                    // Nobody is left to be told once the keeper ends.
                    let _ = say.send(WatchdogEvent::Unusable { why });
                }
            }
        }
        match to_do.recv_timeout(OPEN_RETRY) {
            Err(RecvTimeoutError::Timeout) | Ok(WatchdogOrder::Pet | WatchdogOrder::Stretch { .. }) => {}
            Err(RecvTimeoutError::Disconnected) | Ok(WatchdogOrder::Disarm) => return,
        }
    };
    introduce(options, &dog);
    let _ = say.send(WatchdogEvent::Opened { timeout: dog.timeout(), is_chosen: options.timeout.is_some() });
    // Without its loop the thread ends, and the device, closed without the letter, counts on.
    while let Ok(order) = to_do.recv() {
        match order {
            WatchdogOrder::Pet => pet(&mut dog),
            WatchdogOrder::Stretch { timeout } => {
                let took = dog.stretch(timeout);
                tracing::info!(
                    "the watchdog bears {took} from now on: twice the lease time of this cluster is {timeout}"
                );
                pet(&mut dog);
                let _ = say.send(WatchdogEvent::Opened { timeout: took, is_chosen: true });
            }
            WatchdogOrder::Disarm => {
                match dog.disarm() {
                    Ok(()) => tracing::info!("the watchdog is disarmed, as far as its driver lets it be"),
                    Err(why) => tracing::error!("the watchdog could not be disarmed: {why}; it counts on"),
                }
                return;
            }
        }
    }
}

fn pet(dog: &mut Dog) {
    if let Err(why) = dog.pet() {
        tracing::error!("the watchdog could not be petted: {why}; it counts on");
    }
}

fn introduce(options: &WatchdogOptions, dog: &Dog) {
    let (path, timeout) = (options.path.display(), dog.timeout());
    tracing::info!("the watchdog {path} resets this machine when the keeper stands still for {timeout}");
    if let Some(wanted) = options.timeout.filter(|wanted| *wanted != timeout) {
        tracing::warn!("its driver made {timeout} of the {wanted} that is configured");
    }
    if dog.reset_before() {
        tracing::warn!("this machine's last start came from its watchdog");
    }
    if no_way_out(&options.path) == Some(true) {
        tracing::warn!("its driver cannot be stopped (nowayout): a keeper that is stopped has the machine reset");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_that_is_not_there_is_told_once_and_a_keeper_without_one_has_nothing_to_order() {
        let dir = tempfile::tempdir().unwrap();
        let options = WatchdogOptions { path: dir.path().join("watchdog"), timeout: None };
        let mut watchdog = Watchdog::start(Some(options), || {});
        assert!(matches!(watchdog.next_event(), Some(WatchdogEvent::Unusable { .. })));
        assert_eq!(watchdog.next_event(), None);
        watchdog.order(WatchdogOrder::Disarm);
        assert!(watchdog.0.is_none(), "its thread has ended");
        let mut none = Watchdog::start(None, || panic!("a thread for nothing"));
        none.order(WatchdogOrder::Pet);
        assert_eq!(none.next_event(), None);
    }
}
