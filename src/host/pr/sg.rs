//! PERSISTENT RESERVE IN through SG_IO, for kernels before 6.19, which have no ioctl to read keys and holder. It serves
//! SCSI devices and multipath maps of them; for NVMe there is nothing like it.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::libc::{c_int, c_uchar, c_uint, c_ushort, c_void};
use nix::sys::stat::{major, minor};

use super::{SCSI_CONFLICT, too_many, unknown_kind};
use crate::resource::reservation::{Key, PrFault, Reservation, ReservationKind};

/// The operation code.
const PERSISTENT_RESERVE_IN: u8 = 0x5E;
const READ_KEYS: u8 = 0x00;
const READ_RESERVATION: u8 = 0x01;
/// Generation and length, before every answer's list.
const HEADER_BYTES: usize = 8;
/// One reservation in an answer.
const DESCRIPTOR_BYTES: usize = 16;
/// Where its scope and type are.
const TYPE_AT: usize = HEADER_BYTES + 13;
/// How long the device may take, in milliseconds.
const TIMEOUT_MS: c_uint = 10_000;
/// "Unit attention": the device says what has happened to it, once, and does nothing else.
const UNIT_ATTENTION: u8 = 6;
const ATTENTION_RETRIES: u32 = 3;
const FROM_DEVICE: c_int = -3;
const SENSE_BYTES: usize = 32;

/// `struct sg_io_hdr`.
#[repr(C)]
struct SgIo {
    interface: c_int,
    direction: c_int,
    command_bytes: c_uchar,
    sense_bytes_max: c_uchar,
    pieces: c_ushort,
    bytes: c_uint,
    buffer: *mut c_void,
    command: *mut c_uchar,
    sense: *mut c_uchar,
    timeout_ms: c_uint,
    flags: c_uint,
    pack_id: c_int,
    user: *mut c_void,
    status: c_uchar,
    masked_status: c_uchar,
    message_status: c_uchar,
    sense_bytes: c_uchar,
    host_status: c_ushort,
    driver_status: c_ushort,
    residual: c_int,
    duration_ms: c_uint,
    outcome: c_uint,
}

nix::ioctl_readwrite_bad!(sg_io, 0x2285, SgIo);

/// Every registration's key.
pub(super) fn keys(device: &File, keys_max: usize) -> Result<Vec<Key>, PrFault> {
    const WHAT: &str = "read the keys";
    let answer = ask(device, WHAT, READ_KEYS, HEADER_BYTES + keys_max * size_of::<u64>())?;
    let list = list_of(&answer);
    if list > answer.len() - HEADER_BYTES {
        return Err(too_many(WHAT, list / size_of::<u64>()));
    }
    Ok(read_keys(&answer))
}

/// The reservation, if there is one.
pub(super) fn reservation(device: &File) -> Result<Option<Reservation>, PrFault> {
    let answer = ask(device, "read the reservation", READ_RESERVATION, HEADER_BYTES + DESCRIPTOR_BYTES)?;
    read_reservation(&answer)
}

