//! The keeper: a node's hands, small and dull. It renews the node's lease, answers as voter, runs programs, guards
//! addresses and enforces deadlines; and the leash, one per resource that runs code.
//!
//! - [`core`]: every decision of the keeper, pure.
//! - [`daemon`]: the process around it.
//! - [`leash`]: what ends a program with its lease, whatever happens to this process.
//! - [`guard`]: the bookkeeping of lease elements in the kernel, pure.
//! - [`ip`]: the address worker: takes floating addresses over, guards them, gives them up.
//! - [`storage`]: takes LUNs and mounts filesystems, each in a process of its own.
//! - [`link`]: the agent's end of its link to the keeper.
//! - `protocol`: what agent and keeper say to each other on `<run>/keeper.sock`.

pub mod core;
pub mod daemon;
pub mod guard;
pub mod ip;
pub mod leash;
pub mod link;
pub mod protocol;
pub mod storage;
