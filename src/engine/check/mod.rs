//! The invariants of design section 3 as functions, apart from the code that keeps them: one file each.
//!
//! They read and judge, and repair nothing. Tests and simulations call them after every step.
//!
//! - `one_actor`: I1. `tokens_rise`: I2. `equal_states`: I6. `consistent`: what any state must be like.

mod consistent;
mod equal_states;
mod one_actor;
mod tokens_rise;

pub use consistent::consistent;
pub use equal_states::equal_states;
pub use one_actor::{Claim, one_actor};
pub use tokens_rise::tokens_rise;

/// What does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant} does not hold: {what}")]
pub struct Violation {
    /// Which invariant, by its name in the design: `I1`.
    pub invariant: &'static str,
    /// What was found.
    pub what: String,
}

fn violated(invariant: &'static str, what: String) -> Result<(), Violation> {
    Err(Violation { invariant, what })
}
