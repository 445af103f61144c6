//! Processes held by descriptor: a number may be used again by someone else, a descriptor never is.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getppid};

/// How many signals the kernel has; a set of them has a bit for each.
const SIGNALS: usize = 64;

/// A process. The descriptor is readable once the process has ended; for the init of a PID namespace that is after
/// everything in the namespace has ended.
#[derive(Debug)]
pub struct Process(OwnedFd);

impl Process {
    /// Opens a child that has not been waited for; its number cannot have been used again.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn open(pid: Pid) -> Result<Self, Errno> {
        // SAFETY: no arguments by reference.
        let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
        let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
        // SAFETY: the kernel has just made this descriptor for us; it is close-on-exec by itself.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Takes over a descriptor that [`Process::open`] made in another process.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// ESRCH once it has been waited for.
    pub fn signal(&self, signal: i32) -> Result<(), Errno> {
        let nothing = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a null siginfo means that the kernel fills in its own.
        let sent = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal, nothing, 0 as libc::c_uint)
        };
        Errno::result(sent).map(drop)
    }

    /// Ends it.
    ///
    /// # Errors
    /// ESRCH once it has been waited for.
    pub fn kill(&self) -> Result<(), Errno> {
        self.signal(Signal::SIGKILL as i32)
    }

    /// True once it runs no more.
    pub fn ended(&self) -> bool {
        let mut watched = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut watched, PollTimeout::ZERO), Ok(1))
    }

    /// Takes the status of a child that has ended out of the kernel's table; none if it runs still or was never ours.
    pub fn reap(&self) -> Option<Ended> {
        let fd = libc::id_t::try_from(self.0.as_raw_fd()).ok()?;
        wait(libc::P_PIDFD, fd, libc::WEXITED | libc::WNOHANG).map(|(_, ended)| ended)
    }
}

/// How a process ended. (Not nix's type, which knows no real-time signals and so cannot say that one has killed.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// A child of this process that has ended and whose status is still to be taken, with [`reap_child`].
pub fn ended_child() -> Option<Pid> {
    wait(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT).map(|(pid, _)| pid)
}

/// Takes the status of a child that has ended; its number may be used again from now on.
pub fn reap_child(pid: Pid) -> Option<Ended> {
    let number = libc::id_t::try_from(pid.as_raw()).ok()?;
    wait(libc::P_PID, number, libc::WEXITED | libc::WNOHANG).map(|(_, ended)| ended)
}

fn wait(kind: libc::idtype_t, id: libc::id_t, options: libc::c_int) -> Option<(Pid, Ended)> {
    // SAFETY: all zeroes is a valid value of this plain structure, and the kernel writes to it during the call only.
    let mut status: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    if unsafe { libc::waitid(kind, id, &mut status, options) } != 0 {
        return None;
    }
    // SAFETY: waitid fills in these two fields, or leaves them zero if nobody has ended.
    let (pid, number) = unsafe { (status.si_pid(), status.si_status()) };
    if pid == 0 {
        return None;
    }
    let ended = match status.si_code {
        libc::CLD_EXITED => Ended::Code(number),
        _ => Ended::Signal(number),
    };
    Some((Pid::from_raw(pid), ended))
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Process> for OwnedFd {
    fn from(process: Process) -> OwnedFd {
        process.0
    }
}

/// This process dies when the *thread* that started it ends.
///
/// # Errors
/// ESRCH if that happened before the kernel was told; the caller has to end itself.
pub fn die_with_parent(parent: Pid) -> Result<(), Errno> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    match getppid() == parent {
        true => Ok(()),
        false => Err(Errno::ESRCH),
    }
}

/// Blocks every signal that can be blocked, so that nothing but SIGKILL ends this process.
///
/// # Errors
/// As the kernel gives them.
pub fn block_signals() -> Result<(), Errno> {
    SigSet::all().thread_block()
}

/// Makes sure that children that have ended wait to be reaped: whoever ignored SIGCHLD hands that on through exec.
pub fn keep_children() {
    // SAFETY: installs no code.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Undoes [`block_signals`] and everything that was inherited, for a program: default mask, default dispositions.
///
/// # Errors
/// As the kernel gives them.
pub fn reset_signals() -> Result<(), Errno> {
    // Ignored signals stay ignored across exec. The Rust runtime ignores SIGPIPE, and posix_spawn ignores the two
    // signals that the C library keeps for itself, which its own signal() then refuses to touch; hence the bare call.
    // All zeroes is the kernel's "default, no flags, empty mask", whatever the order of the fields.
    let default = [0_u64; 8];
    for signal in 1..=SIGNALS {
        // SAFETY: the kernel reads less than this during the call, and no code is installed. SIGKILL and SIGSTOP refuse;
        // nobody can have changed them.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null::<u64>(), SIGNALS / 8)
        };
    }
    SigSet::empty().thread_set_mask()
}

/// Marks every descriptor from `first` on as closed at exec.
///
/// # Errors
/// As the kernel gives them.
pub fn close_on_exec_from(first: i32) -> Result<(), Errno> {
    close_range(first, libc::CLOSE_RANGE_CLOEXEC)
}

/// Closes every descriptor from `first` on. For a process that has just begun and owns none of them.
///
/// # Errors
/// As the kernel gives them.
pub fn close_from(first: i32) -> Result<(), Errno> {
    close_range(first, 0)
}

fn close_range(first: i32, flags: libc::c_uint) -> Result<(), Errno> {
    // SAFETY: no arguments by reference; what is closed is the caller's word.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) }).map(drop)
}
