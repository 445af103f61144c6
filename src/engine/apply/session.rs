//! Lives of voters' keepers (rules 9 and 11) and sessions (rules 4 and 5).

use super::step::{Line, Step};
use crate::engine::command::{TTL_MAX, TTL_MIN};
use crate::engine::lease::Fact;
use crate::engine::state::{Session, VoterLife};
use crate::engine::{Incarnation, NodeId, Nonce, Rejected, Reply, SessionId};
use crate::package::Millis;

/// A voter's keeper began a new life, or forgets its fences. Every entry gives a new incarnation, so that agreements
/// made before it no longer count (rule 12); a repeated entry costs no more than that.
pub(super) fn voter_up(step: &mut Step, voter: NodeId, nonce: Nonce) -> Result<Reply, Rejected> {
    let name = step.member(voter)?;
    let incarnation = Incarnation::from(step.index);
    let before = step.state.voter_lives.insert(voter, VoterLife { nonce, incarnation });
    let why = match before {
        Some(life) if life.nonce == nonce => {
            format!("the keeper of {name} forgets which expiries it agreed to; they were abandoned")
        }
        Some(_) | None => format!("the keeper of {name} is up and counts as voter"),
    };
    step.record(Line::new("voter_up", why).node(Some(name)));
    step.fact(Fact::VoterUp { voter, nonce, incarnation });
    Ok(Reply::Incarnation(incarnation))
}

/// A keeper asks for a session.
///
/// A keeper whose session has lapsed supersedes it with another of the same nonce (rule 8a), so a repeated request is
/// recognised by its nonce *and* by what it supersedes being gone.
pub(super) fn register(
    step: &mut Step,
    node: NodeId,
    nonce: Nonce,
    ttl: Millis,
    supersedes: Option<SessionId>,
) -> Result<Reply, Rejected> {
    let name = step.member(node)?;
    if step.state.leaving.contains(&node) {
        return Err(Rejected::NodeLeaving { name });
    }
    if !(TTL_MIN..=TTL_MAX).contains(&ttl) {
        return Err(Rejected::Invalid(format!("a lease time of {ttl} is not within {TTL_MIN} to {TTL_MAX}")));
    }
    let mut of_node = step.state.sessions.iter().filter(|(_, s)| s.node == node);
    let live = of_node.next().map(|(id, s)| (*id, *s));
    let old = match live {
        Some((id, _)) if supersedes == Some(id) => Some(id),
        Some((id, s)) if s.nonce == nonce => return Ok(Reply::Session(id)),
        Some((id, _)) => return Err(Rejected::SessionInTheWay { node, live: id }),
        None => None,
    };
    let session = SessionId::from(step.index);
    if let Some(old) = old {
        supersede(step, old, session, node);
    }
    // Registered by a keeper that has made sure of it, whether or not there was a session to supersede (rules 4 and 5).
    let clean = format!("the keeper of {name} has come back, and nothing of its sessions before is left there");
    super::fence::end_waits(step, node, session, &clean);
    step.state.down.remove(&node);
    step.state.sessions.insert(session, Session { node, nonce, ttl });
    step.fact(Fact::Registered { session, node, nonce, ttl });
    let why = format!("the keeper of {name} has session {session} with leases of {ttl}");
    step.record(Line::new("session", why).node(Some(name)));
    Ok(Reply::Session(session))
}

/// Rule 5: the keeper has made sure that nothing of its node's old session is left, so no agreements are needed.
fn supersede(step: &mut Step, old: SessionId, new: SessionId, node: NodeId) {
    let name = step.name(node);
    let why = format!("session {old} is superseded by {new} of the same node; nothing of it is left there");
    let owned = step.end_session(old, &why);
    step.record(Line::new("expired", why.clone()).node(name.clone()));
    for package in owned {
        step.record(Line::new("unowned", why.clone()).package(&package).node(name.clone()));
    }
}
