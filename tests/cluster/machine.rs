//! Labs that failed because the machine itself stood still.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use pkgctl::lab::Stalls;

use super::bench::{DOUBLE, words_of};

/// What is said when something acknowledged is not there.
pub const LOST: &str = "something acknowledged is lost";

/// How often a lab is run at most.
const RUNS_MAX: u32 = 3;

/// Runs a lab, and again where it failed while a core was given to nobody for longer than a lease bears: then leases end and
/// leaders change as they should, and the lab has met a fault that it did not make. Nothing excuses [`DOUBLE`] and [`LOST`].
pub fn running(lab: impl Fn()) {
    for run in 1.. {
        let stalls = Stalls::watch();
        let Err(failed) = catch_unwind(AssertUnwindSafe(&lab)) else { return };
        let stall = stalls.take().filter(|_| run < RUNS_MAX && is_excusable(&*failed));
        let Some(stall) = stall else { resume_unwind(failed) };
        eprintln!("run again, because the machine stood still for {stall:?}");
    }
}

fn is_excusable(failed: &(dyn Any + Send)) -> bool {
    words_of(failed).is_some_and(|said| !said.contains(DOUBLE) && !said.contains(LOST))
}

#[test]
fn no_machine_excuses_two_owners_or_a_loss() {
    let failure = |assertion: fn()| catch_unwind(assertion).expect_err("it fails");
    assert!(is_excusable(&*failure(|| assert_eq!(1, 2, "the same process"))));
    assert!(is_excusable(&*failure(|| panic!("waited in vain"))));
    assert!(!is_excusable(&*failure(|| assert_eq!(1, 0, "{DOUBLE}"))));
    assert!(!is_excusable(&*failure(|| assert_eq!("7", "8", "{LOST}"))));
}
