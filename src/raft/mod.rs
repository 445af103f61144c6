//! Openraft's side of the wall: the durable store, the state machine, the network adapter, membership.
//!
//! No openraft type leaves this folder; generic over its `AsyncRuntime`, so that the simulator can run it.
//!
//! - [`peers`]: the port through which consensus talks to other nodes.
//! - `bind`: openraft's own ports, on our parts; the only place that names its types.
//! - [`applied`] and [`feed`]: the state the log adds up to, and its changes in log order.
//! - [`record`]: Raft's own facts as they go on disk and wire.
//! - [`store`]: the durable store.

pub mod applied;
mod bind;
pub mod feed;
pub mod peers;
pub mod record;
pub mod store;
