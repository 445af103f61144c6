//! Openraft's own ports on our parts. Nothing outside `raft/` sees any of these types.
//!
//! - `types`: the type configuration, and conversions from and to our own records.
//! - `log`: Raft's log storage on the store. `machine`: its state machine on `engine::apply`.
//! - `network`: calls to other nodes. `wire`: what those calls carry.
//! - `disk_time`: where waiting for the disk happens.
//! - `settings`: its configuration, from a profile.

pub mod disk_time;
pub mod log;
pub mod machine;
pub mod network;
pub mod settings;
pub mod types;
pub mod wire;

#[cfg(test)]
mod suite;
