//! One package on this node: its supervisor, and the tasks that carry its actions out.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use openraft::AsyncRuntime;

use super::brain::{Brain, Event, PROPOSAL_WITHIN};
use super::platform::Platform;
use super::spawn;
use crate::engine::command::{Command, ReleaseOutcome};
use crate::engine::supervisor::{Action, Duty, Input, Report, Settled, Supervisor, duty};
use crate::engine::{SessionId, Token, VoterTime};
use crate::keeper::protocol::{Exit, RunningKind, ToKeeper};
use crate::package::{Millis, PackageName, ResourceName};
use crate::raft::ProposeError;
use crate::resource::{self, Place, Target, Trouble};

/// Pause before a report that may not have been taken is delivered again.
const REPORT_AGAIN: Duration = Duration::from_millis(100);
/// Reports kept while one is being delivered; the oldest is dropped first.
const REPORTS_MAX: usize = 32;

/// A supervisor and what is under way for it.
#[derive(Default)]
pub(super) struct Runner {
    supervisor: Supervisor,
    /// Number of the newest action; outcomes of older ones are stale.
    action: u64,
    /// The ownership last learned of, and when.
    learned: Option<(Token, VoterTime)>,
    reports: VecDeque<(Report, Millis)>,
    reporting: bool,
    /// What went wrong last under the ownership last learned of.
    trouble: Option<String>,
}

impl Runner {
    pub(super) fn wake(&self) -> Option<VoterTime> {
        self.supervisor.wake()
    }

    pub(super) fn session_over(&mut self, session: SessionId, now: VoterTime) {
        self.supervisor.handle(Input::SessionOver { session }, now);
        if self.supervisor.is_idle() {
            self.action += 1;
        }
    }

    fn learn(&mut self, duty: &Duty, now: VoterTime) {
        match duty {
            Duty::Own { token, .. } | Duty::Yield { token, .. } => {
                if self.learned.is_none_or(|(known, _)| known != *token) {
                    self.learned = Some((*token, now));
                    self.trouble = None;
                }
            }
            Duty::None => {}
        }
    }

    fn collect_reports(&mut self, now: VoterTime) {
        for report in self.supervisor.reports() {
            let since = self.learned.filter(|(token, _)| *token == report.token).map(|(_, at)| now.since(at));
            self.reports.push_back((report, Millis::from(since.unwrap_or_default())));
            if self.reports.len() > REPORTS_MAX {
                self.reports.pop_front();
            }
        }
    }
}

impl<P: Platform> Brain<P> {
    /// Gives every package its duty and carries out what is due.
    pub(super) fn run_packages(&mut self, now: VoterTime) {
        let session = self.session();
        let duties = self.duties(session);
        for (name, duty) in duties {
            let known = self.runners.contains_key(&name);
            if !known && duty == Duty::None {
                continue;
            }
            let runner = self.runners.entry(name.clone()).or_default();
            runner.learn(&duty, now);
            runner.supervisor.handle(Input::Duty(duty), now);
            self.step(&name, now);
        }
        self.runners.retain(|_, r| !(r.supervisor.is_idle() && r.reports.is_empty() && !r.reporting));
        if self.leaving && self.runners.is_empty() {
            self.leaving = false;
            self.tell_keeper(ToKeeper::Retire { why: "everything here is stopped and released".to_owned() });
        }
    }

    fn duties(&self, session: Option<SessionId>) -> Vec<(PackageName, Duty)> {
        self.consensus.read(|state| {
            let of =
                |entry| session.map_or(Duty::None, |session| self.unless_it_ends(duty(state, self.me, session, entry)));
            let mut all: Vec<_> = state.packages.iter().map(|(name, entry)| (name.clone(), of(entry))).collect();
            let gone = self.runners.keys().filter(|name| !state.packages.contains_key(*name));
            all.extend(gone.map(|name| (name.clone(), Duty::None)));
            all
        })
    }

    /// A keeper that is to end gives everything up in good order; and a token that it has recorded as released, for an
    /// earlier agent that did not live to commit it, can only be released (rule 20), whatever is wanted by now.
    fn unless_it_ends(&self, duty: Duty) -> Duty {
        let Duty::Own { token, session, definition } = duty else { return duty };
        let released = self.keeper.as_ref().and_then(|keeper| keeper.released.get(&definition.name));
        let why = if self.leaving {
            "this node's keeper is to end"
        } else if released.is_some_and(|released| token <= *released) {
            "its release had begun"
        } else {
            return Duty::Own { token, session, definition };
        };
        Duty::Yield { token, session, definition, why: why.to_owned() }
    }

