//! A deterministic simulation of the lease line: real machines, real `apply`, real planner, and around them a network,
//! clocks, keepers, agents and a leader that all follow from one seed. The committed log is atomic; there is no Raft.
//!
//! - `world`: the event queue and the log. `node`, `turn`: a node and what it does when it is called. `leader`: who
//!   collects and proposes. `acting`: what acts for packages, judged in true time.
//! - `plot`: what goes wrong when. `faults`: how it goes wrong.
//! - `net`, `clock`, `random`, `trace`: what they say.

pub mod acting;
pub mod clock;
pub mod faults;
pub mod leader;
pub mod net;
pub mod node;
pub mod plot;
pub mod random;
pub mod setup;
pub mod trace;
pub mod turn;
pub mod world;

/// Nanoseconds in a microsecond and in a millisecond of true time.
pub const US: u64 = 1_000;
pub const MS: u64 = 1_000_000;

pub use plot::Plot;
pub use world::{Outcome, run};
