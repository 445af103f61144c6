//! Outage and double activity on records written by hand. Times are milliseconds.

use super::*;
use crate::lab::program::Reply;

const EVERY: Duration = Duration::from_millis(5);

fn at(ms: u64) -> Moment {
    Moment(ms * 1_000_000)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn fault(at_ms: u64, to_ms: u64) -> Fault {
    Fault { at: at(at_ms), owner: "n1".to_owned(), from: at(0), to: at(to_ms) }
}

fn answered(sent: u64, took: u64, node: &str, token: u64) -> Probe {
    let reply = Reply { node: node.to_owned(), token, at: at(sent) };
    Probe { sent: at(sent), ended: at(sent + took), result: ProbeResult::Answered(reply) }
}

fn failed(sent: u64) -> Probe {
    Probe { sent: at(sent), ended: at(sent + 900), result: ProbeResult::Failed("no answer".to_owned()) }
}

fn life(node: &str, token: u64, beats: impl IntoIterator<Item = u64>) -> Life {
    let beats = beats.into_iter().map(at).collect();
    Life { node: node.to_owned(), token, pid: 1, beats, forgotten: 0 }
}

fn double(lives: &[Life]) -> Duration {
    judge(&fault(0, 10_000), &[], lives, EVERY).double_activity
}

#[test]
fn an_outage_runs_from_the_last_answered_probe_to_the_next() {
    let before = (0..=20).map(|i| answered(i * 5, 1, "n1", 3));
    let during = (21..60).map(|i| failed(i * 5));
    let after = (60..=100).map(|i| answered(i * 5, 1, "n2", 9));
    let probes: Vec<Probe> = before.chain(during).chain(after).collect();
    let verdict = judge(&fault(102, 500), &probes, &[], EVERY);
    assert_eq!(verdict.outage, ms(200));
    assert_eq!(verdict.first_other, Some(ms(301 - 102)));
    assert_eq!((verdict.answered, verdict.failed, verdict.late), (62, 39, 0));
    assert_eq!((verdict.stall, verdict.healed), (Duration::ZERO, true));
}

#[test]
fn an_outage_that_does_not_end_counts_to_the_end_of_the_window() {
    let probes: Vec<Probe> =
        (0..=10).map(|i| answered(i * 5, 1, "n1", 3)).chain((11..100).map(|i| failed(i * 5))).collect();
    let verdict = judge(&fault(50, 1000), &probes, &[], EVERY);
    assert_eq!(verdict.outage, ms(950));
    assert_eq!(verdict.first_other, None);
    assert!(!verdict.healed);
}

#[test]
fn a_probe_answered_late_does_not_shorten_the_outage_it_was_sent_in() {
    let mut probes: Vec<Probe> = [0, 5, 10].map(|sent| answered(sent, 1, "n1", 3)).into();
    // Sent in the middle of the outage, its packet waited for an ARP answer and reached the new owner.
    probes.push(answered(300, 310, "n2", 9));
    probes.push(answered(610, 1, "n2", 9));
    let verdict = judge(&fault(12, 615), &probes, &[], EVERY);
    assert_eq!(verdict.outage, ms(600));
    assert_eq!((verdict.late, verdict.failed), (1, 0));
}

#[test]
fn a_machine_that_stood_still_shows_as_a_stall() {
    let probes: Vec<Probe> = [0, 5, 10, 130, 135].map(|sent| answered(sent, 1, "n1", 3)).into();
    let verdict = judge(&fault(10, 135), &probes, &[], EVERY);
    assert_eq!((verdict.outage, verdict.stall), (ms(120), ms(115)));
}

#[test]
fn the_old_owners_answers_do_not_count_as_another_nodes() {
    let probes = [answered(0, 1, "n1", 3), answered(50, 1, "n1", 3), answered(90, 2, "n3", 9)];
    assert_eq!(judge(&fault(40, 100), &probes, &[], EVERY).first_other, Some(ms(52)));
}

#[test]
fn one_after_the_other_is_no_double_activity() {
    assert_eq!(double(&[life("n1", 3, 0..=100), life("n2", 9, 101..=200)]), Duration::ZERO);
    assert_eq!(double(&[life("n1", 3, 0..=100), life("n2", 9, 100..=200)]), Duration::ZERO, "touching");
}

#[test]
fn two_at_once_count_for_as_long_as_both_beat() {
    assert_eq!(double(&[life("n1", 3, 0..=100), life("n2", 9, 60..=200)]), ms(40));
    let third = life("n3", 11, 80..=90);
    assert_eq!(double(&[life("n1", 3, 0..=100), life("n2", 9, 60..=200), third]), ms(40), "three count once");
}

#[test]
fn two_nodes_under_one_token_are_two_actors() {
    assert_eq!(double(&[life("n1", 3, 0..=100), life("n2", 3, 60..=200)]), ms(40));
}

#[test]
fn a_restart_in_place_and_a_return_are_no_double_activity() {
    let lives = [life("n1", 3, 0..=100), life("n1", 3, 150..=250), life("n2", 9, 300..=400), life("n1", 14, 450..=550)];
    assert_eq!(double(&lives), Duration::ZERO);
}

#[test]
fn a_program_that_was_stopped_acts_only_at_its_own_moments() {
    // n1 is frozen from 100 to 300 and dies without another beat: n2 acted alone.
    assert_eq!(double(&[life("n1", 3, 0..=100), life("n2", 9, 200..=400)]), Duration::ZERO);
    // It is thawed and beats three times among n2's beats: those count, and not the 200 ms before.
    let thawed = life("n1", 3, (0..=100).chain([300, 301, 302]));
    assert_eq!(double(&[thawed, life("n2", 9, 200..=400)]), ms(2));
    let once = life("n1", 3, (0..=100).chain([300]));
    assert_eq!(double(&[once, life("n2", 9, 200..=400)]), BEAT);
}

#[test]
fn a_single_act_between_two_acts_of_another_counts_as_one_beat() {
    assert_eq!(double(&[life("n1", 3, [0, 50]), life("n2", 9, [30])]), BEAT);
    // Beats too far apart to join, as on an overloaded machine, still show that both were alive.
    let busy = double(&[life("n1", 3, [0, 40, 80]), life("n2", 9, [20, 60, 100])]);
    assert_eq!(busy, BEAT * 2, "20 and 60 lie within n1's life, 40 and 80 within n2's");
}

#[test]
fn answers_of_a_node_without_beats_count_too() {
    let probes = [answered(10, 1, "n1", 3), answered(20, 1, "n2", 9), answered(30, 1, "n1", 3)];
    let verdict = judge(&fault(0, 100), &probes, &[], EVERY);
    assert_eq!(verdict.double_activity, BEAT);
    let verdict = judge(&fault(0, 100), &[answered(10, 1, "n1", 3)], &[life("n2", 9, 0..=50)], EVERY);
    assert_eq!(verdict.double_activity, BEAT, "an answer of n1 among the beats of n2");
}

#[test]
fn acts_outside_the_window_are_ignored() {
    let lives = [life("n1", 3, 0..=100), life("n2", 9, 60..=200)];
    let window = Fault { at: at(120), owner: "n1".to_owned(), from: at(110), to: at(150) };
    assert_eq!(judge(&window, &[], &lives, EVERY).double_activity, Duration::ZERO);
}
