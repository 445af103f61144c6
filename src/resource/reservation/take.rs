//! Taking a LUN for an ownership and giving it up: every step one command to the device, so that it can be stopped
//! between any two.
//!
//! Taking: look who is registered → register → look again → preempt everybody else by the keys just read → reserve →
//! read back that only this node is registered and that it holds. Rule 23: a preemption names the key that it read, and
//! none is attempted while a newer ownership of ours is registered. So a taker that was paused anywhere can never end a
//! newer one's registration: it would have to name a key that makes it withdraw.
//!
//! Who finds others registered takes the LUN as their heir ([`Key::heir`]), and what an heir has stays reserved when it is
//! given up. So: no registration of ours means that no older owner can still write, and every preempted one is refused
//! for good.

use super::{Abort, Key, PrFault, Reservation, ReservationKind, Reservations};
use crate::engine::Token;

/// How often the device's answers may send a taker back to its first look, before it gives up.
pub const ROUNDS_MAX: u32 = 16;
/// Keys that a message names; of the rest it says how many.
const NAMED_MAX: usize = 4;

/// What a taker may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Policy {
    /// Whether commands that a preempted node has under way are ended.
    pub abort: Abort,
    /// Whether keys that are not this cluster's may be preempted.
    pub preempt_foreign: bool,
}

/// Why a LUN was not taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum TakeError {
    /// A newer ownership has it, or two claim the same: this one is not to act any more.
    #[error(
        "it is registered under {key}, token {token}, of an ownership that is not older than this one, and is left to it"
    )]
    Newer {
        /// The key seen.
        key: Key,
        /// Its token.
        token: Token,
    },
    /// Somebody else uses it.
    #[error(
        "it is registered under {} of no ownership of this cluster: another cluster or program uses it, and it was left \
         alone. See who that is (sg_persist --in --read-full-status DEVICE); if nobody needs it, write \
         preempt_foreign = true into the lun resource",
        named(keys)
    )]
    Foreign {
        /// The keys seen.
        keys: Vec<Key>,
    },
    /// It changes faster than it can be taken.
    #[error("its registrations changed {ROUNDS_MAX} times while it was being taken; it was given up again")]
    Restless,
    /// The device refused a step.
    #[error("{fault}")]
    Device {
        /// What it said.
        fault: PrFault,
    },
}

fn named(keys: &[Key]) -> String {
    let mut words: Vec<String> = keys.iter().take(NAMED_MAX).map(Key::to_string).collect();
    if keys.len() > NAMED_MAX {
        words.push(format!("{} more", keys.len() - NAMED_MAX));
    }
    words.join(", ")
}

/// What a step has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<E> {
    /// There is another step.
    More,
    /// Done: by then only this node is registered and holds the reservation; or what is left of it is an heir's.
    Done,
    /// Failed. Unless the device refused that too, nothing of this key is left there, but what keeps a preempted owner out.
    Failed(E),
}

/// A LUN being taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Take {
    key: Key,
    policy: Policy,
    rounds: u32,
    /// Somebody's registration was ended: this one's must not leave the LUN open.
    preempted: bool,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Who is registered, before anything is changed?
    Look,
    Register,
    /// Who is registered beside this node?
    Survey {
        /// It has reserved since the last look.
        reserved: bool,
    },
    /// These others were registered; the next to be preempted last.
    Preempt(Vec<Key>),
    Reserve,
    /// Only this node was registered after it had reserved: does it hold?
    Confirm,
    /// Its own registration is to be ended.
    Withdraw(TakeError),
    Over(Result<(), TakeError>),
}

impl Take {
    /// Begins to take a LUN for the ownership of this key.
    pub fn new(key: Key, policy: Policy) -> Self {
        Self { key, policy, rounds: 0, preempted: false, stage: Stage::Look }
    }

