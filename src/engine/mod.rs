//! Every decision of the cluster, pure: facts and time come in as arguments, values go out.
//!
//! No clock, no I/O, no task, no chance, no hash map order; `tests/tidy.rs` and clippy hold that line.
//!
//! - [`command`] and [`state`]: the replicated state and the only ways to change it; `apply` is deterministic and total.
//! - [`check`]: the invariants, apart from the code that keeps them.
//! - [`view`]: a package as an operator sees it.
//! - [`lease`]: the three machines of a lease (holder, promiser, collector) and their messages.
//! - [`fence`]: nodes that are switched off from outside, and who waits for it.
//! - [`fallback`]: a node of a minority that goes on alone.
//! - [`kv`]: the key/value tree beside the packages.
//! - [`operator`]: who uses the API from elsewhere.
//! - [`event`]: what happened and why, as data.
//! - [`codec`]: how values become bytes on disk and wire; [`frame`]: values on a byte stream.

pub mod apply;
pub mod check;
pub mod codec;
pub mod command;
pub mod event;
pub mod fallback;
pub mod fence;
pub mod frame;
pub mod ids;
pub mod keys;
pub mod kv;
pub mod lease;
pub mod operator;
pub mod placement;
pub mod planner;
pub mod profile;
pub mod state;
pub mod supervisor;
pub mod time;
pub mod view;

pub use apply::{Applied, apply, apply_blank, apply_membership};
pub use command::{Command, Rejected, Reply};
pub use ids::{ClusterId, FOUNDER, Incarnation, LogIndex, NodeId, Nonce, SessionId, SetId, Token};
pub use profile::Profile;
pub use state::State;
pub use time::{BootTime, HolderTime, VoterTime, WallMillis};