    fn step(&mut self, name: &PackageName, now: VoterTime) {
        let Some(runner) = self.runners.get_mut(name) else { return };
        let mut due = Vec::new();
        while let Some(action) = runner.supervisor.next(now) {
            // An opening goes on beside the others, and its end says which one it was.
            if !matches!(action, Action::Open { .. }) {
                runner.action += 1;
            }
            due.push((runner.action, action));
        }
        runner.collect_reports(now);
        for (number, action) in due {
            self.carry_out(name.clone(), number, action);
        }
        self.deliver_report(name);
    }

    fn carry_out(&self, package: PackageName, number: u64, action: Action) {
        let node = self.consensus.read(|s| s.nodes.get(&self.me).map(|n| n.name.clone()));
        let Some(node) = node else { return };
        let (hands, back, consensus) = (self.hands.clone(), self.to_self.clone(), self.consensus.clone());
        let release = |outcome: &ReleaseOutcome, token, session| {
            let outcome = outcome.clone();
            self.entry(Command::Release { package: package.clone(), token, session, outcome })
        };
        let entry = match &action {
            Action::Release { token, session, outcome } => Some(release(outcome, *token, *session)),
            Action::Start { .. } | Action::Open { .. } | Action::Stop { .. } => None,
        };
        let opening = match &action {
            Action::Open { resource, token, .. } => Some((resource.name.clone(), *token)),
            Action::Start { .. } | Action::Stop { .. } | Action::Release { .. } => None,
        };
        spawn::<P>(async move {
            let target = |resource, token, session| {
                let package = package.clone();
                Target { package, resource, token, session, node: node.clone() }
            };
            let result = match action {
                Action::Start { resource, token, session } => {
                    resource::start(&hands, &target(resource, token, session)).await
                }
                Action::Open { resource, token, session } => {
                    resource::open(&hands, &target(resource, token, session)).await
                }
                Action::Stop { resource, token, session } => {
                    resource::stop(&hands, &target(resource, token, session)).await
                }
                Action::Release { token, .. } => match hands.record_release(package.clone(), token).await {
                    Err(trouble) => Err(trouble),
                    Ok(()) => commit_release(&consensus, entry).await,
                },
            };
            let settled = match result {
                Ok(detail) => Settled::Done { detail },
                Err(Trouble::Failed(why)) => Settled::Failed { why },
                Err(Trouble::Refused(why)) => Settled::Refused { why },
            };
            let event = match opening {
                None => Event::Settled { package, action: number, settled },
                Some((resource, token)) => Event::Opened { package, resource, token, settled },
            };
            let _ = back.send(event).await;
        });
    }

    pub(super) fn settled(&mut self, package: &PackageName, action: u64, settled: Settled) {
        if self.runners.get(package).is_some_and(|r| r.action == action) {
            self.note_trouble(package, &settled);
            self.tell(package, Input::Settled(settled));
        }
    }

    pub(super) fn opened(&mut self, package: &PackageName, resource: ResourceName, token: Token, settled: Settled) {
        self.note_trouble(package, &settled);
        self.tell(package, Input::Opened { resource, token, settled });
    }

    fn note_trouble(&mut self, package: &PackageName, settled: &Settled) {
        if let Settled::Failed { why } | Settled::Refused { why } = settled {
            // What is tried again in a moment may fail in the same way for a long time.
            let Some(runner) = self.runners.get_mut(package).filter(|r| r.trouble.as_ref() != Some(why)) else {
                return;
            };
            runner.trouble = Some(why.clone());
            tracing::warn!(%package, "{why}");
            self.platform.log_line(package, why);
        }
    }

    /// Delivers the oldest report; the next follows when it has landed.
    fn deliver_report(&mut self, name: &PackageName) {
        let Some(runner) = self.runners.get_mut(name).filter(|r| !r.reporting) else { return };
        let Some((report, after)) = runner.reports.pop_front() else { return };
        runner.reporting = true;
        let line = report.line();
        tracing::info!(package = %name, token = %report.token, "{line}");
        self.platform.log_line(name, &line);
        let Report { token, phase, resources, note } = report;
        let entry = self.entry(Command::Report { package: name.clone(), token, phase, resources, after, note });
        let (consensus, back, package) = (self.consensus.clone(), self.to_self.clone(), name.clone());
        spawn::<P>(async move {
            // What is shown of a package rests on its newest report: it is said until it is in the log, or refused there.
            while let Err(error) = consensus.submit(entry.clone(), PROPOSAL_WITHIN).await {
                tracing::debug!(%package, %error, "report not delivered");
                match error {
                    ProposeError::NotLeader { .. } | ProposeError::NoLeader { .. } | ProposeError::Unknown { .. } => {
                        P::Rt::sleep(REPORT_AGAIN).await;
                    }
                    ProposeError::TooLarge { .. } | ProposeError::Fatal { .. } => break,
                }
            }
            let _ = back.send(Event::Reported(package)).await;
        });
    }

