//! The keeper's core, pure: datagrams, frames, outcomes and time in, effects out.
//!
//! The daemon around it is a poll loop; the simulator is another driver of the same code.
//!
//! - `ports`: inputs, effects, clocks. `outbox`, `waiter`: where effects and answers go.
//! - `tenure`: this keeper's own session. `voter`: promises to other holders. `collect`: the asking side of an expiry.
//! - `inventory`, `program`, `address`, `storage`: what is up. `tokens`: which ownerships may start anything (rule 20).
//! - `agent`: what the agent says. `operations`: what it wants done. `survey`: questions to other keepers.
//! - `watchdog`: when the machine's watchdog is petted, and when on purpose not.
//! - `messages`: what other keepers say. `due`: what time brings.

mod address;
mod agent;
mod collect;
mod due;
mod inventory;
pub mod limits;
mod messages;
mod operations;
mod outbox;
mod ports;
mod program;
mod storage;
mod survey;
mod tenure;
mod tokens;
mod voter;
mod waiter;
mod watchdog;

pub use ports::{
    AddressEvent, Effect, Enforcement, Input, Now, ProgramEvent, Settings, StorageEvent, WatchdogEvent, WatchdogOrder,
};

use std::collections::VecDeque;
use std::time::Duration;

use self::agent::Agent;
use self::collect::Collections;
use self::due::Leaving;
use self::inventory::Inventory;
use self::outbox::Outbox;
use self::survey::Surveys;
use self::tenure::Tenure;
use self::tokens::Tokens;
use self::voter::Voter;
use self::watchdog::Watchdog;
use crate::engine::lease::{Knowledge, Message};
use crate::engine::{HolderTime, LogIndex, NodeId};
use crate::keeper::protocol::{Configuration, FromKeeper, LeaseView};

/// The state of one keeper's life.
#[derive(Clone, Debug)]
pub struct Core {
    settings: Settings,
    /// Who this node is; none until the agent has said so.
    configuration: Option<Configuration>,
    knowledge: Knowledge,
    tenure: Tenure,
    voter: Voter,
    collections: Collections,
    surveys: Surveys,
    tokens: Tokens,
    inventory: Inventory,
    agent: Agent,
    leaving: Leaving,
    watchdog: Watchdog,
    /// When the agent is told of the lease again although nothing has changed.
    view_at: HolderTime,
    /// How unevenly the clocks run, if it is more than rho/2.
    skew_ppm: Option<i32>,
    out: Outbox,
    /// Messages from this node to itself: a voter's keeper is its own voter too.
    mail: VecDeque<Message>,
}

impl Core {
    /// A keeper's life begins, with nothing of an earlier one left on the node (rule 5).
    pub fn new(settings: Settings, now: Now) -> Self {
        Self {
            configuration: None,
            knowledge: Knowledge::default(),
            tenure: Tenure::default(),
            voter: Voter::new(settings.nonce, now.voter, settings.rules),
            collections: Collections::default(),
            surveys: Surveys::new(settings.nonce),
            tokens: Tokens::under(settings.rules),
            inventory: Inventory::default(),
            agent: Agent::new(now.holder),
            leaving: Leaving::default(),
            watchdog: Watchdog::default(),
            view_at: now.holder,
            skew_ppm: None,
            out: Outbox::default(),
            mail: VecDeque::new(),
            settings,
        }
    }

    /// Takes an input, and does whatever else is due by now.
    pub fn handle(&mut self, now: Now, input: Input) -> Vec<Effect> {
        match input {
            Input::Tick => {}
            Input::Datagram { from, message } => self.receive(from, message, now),
            Input::AgentConnected | Input::AgentGone => self.agent_changed(),
            Input::Frame(frame) => self.frame(frame, now),
            Input::Program { place, event } => {
                let passed = self.leash_deadline().is_none_or(|deadline| deadline <= now.holder);
                self.inventory.program_event(&place, event, passed, &mut self.out);
            }
            Input::Address { place, event } => self.inventory.address_event(&place, event, now.holder, &mut self.out),
            Input::Storage { place, event } => self.inventory.storage_event(&place, event, now.holder, &mut self.out),
            Input::Note { package, text } => self.out.note(package.as_ref(), text),
            Input::Skew { ppm } => self.skewed(ppm, now),
            Input::Watchdog(event) => self.watchdog_event(event, now),
            Input::Terminate => self.leave(now),
        }
        self.do_due(now);
        self.out.take()
    }

    /// How long nothing is due if nothing happens.
    pub fn next_wake(&self, now: Now) -> Duration {
        let holder = self.wake_holder().map(|at| at.since(now.holder));
        let voter = self.wake_voter().map(|at| at.since(now.voter));
        holder.into_iter().chain(voter).min().unwrap_or(limits::LEASE_VIEW_EVERY)
    }

    /// What the keeper knows of the log.
    pub fn knowledge(&self) -> &Knowledge {
        &self.knowledge
    }

    /// This node, once the agent has said so.
    fn node(&self) -> Option<NodeId> {
        self.configuration.as_ref().map(|c| c.node)
    }

    /// When the leashes kill: T less the margin (rule 22). None without a lease.
    fn leash_deadline(&self) -> Option<HolderTime> {
        self.tenure.given().map(|until| self.settings.enforcement.end_of(until).back(self.settings.leash_margin))
    }

    fn lease_view(&self, now: Now) -> LeaseView {
        // Said before there are keys, too: an agent tells by it that this keeper knows which key to seal with.
        let keys_at = Some(self.configuration.as_ref().map_or(LogIndex(0), |c| c.keys_at));
        LeaseView { skew_ppm: self.skew_ppm, watchdog: self.watchdog.view(), keys_at, ..self.tenure.view(now.holder) }
    }

    /// Rule 2: a clock slewed hard shortens deadlines, and is said, once each time; `status` shows how it is now.
    fn skewed(&mut self, ppm: Option<i32>, now: Now) {
        let before = std::mem::replace(&mut self.skew_ppm, ppm);
        match (before, ppm) {
            (None, Some(ppm)) => self.out.note(
                None,
                format!(
                    "this node's clock is being slewed by {:.1} %: deadlines are shortened, so that leases may lapse \
                     early. See what sets the clock (chronyc tracking, timedatectl)",
                    f64::from(ppm.unsigned_abs()) / 10_000.0
                ),
            ),
            (Some(_), None) => self.out.note(None, "this node's clock runs evenly again".to_owned()),
            (None, None) | (Some(_), Some(_)) => {}
        }
        if before.is_some() != ppm.is_some() {
            self.tell_lease(now);
        }
    }

    fn tell_lease(&mut self, now: Now) {
        let view = self.lease_view(now);
        self.view_at = now.holder + limits::LEASE_VIEW_EVERY;
        self.out.tell(FromKeeper::Lease(view));
    }
}

#[cfg(test)]
mod tests;
