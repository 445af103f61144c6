//! Why a lease element ended without an order, as a fact and in words.

use std::time::Duration;

use crate::host::netlink::nft::Slot;

/// An element that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    /// Whose.
    pub slot: Slot,
    /// Which grant of it: a later one makes this loss old news.
    pub grant: u64,
    /// Why.
    pub cause: Cause,
}

/// Why an element ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The keeper has no lease any more; the element was deleted at once.
    NoLease,
    /// The lease ran to its end without a majority renewing it; so did the element.
    LeaseRanOut,
    /// Another nftables transaction held ours up for longer than the element had.
    HeldUp {
        /// How long our transaction took.
        transaction: Duration,
        /// The longest one ever seen.
        longest: Duration,
    },
    /// This process did not run.
    Paused {
        /// For how long.
        pause: Duration,
    },
    /// The element was not there although it should have been.
    Missing,
    /// The kernel refused to renew it.
    Refused {
        /// With these words.
        why: String,
    },
}

impl Cause {
    /// The sentence for `status` and the log.
    pub fn sentence(&self) -> String {
        match self {
            Cause::NoLease => "this node's lease is over; the address was shut at once".into(),
            Cause::LeaseRanOut => {
                "no majority of voters renewed this node's lease; the kernel shut the address before its end".into()
            }
            Cause::HeldUp { transaction, longest } => format!(
                "another nftables transaction on this node held the guard's renewal up for {transaction:.0?}, longer \
                 than a slice of the lease (longest ever seen: {longest:.0?}); load large sets in smaller steps, or \
                 choose a profile with a longer ttl"
            ),
            Cause::Paused { pause } => format!(
                "the keeper did not run for {pause:.0?} (stopped, or starved of CPU), and the kernel shut the address"
            ),
            Cause::Missing => "something deleted the guard's lease element, which shut the address".into(),
            Cause::Refused { why } => format!("the guard could not be renewed, and the kernel shut the address: {why}"),
        }
    }
}
