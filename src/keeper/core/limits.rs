//! The limits of the keeper's core, by name.

use std::time::Duration;

/// Resources up at one time.
pub const ITEMS_MAX: usize = 4096;
/// Operations waiting for one resource.
pub const WAITERS_MAX: usize = 16;
/// Expiries being collected at one time.
pub const COLLECTIONS_MAX: usize = 256;
/// Surveys (`Reach`, `AskSets`) under way at one time.
pub const SURVEYS_MAX: usize = 64;
/// Nodes asked by one survey or collection.
pub const ASKED_MAX: usize = 128;

/// How long a survey waits for answers.
pub const SURVEY_WAIT: Duration = Duration::from_secs(1);
/// Time between two questions of a survey to a node that has not answered.
pub const SURVEY_REPEAT: Duration = Duration::from_millis(100);
/// Least time between two rounds of questions to voters; a longer one is a twentieth of the session's ttl.
pub const ASK_REPEAT_MIN: Duration = Duration::from_millis(5);
/// Time between two words about a lease that has not changed.
pub const LEASE_VIEW_EVERY: Duration = Duration::from_secs(1);
/// Time between two attempts to delete an address that could not be deleted.
pub const STUCK_RETRY: Duration = Duration::from_secs(1);
/// How long a program may take to stop when the keeper itself stops it in good order.
pub const TEARDOWN_GRACE: Duration = Duration::from_secs(10);
/// How long a keeper that is to end waits for its agent to stop and release what runs, before it does so itself.
pub const LEAVE_WAIT: Duration = Duration::from_secs(45);

/// How long after a lease's end something that had to be down may still be there before the watchdog is starved. What
/// dies at once is gone within 100 ms, loaded machine or not.
pub const WATCHDOG_GRACE: Duration = Duration::from_secs(3);
/// A watchdog's timeout is at least this many lease times.
pub const WATCHDOG_TTLS: u32 = 2;

/// The signal that asks a program to end, on every Linux.
pub const SIGTERM: i32 = 15;
/// The signal that a leash dies of, on every Linux.
pub const SIGKILL: i32 = 9;
