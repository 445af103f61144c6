//! Seeded simulation of the lease line: with all rules in force every seed keeps I1, I2, I4 and I6; with one rule of
//! docs/leases.md dropped, a seed fails.
//!
//! A failing seed prints the command that replays it with every event. `PKGCTL_SIM_SEEDS=1000` runs that many seeds of
//! each plot.

mod sim;

use pkgctl::engine::lease::Rule;
use sim::{Outcome, Plot, run};

const SEED_VARIABLE: &str = "PKGCTL_SIM_SEED";
const SEEDS_VARIABLE: &str = "PKGCTL_SIM_SEEDS";
/// A dropped rule is found within so many seeds of its plot.
const MUTANT_SEEDS: u64 = 20;

fn replay_of(plot: Plot, seed: u64, dropped: Option<Rule>) -> String {
    let dropped = dropped.map(|rule| format!(":{rule:?}")).unwrap_or_default();
    format!("{SEED_VARIABLE}={plot:?}:{seed}{dropped} cargo test --test lease_sim -- replay --nocapture")
}

/// Runs a plot's seeds with all rules in force. None may fail; the sum of what happened comes back.
fn all_hold(plot: Plot, seeds: u64) -> Outcome {
    let seeds = std::env::var(SEEDS_VARIABLE).ok().and_then(|wanted| wanted.parse().ok()).unwrap_or(seeds);
    let mut sum = Outcome::default();
    for seed in 0..seeds {
        let outcome = run(plot, seed, None, false);
        if let Some(failure) = &outcome.failure {
            panic!("{failure}\n  {}", replay_of(plot, seed, None));
        }
        sum.add(&outcome);
    }
    println!("{plot:?}: {seeds} seeds, {sum:?}");
    sum
}

/// Drops a rule and looks for a seed of the plot in which the invariant breaks.
fn breaks(rule: Rule, plot: Plot, invariant: &str) {
    for seed in 0..MUTANT_SEEDS {
        let Some(failure) = run(plot, seed, Some(rule), false).failure else { continue };
        println!("without {rule:?}: {failure}\n  {}", replay_of(plot, seed, Some(rule)));
        assert!(failure.starts_with(invariant), "it is {invariant} that should break: {failure}");
        return;
    }
    panic!("{plot:?} does not notice within {MUTANT_SEEDS} seeds that {rule:?} was dropped");
}

#[test]
fn replay() {
    let Ok(wanted) = std::env::var(SEED_VARIABLE) else { return };
    let mut parts = wanted.split(':');
    let plot = parts.next().and_then(Plot::named).expect("a plot and a seed: Chaos:7");
    let seed = parts.next().and_then(|seed| seed.parse().ok()).expect("a plot and a seed: Chaos:7");
    let dropped = parts.next().map(|name| Rule::named(name).expect("a rule's name: Chaos:7:Fence"));
    let outcome = run(plot, seed, dropped, true);
    println!("{outcome:?}");
    assert_eq!(outcome.failure, None, "{}", replay_of(plot, seed, dropped));
}

#[test]
fn the_same_seed_gives_the_same_log_and_another_seed_another_one() {
    for plot in [Plot::Chaos, Plot::Eager, Plot::Moves] {
        let (one, again, other) = (run(plot, 3, None, false), run(plot, 3, None, false), run(plot, 4, None, false));
        assert_eq!((one.hash, one.events), (again.hash, again.events), "{plot:?}");
        assert_ne!(one.hash, other.hash, "{plot:?}");
    }
}

#[test]
fn anything_at_any_time_leaves_one_actor_and_heals() {
    let sum = all_hold(Plot::Chaos, 60);
    assert!(sum.expired > 0 && sum.taken_over > 0 && sum.moved > 0 && sum.sets > 60, "too little happened: {sum:?}");
}

#[test]
fn a_collector_against_every_session_leaves_one_actor_and_heals() {
    let sum = all_hold(Plot::Eager, 40);
    assert!(sum.expired > 0 && sum.taken_over > 0, "too little happened: {sum:?}");
}