/// How many bytes follow the header, as the answer says.
fn list_of(answer: &[u8]) -> usize {
    number(&answer[4..HEADER_BYTES]) as usize
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn read_keys(answer: &[u8]) -> Vec<Key> {
    let list = &answer[HEADER_BYTES..HEADER_BYTES + list_of(answer)];
    list.chunks_exact(size_of::<u64>()).map(|key| Key(number(key))).collect()
}

fn read_reservation(answer: &[u8]) -> Result<Option<Reservation>, PrFault> {
    if list_of(answer) < DESCRIPTOR_BYTES {
        return Ok(None);
    }
    let kind = answer[TYPE_AT] & 0x0F;
    let kind = ReservationKind::of_scsi(kind).ok_or_else(|| unknown_kind(kind.into()))?;
    Ok(Some(Reservation { key: Key(number(&answer[HEADER_BYTES..HEADER_BYTES + 8])), kind }))
}

fn ask(device: &File, what: &'static str, action: u8, bytes: usize) -> Result<Vec<u8>, PrFault> {
    let mut answer = vec![0; bytes];
    for _ in 0..=ATTENTION_RETRIES {
        match ask_once(device, what, action, &mut answer)? {
            Said::Answer => return Ok(answer),
            Said::Attention => {}
        }
    }
    Err(PrFault::Failed { what, why: "the device calls for attention again and again".to_owned() })
}

enum Said {
    Answer,
    Attention,
}

fn ask_once(device: &File, what: &'static str, action: u8, answer: &mut [u8]) -> Result<Said, PrFault> {
    let length = u16::try_from(answer.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut command = [PERSISTENT_RESERVE_IN, action, 0, 0, 0, 0, 0, length[0], length[1], 0];
    let mut sense = [0_u8; SENSE_BYTES];
    // SAFETY: all zeroes is a valid value of this plain structure.
    let mut io: SgIo = unsafe { std::mem::zeroed() };
    io.interface = c_int::from(b'S');
    io.direction = FROM_DEVICE;
    io.command_bytes = command.len() as c_uchar;
    io.sense_bytes_max = SENSE_BYTES as c_uchar;
    io.bytes = answer.len() as c_uint;
    io.buffer = answer.as_mut_ptr().cast();
    io.command = command.as_mut_ptr();
    io.sense = sense.as_mut_ptr();
    io.timeout_ms = TIMEOUT_MS;
    // SAFETY: every pointer is to a buffer of the length beside it, which outlives the call.
    let done = unsafe { sg_io(device.as_raw_fd(), &mut io) };
    let failed = |why: String| Err(PrFault::Failed { what, why });
    match done {
        Err(Errno::ENOTTY | Errno::EOPNOTSUPP | Errno::EINVAL) if is_nvme(device) => Err(PrFault::Unsupported {
            what,
            why: "for NVMe this takes Linux 6.19: an older kernel cannot read back who has reserved a device"
                .to_owned(),
        }),
        Err(Errno::ENOTTY | Errno::EOPNOTSUPP | Errno::EINVAL) => {
            Err(PrFault::Unsupported { what, why: super::NO_RESERVATIONS.to_owned() })
        }
        Err(errno) => failed(errno.desc().to_owned()),
        Ok(_) if io.host_status != 0 => failed(format!("the path to the device failed ({:#x})", io.host_status)),
        Ok(_) if io.status == 0 => Ok(Said::Answer),
        Ok(_) if sense_key(&sense) == UNIT_ATTENTION => Ok(Said::Attention),
        Ok(_) if i32::from(io.status) == SCSI_CONFLICT => Err(PrFault::Conflict { what }),
        Ok(_) => failed(format!(
            "the device answered with status {:#x}, sense key {:#x}; it may have no persistent reservations",
            io.status,
            sense_key(&sense)
        )),
    }
}

fn is_nvme(device: &File) -> bool {
    let number = device.metadata().map(|file| file.rdev()).unwrap_or_default();
    let link = format!("/sys/dev/block/{}:{}", major(number), minor(number));
    fs::read_link(link).is_ok_and(|path| path.to_string_lossy().contains("/nvme"))
}

/// What a failed command is about, in either of the two formats.
fn sense_key(sense: &[u8; SENSE_BYTES]) -> u8 {
    match sense[0] & 0x7F {
        0x70 | 0x71 => sense[2] & 0x0F,
        0x72 | 0x73 => sense[1] & 0x0F,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers as SPC prints them: generation, additional length, then the list.
    fn answer(list: &[u8]) -> Vec<u8> {
        let mut all = vec![0, 0, 0, 7];
        all.extend((list.len() as u32).to_be_bytes());
        all.extend(list);
        all
    }

    #[test]
    fn keys_are_read_in_big_endian() {
        let mut list = 0xB708_0300_0000_0007_u64.to_be_bytes().to_vec();
        list.extend(1_u64.to_be_bytes());
        let mut raw = answer(&list);
        raw.extend([0xFF; 64]);
        assert_eq!(read_keys(&raw), [Key(0xB708_0300_0000_0007), Key(1)]);
        assert_eq!(read_keys(&answer(&[])), []);
    }

    #[test]
    fn the_holder_and_its_kind_are_read() {
        let mut descriptor = 9_u64.to_be_bytes().to_vec();
        descriptor.extend([0, 0, 0, 0, 0, 0x05, 0, 0]);
        let kind = ReservationKind::WriteExclusiveRegistrantsOnly;
        assert_eq!(read_reservation(&answer(&descriptor)), Ok(Some(Reservation { key: Key(9), kind })));
        assert_eq!(read_reservation(&answer(&[])), Ok(None));
        descriptor[13] = 0x0F;
        assert!(read_reservation(&answer(&descriptor)).is_err());
    }

    #[test]
    fn the_structure_has_the_kernels_size_and_sense_is_read_in_both_formats() {
        assert_eq!(size_of::<SgIo>(), if cfg!(target_pointer_width = "64") { 88 } else { 64 });
        let mut fixed = [0; SENSE_BYTES];
        (fixed[0], fixed[2]) = (0x70, 0x06);
        let mut descriptor = [0; SENSE_BYTES];
        (descriptor[0], descriptor[1]) = (0x72, 0x06);
        assert_eq!((sense_key(&fixed), sense_key(&descriptor)), (UNIT_ATTENTION, UNIT_ATTENTION));
    }
}
