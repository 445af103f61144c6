//! Majority-held leases: the rules of docs/leases.md as three small machines, pure.
//!
//! The keeper, the simulator and the model run this code. Rule numbers in comments are those of docs/leases.md.
//!
//! - `message`: what keepers say to each other.
//! - `knowledge`: the prefix of the log that a keeper knows (rule 7).
//! - `holder`: who holds a lease. `promiser`: a voter. `collector`: who collects agreements to an expiry.
//! - `reach`: what must be so before a lease set is added (rule 14). `sets`: the wait before one is retired (rule 17).
//! - `majority`: what a majority is. `rules`: which rules are in force (all; tests drop one).

pub mod collector;
pub mod holder;
pub mod knowledge;
pub mod majority;
pub mod message;
pub mod promiser;
pub mod reach;
pub mod rules;
pub mod sets;

pub use collector::Collector;
pub use holder::{Ending, Holder};
pub use knowledge::{Fact, Knowledge, Learn};
pub use majority::majority;
pub use message::{Message, Refusal};
pub use promiser::{Notice, Promiser};
pub use reach::{Missing, Reach, may_add};
pub use rules::{Rule, Rules};
pub use sets::Retirement;
