//! pkgctl's whole manager in virtual time, on one thread, under one seed.
//!
//! Real: the engine, the lease machines, the planner, the supervisors, the keeper's core, the agent, consensus with its
//! durable store, and openraft. Simulated: time, chance, network, disks, kernels, processes, resources, operators.
//!
//! - [`rt`] and [`process`]: the runtime, and processes that stand still and die.
//! - [`clock`], [`disk`] and [`table`], [`net`], [`kernel`]: what a machine has. [`machine`]: one of them.
//! - [`keeper`], [`guard`], [`link`], [`wire`], [`agent`]: the shipped parts, driven.
//! - [`world`], [`acts`], [`trace`]: what there is, what acts, what happened.
//! - [`setup`], [`storm`], [`clients`], [`keys`], [`members`]: what is done to it. [`check`]: what must hold.
//! - [`plant`]: bugs to be found. [`run`]: one seed from beginning to end.

pub mod acts;
pub mod agent;
pub mod check;
pub mod clients;
#[path = "../../sim/clock.rs"]
pub mod clock;
pub mod disk;
pub mod guard;
pub mod keeper;
pub mod kernel;
pub mod keys;
pub mod link;
pub mod machine;
pub mod members;
pub mod net;
pub mod plant;
pub mod process;
#[path = "../../sim/random.rs"]
pub mod random;
pub mod rt;
pub mod run;
pub mod setup;
pub mod storm;
pub mod table;
#[path = "../../sim/trace.rs"]
pub mod trace;
pub mod wire;
pub mod world;

/// A millisecond in nanoseconds.
pub const MS: u64 = 1_000_000;
