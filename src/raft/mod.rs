//! Openraft's side of the wall: the durable store, the state machine, the network adapter, membership.
//!
//! No openraft type leaves this folder; generic over its `AsyncRuntime`, so that the simulator can run it.
//!
//! - [`peers`]: the port through which consensus talks to other nodes.
//! - [`record`]: Raft's own facts as they go on disk and wire.
//! - [`store`]: the durable store.

pub mod peers;
pub mod record;
pub mod store;
