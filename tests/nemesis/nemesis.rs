//! Does to the field what was planned, and takes it back.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use pkgctl::engine::Reply;
use pkgctl::lab::{Cable, Direction, Lab, LabError, Process, wait_until};
use serde_json::json;

use crate::asker::{Asker, Said};
use crate::fault::{Fault, Planned, Whom};
use crate::field::{Field, NODES, PKGCTL, SMALL};
use crate::timeline::Timeline;

/// How long a node that has just lost power may take to lose its session, so that it can be removed.
const REMOVE_WITHIN: Duration = Duration::from_secs(8);
/// Longest that the agent of a node that joins again may take to answer.
const AGENT_WITHIN: Duration = Duration::from_secs(5);
/// Longest that a join may take once everything has healed; the verb itself gives up earlier or waits for a vote.
const JOIN_WITHIN: Duration = Duration::from_secs(60);
const FILL_WITHIN: Duration = Duration::from_secs(30);

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Act {
    Begin(Fault),
    End(Fault),
    /// Of a flapping cable.
    CutNow(&'static str, Direction),
    WholeNow(&'static str),
}

/// The steps of a plan, in their order, each with its time in the round.
pub fn steps(plan: &[Planned]) -> Vec<(Duration, Act)> {
    let mut steps = Vec::new();
    for planned in plan {
        let Planned { fault, begins, ends } = planned;
        if let Fault::Flap(node, direction, times) = fault {
            let half = (*ends - *begins) / (2 * times);
            for time in 0..*times {
                steps.push((*begins + half * (2 * time), Act::CutNow(node, *direction)));
                steps.push((*begins + half * (2 * time + 1), Act::WholeNow(node)));
            }
        } else {
            steps.push((*begins, Act::Begin(fault.clone())));
            steps.push((*ends, Act::End(fault.clone())));
        }
    }
    steps.sort_by_key(|(at, _)| *at);
    steps
}

/// What is wrong at present.
pub struct Nemesis<'a> {
    field: &'a Field,
    asker: &'a Asker,
    timeline: &'a Timeline,
    cables: BTreeMap<&'static str, Cable>,
    paused: Vec<(Fault, Vec<Process>)>,
    /// Nodes that were removed: their state is of no use any more.
    pub removed: BTreeSet<&'static str>,
    /// `cluster join`, running on nodes that were removed.
    joining: Vec<(&'static str, Child)>,
    /// Whether the small disk is full, or may be.
    filled: bool,
}

impl<'a> Nemesis<'a> {
    pub fn new(field: &'a Field, asker: &'a Asker, timeline: &'a Timeline) -> Self {
        let (cables, paused, removed, joining) = (BTreeMap::new(), Vec::new(), BTreeSet::new(), Vec::new());
        Self { field, asker, timeline, cables, paused, removed, joining, filled: false }
    }

    /// Does one thing. What cannot be done now, because another fault is in the way, is left undone and said.
    pub fn act(&mut self, act: &Act) {
        self.timeline.say(format!("{act:?}"));
        let done = match act {
            Act::Begin(fault) => self.begin(fault),
            Act::End(fault) => self.end(fault),
            Act::CutNow(node, direction) => self.cable(node, |cable| cable.cut = Some(*direction)),
            Act::WholeNow(node) => self.cable(node, |cable| cable.cut = None),
        };
        if let Err(e) = done {
            self.timeline.say(format!("  not done: {e}"));
        }
    }

    fn begin(&mut self, fault: &Fault) -> Result<()> {
        match fault {
            Fault::PowerOff(nodes) => nodes.iter().try_for_each(|node| self.power_off(node))?,
            Fault::Kill(node, whom) => self.signal(&self.whom(node, *whom), Signal::SIGKILL)?,
            Fault::Pause(node, whom) => {
                let frozen = self.freeze(node, *whom)?;
                self.paused.push((fault.clone(), frozen));
            }
            Fault::Cut(node, direction) => self.cable(node, |cable| cable.cut = Some(*direction))?,
            Fault::Apart(one, other) => {
                self.cable(one, |cable| cable.apart_from.extend([(*other).to_owned()]))?;
                self.cable(other, |cable| cable.apart_from.extend([(*one).to_owned()]))?;
            }
            Fault::Loss(node, percent) => self.cable(node, |cable| cable.loss_percent = *percent)?,
            Fault::Flap(..) => {}
            Fault::StepDown => self.signal_leader(Signal::SIGTERM)?,
            Fault::KillLeader => self.signal_leader(Signal::SIGKILL)?,
            Fault::Remove(node) => self.power_off(node)?,
            Fault::FillDisk => self.fill()?,
            Fault::KillProgram(package) => self.signal(&self.programs(*package), Signal::SIGKILL)?,
            Fault::KillLeash(package) => self.signal(&self.leashes(*package), Signal::SIGKILL)?,
        }
        Ok(())
    }

    fn end(&mut self, fault: &Fault) -> Result<()> {
        match fault {
            Fault::PowerOff(nodes) => nodes.iter().try_for_each(|node| self.power_on(node))?,
            Fault::Pause(..) => self.thaw(|paused| paused == fault)?,
            Fault::Cut(node, _) => self.cable(node, |cable| cable.cut = None)?,
            Fault::Apart(one, other) => {
                self.cable(one, |cable| cable.apart_from.retain(|node| node != other))?;
                self.cable(other, |cable| cable.apart_from.retain(|node| node != one))?;
            }
            Fault::Loss(node, _) => self.cable(node, |cable| cable.loss_percent = 0)?,
            Fault::Remove(node) => self.remove(node)?,
            Fault::FillDisk => self.make_room()?,
            Fault::Kill(..)
            | Fault::Flap(..)
            | Fault::StepDown
            | Fault::KillLeader
            | Fault::KillProgram(_)
            | Fault::KillLeash(_) => {}
        }
        Ok(())
    }

    /// Takes everything back that is still wrong.
    pub fn heal(&mut self) -> Result<()> {
        self.timeline.say("heal everything");
        self.thaw(|_| true)?;
        for node in NODES {
            if !self.field.is_on(node) {
                self.power_on(node)?;
            } else if self.cables.remove(node).is_some() {
                self.field.lab.heal(node)?;
            }
        }
        if self.filled { self.make_room() } else { Ok(()) }
    }

    fn power_off(&mut self, node: &'static str) -> Result<()> {
        // Off already, by another fault: then it comes back with the first of the two.
        if self.field.is_on(node) {
            self.field.lab.power_off(node)?;
            self.cables.remove(node);
        }
        Ok(())
    }

    fn power_on(&mut self, node: &'static str) -> Result<()> {
        if !self.field.is_on(node) {
            self.field.lab.power_on(node)?;
        }
        Ok(())
    }

    fn cable(&mut self, node: &'static str, change: impl FnOnce(&mut Cable)) -> Result<()> {
        let cable = self.cables.entry(node).or_default();
        change(cable);
        match self.field.lab.cable(node, cable.clone()) {
            Ok(_) => Ok(()),
            Err(e @ (LabError::Refused { .. } | LabError::NotRunning { .. })) => {
                // Without power it has no cable; the next one is whole.
                self.cables.remove(node);
                Err(e.into())
            }
            Err(e) => Err(e.into()),
        }
    }

    fn whom(&self, node: &str, whom: Whom) -> Vec<Process> {
        match whom {
            Whom::Agent => self.field.of_role(node, &["agent"]),
            Whom::Keeper => self.field.of_role(node, &["keeper"]),
            Whom::AgentAndKeeper => self.field.of_role(node, &["agent", "keeper"]),
            Whom::Leashes => self.field.of_role(node, &["leash", "init"]),
            Whom::Ours => self.all(node, Process::is_ours),
            // What the lab and the tests themselves run there is part of no machine.
            Whom::Everything => self.all(node, |p| p.is_ours() || p.role() == Some("demo-program")),
        }
    }

    fn all(&self, node: &str, which: impl Fn(&Process) -> bool) -> Vec<Process> {
        self.field.lab.processes(node).unwrap_or_default().into_iter().filter(which).collect()
    }

    fn freeze(&self, node: &str, whom: Whom) -> Result<Vec<Process>> {
        let lab: &Lab = &self.field.lab;
        let frozen = match whom {
            Whom::Ours => lab.freeze_ours(node)?.1,
            Whom::Agent | Whom::Keeper | Whom::AgentAndKeeper | Whom::Leashes | Whom::Everything => {
                let processes = self.whom(node, whom);
                // Not waiting for each to have stopped: a leash that is frozen may be killed by its timer meanwhile.
                self.signal(&processes, Signal::SIGSTOP)?;
                processes
            }
        };
        Ok(frozen)
    }

    fn thaw(&mut self, which: impl Fn(&Fault) -> bool) -> Result<()> {
        let (thawed, still): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.paused).into_iter().partition(|(f, _)| which(f));
        self.paused = still;
        thawed.iter().try_for_each(|(_, processes)| self.field.lab.thaw(processes).map(|_| ()))?;
        Ok(())
    }

    fn signal(&self, processes: &[Process], signal: Signal) -> Result<()> {
        if processes.is_empty() {
            self.timeline.say("  nobody is there");
        }
        for process in processes {
            process.send(signal)?;
        }
        Ok(())
    }

    fn signal_leader(&self, signal: Signal) -> Result<()> {
        let status = NODES.iter().filter(|node| self.field.is_on(node)).find_map(|node| {
            let status = self.asker.status(&self.field.socket(node))?;
            status.cluster?.leader
        });
        let leader = status.map(|leader| leader.as_str().to_owned()).unwrap_or_default();
        self.timeline.say(format!("  the leader is {leader:?}"));
        if self.field.is_on(&leader) { self.signal(&self.whom(&leader, Whom::Agent), signal) } else { Ok(()) }
    }

    fn programs(&self, package: usize) -> Vec<Process> {
        self.field.programs(&self.field.targets[package]).into_iter().map(|(_, process)| process).collect()
    }

    /// The leash of a program: its init's parent.
    fn leashes(&self, package: usize) -> Vec<Process> {
        let found = self.field.programs(&self.field.targets[package]).into_iter().filter_map(|(node, program)| {
            let all = self.field.lab.processes(node).unwrap_or_default();
            let parent = |of: &Process| all.iter().find(|p| p.pid == of.parent).cloned();
            parent(&parent(&program)?)
        });
        found.collect()
    }

    /// Gives the node up, which has been without power for a while.
    fn remove(&mut self, node: &'static str) -> Result<()> {
        let body = serde_json::to_vec(&json!({ "node": node }))?;
        let gone = || {
            let mut others = NODES.iter().filter(|other| **other != node && self.field.is_on(other));
            others.any(|other| {
                let said = self.asker.ask(&self.field.socket(other), "POST", "/v1/cluster/remove", Some(body.clone()));
                let Said::Answer { status: 200, body } = said else { return false };
                let reply = serde_json::from_slice::<pkgctl::api::types::Changed>(&body).map(|changed| changed.reply);
                matches!(reply, Ok(Reply::Node(_) | Reply::Already))
            })
        };
        if self.field.is_on(node) {
            // Another fault has brought it back.
            return Ok(());
        }
        if wait_until(REMOVE_WITHIN, || gone().then_some(())).is_some() {
            self.timeline.say(format!("  {node} is removed"));
            self.removed.insert(node);
            return self.join_again(node);
        }
        // Whether it was taken or not, the healing afterwards looks.
        self.power_on(node)
    }

    /// Begins to take the node in as a new one, whatever else goes wrong meanwhile.
    fn join_again(&mut self, node: &'static str) -> Result<()> {
        self.field.forget(node)?;
        self.field.lab.power_on(node)?;
        let answers = || self.asker.ask(&self.field.socket(node), "GET", "/v1/status", None);
        wait_until(AGENT_WITHIN, || matches!(answers(), Said::Answer { .. }).then_some(()));
        let token = self.field.token(self.asker, node)?;
        let disk = self.field.lab.place(node).disk.display().to_string();
        let mut join = self.field.lab.command_in(node, &[PKGCTL, "--root", &disk, "cluster", "join", &token])?;
        self.joining.push((node, join.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?));
        Ok(())
    }

    /// Waits until the joins under way have ended; those that came to nothing are for the healing to repeat.
    pub fn joins_end(&mut self) -> Result<()> {
        for (node, mut join) in std::mem::take(&mut self.joining) {
            let mut ended = || join.try_wait().transpose();
            let status = wait_until(JOIN_WITHIN, &mut ended).transpose()?;
            if status.is_none() {
                join.kill()?;
                join.wait()?;
            }
            if status.is_some_and(|status| status.success()) {
                self.removed.remove(node);
            }
            self.timeline.say(format!("the join of {node} ended: {status:?}"));
        }
        Ok(())
    }

    fn filler(&self) -> String {
        self.field.state(SMALL).join("filler").display().to_string()
    }

    fn fill(&mut self) -> Result<()> {
        self.filled = true;
        // It ends when there is no room left, so its exit code says nothing.
        let words = ["dd", "if=/dev/zero", &format!("of={}", self.filler()), "bs=4096"];
        self.field.lab.run_in(SMALL, &words, FILL_WITHIN)?;
        Ok(())
    }

    fn make_room(&mut self) -> Result<()> {
        self.field.lab.run_in(SMALL, &["rm", "-f", &self.filler()], FILL_WITHIN)?;
        self.filled = false;
        Ok(())
    }
}
