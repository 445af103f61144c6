//! The rules of docs/leases.md, checked exhaustively: with all of them no two hosts ever act, without any one they do.
//!
//! Here within bounds that take seconds. `cargo test --release --test lease_model -- --ignored --nocapture` goes
//! further. docs/leases.md says how the model and the shipped machines correspond.

#[path = "lease_model/lockstep.rs"]
mod lockstep;
#[path = "lease_model/model.rs"]
mod model;
#[path = "lease_model/state.rs"]
mod state;

use model::ONE_ACTOR;
use pkgctl::engine::lease::Rule;
use pkgctl::lab::Moment;
use state::{Bounds, Driven};
use stateright::{Checker, HasDiscoveries, Model};

/// {0,1,2} becomes {1,2,3}.
const REPLACE: &[u8] = &[0b0111, 0b1110];
/// {0} becomes {1}.
const SWAP: &[u8] = &[0b01, 0b10];

/// Every state within the bounds: no two actors, and what makes it worth something can happen.
fn holds(name: &str, bounds: Bounds) {
    let begun = Moment::now();
    let checked = bounds.checker().threads(threads()).spawn_bfs().join();
    println!("{name}: {} states, {:.1} s", checked.unique_state_count(), Moment::now().since(begun).as_secs_f64());
    checked.assert_properties();
}

