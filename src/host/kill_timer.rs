//! A kernel timer that kills its own process at an absolute time, even if the process is stopped.

use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;

use crate::engine::time::BootTime;

/// Delivers SIGKILL to the process that made it. Not inherited by children, gone after exec.
#[derive(Debug)]
pub struct KillTimer(Timer);

impl KillTimer {
    /// Makes the timer, not armed yet.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn new() -> Result<Self, Errno> {
        let kill = SigEvent::new(SigevNotify::SigevSignal { signal: Signal::SIGKILL, si_value: 0 });
        // CLOCK_BOOTTIME, absolute: neither a pause nor a suspend can stretch it.
        Timer::new(ClockId::CLOCK_BOOTTIME, kill).map(Self)
    }

    /// Sets the time of death, instead of the one set before; a time that has passed kills now.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn arm(&mut self, at: BootTime) -> Result<(), Errno> {
        // Zero would disarm the timer.
        let at = TimeSpec::from_duration(Duration::from_nanos(at.0.clamp(1, i64::MAX as u64)));
        self.0.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
    }
}
