//! The machine's watchdog (`/dev/watchdog`): opened, it resets the machine unless it is petted in time.
//!
//! Closing it stops it only after the magic letter, and not even then where the driver is built or loaded with `nowayout`.
//! A process that dies never writes the letter.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc::{self, c_int};

use crate::package::Millis;

/// The shortest timeout that is used: a driver that cannot bear more would reset healthy machines.
pub const TIMEOUT_MIN: Millis = Millis::from_secs(2);
/// What stops the countdown when the device is closed after it.
const MAGIC_CLOSE: &[u8] = b"V";
/// Anything else only pets.
const PET: &[u8] = b"\0";
/// WDIOF_CARDRESET: the machine's last start came from this watchdog.
const CARD_RESET: c_int = 0x20;

/// Why there is no watchdog. Nothing of it counts down, unless the text says so.
#[derive(Debug, thiserror::Error)]
pub enum WatchdogError {
    /// It cannot be opened.
    #[error("the watchdog {} cannot be opened: {why}. {}", path.display(), advice(why))]
    Open {
        /// The device.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// It is something else.
    #[error("{} is no watchdog: {}", path.display(), why.desc())]
    NoWatchdog {
        /// The device.
        path: PathBuf,
        /// What the system said.
        why: Errno,
    },
    /// Its driver bears too little.
    #[error(
        "the watchdog {} bears {took} at most, and less than {TIMEOUT_MIN} would reset healthy machines; it is not used",
        path.display()
    )]
    TooShort {
        /// The device.
        path: PathBuf,
        /// What its driver took.
        took: Millis,
    },
}

fn advice(why: &io::Error) -> &'static str {
    match Errno::from_raw(why.raw_os_error().unwrap_or_default()) {
        Errno::ENOENT | Errno::ENODEV | Errno::ENXIO => {
            "Load its driver's module; softdog serves machines that have none of their own"
        }
        Errno::EBUSY => "Another process has it: systemd (RuntimeWatchdogSec=), a watchdog daemon, or sbd",
        _ => "See what `wdctl` says of it",
    }
}

/// What a driver can be asked. Its own trait so that tests can be a driver.
pub trait Driver {
    /// Asks for a timeout in seconds; answers what was taken.
    ///
    /// # Errors
    /// As the driver gives them.
    fn set_timeout(&mut self, seconds: c_int) -> Result<c_int, Errno>;
    /// The timeout in seconds.
    ///
    /// # Errors
    /// As the driver gives them.
    fn timeout(&mut self) -> Result<c_int, Errno>;
    /// What the driver knows of the machine's last start, as flags.
    ///
    /// # Errors
    /// As the driver gives them.
    fn boot_status(&mut self) -> Result<c_int, Errno>;
    /// Writes to the device.
    ///
    /// # Errors
    /// As the driver gives them.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()>;
}

mod calls {
    nix::ioctl_read!(boot_status, b'W', 2, nix::libc::c_int);
    nix::ioctl_readwrite!(set_timeout, b'W', 6, nix::libc::c_int);
    nix::ioctl_read!(timeout, b'W', 7, nix::libc::c_int);
}

impl Driver for File {
    fn set_timeout(&mut self, mut seconds: c_int) -> Result<c_int, Errno> {
        // Safety: the call reads and writes one int, which outlives it.
        unsafe { calls::set_timeout(self.as_raw_fd(), &raw mut seconds) }.map(|_| seconds)
    }

    fn timeout(&mut self) -> Result<c_int, Errno> {
        let mut seconds = 0;
        // Safety: the call writes one int, which outlives it.
        unsafe { calls::timeout(self.as_raw_fd(), &raw mut seconds) }.map(|_| seconds)
    }

    fn boot_status(&mut self) -> Result<c_int, Errno> {
        let mut flags = 0;
        // Safety: as above.
        unsafe { calls::boot_status(self.as_raw_fd(), &raw mut flags) }.map(|_| flags)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }
}

/// A watchdog that counts down. Dropped without [`Dog::disarm`] it goes on to do so, as it does when the process dies.
#[derive(Debug)]
pub struct Dog<D = File> {
    driver: D,
    timeout: Millis,
    reset_before: bool,
}

impl Dog {
    /// Opens the device, which begins its countdown, and has it bear `wanted` (rounded up to seconds) or what its driver
    /// makes of that.
    ///
    /// # Errors
    /// It cannot be had; the text says why.
    pub fn open(path: &Path, wanted: Millis) -> Result<Self, WatchdogError> {
        let opened = OpenOptions::new().write(true).custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK).open(path);
        let file = opened.map_err(|why| WatchdogError::Open { path: path.to_owned(), why })?;
        Self::begin(file, path, wanted)
    }
}

/// A driver that cannot be set, or not to this, may still bear something useful.
fn ask(driver: &mut impl Driver, wanted: Millis) -> Result<Millis, Errno> {
    let seconds = c_int::try_from(wanted.0.div_ceil(1000)).unwrap_or(c_int::MAX);
    let took = driver.set_timeout(seconds).or_else(|_refused| driver.timeout())?;
    Ok(Millis::from_secs(u64::try_from(took).unwrap_or_default()))
}

impl<D: Driver> Dog<D> {
    /// Has it bear more; answers what its driver has made of that.
    pub fn stretch(&mut self, wanted: Millis) -> Millis {
        self.timeout = ask(&mut self.driver, wanted).unwrap_or(self.timeout);
        self.timeout
    }

