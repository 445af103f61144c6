//! The key of the datagrams' MAC is replaced step by step, each once the one before is known (docs/security.md).

use super::{ChangeStep, Decision, Plan, Step, Waits};
use crate::engine::keys::KeyStep;
use crate::engine::{Command, State};

/// The next step of a replacement, if one is due and nobody is waited for.
pub(super) fn rotate(state: &State, plan: &mut Plan) {
    let (wait, step, why) = match state.key_step() {
        None => return,
        Some(KeyStep::Add { id, why }) => {
            plan.decisions.push(Decision { step: Step::AddKey { id }, why });
            return;
        }
        Some(KeyStep::Use { id }) => {
            (ChangeStep::UseKey, Command::UseKey { id }, "every keeper that is there accepts it")
        }
        Some(KeyStep::Drop { keep }) => {
            (ChangeStep::DropKeys, Command::DropKeys { keep }, "no keeper that is there seals with an older one")
        }
    };
    let waited = state.keys_wait_for();
    if waited.is_empty() {
        plan.decisions.push(Decision { step: Step::Propose(step), why: why.to_owned() });
        return;
    }
    let names: Vec<String> = waited.iter().map(|node| state.name_of(*node)).collect();
    let why = format!(
        "the key of the datagrams is replaced once the keepers of {} have said that they know it: see that agent and \
         keeper run there, both of this version",
        names.join(", ")
    );
    plan.waits.get_or_insert(Waits { step: wait, why });
}
