//! Joined nodes become learners, then voters; lease sets follow voters, one step at a time (rules 14, 15 and 17). Nodes that
//! are being removed give away what they own first; then they leave the lease sets, then Raft, then the state.
//!
//! A step is decided only when the step before it is complete, so that at any time the state alone says where a change
//! stands, and a new leader goes on from there.

use std::collections::BTreeSet;

use super::{ChangeStep, Decision, Observations, Plan, Step, Waits};
use crate::engine::lease::may_add;
use crate::engine::placement::place;
use crate::engine::state::{Desired, Phase};
use crate::engine::{Command, NodeId, SetId, State};
use crate::package::PackageName;

/// The next step of a membership change, if one is due.
pub(super) fn follow(state: &State, seen: &Observations, plan: &mut Plan) {
    if let Some(first) = step_down(state, seen).or_else(|| finish(seen)) {
        plan.decisions.push(first);
        return;
    }
    let step = match lease_sets(state) {
        Sets::Two { old, newer } => Some(retire(state, seen, old, newer)),
        Sets::Current => remove(state, seen).or_else(|| grow(state, seen)),
        Sets::Behind => next_set(state, seen),
    };
    plan.waits = waits(state, seen);
    plan.decisions.extend(step);
    plan.decisions.extend(add_learners(state, seen));
}

/// What a change under way waits for, as an operator must know it if it lasts.
fn waits(state: &State, seen: &Observations) -> Option<Waits> {
    let names = |of: &BTreeSet<NodeId>| of.iter().map(|id| state.name_of(*id)).collect::<Vec<_>>().join(", ");
    let (step, why) = match lease_sets(state) {
        Sets::Two { old, .. } if seen.retirable != Some(old) => {
            let keepers = state.lease_sets.get(&old).map(names).unwrap_or_default();
            let why = format!(
                "the lease set before ({keepers}) is retired when a majority of its keepers has known the newer one for \
                 the longest lease time: see that these run and that udp is open between them"
            );
            (ChangeStep::Retire, why)
        }
        Sets::Two { .. } => return None,
        Sets::Current | Sets::Behind if seen.raft_changing => {
            let why = format!(
                "Raft's own change of members is being committed, by a majority of the voters ({}) before and after it: \
                 see that their agents run and that tcp is open between them",
                names(&state.raft_voters)
            );
            (ChangeStep::Raft, why)
        }
        Sets::Current => return draining(state, seen),
        Sets::Behind => {
            let members = &staying(state);
            let missing = may_add(state, members, &seen.ready, &seen.reach).err().filter(|_| !members.is_empty())?;
            (ChangeStep::Add, format!("the next lease set ({}) must wait: {missing}", names(members)))
        }
    };
    Some(Waits { step, why })
}

/// What keeps nodes that are being removed from being given up.
fn draining(state: &State, seen: &Observations) -> Option<Waits> {
    let owned = state.packages.iter().filter_map(|(package, entry)| {
        let owner = entry.owner.as_ref().filter(|owner| state.leaving.contains(&owner.node))?;
        let from = state.name_of(owner.node);
        let placement = place(state, entry, &seen.unfit());
        Some(match entry.report.as_ref().map(|report| report.phase) {
            Some(Phase::Held) => {
                format!("{package} is held on {from}: `pkgctl status {package}` shows why and the way out")
            }
            _ if matches!(entry.desired, Desired::Halted) => format!("{package} is being stopped on {from}"),
            _ if placement.candidates.is_empty() => format!(
                "{package} stays on {from} until another node can take it ({}), or until `pkgctl halt {package}`",
                placement.reasons()
            ),
            Some(Phase::Starting | Phase::Running | Phase::Stopping) | None => {
                format!("{package} moves away from {from}")
            }
        })
    });
    let fenced = state.leaving.iter().flat_map(|node| {
        let name = state.name_of(*node);
        let why = move |package: &PackageName| {
            format!("nobody gets {package} before {name} is fenced, or `pkgctl fence confirm {name}`")
        };
        state.waiting_for(*node).into_iter().map(why)
    });
    let why = owned.chain(fenced).collect::<Vec<_>>().join("; ");
    (!why.is_empty()).then_some(Waits { step: ChangeStep::Drain, why })
}

enum Sets {
    /// One set, and it is the voters that are to stay.
    Current,
    /// None, or one that is not.
    Behind,
    /// Two are unretired.
    Two { old: SetId, newer: SetId },
}

fn lease_sets(state: &State) -> Sets {
    let mut newest_first = state.lease_sets.iter().rev();
    match (newest_first.next(), newest_first.next()) {
        (Some((newer, _)), Some((old, _))) => Sets::Two { old: *old, newer: *newer },
        (Some((_, members)), None) if *members == staying(state) => Sets::Current,
        (Some(_), None) | (None, _) => Sets::Behind,
    }
}

