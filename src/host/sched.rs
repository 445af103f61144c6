//! What lets the keeper and the leashes run when they must: SCHED_FIFO, locked memory, protection from the OOM killer;
//! and the reset of all that for programs.
//!
//! Every privilege here may be refused (rootless, a container). Nothing fails for it: what was refused is reported, and
//! deadlines get a wider margin.

use std::fmt;
use std::fs;
use std::io;

use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// A leash has only its own death to see to and comes before everything of ours.
pub const LEASH_PRIORITY: i32 = 60;
/// The keeper's priority.
pub const KEEPER_PRIORITY: i32 = 50;

/// Where the kernel keeps a process's badness.
const OOM_SCORE: &str = "/proc/self/oom_score_adj";
/// The OOM killer takes anything else first. Not −1000, which would make a leak of ours the machine's end.
const OOM_PROTECTED: i32 = -999;
/// Soft limits that a program starts with, as a service manager would set them; hard limits stay as they are.
const PROGRAM_LIMITS: [(Resource, u64); 3] =
    [(Resource::RLIMIT_NOFILE, 1024), (Resource::RLIMIT_MEMLOCK, 8 << 20), (Resource::RLIMIT_RTPRIO, 0)];

/// How this process is scheduled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheduling {
    /// SCHED_FIFO: it runs as soon as it can.
    Fifo,
    /// Like everyone else.
    BestEffort {
        /// What the kernel said when asked for SCHED_FIFO.
        refusal: String,
    },
}

impl Scheduling {
    /// True with SCHED_FIFO.
    pub fn is_fifo(&self) -> bool {
        matches!(self, Scheduling::Fifo)
    }

    /// The word for `status`: `fifo` or `best-effort`.
    pub fn word(&self) -> &'static str {
        match self {
            Scheduling::Fifo => "fifo",
            Scheduling::BestEffort { .. } => "best-effort",
        }
    }
}

impl fmt::Display for Scheduling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scheduling::Fifo => f.write_str("fifo"),
            Scheduling::BestEffort { refusal } => write!(f, "best-effort ({refusal})"),
        }
    }
}

/// Asks for SCHED_FIFO for the calling thread; children start as ordinary processes again.
pub fn prefer_fifo(priority: i32) -> Scheduling {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the kernel reads the structure during the call.
    let done = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &parameters) };
    match Errno::result(done) {
        Ok(_) => Scheduling::Fifo,
        Err(refusal) => Scheduling::BestEffort { refusal: format!("SCHED_FIFO refused: {}", refusal.desc()) },
    }
}

/// Makes the calling thread an ordinary one.
///
/// # Errors
/// As the kernel gives them.
pub fn ordinary() -> Result<(), Errno> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads the structure during the call.
    Errno::result(unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &parameters) }).map(drop)
}

/// Keeps this process's memory from being paged out, if its memory limit is unlimited: with a limit, an allocation
/// beyond it would fail, which is worse than a page fault. Pages are locked as they are touched.
///
/// # Errors
/// Says why it was not done.
pub fn lock_memory() -> Result<(), String> {
    let (soft, _) = getrlimit(Resource::RLIMIT_MEMLOCK).map_err(|e| format!("memory limit unknown: {}", e.desc()))?;
    if soft != RLIM_INFINITY {
        return Err(format!("memory not locked: its limit is {} KiB, not unlimited", soft / 1024));
    }
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault)
        .map_err(|e| format!("memory not locked: {}", e.desc()))
}

/// Asks the OOM killer to take anything else first.
///
/// # Errors
/// As the kernel gives them; lowering the score needs CAP_SYS_RESOURCE.
pub fn protect_from_oom() -> io::Result<()> {
    fs::write(OOM_SCORE, OOM_PROTECTED.to_string())
}

/// Gives a program the OOM score, limits and scheduling of an ordinary one. Never asks for more than there is, so that
/// nothing here needs a privilege.
///
/// # Errors
/// As the kernel gives them.
pub fn reset_for_program() -> Result<(), Errno> {
    ordinary()?;
    for (resource, limit) in PROGRAM_LIMITS {
        let (soft, hard) = getrlimit(resource)?;
        if soft > limit {
            setrlimit(resource, limit.min(hard), hard)?;
        }
    }
    // Raising the score needs no privilege; if /proc is not there, nobody has lowered it either.
    let score = fs::read_to_string(OOM_SCORE).ok().and_then(|s| s.trim().parse::<i32>().ok());
    if score.is_some_and(|score| score < 0) {
        fs::write(OOM_SCORE, "0").map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_words_and_a_grant_is_in_the_kernels_books() {
        let asked = std::thread::spawn(|| {
            let scheduling = prefer_fifo(LEASH_PRIORITY);
            // SAFETY: no arguments by reference.
            let policy = unsafe { libc::sched_getscheduler(0) };
            (scheduling, policy & !libc::SCHED_RESET_ON_FORK)
        });
        match asked.join().expect("the thread ends") {
            (Scheduling::Fifo, policy) => assert_eq!(policy, libc::SCHED_FIFO),
            (refused @ Scheduling::BestEffort { .. }, policy) => {
                assert_eq!(policy, libc::SCHED_OTHER);
                assert!(refused.to_string().contains("SCHED_FIFO refused"), "{refused}");
            }
        }
    }
}