    fn begin(mut driver: D, path: &Path, wanted: Millis) -> Result<Self, WatchdogError> {
        let took = ask(&mut driver, wanted).map_err(|why| WatchdogError::NoWatchdog { path: path.to_owned(), why })?;
        let reset_before = driver.boot_status().is_ok_and(|flags| flags & CARD_RESET != 0);
        let dog = Self { driver, timeout: took, reset_before };
        if took < TIMEOUT_MIN {
            // Whether or not it stops, this is all that can be done.
            let _ = dog.disarm();
            return Err(WatchdogError::TooShort { path: path.to_owned(), took });
        }
        Ok(dog)
    }

    /// For how long it bears not to be petted.
    pub fn timeout(&self) -> Millis {
        self.timeout
    }

    /// Whether its driver says that it reset this machine last.
    pub fn reset_before(&self) -> bool {
        self.reset_before
    }

    /// Starts the countdown anew.
    ///
    /// # Errors
    /// As the driver gives them; it counts on.
    pub fn pet(&mut self) -> io::Result<()> {
        self.driver.put(PET)
    }

    /// Stops it and closes it. With `nowayout` it counts on, and nobody is told.
    ///
    /// # Errors
    /// As the driver gives them; it counts on.
    pub fn disarm(mut self) -> io::Result<()> {
        self.driver.put(MAGIC_CLOSE)
    }
}

/// Whether stopping it has no effect, where the kernel says so.
pub fn no_way_out(path: &Path) -> Option<bool> {
    let name = path.file_name()?.to_str()?;
    // The name without a number is that of the first.
    let name = if name == "watchdog" { "watchdog0" } else { name };
    let said = std::fs::read_to_string(format!("/sys/class/watchdog/{name}/nowayout")).ok()?;
    Some(said.trim() != "0")
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// A driver that bears `least` to `most` seconds; none: it cannot be set at all.
    #[derive(Clone, Debug)]
    struct Fake {
        seconds: c_int,
        limits: Option<(c_int, c_int)>,
        written: Rc<RefCell<Vec<u8>>>,
        flags: c_int,
    }

    impl Fake {
        fn new(seconds: c_int, limits: Option<(c_int, c_int)>) -> Self {
            Self { seconds, limits, written: Rc::default(), flags: 0 }
        }
    }

    impl Driver for Fake {
        fn set_timeout(&mut self, seconds: c_int) -> Result<c_int, Errno> {
            let (least, most) = self.limits.ok_or(Errno::EOPNOTSUPP)?;
            if seconds < least {
                return Err(Errno::EINVAL);
            }
            self.seconds = seconds.min(most);
            Ok(self.seconds)
        }

        fn timeout(&mut self) -> Result<c_int, Errno> {
            Ok(self.seconds)
        }

        fn boot_status(&mut self) -> Result<c_int, Errno> {
            Ok(self.flags)
        }

        fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.written.borrow_mut().extend_from_slice(bytes);
            Ok(())
        }
    }

    fn begin(fake: &Fake, wanted_ms: u64) -> Result<Dog<Fake>, WatchdogError> {
        Dog::begin(fake.clone(), Path::new("/dev/watchdog"), Millis(wanted_ms))
    }

    #[test]
    fn the_timeout_is_what_the_driver_took_in_whole_seconds() {
        for (limits, wanted_ms, took_s) in
            [(Some((1, 600)), 10_000, 10), (Some((1, 600)), 9_001, 10), (Some((1, 16)), 30_000, 16), (None, 5_000, 60)]
        {
            let dog = begin(&Fake::new(60, limits), wanted_ms).unwrap();
            assert_eq!(dog.timeout(), Millis::from_secs(took_s), "{limits:?}");
        }
        // Out of its range, it stays what it was.
        assert_eq!(begin(&Fake::new(60, Some((20, 600))), 5_000).unwrap().timeout(), Millis::from_secs(60));
    }

    #[test]
    fn it_is_petted_without_the_magic_letter_and_stopped_with_it() {
        let fake = Fake { flags: CARD_RESET, ..Fake::new(60, Some((1, 600))) };
        let mut dog = begin(&fake, 10_000).unwrap();
        assert!(dog.reset_before());
        dog.pet().unwrap();
        assert_eq!(*fake.written.borrow(), PET);
        dog.disarm().unwrap();
        assert_eq!(*fake.written.borrow(), b"\0V");
    }

    #[test]
    fn a_driver_that_bears_too_little_is_stopped_and_not_used() {
        let fake = Fake::new(1, None);
        let why = begin(&fake, 10_000).unwrap_err().to_string();
        assert!(why.contains("bears 1s at most"), "{why}");
        assert_eq!(*fake.written.borrow(), MAGIC_CLOSE);
    }

    #[test]
    fn a_device_that_is_not_there_and_a_file_that_is_no_device_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let missing = Dog::open(&dir.path().join("watchdog"), Millis(10_000)).unwrap_err().to_string();
        assert!(missing.contains("softdog"), "{missing}");
        let file = dir.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        let wrong = Dog::open(&file, Millis(10_000)).unwrap_err().to_string();
        assert!(wrong.contains("is no watchdog"), "{wrong}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    }
}
