//! Persistent reservations of a block device: the ioctls of `<linux/pr.h>`, which serve SCSI, NVMe and multipath alike.
//!
//! Reading back (keys, holder) has ioctls of its own only since Linux 6.19; before that [`sg`] asks SCSI devices
//! directly. To an ioctl that they do not know, SCSI drivers answer EINVAL and others ENOTTY.
//!
//! The numbers in this file are the kernel's: type 3 is "write exclusive, registrants only", and a preemption's
//! `old_key` is one's own key, `new_key` the victim's. Any result but 0 is a failure, positive ones included: those are
//! SCSI's or NVMe's own words.

mod sg;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;

use crate::resource::reservation::{Abort, Key, PrFault, Reservation, ReservationKind, Reservations};

/// Keys that are read at one time; a LUN of a cluster has one per node and path.
const KEYS_MAX: usize = 1024;
/// How often a command is repeated that the device answered with "check condition": after a preemption or a reset it
/// first says what has happened ("unit attention"), once, and does nothing.
const ATTENTION_RETRIES: u32 = 3;

const NO_RESERVATIONS: &str = "this device or its driver has no persistent reservations, so that nothing could keep an old owner from writing. Use a \
     LUN of a storage array that has them, or a filesystem with unfenced = true";

/// `PR_FL_IGNORE_KEY`: whatever this node is registered under.
const IGNORE_KEY: u32 = 1;
/// SCSI status "check condition".
const CHECK_CONDITION: i32 = 0x02;
/// SCSI status "reservation conflict".
const SCSI_CONFLICT: i32 = 0x18;
/// NVMe status "reservation conflict", without and with its "do not retry" bit.
const NVME_CONFLICT: [i32; 2] = [0x83, 0x4083];

#[repr(C)]
struct Registration {
    old_key: u64,
    new_key: u64,
    flags: u32,
    pad: u32,
}

#[repr(C)]
struct Reserving {
    key: u64,
    kind: u32,
    flags: u32,
}

#[repr(C)]
struct Preemption {
    own: u64,
    victim: u64,
    kind: u32,
    flags: u32,
}

#[repr(C)]
struct Clearing {
    key: u64,
    flags: u32,
    pad: u32,
}

#[repr(C)]
struct ReadKeys {
    generation: u32,
    count: u32,
    keys: u64,
}

#[repr(C)]
struct ReadReservation {
    key: u64,
    generation: u32,
    kind: u32,
}

mod call {
    use nix::{ioctl_read, ioctl_readwrite, ioctl_write_ptr};

    ioctl_write_ptr!(register, b'p', 200, super::Registration);
    ioctl_write_ptr!(reserve, b'p', 201, super::Reserving);
    ioctl_write_ptr!(release, b'p', 202, super::Reserving);
    ioctl_write_ptr!(preempt, b'p', 203, super::Preemption);
    ioctl_write_ptr!(preempt_abort, b'p', 204, super::Preemption);
    ioctl_write_ptr!(clear, b'p', 205, super::Clearing);
    ioctl_readwrite!(read_keys, b'p', 206, super::ReadKeys);
    ioctl_read!(read_reservation, b'p', 207, super::ReadReservation);
}

/// A block device, open for commands. May hang in the kernel at any call if its device does.
#[derive(Debug)]
pub struct BlockDevice {
    file: File,
    path: PathBuf,
}

impl BlockDevice {
    /// Opens it, without claiming it: it may be mounted.
    ///
    /// # Errors
    /// As the system says; `InvalidInput` if it is no block device.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Without O_NONBLOCK a device whose medium is gone says so now.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_CLOEXEC).open(path)?;
        if !file.metadata()?.file_type().is_block_device() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a block device"));
        }
        Ok(Self { file, path: path.to_owned() })
    }

    /// As it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives a command until the device does more than to call for attention.
    fn command(&self, what: &'static str, call: impl Fn(RawFd) -> nix::Result<i32>) -> Result<(), PrFault> {
        let mut result = call(self.file.as_raw_fd());
        for _ in 0..ATTENTION_RETRIES {
            if result != Ok(CHECK_CONDITION) {
                break;
            }
            result = call(self.file.as_raw_fd());
        }
        judge(what, result)
    }
}

/// What a result of the kernel means.
fn judge(what: &'static str, result: nix::Result<i32>) -> Result<(), PrFault> {
    let failed = |why: String| Err(PrFault::Failed { what, why });
    let unsupported = |why: &str| Err(PrFault::Unsupported { what, why: why.to_owned() });
    match result {
        Ok(0) => Ok(()),
        Ok(status) if is_conflict(status) => Err(PrFault::Conflict { what }),
        Ok(CHECK_CONDITION) => {
            failed("the device does not accept it (check condition); see the kernel's log (dmesg)".to_owned())
        }
        Ok(status) => failed(format!("the device answered with status {status:#x}; see the kernel's log (dmesg)")),
        Err(Errno::EOPNOTSUPP | Errno::ENOTTY) => unsupported(NO_RESERVATIONS),
        Err(Errno::EPERM) => unsupported(
            "refused (EPERM): persistent reservations are for whole devices, and for a keeper that runs as root. Name \
             the LUN itself, not a partition of it",
        ),
        // What older kernels make of a conflict.
        Err(Errno::EBADE) => Err(PrFault::Conflict { what }),
        Err(errno) => failed(errno.desc().to_owned()),
    }
}

fn is_conflict(status: i32) -> bool {
    status & 0xFF == SCSI_CONFLICT || NVME_CONFLICT.contains(&status)
}

