//! What the agent wants done, and what rules say to it.

use super::Core;
use super::address::Until;
use super::outbox::Outbox;
use super::ports::{Effect, Now};
use super::survey::Subject;
use super::waiter::Waiter;
use crate::engine::{HolderTime, NodeId, Token};
use crate::keeper::protocol::{Op, Outcome, Place, Storage};
use crate::keeper::storage::Task;
use crate::package::{IpResource, PackageName};
use crate::resource::reservation::Key;

/// Who waits for an operation of the current connection.
pub(super) fn waiter(out: &Outbox, id: u64) -> Waiter {
    Waiter { connection: out.connection(), id }
}

impl Core {
    pub(super) fn operate(&mut self, waiter: Waiter, op: Op, now: Now) {
        match op {
            Op::SetIp { place, ip } => self.take_address(place, ip, Until::Set, waiter, now),
            Op::StartIp { place, ip } => self.take_address(place, ip, Until::Up, waiter, now),
            Op::StartProgram { place, program } => match self.admit(&place, now) {
                Ok(deadline) => self.inventory.start_program(place, program, waiter, deadline, &mut self.out),
                Err(why) => self.out.answer(waiter, Outcome::Refused { why }),
            },
            Op::StartStorage { place, storage } => self.start_storage(place, storage, waiter, now),
            Op::StopStorage { place, within } => {
                self.inventory.stop_storage(&place, within, waiter, now.holder, &mut self.out);
            }
            Op::StopIp { place } => self.inventory.stop_address(&place, waiter, &mut self.out),
            Op::StopProgram { place, signal, grace } => {
                self.inventory.stop_program(&place, signal, grace, waiter, now.holder, &mut self.out);
            }
            Op::Release { package, token } => {
                let outcome = self.release(&package, token);
                self.out.answer(waiter, outcome);
            }
            Op::Announce => {
                self.out.push(Effect::Announce);
                self.out.answer(waiter, Outcome::Ok);
            }
            Op::Reach { nodes } => self.survey(Subject::Reach, waiter, nodes, now),
            Op::AskSets { nodes } => self.survey(Subject::Sets, waiter, nodes, now),
        }
    }

    fn take_address(&mut self, place: Place, ip: IpResource, until: Until, waiter: Waiter, now: Now) {
        match self.admit(&place, now) {
            Ok(_) => self.inventory.start_address(place, ip, until, waiter, &mut self.out),
            Err(why) => self.out.answer(waiter, Outcome::Refused { why }),
        }
    }

    fn start_storage(&mut self, place: Place, storage: Storage, waiter: Waiter, now: Now) {
        let begun = self.admit(&place, now).and_then(|deadline| Ok((self.task(&place, storage)?, deadline)));
        match begun {
            Ok((task, deadline)) => self.inventory.start_storage(place, task, waiter, deadline, &mut self.out),
            Err(why) => self.out.answer(waiter, Outcome::Refused { why }),
        }
    }

    /// What is to be done for a resource; a LUN is taken under a key of this cluster, node and ownership.
    fn task(&self, place: &Place, storage: Storage) -> Result<Task, String> {
        match storage {
            Storage::Filesystem(filesystem) => Ok(Task::Filesystem(filesystem)),
            Storage::Lun(lun) => {
                let own = self.configuration.as_ref().ok_or("this keeper does not know its cluster yet")?;
                let key = Key::of(own.cluster, own.node, place.token).map_err(|e| e.to_string())?;
                Ok(Task::Lun { lun, key })
            }
        }
    }

    /// Whether anything may start at this place, and when it dies unless the lease goes on (rules 13, 20 and 22).
    fn admit(&mut self, place: &Place, now: Now) -> Result<HolderTime, String> {
        if let Some(why) = self.why_no_starts() {
            return Err(why);
        }
        let held = self.tenure.held().ok_or("this node holds no session now")?;
        if held != place.session {
            return Err(format!("the ownership is of session {}, this node's session is {held}", place.session));
        }
        let deadline = self.leash_deadline().ok_or_else(|| format!("session {held} has no lease yet"))?;
        if deadline <= now.holder {
            return Err(format!("the lease of session {held} is about to run out"));
        }
        self.inventory.admit(place)?;
        self.tokens.admit(&place.package, place.token)?;
        Ok(deadline)
    }

    /// Rule 20: recorded with everything of the package down.
    fn release(&mut self, package: &PackageName, token: Token) -> Outcome {
        if self.inventory.has_any_of(package) {
            let why = format!("something of '{package}' is still up here; stop it first, nothing was released");
            return Outcome::Refused { why };
        }
        self.tokens.release(package, token);
        self.inventory.forget(package);
        Outcome::Ok
    }

    fn survey(&mut self, subject: Subject, waiter: Waiter, nodes: Vec<NodeId>, now: Now) {
        if let Err(why) = self.surveys.begin(subject, waiter, nodes, now.voter) {
            self.out.answer(waiter, Outcome::Refused { why });
        }
    }
}
