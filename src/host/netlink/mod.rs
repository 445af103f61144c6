//! Netlink, spoken directly and without an async runtime: links, addresses, nftables, sockets of an address.
//!
//! The kernel answers a netlink request inside the `send` that carries it, so a request here is one system call to
//! send and one or more that find the answers already waiting. Only subscriptions ever wait, in the caller's `poll`.
//!
//! - [`socket`]: requests with an acknowledgement, dumps, subscriptions, batches.
//! - [`route`]: links and addresses.
//! - [`watch`]: what happens to links and addresses.
//! - [`nft`]: the rules and elements of the address guard.
//! - [`sock_diag`]: destroys the sockets of an address.

pub mod nft;
pub mod route;
pub mod sock_diag;
pub mod socket;
pub mod watch;

use nix::errno::Errno;

/// Why a netlink call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetlinkError {
    /// The socket could not be made, bound or subscribed.
    #[error("cannot open a netlink socket for {what}: {errno}")]
    Open {
        /// What it was for.
        what: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The request could not be sent, or its answer not be received.
    #[error("netlink {what}: cannot {act}: {errno}")]
    Transport {
        /// What was asked.
        what: String,
        /// `send` or `receive`.
        act: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The kernel refused the request; nothing changed.
    #[error("the kernel refused to {what}: {errno}")]
    Refused {
        /// What was asked.
        what: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// An answer that cannot be read, or none although the kernel answers at once.
    #[error("netlink {what}: {why}")]
    Malformed {
        /// What was asked.
        what: String,
        /// What is wrong with the answer.
        why: String,
    },
}

impl NetlinkError {
    /// The errno with which the kernel refused, if it did.
    pub fn refusal(&self) -> Option<Errno> {
        match self {
            NetlinkError::Refused { errno, .. } => Some(*errno),
            NetlinkError::Open { .. } | NetlinkError::Transport { .. } | NetlinkError::Malformed { .. } => None,
        }
    }
}
