//! The one door for every change: routes, types and the client.
//!
//! - [`door`]: what routes may ask of the agent behind them.
//! - [`local`]: what a node shows of itself beside the replicated state.
//! - [`routes`], [`types`], [`failure`]: the HTTP side of it.

pub mod door;
pub mod failure;
pub mod local;
pub mod routes;
pub mod types;
