//! Majority-held leases: the rules of docs/leases.md as three small machines, pure.
//!
//! The keeper, the simulator and the model run this code. Rule numbers in comments are those of docs/leases.md.
//!
//! - `message`: what keepers say to each other.
//! - `knowledge`: the prefix of the log that a keeper knows (rule 7).
//! - `majority`: what a majority is. `rules`: which rules are in force (all; tests drop one).

pub mod knowledge;
pub mod majority;
pub mod message;
pub mod rules;

pub use knowledge::{Fact, Knowledge, Learn};
pub use majority::majority;
pub use message::{Message, Refusal};
pub use rules::{Rule, Rules};