    /// Gives the device one command.
    pub fn step(&mut self, lun: &mut impl Reservations) -> Step<TakeError> {
        let stage = std::mem::replace(&mut self.stage, Stage::Look);
        self.stage = match self.act(stage, lun) {
            Ok(next) => next,
            Err((_, over @ Stage::Over(_))) => over,
            // What the device refused leaves this node registered.
            Err((fault, Stage::Look)) => Stage::Over(Err(TakeError::Device { fault })),
            Err((fault, _)) => Stage::Withdraw(TakeError::Device { fault }),
        };
        match &self.stage {
            Stage::Over(Ok(())) => Step::Done,
            Stage::Over(Err(why)) => Step::Failed(why.clone()),
            Stage::Look
            | Stage::Register
            | Stage::Survey { .. }
            | Stage::Preempt(_)
            | Stage::Reserve
            | Stage::Confirm
            | Stage::Withdraw(_) => Step::More,
        }
    }

    /// The next stage, or the fault and the stage that it came in.
    fn act(&mut self, stage: Stage, lun: &mut impl Reservations) -> Result<Stage, (PrFault, Stage)> {
        match stage {
            Stage::Look => match self.judge(&lun.keys().map_err(|fault| (fault, Stage::Look))?) {
                Err(why) => Ok(Stage::Over(Err(why))),
                Ok(others) => {
                    if !others.is_empty() {
                        self.key = self.key.heir();
                    }
                    Ok(Stage::Register)
                }
            },
            Stage::Register => {
                lun.register(self.key).map_err(|fault| (fault, Stage::Register))?;
                Ok(Stage::Survey { reserved: false })
            }
            Stage::Survey { reserved } => {
                let keys = lun.keys().map_err(|fault| (fault, Stage::Survey { reserved }))?;
                Ok(self.survey(&keys, reserved))
            }
            Stage::Preempt(mut others) => {
                let Some(victim) = others.pop() else { return Ok(Stage::Survey { reserved: false }) };
                self.preempted = true;
                match lun.preempt(self.key, victim, self.policy.abort) {
                    Ok(()) if others.is_empty() => Ok(Stage::Survey { reserved: false }),
                    Ok(()) => Ok(Stage::Preempt(others)),
                    // The victim has gone by itself, or this node was preempted: look again.
                    Err(PrFault::Conflict { .. }) => Ok(self.again(Stage::Survey { reserved: false })),
                    Err(fault) => Err((fault, Stage::Preempt(others))),
                }
            }
            Stage::Reserve => match lun.reserve(self.key) {
                Ok(()) => Ok(Stage::Survey { reserved: true }),
                // Somebody else came, and may have gone again.
                Err(PrFault::Conflict { .. }) => Ok(self.again(Stage::Survey { reserved: false })),
                Err(fault) => Err((fault, Stage::Reserve)),
            },
            Stage::Confirm => {
                let held = lun.reservation().map_err(|fault| (fault, Stage::Confirm))?;
                let kind = ReservationKind::WriteExclusiveRegistrantsOnly;
                match held == Some(Reservation { key: self.key, kind }) {
                    // A plain registration is given up as such, so that only who is alone from the first look has one.
                    true => Ok(Stage::Over(Ok(()))),
                    false => Ok(self.again(Stage::Survey { reserved: false })),
                }
            }
            // Whoever comes next has to find that somebody was preempted here, even one that is newer and on its way.
            Stage::Withdraw(why) if self.preempted => Ok(Stage::Over(Err(why))),
            Stage::Withdraw(why) => match lun.unregister(self.key) {
                // A conflict: it is not registered any more.
                Ok(()) | Err(PrFault::Conflict { .. }) => Ok(Stage::Over(Err(why))),
                Err(fault) => Err((fault, Stage::Over(Err(why)))),
            },
            Stage::Over(outcome) => Ok(Stage::Over(outcome)),
        }
    }

    /// What follows from who is registered.
    fn survey(&mut self, keys: &[Key], reserved: bool) -> Stage {
        let others = match self.judge(keys) {
            Ok(others) => others,
            Err(why) => return Stage::Withdraw(why),
        };
        if !keys.contains(&self.key) {
            // Preempted since it registered; by whom is seen by looking again.
            return self.again(Stage::Look);
        }
        match (others.is_empty(), reserved) {
            (false, _) if !self.key.is_heir() => {
                self.key = self.key.heir();
                Stage::Register
            }
            (false, _) => Stage::Preempt(others),
            (true, false) => Stage::Reserve,
            (true, true) => Stage::Confirm,
        }
    }

