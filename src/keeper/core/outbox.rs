//! Where the core's parts put their effects, and what they must know of the agent to do so.

use super::ports::Effect;
use super::waiter::Waiter;
use crate::keeper::protocol::{FromKeeper, Outcome};
use crate::package::PackageName;

/// Effects in order, for one input.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    effects: Vec<Effect>,
    /// Counts connections; an answer for an earlier one is dropped.
    connection: u64,
    /// An agent is there and has been welcomed.
    attached: bool,
}

impl Outbox {
    /// Adds an effect.
    pub fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Tells the agent, if there is one. Before its welcome there is none.
    pub fn tell(&mut self, frame: FromKeeper) {
        if self.attached {
            self.effects.push(Effect::Tell(frame));
        }
    }

    /// Says something that an operator should read: to the agent, and to the keeper's own log.
    pub fn note(&mut self, package: Option<&PackageName>, text: String) {
        self.effects.push(Effect::Log { text: text.clone() });
        self.tell(FromKeeper::Note { package: package.cloned(), text });
    }

    /// Answers an operation, if the agent that asked is still there.
    pub fn answer(&mut self, waiter: Waiter, outcome: Outcome) {
        if self.is_current(waiter) {
            self.tell(FromKeeper::Done { id: waiter.id, outcome });
        }
    }

    /// Answers several operations alike.
    pub fn answer_all(&mut self, waiters: Vec<Waiter>, outcome: &Outcome) {
        waiters.into_iter().for_each(|waiter| self.answer(waiter, outcome.clone()));
    }

    /// Whether the agent that asked is still there.
    pub fn is_current(&self, waiter: Waiter) -> bool {
        self.attached && waiter.connection == self.connection
    }

    /// Whether an agent is there and has been welcomed.
    pub fn is_attached(&self) -> bool {
        self.attached
    }

    /// The current connection's number.
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// An agent came or went: nothing of an earlier one is answered any more.
    pub fn next_connection(&mut self) {
        self.connection += 1;
        self.attached = false;
    }

    /// The agent of this connection is welcomed.
    pub fn attach(&mut self) {
        self.attached = true;
    }

    /// The effects so far.
    pub fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }
}
