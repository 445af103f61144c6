//! The faults of the demo and the benchmark: what is done, what must follow, and how it is undone.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::cluster::{Cluster, PACKAGE, WHOLE_WITHIN};
use crate::lab::verdict::{Fault as Window, Verdict, judge};
use crate::lab::{Direction, Moment, Observer, PROBE_EVERY, Process};

/// How long the client goes on watching after the package answers again.
const AFTERMATH: Duration = Duration::from_millis(500);

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// The owner loses power
    PowerOff,
    /// The owner, which is also Raft's leader, loses power
    PowerOffLeader,
    /// Raft's leader, which owns nothing, loses power
    LeaderKill,
    /// The program is killed
    ProgramKill,
    /// The owner's agent is killed
    AgentKill,
    /// Every process of ours on the owner is frozen
    Freeze,
    /// The owner's link is cut both ways
    LinkCut,
    /// The owner hears nothing
    LinkCutIn,
    /// The owner is not heard
    LinkCutOut,
    /// A planned move
    Move,
    /// `pkgctl stop` on the owner
    Stop,
}

impl Fault {
    /// Every one.
    pub const ALL: [Fault; 11] = [
        Fault::PowerOff,
        Fault::PowerOffLeader,
        Fault::LeaderKill,
        Fault::ProgramKill,
        Fault::AgentKill,
        Fault::Freeze,
        Fault::LinkCut,
        Fault::LinkCutIn,
        Fault::LinkCutOut,
        Fault::Move,
        Fault::Stop,
    ];

    /// What runs without `--fault`.
    pub const HANDFUL: [Fault; 6] =
        [Fault::PowerOff, Fault::ProgramKill, Fault::AgentKill, Fault::LinkCut, Fault::Move, Fault::Stop];

    /// Its name on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Fault::PowerOff => "power-off",
            Fault::PowerOffLeader => "power-off-leader",
            Fault::LeaderKill => "leader-kill",
            Fault::ProgramKill => "program-kill",
            Fault::AgentKill => "agent-kill",
            Fault::Freeze => "freeze",
            Fault::LinkCut => "link-cut",
            Fault::LinkCutIn => "link-cut-in",
            Fault::LinkCutOut => "link-cut-out",
            Fault::Move => "move",
            Fault::Stop => "stop",
        }
    }

    /// Whether another node must answer after it.
    fn changes_owner(self) -> bool {
        match self {
            Fault::LeaderKill | Fault::ProgramKill | Fault::AgentKill => false,
            Fault::PowerOff
            | Fault::PowerOffLeader
            | Fault::Freeze
            | Fault::LinkCut
            | Fault::LinkCutIn
            | Fault::LinkCutOut
            | Fault::Move
            | Fault::Stop => true,
        }
    }
}

/// What came of a fault.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which one.
    pub fault: Fault,
    /// When it was done.
    pub at: Moment,
    /// What the observer saw.
    pub verdict: Verdict,
    /// It was healed, by whom it should have been, and never were two nodes acting.
    pub good: bool,
    /// What happened, in a sentence.
    pub story: String,
}

/// Does it, watches, undoes it.
pub fn run(cluster: &Cluster, fault: Fault) -> Result<Outcome> {
    prepare(cluster, fault)?;
    let (owner, token, _) = cluster.owner()?;
    let observer = cluster.watch()?;
    let from = Moment::now();
    let done = inject(cluster, fault, &owner)?;
    let answered =
        observer.wait_for_answer(done.at, WHOLE_WITHIN, |reply| !fault.changes_owner() || reply.node != owner);
    let healed_in_time = answered.is_some();
    undo(cluster, fault, &done, &owner)?;
    cluster.whole()?;
    let (next, next_token, reason) = cluster.owner()?;
    let verdict = settle(cluster, observer, done.at, from, &owner)?;
    let moved = next != owner;
    let good = healed_in_time && verdict.double_activity.is_zero() && moved == fault.changes_owner();
    let story = format!("{owner} (token {token}) → {next} (token {next_token}): {reason}");
    Ok(Outcome { fault, at: done.at, verdict, good, story })
}

