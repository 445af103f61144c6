//! The faults of the demo and the benchmark: what is done, what must follow, and how it is undone.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::cluster::{Cluster, PACKAGE, WHOLE_WITHIN};
use super::story;
use crate::lab::verdict::{Fault as Window, Verdict, judge};
use crate::lab::{Direction, Moment, Observer, PROBE_EVERY, Process, wait_until};

/// How long the client goes on watching after the package answers again.
const AFTERMATH: Duration = Duration::from_millis(500);
/// The same after a program was killed: the next one in a row is to be killed after a good run, so that it is restarted
/// without a pause.
const GOOD_RUN: Duration = Duration::from_millis(1200);

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

    /// What is done to whom.
    fn sentence(self, owner: &str, leader: &str) -> String {
        match self {
            Fault::PowerOff => format!("{owner} loses power"),
            Fault::PowerOffLeader => format!("{owner}, which also leads the cluster, loses power"),
            Fault::LeaderKill => format!("{leader}, which leads the cluster, loses power"),
            Fault::ProgramKill => "its program is killed".to_owned(),
            Fault::AgentKill => format!("the agent of {owner} is killed"),
            Fault::Freeze => format!("every process of pkgctl on {owner} is frozen"),
            Fault::LinkCut => format!("the link of {owner} is cut"),
            Fault::LinkCutIn => format!("{owner} hears nothing any more"),
            Fault::LinkCutOut => format!("{owner} is not heard any more"),
            Fault::Move => "it is moved: `pkgctl move testpkg1`".to_owned(),
            Fault::Stop => format!("it is stopped there: `pkgctl stop testpkg1` on {owner}"),
        }
    }

    /// The word in the ledger after which the cluster has done all that the fault asks of it.
    fn ends_with(self) -> Option<&'static str> {
        if self.changes_owner() {
            return Some("running");
        }
        (self == Fault::ProgramKill).then_some("report")
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

/// Does it, watches, undoes it. `say` hears what happens, as it happens.
pub fn run(cluster: &Cluster, fault: Fault, say: &dyn Fn(&str)) -> Result<Outcome> {
    prepare(cluster, fault)?;
    let (owner, token, _) = cluster.owner()?;
    let observer = cluster.watch()?;
    let from = Moment::now();
    say(&format!("{}: testpkg1 runs on {owner}; {}", fault.word(), fault.sentence(&owner, &cluster.leader()?)));
    let done = inject(cluster, fault, &owner)?;
    let ends = |node: &str| !fault.changes_owner() || node != owner;
    let healed_in_time = story::follow(&observer, done.at, WHOLE_WITHIN, ends, say).is_some();
    let other = cluster.nodes.iter().find(|node| **node != done.node).context("no other node can be asked")?;
    story::reasons(|| cluster.ledger_of(other), done.at, fault.ends_with(), say);
    undo(cluster, fault, &done, &owner)?;
    cluster.whole()?;
    let (next, next_token, reason) = cluster.owner()?;
    let verdict = settle(cluster, observer, fault, done.at, from, &owner)?;
    let moved = next != owner;
    let good = healed_in_time && verdict.double_activity.is_zero() && moved == fault.changes_owner();
    let story = match next_token == token {
        true => format!("{owner} kept it (token {token})"),
        false => format!("{owner} (token {token}) → {next} (token {next_token}): {reason}"),
    };
    Ok(Outcome { fault, at: done.at, verdict, good, story })
}

/// Brings about the circumstances that the fault is about.
fn prepare(cluster: &Cluster, fault: Fault) -> Result<()> {
    let leader = cluster.leader()?;
    let owners: Vec<&String> = cluster.nodes.iter().take(2).collect();
    match fault {
        Fault::PowerOffLeader => {
            // The package can go to two nodes; where the third leads, it loses power until one of them does.
            let mut leader = leader;
            while !owners.contains(&&leader) {
                cluster.lab.power_off(&leader)?;
                // One that is back before it is missed leads on.
                let missed =
                    wait_until(WHOLE_WITHIN, || cluster.leader().ok().filter(|now| !now.is_empty() && *now != leader));
                missed.context("no other node took the lead")?;
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

fn settle(
    cluster: &Cluster,
    observer: Observer,
    fault: Fault,
    at: Moment,
    from: Moment,
    owner: &str,
) -> Result<Verdict> {
    let until = Moment::now().after(if fault == Fault::ProgramKill { GOOD_RUN } else { AFTERMATH });
    observer.wait_for_answer(until, WHOLE_WITHIN, |_| true).context("the package stopped answering after the fault")?;
    let to = Moment::now();
    let probes = observer.finish();
    let window = Window { at, owner: owner.to_owned(), from, to };
    Ok(judge(&window, &probes, &cluster.lab.lives()?, PROBE_EVERY))
}
