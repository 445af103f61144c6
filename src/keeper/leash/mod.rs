//! Leashes: one per resource that runs code, so that its programs end with the lease even if every process of ours on
//! this node is frozen (design 6.2, rules 22 and 23).
//!
//! ```text
//! keeper ── leash ── init (pid 1 of its own PID and mount namespace) ── programs, and whatever they leave behind
//! ```
//!
//! The leash has a kernel timer that kills it at the deadline; the keeper moves the deadline. Init dies with the leash
//! (PDEATHSIG), and with init the kernel ends everything in the namespace. Nothing of ours has to run for that.
//! (Pid 1 would survive a SIGKILL timer of its own, so the outer process is needed.)
//!
//! - [`tether`]: the keeper's end: spawn, arm, exec, signal, kill, events.
//! - [`events`]: what it has to tell the keeper.
//! - `log`: where programs' output goes.
//! - `process`: the leash itself.
//! - `init`: the namespace's init, a small exec server.
//! - `namespace`: what the namespace looks like from inside.
//! - `launch`: from init's fork to the program's exec.
//! - `wire`: what the three say to each other.
//! - [`fault`]: what can go wrong, in words.

mod init;
mod launch;
mod log;
mod namespace;
mod process;

pub mod events;
pub mod fault;
pub mod tether;
pub mod wire;

pub use events::{End, LeashEvent};
pub use fault::{ExecFault, ExecStep, LeashError, SetupStep};
pub use process::run;
pub use tether::{ExecSpec, Leash, OpId};

use std::time::Duration;

use crate::engine::profile::KERNEL_LATENESS;

/// Time to end everything in a namespace once the leash is killed.
const KILL_TIME: Duration = Duration::from_millis(15);
/// The whole margin where the leash has to wait for its turn like everyone else: under full load the last act after a
/// deadline was seen 83 ms late.
const MARGIN_BEST_EFFORT: Duration = Duration::from_millis(150);

/// How long before T a leash is armed (rule 22).
pub fn leash_margin(fifo: bool) -> Duration {
    match fifo {
        true => KERNEL_LATENESS + KILL_TIME,
        false => MARGIN_BEST_EFFORT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn margins_are_those_of_rule_22() {
        assert_eq!(leash_margin(true), Duration::from_millis(40));
        assert_eq!(leash_margin(false), Duration::from_millis(150));
    }
}
