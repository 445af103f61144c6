//! Local sockets that keep message boundaries and carry descriptors and process ids, for the keeper and its leashes.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::PassCred;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixCredentials, recvmsg,
    sendmsg, setsockopt, socketpair,
};
use nix::unistd::{Pid, getegid, geteuid};

/// Largest message, in bytes; the kernel's default buffer holds one.
pub const PACKET_MAX_BYTES: usize = 128 << 10;
/// Most descriptors in one message.
pub const FDS_MAX: usize = 3;

/// One end of a pair. Sending and receiving are told each time whether they may wait.
#[derive(Debug)]
pub struct Packets(OwnedFd);

/// A message as received.
#[derive(Debug)]
pub struct Packet {
    /// Its content.
    pub bytes: Vec<u8>,
    /// Descriptors that came with it.
    pub fds: Vec<OwnedFd>,
    /// The process it names (or its sender), translated by the kernel into this process's PID namespace; only on ends
    /// that [`Packets::name_senders`].
    pub pid: Option<Pid>,
}

/// May a call wait?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until it can be done.
    Forever,
    /// Not at all: EAGAIN.
    No,
}

impl Wait {
    fn flags(self) -> MsgFlags {
        match self {
            Wait::Forever => MsgFlags::empty(),
            Wait::No => MsgFlags::MSG_DONTWAIT,
        }
    }
}

impl Packets {
    /// Two connected ends, closed at exec.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn pair() -> Result<(Self, Self), Errno> {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(a), Self(b)))
    }

    /// Takes over a descriptor.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Lets the kernel say on this end which process each message comes from.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn name_senders(&self) -> Result<(), Errno> {
        setsockopt(&self.0, PassCred, &true)
    }

    /// Sends one message, with descriptors, and with another process's number instead of ours if `pid` says so (for
    /// which the sender needs to be root of its PID namespace).
    ///
    /// # Errors
    /// EAGAIN if it may not wait and would have to; EPIPE if the other end is closed; EMSGSIZE if it is too large.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>], pid: Option<Pid>, wait: Wait) -> Result<(), Errno> {
        let raw: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
        let who = pid.map(|pid| {
            let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
            UnixCredentials::from(libc::ucred { pid: pid.as_raw(), uid, gid })
        });
        let mut extra = Vec::with_capacity(2);
        if !raw.is_empty() {
            extra.push(ControlMessage::ScmRights(&raw));
        }
        if let Some(who) = &who {
            extra.push(ControlMessage::ScmCredentials(who));
        }
        let flags = wait.flags() | MsgFlags::MSG_NOSIGNAL;
        loop {
            match sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(bytes)], &extra, flags, None) {
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// Receives one message; none when the other end is closed and everything has been read.
    ///
    /// # Errors
    /// EAGAIN if it may not wait and there is nothing; EMSGSIZE for a message that was cut off.
    pub fn receive(&self, wait: Wait) -> Result<Option<Packet>, Errno> {
        let mut bytes = vec![0; PACKET_MAX_BYTES];
        let mut space = cmsg_space!([RawFd; FDS_MAX], UnixCredentials);
        let flags = wait.flags() | MsgFlags::MSG_CMSG_CLOEXEC;
        let mut into = [IoSliceMut::new(&mut bytes)];
        let got = loop {
            match recvmsg::<()>(self.0.as_raw_fd(), &mut into, Some(&mut space), flags) {
                // The other end was closed with something of ours unread. That is told once, before what it had sent.
                Err(Errno::EINTR | Errno::ECONNRESET) => continue,
                other => break other?,
            }
        };
        let (mut fds, mut pid) = (Vec::new(), None);
        for message in got.cmsgs()? {
            match message {
                // SAFETY: the kernel has just made these descriptors for us.
                ControlMessageOwned::ScmRights(raw) => {
                    fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                }
                ControlMessageOwned::ScmCredentials(who) => pid = Some(Pid::from_raw(who.pid())),
                _ => {}
            }
        }
        if got.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
            return Err(Errno::EMSGSIZE);
        }
        let length = got.bytes;
        if length == 0 {
            return Ok(None);
        }
        bytes.truncate(length);
        Ok(Some(Packet { bytes, fds, pid }))
    }
}

impl AsFd for Packets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Packets> for OwnedFd {
    fn from(packets: Packets) -> OwnedFd {
        packets.0
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    #[test]
    fn boundaries_descriptors_and_process_ids_come_through() {
        let (ours, theirs) = Packets::pair().unwrap();
        theirs.name_senders().unwrap();
        let file = File::open("/proc/self/stat").unwrap();
        ours.send(b"one", &[file.as_fd()], Some(nix::unistd::getpid()), Wait::No).unwrap();
        ours.send(b"two", &[], None, Wait::No).unwrap();
        let one = theirs.receive(Wait::No).unwrap().unwrap();
        assert_eq!((one.bytes.as_slice(), one.pid), (b"one".as_slice(), Some(nix::unistd::getpid())));
        let mut text = String::new();
        File::from(one.fds.into_iter().next().unwrap()).read_to_string(&mut text).unwrap();
        assert!(text.starts_with(&std::process::id().to_string()));
        assert_eq!(theirs.receive(Wait::No).unwrap().unwrap().bytes, b"two");
        assert_eq!(theirs.receive(Wait::No).unwrap_err(), Errno::EAGAIN);
    }

    #[test]
    fn last_words_come_through_although_their_sender_did_not_read_ours() {
        let (ours, theirs) = Packets::pair().unwrap();
        ours.send(b"a later deadline", &[], None, Wait::No).unwrap();
        theirs.send(b"done", &[], None, Wait::No).unwrap();
        drop(theirs);
        assert_eq!(ours.receive(Wait::No).unwrap().unwrap().bytes, b"done");
        assert!(ours.receive(Wait::No).unwrap().is_none());
    }

    #[test]
    fn a_closed_end_is_an_end_for_reading_and_an_error_for_writing() {
        let (ours, theirs) = Packets::pair().unwrap();
        ours.send(b"last", &[], None, Wait::No).unwrap();
        drop(ours);
        assert_eq!(theirs.receive(Wait::No).unwrap().unwrap().bytes, b"last");
        // A process that another test has forked has a copy of the closed end until its exec.
        assert!(theirs.receive(Wait::Forever).unwrap().is_none());
        assert_eq!(theirs.send(b"x", &[], None, Wait::No), Err(Errno::EPIPE));
    }

    #[test]
    fn the_largest_message_fits_the_kernels_buffer() {
        let (ours, theirs) = Packets::pair().unwrap();
        ours.send(&vec![7; PACKET_MAX_BYTES], &[], None, Wait::No).unwrap();
        assert_eq!(theirs.receive(Wait::No).unwrap().unwrap().bytes.len(), PACKET_MAX_BYTES);
    }
}