impl Reservations for BlockDevice {
    fn register(&mut self, key: Key) -> Result<(), PrFault> {
        let registration = Registration { old_key: 0, new_key: key.0, flags: IGNORE_KEY, pad: 0 };
        // SAFETY: the kernel reads the structure during the call.
        self.command("register", |fd| unsafe { call::register(fd, &registration) })
    }

    fn unregister(&mut self, key: Key) -> Result<(), PrFault> {
        let registration = Registration { old_key: key.0, new_key: 0, flags: 0, pad: 0 };
        // SAFETY: as above.
        self.command("unregister", |fd| unsafe { call::register(fd, &registration) })
    }

    fn reserve(&mut self, key: Key) -> Result<(), PrFault> {
        // SAFETY: as above.
        self.command("reserve", |fd| unsafe { call::reserve(fd, &reserving(key)) })
    }

    fn release(&mut self, key: Key) -> Result<(), PrFault> {
        // SAFETY: as above.
        self.command("release", |fd| unsafe { call::release(fd, &reserving(key)) })
    }

    fn preempt(&mut self, own: Key, victim: Key, abort: Abort) -> Result<(), PrFault> {
        let kind = ReservationKind::WriteExclusiveRegistrantsOnly as u32;
        let preemption = Preemption { own: own.0, victim: victim.0, kind, flags: 0 };
        match abort {
            // SAFETY: as above.
            Abort::Yes => self.command("preempt and abort", |fd| unsafe { call::preempt_abort(fd, &preemption) }),
            // SAFETY: as above.
            Abort::No => self.command("preempt", |fd| unsafe { call::preempt(fd, &preemption) }),
        }
    }

    fn clear(&mut self, key: Key) -> Result<(), PrFault> {
        let clearing = Clearing { key: key.0, flags: 0, pad: 0 };
        // SAFETY: as above.
        self.command("clear", |fd| unsafe { call::clear(fd, &clearing) })
    }

    fn keys(&mut self) -> Result<Vec<Key>, PrFault> {
        const WHAT: &str = "read the keys";
        let mut keys = vec![0_u64; KEYS_MAX];
        let mut asked = ReadKeys { generation: 0, count: KEYS_MAX as u32, keys: keys.as_mut_ptr() as u64 };
        // SAFETY: the kernel writes to the structure and at most `count` keys where it points, during the call.
        match unsafe { call::read_keys(self.file.as_raw_fd(), &mut asked) } {
            Err(Errno::ENOTTY | Errno::EINVAL) => return sg::keys(&self.file, KEYS_MAX),
            other => judge(WHAT, other)?,
        }
        let count = asked.count as usize;
        if count > KEYS_MAX {
            return Err(too_many(WHAT, count));
        }
        Ok(keys[..count].iter().copied().map(Key).collect())
    }

    fn reservation(&mut self) -> Result<Option<Reservation>, PrFault> {
        const WHAT: &str = "read the reservation";
        let mut read = ReadReservation { key: 0, generation: 0, kind: 0 };
        // SAFETY: the kernel writes to the structure during the call.
        match unsafe { call::read_reservation(self.file.as_raw_fd(), &mut read) } {
            Err(Errno::ENOTTY | Errno::EINVAL) => return sg::reservation(&self.file),
            other => judge(WHAT, other)?,
        }
        if read.kind == 0 {
            return Ok(None);
        }
        let kind = ReservationKind::of_linux(read.kind).ok_or_else(|| unknown_kind(read.kind))?;
        Ok(Some(Reservation { key: Key(read.key), kind }))
    }
}

fn reserving(key: Key) -> Reserving {
    Reserving { key: key.0, kind: ReservationKind::WriteExclusiveRegistrantsOnly as u32, flags: 0 }
}

fn too_many(what: &'static str, count: usize) -> PrFault {
    let why = format!("{count} keys are registered, more than {KEYS_MAX}; see who they belong to with sg_persist");
    PrFault::Failed { what, why }
}

fn unknown_kind(kind: u32) -> PrFault {
    PrFault::Failed { what: "read the reservation", why: format!("it is of an unknown type {kind}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<Registration>(), 24);
        assert_eq!(size_of::<Reserving>(), 16);
        assert_eq!(size_of::<Preemption>(), 24);
        assert_eq!(size_of::<Clearing>(), 16);
        assert_eq!(size_of::<ReadKeys>(), 16);
        assert_eq!(size_of::<ReadReservation>(), 16);
    }

    #[test]
    fn every_result_but_zero_is_a_failure_and_a_conflict_is_told_from_the_others() {
        assert_eq!(judge("x", Ok(0)), Ok(()));
        for conflict in [Ok(0x18), Ok(0x83), Ok(0x4083), Err(Errno::EBADE)] {
            assert!(matches!(judge("x", conflict), Err(PrFault::Conflict { .. })), "{conflict:?}");
        }
        for failed in [Ok(1), Ok(2), Ok(-1), Ok(0x1_0000), Err(Errno::EIO), Err(Errno::EINVAL)] {
            assert!(matches!(judge("x", failed), Err(PrFault::Failed { .. })), "{failed:?}");
        }
        for (errno, word) in [(Errno::EOPNOTSUPP, "no persistent reservations"), (Errno::EPERM, "partition")] {
            let told = judge("x", Err(errno)).unwrap_err().to_string();
            assert!(told.contains(word), "{told}");
        }
    }

    #[test]
    fn what_is_no_block_device_is_refused_before_any_command() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(BlockDevice::open(file.path()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
