//! A machine's kernel, as far as leases go: leashes with their own timers, and lease elements that run out. It needs
//! nobody of ours to run, and a power loss ends it.
//!
//! - [`leash`]: one program under its deadline.
//! - [`element`]: the lease elements that let an address answer.

pub mod element;
pub mod leash;

use std::collections::BTreeMap;
use std::sync::Arc;

use pkgctl::keeper::protocol::Place;

use self::element::Element;
use self::leash::Leash;

/// What is up on a machine.
#[derive(Default)]
pub struct Kernel {
    /// Programs, each with its leash.
    pub leashes: BTreeMap<Place, Arc<Leash>>,
    /// Permits, each with the true time at which it runs out.
    pub permits: BTreeMap<Place, u64>,
    /// Lease elements of addresses.
    pub elements: BTreeMap<Place, Element>,
}
