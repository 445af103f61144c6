//! What happens to links and addresses of this network namespace, as the kernel tells it.

use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;

use super::NetlinkError;
use super::route::{Address, Link, address_of, link_of};
use super::socket::{Message, Protocol, Socket};

const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV6_IFADDR: u32 = 9;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A link is new or changed: name, state, hardware address.
    Link(Link),
    /// A link is gone.
    LinkGone {
        /// Its interface index.
        index: u32,
    },
    /// An address is gone.
    AddressGone(Address),
    /// The kernel had to drop events: look at everything again.
    Missed,
}

/// A subscription to link and address events.
#[derive(Debug)]
pub struct RouteWatch {
    socket: Socket,
}

impl AsFd for RouteWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl RouteWatch {
    /// Subscribes in this thread's network namespace; the descriptor is readable when something happened.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open() -> Result<Self, NetlinkError> {
        let groups = [RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR];
        Ok(Self { socket: Socket::subscribe(Protocol::Route, &groups)? })
    }

    /// Everything that happened since the last call, in order.
    ///
    /// # Errors
    /// When the socket fails for good.
    pub fn changes(&mut self) -> Result<Vec<Change>, NetlinkError> {
        let mut changes = Vec::new();
        loop {
            let read = self.socket.next_datagram("watch links", |message| {
                changes.extend(change_of(&message));
                Ok(())
            });
            match read {
                Ok(true) => {}
                Ok(false) => return Ok(changes),
                Err(NetlinkError::Transport { errno: Errno::ENOBUFS, .. }) => changes.push(Change::Missed),
                Err(e) => return Err(e),
            }
        }
    }
}

/// What a message of the subscription says; none for what is not asked about.
pub fn change_of(message: &Message<'_>) -> Option<Change> {
    let message = message.value()?;
    match &message {
        RouteNetlinkMessage::NewLink(_) => link_of(&message).map(Change::Link),
        RouteNetlinkMessage::DelLink(m) => Some(Change::LinkGone { index: m.header.index }),
        RouteNetlinkMessage::DelAddress(_) => address_of(&message).map(Change::AddressGone),
        _ => None,
    }
}