/// Brings about the circumstances that the fault is about.
fn prepare(cluster: &Cluster, fault: Fault) -> Result<()> {
    let leader = cluster.leader()?;
    let owners: Vec<&String> = cluster.nodes.iter().take(2).collect();
    match fault {
        Fault::PowerOffLeader => {
            // The package can go to two nodes; where the third leads, its agent is restarted until one of them does.
            let mut leader = leader;
            while !owners.contains(&&leader) {
                cluster.lab.power_off(&leader)?;
                cluster.lab.power_on(&leader)?;
                cluster.whole()?;
                leader = cluster.leader()?;
            }
            cluster.move_to(&leader)
        }
        Fault::LeaderKill => {
            let other = owners.into_iter().find(|n| **n != leader).context("no other node")?;
            cluster.move_to(other)
        }
        Fault::PowerOff
        | Fault::ProgramKill
        | Fault::AgentKill
        | Fault::Freeze
        | Fault::LinkCut
        | Fault::LinkCutIn
        | Fault::LinkCutOut
        | Fault::Move
        | Fault::Stop => Ok(()),
    }
}

/// What was done, and what undoing it needs.
struct Done {
    at: Moment,
    node: String,
    frozen: Vec<Process>,
}

fn inject(cluster: &Cluster, fault: Fault, owner: &str) -> Result<Done> {
    let lab = &cluster.lab;
    let mut frozen = Vec::new();
    let mut node = owner.to_owned();
    let at = match fault {
        Fault::PowerOff | Fault::PowerOffLeader => lab.power_off(owner)?,
        Fault::LeaderKill => {
            node = cluster.leader()?;
            lab.power_off(&node)?
        }
        Fault::ProgramKill => cluster.kill(owner, "demo-program")?,
        Fault::AgentKill => cluster.kill(owner, "agent")?,
        Fault::Freeze => {
            let (at, stopped) = lab.freeze_ours(owner)?;
            frozen = stopped;
            at
        }
        Fault::LinkCut => lab.cut(owner, Direction::Both)?,
        Fault::LinkCutIn => lab.cut(owner, Direction::In)?,
        Fault::LinkCutOut => lab.cut(owner, Direction::Out)?,
        Fault::Move => ask(cluster, owner, "move")?,
        Fault::Stop => ask(cluster, owner, "stop")?,
    };
    Ok(Done { at, node, frozen })
}

fn ask(cluster: &Cluster, node: &str, verb: &str) -> Result<Moment> {
    let at = Moment::now();
    cluster.verb(node, &[verb, PACKAGE])?;
    Ok(at)
}

fn undo(cluster: &Cluster, fault: Fault, done: &Done, owner: &str) -> Result<()> {
    match fault {
        Fault::PowerOff | Fault::PowerOffLeader | Fault::LeaderKill => cluster.lab.power_on(&done.node).map(|_| ())?,
        Fault::Freeze => cluster.lab.thaw(&done.frozen).map(|_| ())?,
        Fault::LinkCut | Fault::LinkCutIn | Fault::LinkCutOut => cluster.lab.heal(owner).map(|_| ())?,
        Fault::ProgramKill | Fault::AgentKill | Fault::Move | Fault::Stop => {}
    }
    Ok(())
}

fn settle(cluster: &Cluster, observer: Observer, at: Moment, from: Moment, owner: &str) -> Result<Verdict> {
    let until = Moment::now().after(AFTERMATH);
    observer.wait_for_answer(until, WHOLE_WITHIN, |_| true).context("the package stopped answering after the fault")?;
    let to = Moment::now();
    let probes = observer.finish();
    let window = Window { at, owner: owner.to_owned(), from, to };
    Ok(judge(&window, &probes, &cluster.lab.lives()?, PROBE_EVERY))
}
