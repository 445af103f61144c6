//! Owners that fall silent in part: the leading owner, its keeper or agent alone, one cut after another.

use pkgctl::lab::{Direction, Moment};

use super::bench::Bench;

/// A cluster whose package runs on its leader.
fn leading_owner() -> Option<(Bench, String)> {
    let bench = Bench::new(&["n1", "n2", "n3"])?;
    let owner = bench.owner();
    // Whoever founded the cluster leads it and is the package's first choice, unless leadership has moved since.
    if bench.leader() != owner {
        bench.ctl(&owner, &["raft", "step-down", "--to", &owner]);
    }
    assert_eq!(bench.leader(), owner);
    Some((bench, owner))
}

#[lab]
fn an_owner_that_also_leads_is_replaced_when_it_loses_power() {
    let Some((bench, owner)) = leading_owner() else { return };
    let watch = bench.watch();
    let at = bench.lab.power_off(&owner).unwrap();
    let next = bench.answered_elsewhere(&watch, at, &owner);
    bench.lab.power_on(&owner).unwrap();
    bench.whole();
    assert_eq!(bench.owner(), next);
    bench.no_double_activity(watch);
}

#[lab]
fn a_leading_owner_whose_keeper_alone_is_frozen_gives_up_both() {
    let Some((bench, owner)) = leading_owner() else { return };
    let watch = bench.watch();
    let at = Moment::now();
    let frozen = bench.freeze_role(&owner, "keeper");
    let next = bench.answered_elsewhere(&watch, at, &owner);
    assert_ne!(bench.leader(), owner, "a leader without a keeper can expire nobody");
    bench.lab.thaw(&frozen).unwrap();
    bench.whole();
    assert_eq!(bench.owner(), next);
    bench.no_double_activity(watch);
}

#[lab]
fn an_owner_whose_agent_stays_silent_gives_its_packages_up_in_the_end() {
    let Some((bench, owner)) = leading_owner() else { return };
    let watch = bench.watch();
    let at = Moment::now();
    let frozen = bench.freeze_role(&owner, "agent");
    // Nobody minds for as long as the agent might come back: programs, address and lease are the keeper's.
    bench.still_answering(&watch, 200);
    bench.answered_elsewhere(&watch, at, &owner);
    bench.lab.thaw(&frozen).unwrap();
    bench.whole();
    assert_ne!(bench.owner(), owner);
    bench.no_double_activity(watch);
}

#[lab]
fn the_next_owner_is_replaced_as_well_when_it_hears_nothing_right_after_the_first_was_cut_off() {
    let Some((bench, first)) = leading_owner() else { return };
    let watch = bench.watch();
    let cut = bench.lab.cut(&first, Direction::Both).unwrap();
    let second = bench.answered_elsewhere(&watch, cut, &first);
    let healed = bench.lab.heal(&first).unwrap();
    bench.whole();
    bench.answered_by(&watch, healed, &second);
    let deaf = bench.lab.cut(&second, Direction::In).unwrap();
    let third = bench.answered_elsewhere(&watch, deaf, &second);
    bench.lab.heal(&second).unwrap();
    bench.whole();
    assert_eq!(bench.owner(), third);
    bench.no_double_activity(watch);
}

#[lab]
fn a_node_that_leaves_hands_its_packages_over_before_it_goes_down() {
    let Some((bench, owner)) = leading_owner() else { return };
    let watch = bench.watch();
    let at = Moment::now();
    bench.ctl(&owner, &["node", "leave"]);
    let other = bench.owner();
    assert_ne!(other, owner, "it ran elsewhere when the command ended");
    bench.lab.power_off(&owner).unwrap();
    bench.new_leader_than(&other, &owner);
    bench.still_answering(&watch, 200);
    let words = bench.ledger_by(&other, at);
    assert!(words.contains(&"released".to_owned()) && !words.contains(&"taken_over".to_owned()), "{words:?}");
    bench.no_double_activity(watch);
}
