//! The keeper: a node's hands, small and dull. It renews the node's lease, answers as voter, runs programs, guards
//! addresses and enforces deadlines; and the leash, one per resource that runs code.
//!
//! - [`core`]: every decision of the keeper, pure.
//! - [`leash`]: what ends a program with its lease, whatever happens to this process.
//! - `protocol`: what agent and keeper say to each other on `<run>/keeper.sock`.

pub mod core;
pub mod leash;
pub mod protocol;
