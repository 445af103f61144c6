//! Tests of the holder, rule by rule.

use super::*;
use crate::engine::lease::knowledge::Fact;
use crate::engine::{Incarnation, LogIndex, Nonce};

const S: SessionId = SessionId(7);
const TTL: Millis = Millis(1000);
const EVERY: Duration = Duration::from_millis(100);
/// Rule 1: 1000 − 2·10 − 2 ms.
const L_MS: u64 = 978;

fn at(ms: u64) -> HolderTime {
    HolderTime::from_millis(ms)
}

fn nodes(of: &[u64]) -> BTreeSet<NodeId> {
    of.iter().map(|id| NodeId(*id)).collect()
}

fn knowing(sets: &[(u64, &[u64])]) -> Knowledge {
    let mut knowledge = Knowledge { index: LogIndex(5), ..Knowledge::default() };
    knowledge.sets = sets.iter().map(|(id, of)| (SetId(*id), nodes(of))).collect();
    knowledge
}

fn holder() -> Holder {
    Holder::new(S, TTL, EVERY, at(0))
}

/// Sends what is due, and answers the seq and whether it renews.
fn send(h: &mut Holder, ms: u64, k: &Knowledge) -> (u64, bool) {
    match &h.poll(at(ms), k)[..] {
        [(_, Message::Renew { seq, .. }), ..] => (*seq, true),
        [(_, Message::Query { seq, .. }), ..] => (*seq, false),
        other => panic!("at {ms}: {other:?}"),
    }
}

fn ack(seq: u64, promised: bool, set: u64, members: &[u64]) -> Message {
    let members = members.iter().map(|id| NodeId(*id)).collect();
    Message::Ack { session: S, seq, promised, set: SetId(set), members }
}

const THREE: &[(u64, &[u64])] = &[(2, &[1, 2, 3])];

