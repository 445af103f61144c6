//! One blocking netlink socket: requests, dumps, subscriptions, and raw exchanges for batches.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket as RawSocket, SocketAddr};
use nix::errno::Errno;

use super::NetlinkError;

/// Largest datagram the kernel builds for us: its dumps stay under 32 KiB.
const RECEIVE_BYTES: usize = 64 << 10;
/// Receive buffer of a subscription; an overflow is reported, never silent.
const SUBSCRIPTION_BYTES: i32 = 1 << 20;
/// A dump interrupted by a change is read again this often at most.
const DUMP_ATTEMPTS_MAX: u32 = 8;

/// Length of a netlink header.
const HEADER_BYTES: usize = 16;
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// The kernel's netlink protocols in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Links and addresses.
    Route,
    /// nftables.
    Netfilter,
    /// Sockets.
    SockDiag,
}

impl Protocol {
    fn number(self) -> isize {
        match self {
            Protocol::Route => netlink_sys::protocols::NETLINK_ROUTE,
            Protocol::Netfilter => netlink_sys::protocols::NETLINK_NETFILTER,
            Protocol::SockDiag => netlink_sys::protocols::NETLINK_SOCK_DIAG,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Protocol::Route => "links and addresses",
            Protocol::Netfilter => "nftables",
            Protocol::SockDiag => "sockets",
        }
    }
}

/// One message as it came: its type, the sequence number it answers, who caused it, and its payload.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Netlink message type.
    pub kind: u16,
    /// Header flags.
    pub flags: u16,
    /// Sequence number.
    pub seq: u32,
    /// Port of the socket that caused it; zero when the kernel did.
    pub port: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl Message<'_> {
    /// For an acknowledgement or error: the error, or none when it is an acknowledgement. Outer none: it is neither.
    pub fn acknowledgement(&self) -> Option<Option<Errno>> {
        if self.kind != NLMSG_ERROR {
            return None;
        }
        let code = self.payload.first_chunk().map_or(libc::EBADMSG, |code| i32::from_ne_bytes(*code).saturating_neg());
        Some((code != 0).then(|| Errno::from_raw(code)))
    }

    /// The message as a value of its protocol; none when this program cannot read it.
    pub fn value<I: NetlinkDeserializable>(&self) -> Option<I> {
        let mut header = NetlinkHeader::default();
        header.message_type = self.kind;
        I::deserialize(&header, self.payload).ok()
    }
}

/// An open netlink socket in the network namespace of the thread that opened it.
pub struct Socket {
    raw: RawSocket,
    port: u32,
    seq: u32,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("netlink::Socket").field("port", &self.port).field("seq", &self.seq).finish_non_exhaustive()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}

impl Socket {
    /// Opens a socket in this thread's network namespace.
    ///
    /// # Errors
    /// When the kernel lacks the protocol or refuses the socket.
    pub fn open(protocol: Protocol) -> Result<Self, NetlinkError> {
        let fail = |e: io::Error| NetlinkError::Open { what: protocol.word(), errno: errno(&e) };
        let mut raw = RawSocket::new(protocol.number()).map_err(fail)?;
        let port = raw.bind_auto().map_err(fail)?.port_number();
        raw.set_non_blocking(true).map_err(fail)?;
        // Errors then carry only the refused message's header, not a copy of it.
        raw.set_cap_ack(true).map_err(fail)?;
        Ok(Self { raw, port, seq: 0, buffer: Vec::with_capacity(RECEIVE_BYTES) })
    }

    /// Opens a socket that hears these multicast groups; wait for it in `poll` and call [`Socket::next_datagram`].
    ///
    /// # Errors
    /// As [`Socket::open`].
    pub fn subscribe(protocol: Protocol, groups: &[u32]) -> Result<Self, NetlinkError> {
        let socket = Self::open(protocol)?;
        let fail = |e: io::Error| NetlinkError::Open { what: protocol.word(), errno: errno(&e) };
        socket.raw.set_rx_buf_sz(SUBSCRIPTION_BYTES).map_err(fail)?;
        for group in groups {
            socket.join(*group)?;
        }
        Ok(socket)
    }

