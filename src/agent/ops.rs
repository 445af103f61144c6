//! Operations for the keeper, each with its answer; and the host as resource kinds see it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::channel::oneshot;

use super::platform::Platform;
use crate::keeper::protocol::{Op, Outcome, ToKeeper};
use crate::package::{IpResource, Millis, PackageName};
use crate::resource::{Credentials, Host, Place, ProgramSpec, Storage, Trouble};

/// Operations under way, by id.
#[derive(Clone, Default)]
pub(super) struct Ops {
    inner: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    last_id: u64,
    answers: BTreeMap<u64, oneshot::Sender<Outcome>>,
}

impl Ops {
    fn with<T>(&self, act: impl FnOnce(&mut Waiting) -> T) -> T {
        act(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends an operation and waits for its answer. A broken link answers `Refused`: nothing is known about the
    /// outcome, and starts and stops are safe to ask again.
    pub(super) async fn carry_out(&self, to: &async_channel::Sender<ToKeeper>, op: Op) -> Outcome {
        let (answer, answered) = oneshot::channel();
        let id = self.with(|w| {
            w.last_id += 1;
            w.answers.insert(w.last_id, answer);
            w.last_id
        });
        let lost = || Outcome::Refused { why: "the link to the keeper broke".to_owned() };
        if to.send(ToKeeper::Do { id, op }).await.is_err() {
            self.with(|w| w.answers.remove(&id));
            return lost();
        }
        answered.await.unwrap_or_else(|_| lost())
    }

    /// An answer came.
    pub(super) fn done(&self, id: u64, outcome: Outcome) {
        if let Some(answer) = self.with(|w| w.answers.remove(&id)) {
            // The asker may have given up; then nobody wants the answer.
            let _ = answer.send(outcome);
        }
    }

    /// The link broke: everybody who waits is told.
    pub(super) fn all_lost(&self) {
        self.with(|w| w.answers.clear());
    }
}

/// The host as resource kinds see it: through the keeper.
#[derive(Clone)]
pub(super) struct Hands<P> {
    pub(super) platform: P,
    pub(super) ops: Ops,
    pub(super) keeper: async_channel::Sender<ToKeeper>,
}

impl<P: Platform> Hands<P> {
    pub(super) async fn carry_out(&self, op: Op) -> Outcome {
        self.ops.carry_out(&self.keeper, op).await
    }

    async fn settle(&self, op: Op) -> Result<Option<i32>, Trouble> {
        match self.carry_out(op).await {
            Outcome::Ok => Ok(None),
            Outcome::Started { pid } => Ok(Some(pid)),
            Outcome::Failed { why } => Err(Trouble::Failed(why)),
            Outcome::Refused { why } => Err(Trouble::Refused(why)),
            Outcome::Reached(_) | Outcome::Sets(_) => {
                Err(Trouble::Failed("the keeper answered another question".into()))
            }
        }
    }

    /// Has the keeper record a token as released, with everything down (rule 20).
    pub(super) async fn record_release(
        &self,
        package: PackageName,
        token: crate::engine::Token,
    ) -> Result<(), Trouble> {
        self.settle(Op::Release { package, token }).await.map(|_| ())
    }
}

impl<P: Platform> Host for Hands<P> {
    async fn ip_set(&self, place: Place, ip: IpResource) -> Result<(), Trouble> {
        self.settle(Op::SetIp { place, ip }).await.map(|_| ())
    }

    async fn ip_up(&self, place: Place, ip: IpResource) -> Result<(), Trouble> {
        self.settle(Op::StartIp { place, ip }).await.map(|_| ())
    }

    async fn ip_down(&self, place: Place) -> Result<(), Trouble> {
        self.settle(Op::StopIp { place }).await.map(|_| ())
    }

    async fn program_up(&self, place: Place, program: ProgramSpec) -> Result<i32, Trouble> {
        let pid = self.settle(Op::StartProgram { place, program }).await?;
        pid.ok_or_else(|| Trouble::Failed("the keeper named no process".to_owned()))
    }

    async fn program_down(&self, place: Place, signal: i32, grace: Millis) -> Result<(), Trouble> {
        self.settle(Op::StopProgram { place, signal, grace }).await.map(|_| ())
    }

    async fn storage_up(&self, place: Place, storage: Storage) -> Result<(), Trouble> {
        self.settle(Op::StartStorage { place, storage }).await.map(|_| ())
    }

    async fn storage_down(&self, place: Place, within: Millis) -> Result<(), Trouble> {
        self.settle(Op::StopStorage { place, within }).await.map(|_| ())
    }

    fn credentials(&self, user: &str) -> Result<Credentials, Trouble> {
        self.platform.credentials(user)
    }

    fn log_file(&self, package: &PackageName) -> String {
        self.platform.log_file(package)
    }
}