    /// Whom to preempt, or why nobody may be.
    fn judge(&self, keys: &[Key]) -> Result<Vec<Key>, TakeError> {
        let own = self.key.meaning().map(|meaning| meaning.token);
        let mut others: Vec<Key> = keys.iter().copied().filter(|key| !key.is_of(self.key)).collect();
        others.sort_unstable();
        others.dedup();
        let newer = |key: &Key| self.key.sibling(*key).filter(|token| Some(*token) >= own).map(|token| (*key, token));
        if let Some((key, token)) = others.iter().find_map(newer) {
            return Err(TakeError::Newer { key, token });
        }
        let foreign: Vec<Key> = others.iter().copied().filter(|key| self.key.sibling(*key).is_none()).collect();
        match foreign.is_empty() || self.policy.preempt_foreign {
            true => Ok(others),
            false => Err(TakeError::Foreign { keys: foreign }),
        }
    }

    fn again(&mut self, stage: Stage) -> Stage {
        self.rounds += 1;
        if self.rounds < ROUNDS_MAX { stage } else { Stage::Withdraw(TakeError::Restless) }
    }
}

/// Takes a LUN for the ownership of this key. The caller says which device it was.
///
/// # Errors
/// Nothing is registered under the key then, unless somebody was preempted by it or the device refused that too.
pub fn take(lun: &mut impl Reservations, key: Key, policy: Policy) -> Result<(), TakeError> {
    let mut taking = Take::new(key, policy);
    loop {
        match taking.step(lun) {
            Step::More => {}
            Step::Done => return Ok(()),
            Step::Failed(why) => return Err(why),
        }
    }
}

/// A LUN being given up: this node's own key only, whoever else is registered. An heir's stays, with its reservation:
/// nothing on this node uses it, and the next owner takes it over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GiveUp {
    key: Key,
    stage: Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Leave {
    Look,
    Release,
    Unregister,
    Confirm,
    Over,
}

impl GiveUp {
    /// Begins to give up what was taken under this key.
    pub fn new(key: Key) -> Self {
        Self { key, stage: Leave::Look }
    }

    /// Gives the device one command.
    pub fn step(&mut self, lun: &mut impl Reservations) -> Step<PrFault> {
        match self.stage {
            Leave::Look => match lun.keys() {
                Ok(keys) if keys.contains(&self.key) && !self.key.is_heir() => self.stage = Leave::Release,
                Ok(_) => self.stage = Leave::Over,
                Err(fault) => return Step::Failed(fault),
            },
            Leave::Release => {
                // Whatever it says: the registration ends next, and the reservation with it.
                let _ = lun.release(self.key);
                self.stage = Leave::Unregister;
            }
            Leave::Unregister => match lun.unregister(self.key) {
                // A conflict: somebody has preempted it.
                Ok(()) | Err(PrFault::Conflict { .. }) => self.stage = Leave::Confirm,
                Err(fault) => return Step::Failed(fault),
            },
            Leave::Confirm => match lun.keys() {
                Ok(keys) if !keys.contains(&self.key) => self.stage = Leave::Over,
                Ok(_) => {
                    let why = "this node's key is still registered".to_owned();
                    return Step::Failed(PrFault::Failed { what: "unregister", why });
                }
                Err(fault) => return Step::Failed(fault),
            },
            Leave::Over => {}
        }
        if self.stage == Leave::Over { Step::Done } else { Step::More }
    }
}

/// Gives up what was taken under this key. What somebody else has taken since is theirs.
///
/// # Errors
/// The key may still be registered.
pub fn give_up(lun: &mut impl Reservations, key: Key) -> Result<(), PrFault> {
    let mut leaving = GiveUp::new(key);
    loop {
        match leaving.step(lun) {
            Step::More => {}
            Step::Done => return Ok(()),
            Step::Failed(fault) => return Err(fault),
        }
    }
}