    pub(super) fn reported(&mut self, package: &PackageName) {
        if let Some(runner) = self.runners.get_mut(package) {
            runner.reporting = false;
        }
        self.deliver_report(package);
    }

    pub(super) fn exited(&mut self, place: &Place, exit: Exit) {
        let how = match exit {
            Exit::Code(code) => format!("exit code {code}"),
            Exit::Signal(signal) => format!("signal {signal}"),
        };
        let input = Input::Exited { resource: place.resource.clone(), token: place.token, how };
        self.tell(&place.package, input);
    }

    pub(super) fn lapsed(&mut self, place: &Place, why: &str) {
        let line = format!("{} ended: {why}", place.resource);
        tracing::warn!(package = %place.package, "{line}");
        self.platform.log_line(&place.package, &line);
        self.tell(&place.package, Input::Lapsed { resource: place.resource.clone(), token: place.token });
    }

    fn tell(&mut self, package: &PackageName, input: Input) {
        let now = self.platform.now();
        if let Some(runner) = self.runners.get_mut(package) {
            runner.supervisor.handle(input, now);
        }
    }

    /// What was up at the keeper is not any more. An agent that has yet to become current adopts what is up then, not
    /// what was up when it attached.
    pub(super) fn ended(&mut self, place: &Place, exit: Option<Exit>) {
        let Some(keeper) = self.keeper.as_mut() else { return };
        match exit {
            None => keeper.running.retain(|running| running.place != *place),
            Some(exit) => {
                for running in keeper.running.iter_mut().filter(|running| running.place == *place) {
                    if let RunningKind::Program { exited, .. } = &mut running.what {
                        *exited = Some(exit);
                    }
                }
            }
        }
    }

    /// The link to the same keeper life is back: what ended while it was broken was told to nobody.
    pub(super) fn hear_of_ends(&mut self) {
        let running = self.keeper.as_ref().map(|k| k.running.clone()).unwrap_or_default();
        let believed = |(package, runner): (&PackageName, &Runner)| {
            let up = runner.supervisor.up();
            up.into_iter().map(|(resource, token)| (package.clone(), resource, token)).collect::<Vec<_>>()
        };
        let believed: Vec<_> = self.runners.iter().flat_map(believed).collect();
        for (package, resource, token) in believed {
            let here = running
                .iter()
                .find(|r| r.place.package == package && r.place.resource == resource && r.place.token == token);
            match here.map(|r| (r.place.clone(), ended(&r.what))) {
                Some((_, None)) => {}
                Some((place, Some(exit))) => self.exited(&place, exit),
                None => self.tell(&package, Input::Lapsed { resource, token }),
            }
        }
    }

    /// What an earlier agent of this keeper life left running is found, not started again (L18, X6).
    pub(super) fn adopt_running(&mut self) {
        let now = self.platform.now();
        let Some(session) = self.session() else { return };
        let running = self.keeper.as_ref().map(|k| k.running.clone()).unwrap_or_default();
        for (name, duty) in self.duties(Some(session)) {
            let (Duty::Own { token, .. } | Duty::Yield { token, .. }) = &duty else { continue };
            let token = *token;
            let mine = running.iter().filter(|r| r.place.package == name && r.place.token == token);
            let up: BTreeSet<_> = mine.clone().map(|r| r.place.resource.clone()).collect();
            if up.is_empty() {
                continue;
            }
            let said = self.consensus.read(|state| {
                let report = state.packages.get(&name).and_then(|entry| entry.report.as_ref());
                report.filter(|report| report.token == token).map(|report| report.phase)
            });
            let runner = self.runners.entry(name.clone()).or_default();
            runner.learn(&duty, now);
            runner.supervisor.handle(Input::Duty(duty), now);
            runner.supervisor.handle(Input::Adopt { token, up, said }, now);
            let ended: Vec<_> = mine.filter_map(|r| ended(&r.what).map(|exit| (r.place.clone(), exit))).collect();
            ended.into_iter().for_each(|(place, exit)| self.exited(&place, exit));
        }
    }
}

fn ended(what: &RunningKind) -> Option<Exit> {
    match what {
        RunningKind::Ip(_) | RunningKind::Storage(_) => None,
        RunningKind::Program { exited, .. } => *exited,
    }
}

/// Commits a release. An answer, even a refusal, means that the ownership is over in the log.
async fn commit_release<Rt: AsyncRuntime, Q: crate::raft::peers::Peers>(
    consensus: &crate::raft::Consensus<Rt, Q>,
    entry: Option<crate::engine::command::Entry>,
) -> Result<String, Trouble> {
    let Some(entry) = entry else { return Ok(String::new()) };
    match consensus.submit(entry, PROPOSAL_WITHIN).await {
        Ok(_) => Ok(String::new()),
        Err(error) => Err(Trouble::Failed(format!("the release is not committed yet: {error}"))),
    }
}
