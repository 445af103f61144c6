//! Who owns what: planned moves, assignments, releases, and the owner's word. An ownership ends only by its holder's
//! release or by its session's end (rule 21).

use super::step::{Line, Step, clip};
use crate::engine::command::{RESOURCES_MAX, ReleaseOutcome};
use crate::engine::state::{Eligibility, Ownership, Phase, PhaseReport, ResourceReport, Switchover};
use crate::engine::{NodeId, Rejected, Reply, SessionId, Token};
use crate::package::{Millis, NodeName, PackageName};

/// A planned switchover: the owner sees `moving_to`, stops, and its release hands the package over.
pub(super) fn switch(
    step: &mut Step,
    package: &PackageName,
    token: Token,
    to: NodeId,
    why: &str,
) -> Result<Reply, Rejected> {
    let owner = current(step, package, token)?;
    if owner.node == to || owner.moving_to.as_ref().is_some_and(|m| m.to == to) {
        return Ok(Reply::Already);
    }
    let name = step.may_own(package, to)?;
    if live_session_of(step, to).is_none() {
        let why = "its keeper is not up (it has no live session)".to_owned();
        return Err(Rejected::NotEligible { package: package.clone(), node: name, why });
    }
    if let Some(owner) = &mut step.package_mut(package)?.owner {
        owner.moving_to = Some(Switchover { to, why: clip(why) });
    }
    step.record(Line::new("moving", why).package(package).node(Some(name)));
    Ok(Reply::Done)
}

/// Gives an unowned package to a live session.
pub(super) fn assign(
    step: &mut Step,
    package: &PackageName,
    last: Token,
    session: SessionId,
    why: &str,
) -> Result<Reply, Rejected> {
    let entry = step.package(package)?;
    if entry.owner.is_some() {
        return Err(Rejected::Owned { package: package.clone() });
    }
    if entry.last_token != last {
        return Err(Rejected::TokenMoved { package: package.clone(), current: entry.last_token, given: last });
    }
    super::fence::check_waits_for_nobody(step, package)?;
    let node = step.live(session)?;
    let name = step.may_own(package, node)?;
    step.give(package, session, node, why);
    step.record(Line::new("assigned", why).package(package).node(Some(name)));
    Ok(Reply::Token(Token::from(step.index)))
}

/// The holder ends its ownership (rules 20 and 21). A planned move is completed in the same entry, if its target can
/// still own the package.
pub(super) fn release(
    step: &mut Step,
    package: &PackageName,
    token: Token,
    session: SessionId,
    outcome: &ReleaseOutcome,
) -> Result<Reply, Rejected> {
    let owner = current(step, package, token)?;
    if owner.session != session {
        return Err(Rejected::NotOwner { package: package.clone(), session });
    }
    let moving_to = owner.moving_to.clone();
    let holder = step.member(owner.node)?;
    end_ownership(step, package, &holder, outcome)?;
    let Some(switch) = moving_to else { return Ok(Reply::Done) };
    let Some(next) = live_session_of(step, switch.to) else { return Ok(Reply::Done) };
    let Ok(name) = step.may_own(package, switch.to) else { return Ok(Reply::Done) };
    step.give(package, next, switch.to, &switch.why);
    step.record(Line::new("moved", switch.why).package(package).node(Some(name)));
    Ok(Reply::Token(Token::from(step.index)))
}

fn end_ownership(
    step: &mut Step,
    package: &PackageName,
    holder: &NodeName,
    outcome: &ReleaseOutcome,
) -> Result<(), Rejected> {
    let line = match outcome {
        ReleaseOutcome::Stopped => Line::new("released", format!("{holder} has stopped it in good order")),
        ReleaseOutcome::Failed { reason } => Line::new("failed", format!("failed on {holder}: {reason}")),
    };
    let cause = step.cause(&line.why);
    let since = step.wall;
    let entry = step.package_mut(package)?;
    entry.owner = None;
    entry.report = None;
    entry.unowned = Some(cause);
    match outcome {
        ReleaseOutcome::Stopped => {}
        ReleaseOutcome::Failed { reason } => match entry.eligibility.get_mut(holder) {
            Some(eligibility @ (Eligibility::Eligible | Eligibility::NotRun | Eligibility::Failed { .. })) => {
                *eligibility = Eligibility::Failed { since, reason: clip(reason) };
            }
            // The operator's word is the stronger one: only `run` brings the node back.
            Some(Eligibility::Withdrawn { .. }) | None => {}
        },
    }
    step.record(line.package(package).node(Some(holder.clone())));
    Ok(())
}

/// What an owner says.
pub(super) struct Said<'a> {
    pub phase: Phase,
    pub resources: &'a [ResourceReport],
    pub after: Millis,
    pub note: &'a str,
}

/// The holder says how far it is: data for people, never authority.
pub(super) fn report(step: &mut Step, package: &PackageName, token: Token, said: &Said) -> Result<Reply, Rejected> {
    let node = current(step, package, token)?.node;
    let wall = step.wall;
    let resources: Vec<ResourceReport> = said
        .resources
        .iter()
        .take(RESOURCES_MAX)
        .map(|r| ResourceReport { name: r.name.clone(), state: r.state, detail: clip(&r.detail) })
        .collect();
    let entry = step.package_mut(package)?;
    // One that was taken and not answered for is delivered again.
    let again = |r: &PhaseReport| {
        r.token == token && r.phase == said.phase && r.resources == resources && r.note == clip(said.note)
    };
    if entry.report.as_ref().is_some_and(again) {
        return Ok(Reply::Already);
    }
    let same_phase = entry.report.as_ref().filter(|r| r.phase == said.phase);
    let since = same_phase.map_or(wall, |r| r.since);
    let what = if same_phase.is_some() { "report" } else { said.phase.word() };
    entry.report = Some(PhaseReport { token, phase: said.phase, since, resources, note: clip(said.note) });
    let mut line = Line::new(what, said.note).package(package).node(step.name(node));
    line.after = Some(said.after);
    step.record(line);
    Ok(Reply::Done)
}

/// The ownership with that token, if it is the current one.
fn current<'s>(step: &'s Step, package: &PackageName, token: Token) -> Result<&'s Ownership, Rejected> {
    let entry = step.package(package)?;
    let moved = || Rejected::TokenMoved { package: package.clone(), current: entry.last_token, given: token };
    entry.owner.as_ref().filter(|o| o.token == token).ok_or_else(moved)
}

/// A node has at most one live session.
fn live_session_of(step: &Step, node: NodeId) -> Option<SessionId> {
    step.state.sessions.iter().find(|(_, s)| s.node == node).map(|(id, _)| *id)
}
