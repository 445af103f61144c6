//! A node that goes on alone, on its disk and at its socket (docs/fallback.md).
//!
//! - `exchange`: the new store beside the old one, and how they change places over any loss of power.
//! - `local`: what root on this node may ask for.

mod exchange;
mod local;

pub(super) use exchange::{discard, finish};
pub(super) use local::{Local, Order};
