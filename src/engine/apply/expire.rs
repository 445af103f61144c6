//! The end of a silent session, and the new owners of what it owned, in one entry (rule 12).

use std::collections::BTreeSet;

use super::step::{Line, Step};
use crate::engine::command::Takeover;
use crate::engine::event::Timeline;
use crate::engine::lease::majority;
use crate::engine::{Incarnation, NodeId, Rejected, Reply, SessionId};
use crate::package::PackageName;

/// Rule 12, checked here and nowhere before: the session is live, the agreements of current incarnations are a
/// majority of every unretired lease set, and each takeover fits. Otherwise nothing happens, and the answer says why.
pub(super) fn expire(
    step: &mut Step,
    session: SessionId,
    agreed: &[(NodeId, Incarnation)],
    moves: &[Takeover],
    timeline: Timeline,
) -> Result<Reply, Rejected> {
    let node = step.live(session)?;
    let voters = majority::current(step.state, agreed, &step.rules);
    majority::of_every_set(step.state, &voters, &step.rules).map_err(|missing| match missing.set {
        Some(set) => Rejected::NoMajority { set, have: missing.have, needed: missing.needed },
        None => Rejected::Invalid("there is no lease set yet, so no voter's agreement counts".to_owned()),
    })?;
    let targets = check_moves(step, session, moves)?;
    let why = format!("session {session} of its owner has ended and no other node could take it over yet");
    let unowned = step.end_session(session, &why);
    let left: Vec<PackageName> =
        unowned.iter().filter(|package| moves.iter().all(|m| m.package != **package)).cloned().collect();
    super::fence::await_fencing(step, node, session, &left);
    record_expiry(step, session, node, &voters, timeline);
    for (takeover, to) in moves.iter().zip(targets) {
        step.give(&takeover.package, takeover.to, to, &takeover.why);
        let name = step.name(to);
        let mut line = Line::new("taken_over", takeover.why.clone()).package(&takeover.package).node(name);
        line.timeline = Some(timeline);
        step.record(line);
    }
    for package in &left {
        let line = Line::new("unowned", why.clone()).package(package).node(step.name(node));
        step.record(line);
    }
    Ok(Reply::Done)
}

/// Each takeover needs the expired session as owner under that token, and a target that is live and may own the package
/// at this point of the log. Answers the targets' nodes.
fn check_moves(step: &Step, session: SessionId, moves: &[Takeover]) -> Result<Vec<NodeId>, Rejected> {
    let mut seen = BTreeSet::new();
    let mut targets = Vec::with_capacity(moves.len());
    for takeover in moves {
        let package = &takeover.package;
        if !seen.insert(package) {
            return Err(Rejected::Invalid(format!("package '{package}' is moved twice in one entry")));
        }
        let entry = step.package(package)?;
        let owner = entry.owner.as_ref().filter(|o| o.session == session);
        let owner = owner.ok_or_else(|| Rejected::NotOwner { package: package.clone(), session })?;
        if owner.token != takeover.token {
            let (current, given) = (owner.token, takeover.token);
            return Err(Rejected::TokenMoved { package: package.clone(), current, given });
        }
        let to = step.live(takeover.to)?;
        if takeover.to == session {
            return Err(Rejected::SessionNotLive { session });
        }
        let node = owner.node;
        if step.state.must_fence(package, node, session) {
            return Err(Rejected::AwaitsFencing { package: package.clone(), node: step.state.name_of(node) });
        }
        step.may_own(package, to)?;
        targets.push(to);
    }
    Ok(targets)
}

fn record_expiry(step: &mut Step, session: SessionId, node: NodeId, voters: &BTreeSet<NodeId>, timeline: Timeline) {
    let names: Vec<String> = voters.iter().filter_map(|v| step.name(*v)).map(|n| n.to_string()).collect();
    let name = step.name(node);
    let who = name.as_ref().map_or_else(|| format!("node {node}"), ToString::to_string);
    let why = format!("{who} was silent; {} agreed that session {session} ends", names.join(", "));
    let mut line = Line::new("expired", why).node(name);
    line.timeline = Some(timeline);
    step.record(line);
}
