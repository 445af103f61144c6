//! Operators elsewhere: who may come in with a certificate, and who may no more.

use super::step::{Line, Step};
use crate::engine::operator::{ClientName, OPERATORS_MAX, Operator};
use crate::engine::{Rejected, Reply};

/// Lets an operator in, before its certificate is signed. A revoked name is not given again: a certificate says a name
/// and no more, so an old one would open the door with the new one.
pub(super) fn admit(step: &mut Step, name: &ClientName) -> Result<Reply, Rejected> {
    match step.state.operators.get(name) {
        Some(Operator { revoked: None, .. }) => return Ok(Reply::Already),
        Some(Operator { revoked: Some(_), .. }) => return Err(Rejected::OperatorRevoked { name: name.clone() }),
        None => {}
    }
    if step.state.operators.len() >= OPERATORS_MAX {
        let why =
            format!("{OPERATORS_MAX} operators had a certificate, revoked ones included; no more names are taken");
        return Err(Rejected::Invalid(why));
    }
    step.state.operators.insert(name.clone(), Operator { since: step.wall, revoked: None });
    step.record(Line::new("operator", format!("operator {name} was given a certificate by {}", step.by)));
    Ok(Reply::Done)
}

/// Makes every certificate of an operator void.
pub(super) fn revoke(step: &mut Step, name: &ClientName) -> Result<Reply, Rejected> {
    let wall = step.wall;
    let operator = step.state.operators.get_mut(name);
    let operator = operator.ok_or_else(|| Rejected::NoSuchOperator { name: name.clone() })?;
    if operator.revoked.is_some() {
        return Ok(Reply::Already);
    }
    operator.revoked = Some(wall);
    step.record(Line::new("revoked", format!("the certificates of operator {name} are void; {} said so", step.by)));
    Ok(Reply::Done)
}