/// Without a rule two hosts act, and here is how.
fn breaks(name: &str, bounds: Bounds) {
    let stop = HasDiscoveries::AnyOf([ONE_ACTOR].into_iter().collect());
    let checked = bounds.checker().finish_when(stop).spawn_bfs().join();
    let path = checked.discovery(ONE_ACTOR).unwrap_or_else(|| panic!("{name}: nobody needs this rule"));
    let steps: Vec<String> = path.into_actions().iter().map(|step| format!("{step:?}")).collect();
    println!("without {name}, after {} states: {}", checked.unique_state_count(), steps.join(", "));
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[test]
fn three_voters_with_everything_late_and_unbounded_restarts() {
    holds("three voters", Bounds::three());
}

#[test]
fn voters_that_take_each_renewal_once_still_uphold_a_lease_and_let_it_expire() {
    holds("renewals taken once", Bounds { replays: false, ..Bounds::three() });
}

#[test]
fn a_set_that_is_replaced_by_another() {
    holds("{0} becomes {1}", Bounds::three().sets(SWAP));
    holds("{0,1,2} becomes {1,2,3}, lean", Bounds::three().sets(REPLACE).lean());
}

#[test]
fn clocks_that_run_at_different_rates() {
    let bounds = Bounds { late_acks: false, ..Bounds::three().drifting() };
    holds("drifting clocks", bounds);
}

#[test]
fn an_owner_that_releases_dies_and_comes_again() {
    holds("an owner that acts", Bounds { owner_acts: true, late_acks: false, ..Bounds::three() });
}

/// A rule that is not needed here would make its test fail, and one without a test would not be found: so each has one.
macro_rules! needed {
    ($($test:ident: $name:literal, $bounds:expr;)*) => {
        $(
            #[test]
            fn $test() {
                breaks($name, $bounds);
            }
        )*
        /// Names of the rules that have a test.
        const NEEDED: &[&str] = &[$($name),*];
    };
}

fn three() -> Bounds {
    Bounds { late_renewals: false, ..Bounds::three() }
}

fn replaced() -> Bounds {
    Bounds::three().sets(REPLACE).lean()
}

fn acting() -> Bounds {
    Bounds { owner_acts: true, ..Bounds::three().lean() }
}

needed! {
    rule_1_both_clocks_may_err: "TwoClocksErr", Bounds::three().lean().without(Rule::TwoClocksErr).drifting();
    rule_3_time_is_read_before_the_send: "SendTime", three().without(Rule::SendTime);
    rule_5_an_earlier_life_is_taken_down_first: "CleanFirst", acting().undriven(Driven::CleanFirst);
    rule_6_what_the_log_has_ended_is_refused: "LogRefuse", replaced().without(Rule::LogRefuse);
    rule_7_knowledge_is_one_prefix: "OnePrefix", replaced().undriven(Driven::OnePrefix);
    rule_8_the_newest_set_counts: "NewestSet", replaced().without(Rule::NewestSet);
    rule_9_no_ack_before_the_own_voter_up: "VoterUpFirst", three().sets(SWAP).without(Rule::VoterUpFirst);
    rule_10_promises_are_kept: "PromiseLapsed", three().without(Rule::PromiseLapsed);
    rule_10_lost_promises_are_waited_for: "UpForTtl", three().without(Rule::UpForTtl);
    rule_10_who_agreed_acks_no_more: "Fence", three().without(Rule::Fence);
    rule_12_agreements_of_former_lives_do_not_count: "CurrentIncarnation", three().without(Rule::CurrentIncarnation);
    rule_12_every_unretired_set_agrees: "EverySet", replaced().without(Rule::EverySet);
    rule_12_the_log_checks: "CheckedInApply", replaced().undriven(Driven::CheckedInApply);
    rule_12_only_the_owner_is_moved_from: "OwnerCheck", acting().undriven(Driven::OwnerCheck);
    rule_17_an_old_set_is_waited_for: "RetireWait", replaced().without(Rule::RetireWait);
    rule_20_a_released_token_stays_released: "ReleasedToken", acting().without(Rule::ReleasedToken);
}

#[test]
fn every_rule_that_can_be_dropped_has_its_test() {
    // Rules 6a and 8a are about liveness: without them a dead node whose datagrams are sent again, or one that sends and
    // does not hear, is promised for ever.
    let live = [Rule::TakenOnce, Rule::ThisLife, Rule::QueryMode];
    let safety = Rule::ALL.into_iter().filter(|rule| !live.contains(rule)).map(|rule| format!("{rule:?}"));
    for name in safety.chain(Driven::ALL.map(|rule| format!("{rule:?}"))) {
        assert!(NEEDED.contains(&name.as_str()), "{name} has no test");
    }
}

/// Minutes and gigabytes: run by hand.
mod further {
    use super::*;

    fn once() -> Bounds {
        Bounds { late_acks: false, restarts: Some(1), renewals_of_life: Some(1), ..Bounds::three() }
    }

    #[test]
    #[ignore = "takes minutes"]
    fn longer_promises() {
        holds("three voters, ttl 3", Bounds { ttl: 3, lease: 3, ..Bounds::three() });
    }

    #[test]
    #[ignore = "takes minutes"]
    fn sets_that_grow_shrink_and_move_on() {
        let free = |sets: &[u8]| Bounds { late_acks: false, ..Bounds::three().sets(sets) };
        holds("{0} becomes {0,1,2}", free(&[0b001, 0b111]));
        holds("{0,1,2} becomes {0}", free(&[0b111, 0b001]));
        holds("{0} becomes {1} becomes {2}", free(&[0b001, 0b010, 0b100]));
    }

    #[test]
    #[ignore = "takes minutes"]
    fn a_voter_is_replaced_while_voters_restart() {
        holds("{0,1,2} becomes {1,2,3}, a restart", once().sets(REPLACE));
        holds(
            "{0,1,2} becomes {1,2,3}, ttl 1",
            Bounds { ttl: 1, lease: 1, late_acks: false, ..Bounds::three().sets(REPLACE) },
        );
    }

    #[test]
    #[ignore = "takes minutes"]
    fn a_set_is_replaced_by_drifting_clocks() {
        holds("{0} becomes {1}, drift", Bounds { late_acks: false, ..Bounds::three().sets(SWAP).drifting() });
        holds("{0,1,2} becomes {1,2,3}, drift", Bounds::three().sets(REPLACE).lean().drifting());
    }

    #[test]
    #[ignore = "takes minutes"]
    fn an_owner_acts_while_its_set_is_replaced() {
        holds("an owner that acts, {0} becomes {1}", Bounds { owner_acts: true, ..Bounds::three().sets(SWAP) });
    }
}
