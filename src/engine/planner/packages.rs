//! Silent sessions expire and what they owned moves; what nodes own that are being removed moves away; packages without an
//! owner get one.

use super::{Decision, FAILURE_LASTS_MS, Note, Observations, Plan, Step};
use crate::engine::command::Takeover;
use crate::engine::placement::{Candidate, place};
use crate::engine::state::{Desired, Eligibility, Ownership, PackageEntry, State};
use crate::engine::{Command, SessionId};
use crate::package::PackageName;

/// A session that is silent is asked about; once enough voters agreed it expires, and its packages move in that entry.
pub(super) fn expire_silent(state: &State, seen: &Observations, plan: &mut Plan) {
    for (session, of) in state.sessions.iter().filter(|(id, _)| seen.silent.contains(*id)) {
        let node = state.name_of(of.node);
        let Some(agreement) = seen.agreed.get(session) else {
            plan.decisions.push(Decision { step: Step::Collect(*session), why: format!("{node} is silent") });
            continue;
        };
        let why = format!("{node} is silent and a majority of voters let its lease end");
        let command = Command::ExpireSession {
            session: *session,
            agreed: agreement.agreed.clone(),
            moves: takeovers(state, seen, *session, &node),
            timeline: agreement.timeline,
        };
        plan.decisions.push(Decision { step: Step::Propose(command), why });
    }
}

fn takeovers(state: &State, seen: &Observations, session: SessionId, from: &str) -> Vec<Takeover> {
    let owned = state.packages.iter().filter(|(_, entry)| wanted(entry) && state.fallback_wait().is_none());
    owned
        .filter_map(|(name, entry)| {
            let owner = entry.owner.as_ref().filter(|o| o.session == session)?;
            // It is given away by itself once its node is fenced.
            if state.must_fence(name, owner.node, session) {
                return None;
            }
            let to = best(state, seen, entry)?;
            let why = format!("{from} is silent; {} is the next eligible node of its list", to.name);
            Some(Takeover { package: name.clone(), token: owner.token, to: to.session, why })
        })
        .collect()
}

fn wanted(entry: &PackageEntry) -> bool {
    match entry.desired {
        Desired::Running => true,
        Desired::Halted => false,
    }
}

fn best(state: &State, seen: &Observations, entry: &PackageEntry) -> Option<Candidate> {
    place(state, entry, &seen.unfit()).candidates.into_iter().next()
}

/// What a node owns that is being removed moves away, as an operator would move it. A silent one loses it when its session
/// expires.
pub(super) fn drain(state: &State, seen: &Observations, plan: &mut Plan) {
    for (name, entry) in state.packages.iter().filter(|(_, entry)| wanted(entry)) {
        let leaves = |owner: &&Ownership| state.leaving.contains(&owner.node) && !seen.unfit().contains(&owner.session);
        let Some(owner) = entry.owner.as_ref().filter(leaves) else { continue };
        let candidates = place(state, entry, &seen.unfit()).candidates;
        let moves = |to: &Candidate| owner.moving_to.as_ref().is_some_and(|switch| switch.to == to.node);
        let Some(to) = candidates.first().filter(|_| !candidates.iter().any(moves)) else { continue };
        let from = state.name_of(owner.node);
        let why = format!("{from} is being removed; {} is the next eligible node of its list", to.name);
        let command = Command::MovePackage { package: name.clone(), token: owner.token, to: to.node, why: why.clone() };
        plan.decisions.push(Decision { step: Step::Propose(command), why });
    }
}

/// Gives every package that should run and has no owner to its preferred eligible node, or says why it cannot.
pub(super) fn assign_unowned(state: &State, seen: &Observations, plan: &mut Plan) {
    let unowned = state.packages.iter().filter(|(_, entry)| wanted(entry) && entry.owner.is_none());
    for (name, entry) in unowned {
        if let Some(why) = state.fallback_wait().or_else(|| state.fence_wait(name)) {
            plan.notes.push(Note { package: name.clone(), why });
            continue;
        }
        let placement = place(state, entry, &seen.unfit());
        match placement.candidates.first() {
            Some(to) => plan.decisions.push(assign(name, entry, to)),
            None => plan
                .notes
                .push(Note { package: name.clone(), why: format!("no eligible node: {}", placement.reasons()) }),
        }
    }
}

fn assign(name: &PackageName, entry: &PackageEntry, to: &Candidate) -> Decision {
    let preferred = entry.definition.nodes.first() == Some(&to.name);
    let why = if preferred {
        format!("{} is the preferred node", to.name)
    } else {
        format!("{} is the first eligible node of its list", to.name)
    };
    let command =
        Command::Assign { package: name.clone(), last: entry.last_token, session: to.session, why: why.clone() };
    Decision { step: Step::Propose(command), why }
}

/// A failed node may be tried again after ten minutes.
pub(super) fn forget_old_failures(state: &State, seen: &Observations, plan: &mut Plan) {
    for (package, entry) in &state.packages {
        for (node, eligibility) in &entry.eligibility {
            let Eligibility::Failed { since, .. } = eligibility else { continue };
            if seen.wall.0.saturating_sub(since.0) >= FAILURE_LASTS_MS {
                let command = Command::ClearFailure { package: package.clone(), node: node.clone() };
                let why = format!("ten minutes have passed since it failed on {node}");
                plan.decisions.push(Decision { step: Step::Propose(command), why });
            }
        }
    }
}
