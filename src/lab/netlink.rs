//! Blocking netlink: send one batch of requests, read an acknowledgement for each that asked for one.

use std::io::{Error, ErrorKind, Result};
use std::os::fd::AsRawFd;

use netlink_packet_core::{NLM_F_ACK, NetlinkMessage, NetlinkSerializable};
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

/// The kernel answers at once or, in a module being loaded, after a while; never later than this.
const ANSWER_LIMIT_S: i64 = 10;
const HEADER_BYTES: usize = 16;
const NLMSG_ERROR: u16 = 2;

/// Sends `messages` as one datagram to the `protocol` family of the caller's network namespace and waits until every
/// message flagged NLM_F_ACK is acknowledged. The first refusal is the error.
pub(super) fn request<M: NetlinkSerializable>(protocol: isize, messages: Vec<NetlinkMessage<M>>) -> Result<()> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    setsockopt(&borrowed(&socket), sockopt::ReceiveTimeout, &TimeVal::seconds(ANSWER_LIMIT_S))?;
    let mut datagram = Vec::new();
    let mut awaited = 0_usize;
    for (number, mut message) in (1_u32..).zip(messages) {
        message.header.sequence_number = number;
        awaited += usize::from(message.header.flags & NLM_F_ACK != 0);
        message.finalize();
        let start = datagram.len();
        datagram.resize(start + message.buffer_len(), 0);
        message.serialize(&mut datagram[start..]);
    }
    socket.send_to(&datagram, &SocketAddr::new(0, 0), 0)?;
    while awaited > 0 {
        let (answer, _) = socket.recv_from_full()?;
        awaited = awaited.saturating_sub(acknowledged(&answer)?);
    }
    Ok(())
}

fn borrowed(socket: &Socket) -> std::os::fd::BorrowedFd<'_> {
    // SAFETY: the descriptor is open as long as `socket`, which the result borrows.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}

/// Counts the positive acknowledgements in one datagram; a negative one is the error it carries.
fn acknowledged(mut datagram: &[u8]) -> Result<usize> {
    let short = || Error::new(ErrorKind::InvalidData, "the kernel sent a netlink message shorter than its header says");
    let word = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes).ok_or_else(short)
    };
    let mut count = 0;
    while datagram.len() >= HEADER_BYTES {
        let length = word(datagram, 0)? as usize;
        let kind = u16::from_ne_bytes([datagram[4], datagram[5]]);
        if length < HEADER_BYTES || length > datagram.len() {
            return Err(short());
        }
        if kind == NLMSG_ERROR {
            match word(datagram, HEADER_BYTES)? as i32 {
                0 => count += 1,
                refused => return Err(Error::from_raw_os_error(-refused)),
            }
        }
        datagram = &datagram[length.next_multiple_of(4).min(datagram.len())..];
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(code: i32) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(36_u32.to_ne_bytes());
        bytes.extend(NLMSG_ERROR.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(code.to_ne_bytes());
        bytes.extend([0; 16]);
        bytes
    }

    #[test]
    fn acknowledgements_are_counted_and_a_refusal_is_its_error_number() {
        assert_eq!(acknowledged(&[ack(0), ack(0)].concat()).unwrap(), 2);
        let refused = acknowledged(&[ack(0), ack(-libc::EEXIST)].concat()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EEXIST));
        assert!(acknowledged(&ack(0)[..20]).is_err(), "a truncated answer must not pass for an acknowledgement");
    }
}