/// A leader that is being removed, or has no vote any more, must not go on leading: it would take itself out of Raft and
/// still keep the voters from electing.
fn step_down(state: &State, seen: &Observations) -> Option<Decision> {
    let me = seen.me?;
    let others = state.raft_voters.difference(&state.leaving).any(|id| *id != me);
    let leaves = state.leaving.contains(&me) || !state.raft_voters.contains(&me);
    let name = state.name_of(me);
    let why = || format!("{name} leads and is being removed, or has no vote any more");
    (others && leaves).then(|| Decision { step: Step::StepDown, why: why() })
}

/// A change of voters has two steps, and its leader may be gone between them.
fn finish(seen: &Observations) -> Option<Decision> {
    let why = "an earlier leader began a change of Raft's voters and did not end it".to_owned();
    seen.raft_half_changed.then_some(Decision { step: Step::FinishChange, why })
}

/// Raft's voters without those that are to be given up now. Nodes that are being removed keep their votes for as long as
/// they own anything: so a removal that cannot go on has taken nothing away.
fn staying(state: &State) -> BTreeSet<NodeId> {
    state.raft_voters.iter().filter(|id| !given_up(state, **id)).copied().collect()
}

fn given_up(state: &State, node: NodeId) -> bool {
    state.leaving.contains(&node) && state.is_idle(node)
}

/// Rule 14: a node that is removed is in no lease set any more before Raft lets it go; then it is forgotten.
fn remove(state: &State, seen: &Observations) -> Option<Decision> {
    if seen.raft_changing {
        return None;
    }
    let node = *state.leaving.iter().find(|node| given_up(state, **node))?;
    let name = state.name_of(node);
    if state.raft_voters.contains(&node) || seen.learners.contains(&node) {
        let why = format!("{name} is being removed, and no lease set needs it any more");
        return Some(Decision { step: Step::Remove(node), why });
    }
    let why = format!("{name} is being removed, and has no vote any more");
    Some(Decision { step: Step::Propose(Command::ForgetNode { node }), why })
}

fn retire(state: &State, seen: &Observations, old: SetId, newer: SetId) -> Decision {
    if seen.retirable == Some(old) {
        let why = format!("a majority of its keepers has known lease set {newer} for the longest lease time");
        return Decision { step: Step::Propose(Command::RetireLeaseSet { set: old }), why };
    }
    let keepers = state.lease_sets.get(&old).cloned().unwrap_or_default();
    let why = format!("lease set {old} may be retired once a majority of its keepers knows {newer}");
    Decision { step: Step::Confirm { old, newer, keepers }, why }
}

/// Rule 14: a node that joins votes in Raft first; then a lease set, when it could work.
fn next_set(state: &State, seen: &Observations) -> Option<Decision> {
    let members = &staying(state);
    if seen.raft_changing || members.is_empty() {
        return None;
    }
    match may_add(state, members, &seen.ready, &seen.reach) {
        Ok(()) => {
            let why =
                "lease sets follow Raft's voters; who is new in it is ready, and every host reaches a ready majority";
            let after = state.lease_sets.last_key_value().map(|(id, _)| *id);
            let command = Command::AddLeaseSet { members: members.clone(), after };
            Some(Decision { step: Step::Propose(command), why: why.to_owned() })
        }
        Err(_) => {
            // Members are asked too: in a new cluster no host has a session yet, and somebody must find them ready.
            let hosts = state.sessions.values().map(|s| s.node).chain(members.iter().copied()).collect();
            let why = "the next lease set must wait until it is known to work".to_owned();
            Some(Decision { step: Step::AskReach { members: members.clone(), hosts }, why })
        }
    }
}

/// With lease sets at rest and every voter there, one caught-up learner becomes a voter. With a voter down, another one
/// would only raise the majority that the rest must make, and no lease set could follow.
fn grow(state: &State, seen: &Observations) -> Option<Decision> {
    if seen.raft_changing || !staying(state).is_subset(&state.present(&seen.unfit())) {
        return None;
    }
    let joined = |node: &&NodeId| {
        state.nodes.contains_key(node) && !state.raft_voters.contains(node) && !state.leaving.contains(node)
    };
    let node = *seen.caught_up.iter().find(joined)?;
    let why = format!("{} has joined and its log has caught up", state.name_of(node));
    Some(Decision { step: Step::Promote(node), why })
}

fn add_learners(state: &State, seen: &Observations) -> Option<Decision> {
    if seen.raft_changing {
        return None;
    }
    let unknown =
        |id: &NodeId| !state.raft_voters.contains(id) && !seen.learners.contains(id) && !state.leaving.contains(id);
    let (node, member) = state.nodes.iter().find(|(id, _)| unknown(id))?;
    let why = format!("{} has joined", member.name);
    Some(Decision { step: Step::AddLearner { node: *node, address: member.address }, why })
}
