//! pkgctl: a failover cluster manager for active/standby packages.
//!
//! The crate is layered; a module uses only what stands to its left:
//!
//! `package ← engine ← raft ← api ← agent`, `package ← resource ← host ← keeper, agent`, `engine, net ← keeper`,
//! `cli → api`. `lab` builds clusters in network namespaces on one machine for `pkgctl demo` and the tests.
//!
//! - [`package`] says what a package is. Pure.
//! - [`engine`] makes every decision: leases, replicated state, planning, supervision. Pure: facts and time come in as
//!   arguments, values go out.
//! - [`resource`] brings one resource up and down, a file per kind.
//! - [`bounded`] reads what an operator names up to a limit.
//! - [`host`] is the operating system, and nothing else is: netlink, nftables, processes, the one clock.
//! - [`keeper`] is the small, dull process that holds leases and enforces deadlines, and its leashes.
//! - [`raft`] is openraft's side of the wall: the durable store, the state machine, the network adapter.
//! - [`net`] is identity and TLS, authenticated datagrams, framed calls.
//! - [`api`] is the one door for every change: routes, types, client.
//! - [`agent`] is one node at work.
//! - [`service`] is the agent as a process; [`cli`] is words for people.
//!
//! ARCHITECTURE.md is the map; docs/leases.md is the argument for the safety claim.

pub mod agent;
pub mod api;
pub mod bounded;
pub mod cli;
pub mod config;
pub mod engine;
pub mod host;
pub mod keeper;
pub mod lab;
pub mod net;
pub mod package;
pub mod raft;
pub mod resource;
pub mod service;
