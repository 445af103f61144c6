//! What a leash's namespace looks like from inside: its own view of the mounts, its own /proc, process numbers that do
//! not repeat.

use std::fs;

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::chdir;

use super::fault::SetupStep;
use super::process::Failure;

/// Where the kernel keeps the last process number it gave in this namespace.
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";
const PID_MAX: &str = "/proc/sys/kernel/pid_max";
/// Low numbers are what stale pidfiles of an unlucky namespace would hold, and what kernel threads have on the host.
const FIRST_PID_MIN: u32 = 1_000;

/// Completes the namespace, called by its pid 1. Never an IPC, UTS or network namespace: with an IPC namespace of their
/// own, two postmasters ran on one data directory.
pub fn enter() -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| (SetupStep::MountNamespace, errno))?;
    // Unmounting on the host reaches in here, mounting in here does not reach the host.
    let follow = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, follow, None::<&str>).map_err(|errno| (SetupStep::Propagation, errno))?;
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), safe, None::<&str>).map_err(|errno| (SetupStep::Proc, errno))?;
    // A working directory elsewhere would keep a package's filesystem busy.
    chdir("/").map_err(|errno| (SetupStep::Housekeeping, errno))
}

/// Draws the first program's process number. Every fresh namespace would begin with 2, and PostgreSQL refuses to start
/// when the number in its stale pidfile is alive, which a helper process of its own would then be. Returns whether it
/// was done; some kernels do not offer it.
pub fn scatter_pids() -> bool {
    let read = |path| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u32>().ok());
    let Some(max) = read(PID_MAX) else { return false };
    // Only the lower half, so that numbers rise for a long time before they wrap.
    let choices = (max / 2).saturating_sub(FIRST_PID_MIN).max(1);
    let Ok(drawn) = random() else { return false };
    fs::write(LAST_PID, (FIRST_PID_MIN + drawn % choices).to_string()).is_ok()
}

fn random() -> Result<u32, Errno> {
    let mut bytes = [0; 4];
    // SAFETY: the kernel writes at most the four bytes it is given.
    Errno::result(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) })?;
    Ok(u32::from_ne_bytes(bytes))
}
