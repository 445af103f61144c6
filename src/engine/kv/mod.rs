//! The key/value tree: what programs and operators keep beside the packages, in the same replicated state.
//!
//! - [`key`] and [`value`]: what may be stored. [`range`]: which keys are meant.
//! - [`compare`]: `=`, `<` and the like; numbers compare as numbers.
//! - [`txn`]: conditions and changes that are one entry of the log, and what comes of them.
//! - [`tree`]: the items. [`requests`]: requests that were carried out, so that a repeated one is not carried out again.

pub mod compare;
pub mod key;
pub mod range;
pub mod requests;
pub mod tree;
pub mod txn;
pub mod value;

#[cfg(test)]
mod tests;

pub use compare::Compare;
pub use key::{BadKey, KEY_MAX_BYTES, Key};
pub use range::Range;
pub use requests::REQUESTS_MAX_BYTES;
pub use tree::{Item, Tree, check_size};
pub use txn::{Change, Changed, Condition, Guard, Kept, Outcome, RequestId, Test, Txn, Unmet};
pub use value::Value;

/// Bytes of a value at most: an entry of the log must hold it.
pub const VALUE_MAX_BYTES: usize = 128 << 10;
/// Conditions and changes of a transaction at most.
pub const TXN_STEPS_MAX: usize = 256;
/// Bytes of all keys and values of a transaction at most.
pub const TXN_MAX_BYTES: usize = 192 << 10;
/// Bytes counted for an item beside its key and its value: what the allocator and the tree's nodes take for it at worst,
/// half empty ones included (`tests/kv_memory.rs` measures it).
pub const ITEM_COST_BYTES: u64 = 256;
/// Bytes of all items of the tree at most, each with its cost: every member holds them in memory.
pub const TREE_MAX_BYTES: u64 = 256 << 20;