#[test]
fn the_first_renewals_go_at_once_to_every_voter_of_every_set_known() {
    let (mut h, k) = (holder(), knowing(&[(2, &[1, 2, 3]), (4, &[2, 3, 4])]));
    let sent = h.poll(at(0), &k);
    assert_eq!(sent.iter().map(|(to, _)| to.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(sent.iter().all(|(_, m)| *m == sent[0].1), "all copies share a seq (rule 3)");
    assert_eq!(h.poll(at(99), &k), []);
    assert_eq!(h.next_wake(), Some(at(100)));
    assert_ne!(send(&mut h, 100, &k).0, 0);
}

/// The lives that a round of renewals is for, by voter.
fn lives(h: &mut Holder, ms: u64, k: &Knowledge) -> Vec<u64> {
    let sent = h.poll(at(ms), k);
    let life = |(_, message): &(NodeId, Message)| match message {
        Message::Renew { life, .. } | Message::Query { life, .. } => life.0,
        other => panic!("{other:?}"),
    };
    sent.iter().map(life).collect()
}

fn other_life(seq: u64, life: u64) -> Message {
    Message::Refuse { session: S, seq, why: Refusal::OtherLife { life: Nonce(life) } }
}

#[test]
fn renewals_name_the_lives_that_the_log_tells_until_a_voter_names_another_which_is_renewed_at_once() {
    let (mut h, mut k) = (holder(), knowing(THREE));
    k.voters = [1, 2].map(|voter| (NodeId(voter), (Nonce(10 + voter), Incarnation(3)))).into();
    assert_eq!(lives(&mut h, 0, &k), [11, 12, 0], "the log does not know the third");
    let (first, _) = send(&mut h, 100, &k);
    let (second, _) = send(&mut h, 200, &k);
    assert!(!h.receive(at(210), NodeId(3), &other_life(second, 13)), "it moves no lease");
    assert_eq!(h.next_wake(), Some(at(210)));
    assert_eq!(lives(&mut h, 210, &k), [11, 12, 13]);
    h.receive(at(220), NodeId(3), &other_life(first, 9));
    h.receive(at(220), NodeId(3), &other_life(999, 9));
    h.receive(at(220), NodeId(3), &other_life(second, 13));
    assert_eq!(h.next_wake(), Some(at(310)), "an older word, one of no send, and the same again");
    assert_eq!(lives(&mut h, 310, &k), [11, 12, 13]);
}

#[test]
fn a_lease_runs_from_the_send_that_a_majority_acked() {
    let (mut h, k) = (holder(), knowing(THREE));
    let (seq, _) = send(&mut h, 0, &k);
    assert!(!h.receive(at(40), NodeId(1), &ack(seq, true, 2, &[1, 2, 3])));
    assert_eq!(h.deadline(), None, "one of three is no majority");
    assert!(h.receive(at(90), NodeId(3), &ack(seq, true, 2, &[1, 2, 3])));
    assert_eq!(h.deadline(), Some(at(L_MS)), "t0 is the send, not the ack (rules 3 and 8)");
    assert!(h.holds(at(L_MS - 1)) && !h.holds(at(L_MS)));
}

#[test]
fn the_latest_time_that_a_majority_acked_counts_and_the_deadline_never_decreases() {
    let (mut h, k) = (holder(), knowing(THREE));
    let (first, _) = send(&mut h, 0, &k);
    let (second, _) = send(&mut h, 100, &k);
    h.receive(at(110), NodeId(1), &ack(second, true, 2, &[1, 2, 3]));
    h.receive(at(111), NodeId(2), &ack(first, true, 2, &[1, 2, 3]));
    assert_eq!(h.deadline(), Some(at(L_MS)));
    h.receive(at(112), NodeId(3), &ack(second, true, 2, &[1, 2, 3]));
    assert_eq!(h.deadline(), Some(at(100 + L_MS)));
    assert!(!h.receive(at(113), NodeId(3), &ack(first, true, 2, &[1, 2, 3])), "a reordered ack changes nothing");
}

#[test]
fn the_newest_set_in_any_ack_says_who_is_a_majority() {
    let (mut h, k) = (holder(), knowing(&[(2, &[1, 2, 3]), (4, &[3, 4, 5])]));
    let (seq, _) = send(&mut h, 0, &k);
    h.receive(at(1), NodeId(1), &ack(seq, true, 2, &[1, 2, 3]));
    h.receive(at(2), NodeId(3), &ack(seq, true, 4, &[3, 4, 5]));
    assert_eq!(h.deadline(), None, "1 and 3 are no majority of 3, 4 and 5");
    h.receive(at(3), NodeId(2), &ack(seq, true, 2, &[1, 2, 3]));
    assert_eq!(h.deadline(), None, "an older n in a later ack does not count again");
    h.receive(at(4), NodeId(5), &ack(seq, true, 4, &[3, 4, 5]));
    assert_eq!(h.deadline(), Some(at(L_MS)));
}

#[test]
fn members_named_in_an_ack_are_asked_although_the_log_has_not_told_of_them() {
    let (mut h, k) = (holder(), knowing(&[(2, &[1])]));
    let (seq, _) = send(&mut h, 0, &k);
    h.receive(at(1), NodeId(1), &ack(seq, true, 4, &[1, 8, 9]));
    let asked: Vec<u64> = h.poll(at(100), &k).iter().map(|(to, _)| to.0).collect();
    assert_eq!(asked, [1, 8, 9]);
}

#[test]
fn nobody_who_was_not_asked_counts() {
    let (mut h, k) = (holder(), knowing(&[(2, &[1])]));
    let (seq, _) = send(&mut h, 0, &k);
    assert!(!h.receive(at(1), NodeId(9), &ack(seq, true, 5, &[9])));
    let expired = Message::Refuse { session: S, seq, why: Refusal::Expired };
    assert!(!h.receive(at(1), NodeId(9), &expired));
    assert!(!h.over());
}

#[test]
fn acks_of_other_sessions_and_of_unknown_sends_count_for_nothing() {
    let (mut h, k) = (holder(), knowing(&[(2, &[1])]));
    let (seq, _) = send(&mut h, 0, &k);
    h.receive(at(1), NodeId(1), &ack(seq + 1, true, 2, &[1]));
    let other = Message::Ack { session: SessionId(8), seq, promised: true, set: SetId(2), members: vec![NodeId(1)] };
    h.receive(at(1), NodeId(1), &other);
    assert_eq!(h.deadline(), None);
}

#[test]
fn without_a_majority_for_a_quarter_of_the_ttl_it_only_queries_and_an_answer_brings_renewals_back() {
    let (mut h, k) = (holder(), knowing(THREE));
    let (seq, renews) = send(&mut h, 0, &k);
    assert!(renews);
    for v in [1, 2] {
        h.receive(at(5), NodeId(v), &ack(seq, true, 2, &[1, 2, 3]));
    }
    assert!(send(&mut h, 250, &k).1);
    let (query, renews) = send(&mut h, 350, &k);
    assert!(!renews);
    h.receive(at(360), NodeId(1), &ack(query, false, 2, &[1, 2, 3]));
    assert_eq!(h.next_wake(), Some(at(450)), "one answer is no majority");
    h.receive(at(361), NodeId(2), &ack(query, false, 2, &[1, 2, 3]));
    assert_eq!(h.deadline(), Some(at(L_MS)), "no t0 of a query counts");
    assert!(send(&mut h, 361, &k).1, "renewals are due at once");
}

#[test]
fn a_promise_claimed_for_a_query_counts_for_nothing() {
    let (mut h, k) = (holder(), knowing(&[(2, &[1])]));
    let (query, renews) = send(&mut h, 300, &k);
    assert!(!renews, "300 ms after its start nothing was heard");
    h.receive(at(301), NodeId(1), &ack(query, true, 2, &[1]));
    assert_eq!(h.deadline(), None);
}

#[test]
fn once_its_time_has_passed_a_session_is_over_whatever_comes_later() {
    let (mut h, k) = (holder(), knowing(&[(2, &[1])]));
    let (seq, _) = send(&mut h, 0, &k);
    h.receive(at(1), NodeId(1), &ack(seq, true, 2, &[1]));
    let (late, _) = send(&mut h, 200, &k);
    assert!(h.receive(at(L_MS), NodeId(1), &ack(late, true, 2, &[1])));
    assert_eq!((h.ending(), h.deadline(), h.next_wake()), (Some(Ending::Lapsed), None, None));
    assert_eq!(h.poll(at(2000), &k), []);
}

#[test]
fn a_session_that_never_had_a_lease_does_not_lapse() {
    let (mut h, k) = (holder(), knowing(&[(2, &[1])]));
    for ms in (0..10_000).step_by(100) {
        assert!(!h.poll(at(ms), &k).is_empty());
    }
    assert!(!h.over());
}

#[test]
fn a_refusal_of_the_log_ends_it_at_once_and_other_refusals_do_not() {
    let (mut h, k) = (holder(), knowing(&[(2, &[1])]));
    let (seq, _) = send(&mut h, 0, &k);
    h.receive(at(1), NodeId(1), &ack(seq, true, 2, &[1]));
    for why in [Refusal::Fenced, Refusal::NotReady] {
        assert!(!h.receive(at(2), NodeId(1), &Message::Refuse { session: S, seq, why }));
    }
    assert!(h.receive(at(3), NodeId(1), &Message::Refuse { session: S, seq, why: Refusal::Expired }));
    assert_eq!((h.ending(), h.deadline()), (Some(Ending::Expired), None));
}

#[test]
fn its_own_prefix_of_the_log_ends_it_but_not_before_the_prefix_tells_of_it() {
    let (mut h, mut k) = (holder(), knowing(&[(2, &[1])]));
    assert!(!h.poll(at(0), &k).is_empty(), "the log known ends before the session began");
    let registered = Fact::Registered { session: S, node: NodeId(1), nonce: Nonce(1), ttl: TTL };
    k.learn_at(LogIndex(7), registered);
    assert!(!h.poll(at(100), &k).is_empty());
    k.learn_at(LogIndex(8), Fact::Expired { session: S });
    assert_eq!(h.poll(at(200), &k), []);
    assert_eq!(h.ending(), Some(Ending::Expired));
}

#[test]
fn what_it_remembers_of_its_sends_is_bounded() {
    let mut h = Holder::new(S, Millis(60_000), Duration::from_millis(1), at(0));
    let k = knowing(&[(2, &[1])]);
    let (first, _) = send(&mut h, 0, &k);
    for ms in 1..1000 {
        send(&mut h, ms, &k);
    }
    assert_eq!(h.sends.len(), SENDS_MAX);
    h.receive(at(1000), NodeId(1), &ack(first, true, 2, &[1]));
    assert_eq!(h.deadline(), None, "a forgotten send counts for nothing");
}

#[test]
fn sends_of_two_sessions_of_one_keeper_never_share_a_seq() {
    let k = knowing(&[(2, &[1])]);
    let (mut first, mut second) = (holder(), Holder::new(S, TTL, EVERY, at(2000)));
    assert_ne!(send(&mut first, 0, &k).0, send(&mut second, 2000, &k).0);
}
