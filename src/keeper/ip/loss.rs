//! Why a lease element ended without an order, as a fact and in words.

use std::time::Duration;

use crate::engine::HolderTime;
use crate::host::netlink::nft::Slot;
use crate::keeper::guard::{Pace, horizon};

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

/// What is known when an element turns out to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub now: HolderTime,
    /// When the renewing thread last looked at its elements.
    pub looked_at: HolderTime,
    /// How long the renewal took that failed; zero if there was none.
    pub transaction: Duration,
    /// The longest transaction ever seen.
    pub longest: Duration,
    /// T.
    pub until: HolderTime,
}

impl Cause {
    /// Why an element is gone that should have been renewed. A third of a slice is two renewals missed: without that,
    /// neither a pause nor another's transaction has used an element up.
    pub fn of(facts: Facts, pace: &Pace) -> Self {
        let pause = facts.now.since(facts.looked_at).saturating_sub(facts.transaction);
        if facts.transaction >= pace.slice / 3 && facts.transaction >= pause {
            Cause::HeldUp { transaction: facts.transaction, longest: facts.longest }
        } else if pause >= pace.slice / 3 {
            Cause::Paused { pause }
        } else if facts.now + 3 * pace.tight >= horizon(facts.until) {
            Cause::LeaseRanOut
        } else {
            Cause::Missing
        }
    }

    /// The sentence for `status` and the log.
    pub fn sentence(&self) -> String {
        match self {
            Cause::NoLease => "this node's lease is over; the address was shut at once".into(),
            Cause::LeaseRanOut => {
                "no majority of voters renewed this node's lease; the kernel shut the address before its end".into()
            }
            Cause::HeldUp { transaction, longest } => format!(
                "the kernel took {transaction:.0?} for the guard's renewal, longer than a slice of the lease (longest \
                 ever seen: {longest:.0?}), and shut the address meanwhile: another nftables transaction on this node \
                 held it up, or its core stood still; load large sets in smaller steps, or choose a profile with a \
                 longer ttl"
            ),
            Cause::Paused { pause } => format!(
                "the keeper did not run for {pause:.0?} (stopped, or starved of CPU), and the kernel shut the address"
            ),
            Cause::Missing => "something deleted the guard's lease element, which shut the address".into(),
            Cause::Refused { why } => format!("the guard could not be renewed, and the kernel shut the address: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::Millis;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn cause(looked_ago: u64, transaction: u64, left: u64) -> Cause {
        let now = HolderTime::from_millis(10_000);
        let (looked_at, until) = (now.back(MS(looked_ago)), now + MS(left));
        let facts = Facts { now, looked_at, transaction: MS(transaction), longest: MS(700), until };
        Cause::of(facts, &Pace::of(Millis(1500)))
    }

    #[test]
    fn an_element_that_is_gone_is_explained_by_what_took_the_time() {
        assert_eq!(cause(640, 630, 800), Cause::HeldUp { transaction: MS(630), longest: MS(700) });
        assert_eq!(cause(900, 1, 500), Cause::Paused { pause: MS(899) });
        assert_eq!(cause(30, 0, 60), Cause::LeaseRanOut);
        assert_eq!(cause(30, 0, 0), Cause::LeaseRanOut);
        assert_eq!(cause(30, 1, 800), Cause::Missing);
    }

    #[test]
    fn another_transaction_is_named_with_how_long_it_took_and_what_to_do() {
        let text = cause(640, 630, 800).sentence();
        assert!(text.contains("630ms") && text.contains("700ms") && text.contains("longer ttl"), "{text}");
    }
}
