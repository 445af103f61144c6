//! nftables as the address guard uses it: batches, rules as values, elements with timeouts, and a watch on the ruleset.
//!
//! Three tables of one name: `netdev pkgctl` (ingress and egress of every guarded interface), `inet pkgctl` (local
//! clients, which bypass netdev hooks, and other interfaces) and `arp pkgctl` (this host's own ARP, on every interface:
//! Linux answers for all its addresses on each of them). In all, every guarded address maps to its package's chain, and
//! that chain drops unless the package's one element is in the set `lease`, from which the kernel removes it on time,
//! whatever becomes of us (design 6.1).
//!
//! - [`batch`]: a transaction, all of whose errors are collected.
//! - [`expr`]: the few expressions the rules are made of.
//! - `family`: whether this kernel can filter ARP.
//! - `rules`: which packets are about an address.
//! - [`shape`]: the guard as a value; its batches are the difference of two shapes.
//! - [`element`]: the lease and permit elements.
//! - [`watch`]: notices when someone else changes our tables.

pub mod batch;
pub mod element;
pub mod expr;
mod family;
mod rules;
pub mod shape;
pub mod watch;

use netlink_packet_netfilter::NetfilterProtoFamily;

pub use batch::{Batch, BatchError, Nft};
pub use element::Slot;
pub use shape::{Path, Seat, Shape};
pub use watch::RulesetWatch;

/// Name of our tables. One network namespace holds one keeper's guard.
pub const TABLE: &str = "pkgctl";
/// The families with a table of ours.
pub(crate) const FAMILIES: [NetfilterProtoFamily; 3] =
    [NetfilterProtoFamily::NetDev, NetfilterProtoFamily::Inet, NetfilterProtoFamily::ARP];
