//! Openraft's side of the wall: the durable store, the state machine, the network adapter, membership.
//!
//! No openraft type leaves this folder; generic over its `AsyncRuntime`, so that the simulator can run it.
//!
//! - [`consensus`]: the public face: start, read, follow, end. [`propose`]: commands and linearizable reads.
//!   [`members`]: membership and leadership. `service`: calls from other nodes. `arrival`: a leader's snapshot.
//!   [`compact`]: when snapshots are made and what the log then drops. [`status`] and [`fit`]: how it is.
//!   [`alone`]: the log of a node that goes on alone, and the store of the cluster that it makes.
//! - [`peers`]: the port through which consensus talks to other nodes.
//! - `bind`: openraft's own ports, on our parts; the only place that names its types.
//! - [`applied`] and [`feed`]: the state the log adds up to, and its changes in log order.
//! - `commit_mark`: has it written how far the log is committed.
//! - [`watched`]: what was changed of the key/value tree lately, for watchers.
//! - [`record`]: Raft's own facts as they go on disk and wire. [`wire`]: what calls between nodes carry.
//! - [`store`]: the durable store.

pub mod alone;
pub mod applied;
mod arrival;
mod bind;
mod commit_mark;
pub mod compact;
pub mod consensus;
pub mod feed;
pub mod fit;
pub mod members;
pub mod peers;
pub mod propose;
pub mod record;
mod service;
pub mod status;
pub mod store;
pub mod watched;

pub use alone::{LogEnd, create_alone};
pub use bind::wire;
pub use consensus::{Consensus, DiskTime, Failure, Options, StartError, create_store, create_store_on, identity};
pub use feed::Changes;
pub use fit::Unfit;
pub use members::{MembersError, PROMOTE_LAG};
pub use peers::{PeerCall, PeerError, PeerService, Peers};
pub use propose::{Committed, ProposeError, ReadError};
pub use status::{LeadershipWatch, PeerProgress, RaftStatus, Role};
pub use store::identity::Identity;
pub use store::load::OpenError;
pub use watched::{KvChange, Watch, WatchEnd};
