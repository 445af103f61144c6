//! Notices when someone else changes our tables: `nft flush ruleset` opens the guard, and nothing but this says so.

use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::NlasIterator;
use nix::errno::Errno;
use socket2::{SockFilter, SockRef};

use super::TABLE;
use crate::host::netlink::NetlinkError;
use crate::host::netlink::socket::{Message, Protocol, Socket};

/// Multicast group of ruleset changes.
const NFNLGRP_NFTABLES: u32 = 7;
/// Subsystem number in the upper byte of a message's type.
const NFTABLES_SUBSYSTEM: u16 = 10;
/// `NFT_MSG_NEWGEN`: a transaction took place; it names no table.
const NEW_GENERATION: u16 = 15;
/// Length of `struct nfgenmsg`.
const FAMILY_HEADER_BYTES: usize = 4;
/// In every message of nftables the first attribute is the table's name.
const TABLE_NAME: u16 = 1;
/// Offset of the port number in a netlink header.
const PORT_OFFSET: u32 = 12;

/// A subscription to changes of the ruleset made through other sockets than our own.
#[derive(Debug)]
pub struct RulesetWatch {
    socket: Socket,
}

impl AsFd for RulesetWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl RulesetWatch {
    /// Subscribes. Transactions of the sockets with these ports are filtered out by the kernel: every renewal is one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open(own_ports: &[u32]) -> Result<Self, NetlinkError> {
        let socket = Socket::subscribe(Protocol::Netfilter, &[])?;
        SockRef::from(&socket).attach_filter(&filter(own_ports)).map_err(|e| NetlinkError::Open {
            what: "nftables",
            errno: Errno::from_raw(e.raw_os_error().unwrap_or(0)),
        })?;
        socket.join(NFNLGRP_NFTABLES)?;
        Ok(Self { socket })
    }

    /// True when one of our tables may have been changed by someone else since the last call, or the kernel had to
    /// drop events.
    ///
    /// # Errors
    /// When the socket fails for good.
    pub fn touched(&mut self) -> Result<bool, NetlinkError> {
        let mut touched = false;
        loop {
            let read = self.socket.next_datagram("watch the ruleset", |message| {
                touched |= concerns_us(&message);
                Ok(())
            });
            match read {
                Ok(true) => {}
                Ok(false) => return Ok(touched),
                Err(NetlinkError::Transport { errno: Errno::ENOBUFS, .. }) => touched = true,
                Err(e) => return Err(e),
            }
        }
    }
}

/// Whether a message says that one of our tables was changed.
pub fn concerns_us(message: &Message<'_>) -> bool {
    if message.kind >> 8 != NFTABLES_SUBSYSTEM || message.kind & 0xff == NEW_GENERATION {
        return false;
    }
    let attributes = message.payload.get(FAMILY_HEADER_BYTES..).unwrap_or_default();
    NlasIterator::new(attributes).flatten().any(|attribute| {
        attribute.kind() == TABLE_NAME && attribute.value().strip_suffix(&[0]) == Some(TABLE.as_bytes())
    })
}

/// Classic BPF: drop datagrams whose first message was caused by one of these ports, take all others. One datagram
/// only ever holds messages of one transaction.
fn filter(own_ports: &[u32]) -> Vec<SockFilter> {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let mut program = vec![SockFilter::new(LOAD_WORD, 0, 0, PORT_OFFSET)];
    let ports = u8::try_from(own_ports.len()).unwrap_or(u8::MAX);
    for (at, port) in (0..ports).zip(own_ports) {
        // BPF loads big-endian; the header is in this machine's order.
        program.push(SockFilter::new(JUMP_IF_EQUAL, ports - at, 0, port.to_be()));
    }
    program.push(SockFilter::new(RETURN, 0, 0, u32::MAX));
    program.push(SockFilter::new(RETURN, 0, 0, 0));
    program
}