    /// Joins a multicast group.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn join(&self, group: u32) -> Result<(), NetlinkError> {
        let fail = |e: io::Error| NetlinkError::Open { what: "events", errno: errno(&e) };
        self.raw.add_membership(group).map_err(fail)
    }

    /// The port the kernel gave this socket; events caused by its requests carry it.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// The next `count` sequence numbers; returns the first.
    pub fn take_seqs(&mut self, count: u32) -> u32 {
        let first = self.seq.wrapping_add(1);
        self.seq = self.seq.wrapping_add(count);
        first
    }

    /// Sends bytes that already are netlink messages.
    ///
    /// # Errors
    /// When the kernel does not take them; nothing was done then.
    pub fn send(&mut self, what: &str, bytes: &[u8]) -> Result<(), NetlinkError> {
        let kernel = SocketAddr::new(0, 0);
        loop {
            match self.raw.send_to(bytes, &kernel, 0) {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(transport(what, "send", &e)),
            }
        }
    }

    /// Calls `each` for every message of the next waiting datagram; false when none waits.
    ///
    /// # Errors
    /// ENOBUFS when a subscription overflowed: events were lost.
    pub fn next_datagram(
        &mut self,
        what: &str,
        each: impl FnMut(Message<'_>) -> Result<(), NetlinkError>,
    ) -> Result<bool, NetlinkError> {
        loop {
            self.buffer.clear();
            match self.raw.recv(&mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(_) => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(transport(what, "receive", &e)),
            }
        }
        messages(&self.buffer, what, each)?;
        Ok(true)
    }

    /// Asks for a change and takes the acknowledgement.
    ///
    /// # Errors
    /// [`NetlinkError::Refused`] with the kernel's errno; nothing changed then.
    pub fn request<I: NetlinkSerializable + Into<NetlinkPayload<I>>>(
        &mut self,
        what: &str,
        message: I,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        let seq = self.submit(what, message, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        let mut answer = None;
        while answer.is_none() {
            let more = self.next_datagram(what, |message| {
                if message.seq == seq && answer.is_none() {
                    answer = message.acknowledgement();
                }
                Ok(())
            })?;
            if !more {
                return Err(NetlinkError::Malformed { what: what.into(), why: "the kernel did not answer".into() });
            }
        }
        match answer.flatten() {
            None => Ok(()),
            Some(errno) => Err(NetlinkError::Refused { what: what.into(), errno }),
        }
    }

    /// Lists everything of a kind. Messages that this program cannot read are left out.
    ///
    /// # Errors
    /// When the kernel refuses, or changes keep interrupting the listing.
    pub fn dump<I>(&mut self, what: &str, message: &I) -> Result<Vec<I>, NetlinkError>
    where
        I: NetlinkSerializable + NetlinkDeserializable + Clone + Into<NetlinkPayload<I>>,
    {
        for _ in 0..DUMP_ATTEMPTS_MAX {
            let seq = self.submit(what, message.clone(), NLM_F_REQUEST | NLM_F_DUMP)?;
            if let Some(found) = self.collect(what, seq)? {
                return Ok(found);
            }
        }
        Err(NetlinkError::Malformed { what: what.into(), why: "changes kept interrupting the listing".into() })
    }

    /// None when the dump was interrupted by a change.
    fn collect<I: NetlinkDeserializable>(&mut self, what: &str, seq: u32) -> Result<Option<Vec<I>>, NetlinkError> {
        let (mut found, mut done, mut interrupted) = (Vec::new(), false, false);
        while !done {
            let more = self.next_datagram(what, |message| {
                if message.seq != seq {
                    return Ok(());
                }
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                if let Some(answer) = message.acknowledgement() {
                    done = true;
                    return match answer {
                        None => Ok(()),
                        Some(errno) => Err(NetlinkError::Refused { what: what.into(), errno }),
                    };
                }
                match message.kind {
                    NLMSG_DONE => done = true,
                    NLMSG_NOOP => {}
                    _ => found.extend(message.value::<I>()),
                }
                Ok(())
            })?;
            if !more && !done {
                return Err(NetlinkError::Malformed { what: what.into(), why: "the listing has no end".into() });
            }
        }
        Ok((!interrupted).then_some(found))
    }

    fn submit<I: NetlinkSerializable + Into<NetlinkPayload<I>>>(
        &mut self,
        what: &str,
        message: I,
        flags: u16,
    ) -> Result<u32, NetlinkError> {
        let seq = self.take_seqs(1);
        let bytes = encode(message, flags, seq);
        self.send(what, &bytes)?;
        Ok(seq)
    }
}

/// A message with its header, as bytes.
pub fn encode<I: NetlinkSerializable + Into<NetlinkPayload<I>>>(message: I, flags: u16, seq: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = seq;
    let mut packet = NetlinkMessage::new(header, message.into());
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    bytes
}

/// Calls `each` for every message of a datagram.
///
/// # Errors
/// A message is cut off, or what `each` says.
pub fn messages(
    mut rest: &[u8],
    what: &str,
    mut each: impl FnMut(Message<'_>) -> Result<(), NetlinkError>,
) -> Result<(), NetlinkError> {
    while !rest.is_empty() {
        let packet = NetlinkBuffer::new_checked(rest)
            .map_err(|e| NetlinkError::Malformed { what: what.into(), why: e.to_string() })?;
        let length = packet.length() as usize;
        each(Message {
            kind: packet.message_type(),
            flags: packet.flags(),
            seq: packet.sequence_number(),
            port: packet.port_number(),
            payload: &rest[HEADER_BYTES..length],
        })?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(())
}

fn errno(e: &io::Error) -> Errno {
    Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO))
}

fn transport(what: &str, act: &'static str, e: &io::Error) -> NetlinkError {
    NetlinkError::Transport { what: what.into(), act, errno: errno(e) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_of_a_datagram_is_seen_and_a_torn_one_is_an_error() {
        let mut bytes = Vec::new();
        for (kind, payload) in [(16_u16, &[1_u8, 2, 3][..]), (17, &[][..])] {
            bytes.extend((16 + u32::try_from(payload.len()).unwrap()).to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(0_u16.to_ne_bytes());
            bytes.extend(7_u32.to_ne_bytes());
            bytes.extend(9_u32.to_ne_bytes());
            bytes.extend(payload);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let mut seen = Vec::new();
        messages(&bytes, "test", |m| {
            seen.push((m.kind, m.seq, m.port, m.payload.to_vec()));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [(16, 7, 9, vec![1, 2, 3]), (17, 7, 9, vec![])]);
        assert!(messages(&bytes[..bytes.len() - 3], "test", |_| Ok(())).is_err());
    }

    #[test]
    fn an_acknowledgement_is_told_from_an_error_and_from_other_messages() {
        let of = |kind, code: i32| {
            let mut payload = code.to_ne_bytes().to_vec();
            payload.resize(20, 0);
            Message { kind, flags: 0, seq: 1, port: 1, payload: &payload }.acknowledgement()
        };
        assert_eq!(of(NLMSG_ERROR, 0), Some(None));
        assert_eq!(of(NLMSG_ERROR, -libc::ENOENT), Some(Some(Errno::ENOENT)));
        assert_eq!(of(16, 0), None);
    }
}