#[test]
fn a_lost_owner_is_followed_by_a_standby() {
    for plot in [Plot::CutOwner, Plot::Drift, Plot::LateAcks, Plot::RestartVoters] {
        let sum = all_hold(plot, 8);
        assert!(sum.taken_over > 0, "{plot:?}: {sum:?}");
    }
}

#[test]
fn an_owner_that_hears_nothing_is_followed_by_a_standby_while_it_still_hears_nothing() {
    assert!(all_hold(Plot::Deaf, 8).expired >= 8);
}

#[test]
fn an_owner_whose_datagrams_are_sent_again_is_followed_by_a_standby_all_the_same() {
    for plot in [Plot::Replays, Plot::RestartReplays] {
        assert!(all_hold(plot, 8).expired >= 8, "{plot:?}");
    }
}

#[test]
fn voters_that_agree_one_after_the_other_leave_one_actor() {
    for plot in [Plot::Dance, Plot::RestartDance, Plot::MuteDance, Plot::StaleHost] {
        let sum = all_hold(plot, 8);
        assert!(sum.expired > 0, "{plot:?}: {sum:?}");
    }
}

#[test]
fn lease_sets_grow_and_are_retired_under_faults() {
    for plot in [Plot::GrowUnheard, Plot::GrowThenCut] {
        let sum = all_hold(plot, 8);
        assert!(sum.sets >= 3 * 8, "made, made, retired: {plot:?}: {sum:?}");
    }
}

#[test]
fn planned_moves_survive_agents_that_restart_with_old_logs() {
    assert!(all_hold(Plot::Moves, 8).moved >= 8);
}

macro_rules! needed {
    ($($name:ident: $rule:ident in $plot:ident breaks $invariant:literal;)*) => {
        $(#[test]
        fn $name() {
            breaks(Rule::$rule, Plot::$plot, $invariant);
        })*

        #[test]
        fn every_rule_that_can_be_dropped_has_a_test_that_needs_it() {
            for rule in Rule::ALL {
                assert!([$(Rule::$rule),*].contains(&rule), "{rule:?}");
            }
        }
    };
}

needed! {
    the_lease_must_be_shorter_by_both_clocks_errors: TwoClocksErr in Drift breaks "I1";
    t0_must_be_the_send: SendTime in LateAcks breaks "I1";
    voters_must_refuse_what_the_log_has_ended: LogRefuse in StaleHost breaks "I1";
    a_voter_must_take_each_renewal_once: TakenOnce in Replays breaks "I4";
    a_voter_must_take_only_what_was_for_its_life: ThisLife in RestartReplays breaks "I4";
    the_newest_set_must_count: NewestSet in GrowThenCut breaks "I1";
    a_holder_that_hears_nobody_must_not_renew: QueryMode in Deaf breaks "I4";
    a_voter_must_be_up_in_the_log_before_it_acks: VoterUpFirst in MuteDance breaks "I1";
    a_voter_must_keep_its_promise: PromiseLapsed in CutOwner breaks "I1";
    a_voter_must_be_up_for_ttl_before_it_agrees: UpForTtl in RestartVoters breaks "I1";
    a_voter_must_refuse_what_it_agreed_to_end: Fence in Dance breaks "I1";
    only_current_incarnations_must_count: CurrentIncarnation in RestartDance breaks "I1";
    every_unretired_set_must_agree: EverySet in GrowUnheard breaks "I1";
    an_old_set_must_wait_for_its_retirement: RetireWait in GrowUnheard breaks "I1";
    a_released_token_must_stay_refused: ReleasedToken in Moves breaks "I1";
}

#[test]
fn nothing_that_ships_drops_a_rule() {
    let mut sources = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    let mut read = 0;
    while let Some(path) = sources.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a source folder");
            sources.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let shipped = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
            assert!(!shipped.contains("Rules::without("), "{} drops a rule", path.display());
            read += 1;
        }
    }
    assert!(read > 30, "only {read} sources were found");
}
