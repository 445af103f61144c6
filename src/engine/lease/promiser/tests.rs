//! Tests of the voter, rule by rule.

use super::*;
use crate::engine::lease::knowledge::Fact;
use crate::engine::{SetId, VoterTime};

const S: SessionId = SessionId(7);
const HOST: NodeId = NodeId(1);
const LEADER: NodeId = NodeId(2);
const ME: NodeId = NodeId(3);
const NONCE: Nonce = Nonce(33);
const TTL: Millis = Millis(1000);

struct Voter {
    it: Promiser,
    log: Knowledge,
}

fn at(ms: u64) -> VoterTime {
    VoterTime::from_millis(ms)
}

impl Voter {
    /// Started at 0, up with incarnation 5, session 7 live, at log index 8.
    fn ready() -> Self {
        let mut voter = Self { it: Promiser::new(ME, NONCE, at(0)), log: Knowledge::default() };
        voter.learn(4, Fact::SetAdded { set: SetId(4), members: [HOST, LEADER, ME].into() });
        voter.up(5);
        voter.learn(7, Fact::Registered { session: S, node: HOST, nonce: Nonce(11), ttl: TTL });
        voter.it.poll(at(0), &voter.log);
        voter
    }

    fn learn(&mut self, index: u64, fact: Fact) {
        self.log.learn_at(LogIndex(index), fact);
    }

    fn up(&mut self, index: u64) {
        let incarnation = Incarnation(index);
        self.learn(index, Fact::VoterUp { voter: ME, nonce: NONCE, incarnation });
    }

    fn hear(&mut self, ms: u64, message: Message) -> Vec<Notice> {
        let from = if matches!(message, Message::Ask { .. }) { LEADER } else { HOST };
        self.it.receive(at(ms), from, &message, &self.log)
    }

    fn renew(&mut self, ms: u64) -> Result<bool, Refusal> {
        answer(&self.hear(ms, Message::Renew { session: S, seq: ms, ttl: TTL, life: NONCE }))
    }

    fn query(&mut self, ms: u64) -> Result<bool, Refusal> {
        answer(&self.hear(ms, Message::Query { session: S, seq: ms, life: NONCE }))
    }

    fn ask(&mut self, ms: u64) -> Option<Incarnation> {
        agreed(&self.hear(ms, Message::Ask { session: S, ttl: Millis(1) }))
    }

    fn poll(&mut self, ms: u64) -> Vec<Notice> {
        self.it.poll(at(ms), &self.log)
    }
}

/// Whether it promised, or why it refused.
fn answer(out: &[Notice]) -> Result<bool, Refusal> {
    let answers: Vec<_> = out.iter().filter(|notice| matches!(notice, Notice::Send { .. })).collect();
    match answers[..] {
        [Notice::Send { to: HOST, message: Message::Ack { session: S, promised, .. } }] => Ok(*promised),
        [Notice::Send { to: HOST, message: Message::Refuse { session: S, why, .. } }] => Err(*why),
        ref other => panic!("{other:?}"),
    }
}

fn agreed(out: &[Notice]) -> Option<Incarnation> {
    out.iter().find_map(|notice| match notice {
        Notice::Send { to: LEADER, message: Message::Agreed { session: S, incarnation } } => Some(*incarnation),
        _ => None,
    })
}

#[test]
fn an_ack_names_the_newest_set_known_and_its_members() {
    let mut v = Voter::ready();
    v.learn(8, Fact::SetAdded { set: SetId(8), members: [LEADER].into() });
    let ack = Message::Ack { session: S, seq: 9, promised: true, set: SetId(8), members: vec![LEADER] };
    let out = v.hear(10, Message::Renew { session: S, seq: 9, ttl: TTL, life: NONCE });
    assert_eq!(out, [Notice::Send { to: HOST, message: ack }]);
}

#[test]
fn before_its_own_voter_up_is_applied_it_neither_acks_nor_agrees() {
    let mut v = Voter { it: Promiser::new(ME, NONCE, at(0)), log: Knowledge::default() };
    v.learn(4, Fact::SetAdded { set: SetId(4), members: [ME].into() });
    v.learn(7, Fact::Registered { session: S, node: HOST, nonce: Nonce(11), ttl: TTL });
    let other_life = Fact::VoterUp { voter: ME, nonce: Nonce(99), incarnation: Incarnation(8) };
    v.learn(8, other_life);
    assert_eq!(v.renew(1), Err(Refusal::NotReady));
    assert_eq!((v.ask(5000), v.it.ready(&v.log)), (None, false));
    v.up(9);
    assert_eq!((v.renew(5001), v.it.ready(&v.log)), (Ok(true), true));
}

#[test]
fn it_is_ready_before_any_lease_set_is_known_but_acks_only_once_it_can_name_one() {
    let mut v = Voter { it: Promiser::new(ME, NONCE, at(0)), log: Knowledge::default() };
    v.up(5);
    assert!(v.it.ready(&v.log), "the first lease set waits for its members to be ready");
    assert_eq!(v.renew(1), Err(Refusal::NotReady));
    v.learn(6, Fact::SetAdded { set: SetId(6), members: [ME].into() });
    assert_eq!(v.renew(2), Ok(true));
}

#[test]
fn a_promise_holds_the_expiry_back_until_ttl_after_the_last_renewal() {
    let mut v = Voter::ready();
    assert_eq!(v.renew(3000), Ok(true));
    assert_eq!(v.ask(3600), None);
    assert_eq!(agreed(&v.poll(3999)), None);
    assert_eq!(v.it.next_wake(), Some(at(4000)));
    assert_eq!(agreed(&v.poll(4000)), Some(Incarnation(5)), "a parked question is answered when the promise ends");
    assert_eq!(agreed(&v.poll(4001)), None, "once");
    assert_eq!(v.ask(4200), Some(Incarnation(5)), "and again when asked again");
}

#[test]
fn a_renewal_carries_a_parked_question_on() {
    let mut v = Voter::ready();
    v.renew(3000).unwrap();
    v.ask(3600);
    v.renew(3700).unwrap();
    assert_eq!(agreed(&v.poll(4050)), None);
}

#[test]
fn a_question_that_is_not_repeated_is_dropped() {
    let mut v = Voter::ready();
    v.renew(3000).unwrap();
    v.ask(3400);
    assert_eq!(agreed(&v.poll(4000)), None);
    assert_eq!(v.renew(4001), Ok(true), "it was not fenced");
}

#[test]
fn it_agrees_to_nothing_before_it_has_been_up_for_the_registered_ttl() {
    let mut v = Voter::ready();
    assert_eq!(v.ask(999), None, "the asker's ttl of 1 ms does not count");
    assert_eq!(agreed(&v.poll(1000)), Some(Incarnation(5)));
}

#[test]
fn what_it_agreed_to_expire_it_refuses_from_then_on() {
    let mut v = Voter::ready();
    v.ask(2000).unwrap();
    assert_eq!(v.renew(2001), Err(Refusal::Fenced));
    assert_eq!(v.query(2002), Err(Refusal::Fenced));
}

#[test]
fn a_newer_incarnation_forgets_fences_and_keeps_promises() {
    let mut v = Voter::ready();
    v.renew(500).unwrap();
    v.ask(2000).unwrap();
    v.up(8);
    assert_eq!(v.renew(2100), Ok(true));
    v.up(9);
    assert_eq!(v.ask(2500), None, "the promise of before is kept");
    assert_eq!(agreed(&v.poll(3000)), None, "asked again only until 3000");
    assert_eq!(v.ask(3100), Some(Incarnation(9)));
}

/// How a renewal of that seq for that life is answered.
fn renewal(v: &mut Voter, ms: u64, seq: u64, life: Nonce) -> Vec<Notice> {
    v.hear(ms, Message::Renew { session: S, seq, ttl: TTL, life })
}

#[test]
fn a_recorded_renewal_that_comes_again_gets_nothing_and_holds_nothing_back() {
    let mut v = Voter::ready();
    for seq in [10, 20, 30] {
        assert_eq!(answer(&renewal(&mut v, 3000, seq, NONCE)), Ok(true));
    }
    let silent = v.poll(3300);
    assert_eq!(silent, [Notice::Silent { session: S, since: Duration::from_millis(300) }]);
    for ms in (3350..4000).step_by(50) {
        for seq in [10, 20, 30] {
            assert_eq!(renewal(&mut v, ms, seq, NONCE), [], "not even that the session was heard");
            assert_eq!(v.hear(ms, Message::Query { session: S, seq, life: NONCE }), []);
        }
        v.ask(ms);
    }
    assert_eq!(agreed(&v.poll(4000)), Some(Incarnation(5)), "ttl after the renewal itself");
    for ms in (4000..9000).step_by(100) {
        assert_eq!(renewal(&mut v, ms, 30, NONCE), []);
        assert!(!v.it.wants_voter_up(at(ms), Duration::ZERO), "a replay does not make it forget its fence (rule 11)");
    }
}

#[test]
fn of_two_copies_over_two_links_the_first_is_answered_and_an_older_renewal_that_comes_late_is_lost() {
    let mut v = Voter::ready();
    let first = renewal(&mut v, 3000, 20, NONCE);
    assert_eq!(answer(&first), Ok(true));
    assert_eq!(renewal(&mut v, 3001, 20, NONCE), [], "the second link's copy: its answer is under way over both links");
    assert_eq!(renewal(&mut v, 3400, 10, NONCE), [], "reordered");
    v.ask(3600);
    assert_eq!(agreed(&v.poll(4000)), Some(Incarnation(5)), "neither was promised on");
    let mut v = Voter::ready();
    assert_eq!(answer(&renewal(&mut v, 3000, 10, NONCE)), Ok(true));
    assert_eq!(answer(&renewal(&mut v, 3001, 20, NONCE)), Ok(true), "whatever is newer counts");
}

#[test]
fn what_was_sent_to_an_earlier_life_is_told_the_present_one_and_nothing_else() {
    let mut v = Voter::ready();
    let before = Nonce(NONCE.0 - 1);
    let life = Refusal::OtherLife { life: NONCE };
    for seq in 10..100 {
        assert_eq!(answer(&renewal(&mut v, 1000 + seq, seq, before)), Err(life));
        let query = Message::Query { session: S, seq, life: before };
        assert_eq!(answer(&v.hear(1000 + seq, query)), Err(life));
    }
    assert_eq!(v.ask(1100), Some(Incarnation(5)), "it promised nothing in this life");
    assert_eq!(answer(&renewal(&mut v, 1101, 9, before)), Err(life), "fenced or not");
    let mut v = Voter::ready();
    renewal(&mut v, 1000, 1000, before);
    assert_eq!(answer(&renewal(&mut v, 1001, 10, NONCE)), Ok(true), "its seq was not taken");
}

#[test]
fn what_it_refused_it_has_taken_too() {
    let mut v = Voter { it: Promiser::new(ME, NONCE, at(0)), log: Knowledge::default() };
    v.learn(4, Fact::SetAdded { set: SetId(4), members: [HOST, LEADER, ME].into() });
    v.learn(7, Fact::Registered { session: S, node: HOST, nonce: Nonce(11), ttl: TTL });
    for seq in [10, 20, 30] {
        assert_eq!(answer(&renewal(&mut v, seq, seq, NONCE)), Err(Refusal::NotReady));
    }
    v.up(9);
    for seq in [10, 20, 30] {
        assert_eq!(renewal(&mut v, 2000, seq, NONCE), [], "recorded before it was ready");
    }
    assert_eq!(v.ask(2001), Some(Incarnation(9)));
}

#[test]
fn a_query_is_answered_and_promises_nothing() {
    let mut v = Voter::ready();
    v.renew(3000).unwrap();
    assert_eq!(v.query(3500), Ok(false));
    assert_eq!(v.ask(4000), Some(Incarnation(5)));
}

#[test]
fn a_session_that_the_log_has_ended_is_refused_with_that_word() {
    let mut v = Voter::ready();
    v.learn(8, Fact::Expired { session: S });
    assert_eq!(v.renew(10), Err(Refusal::Expired));
    assert_eq!(v.ask(5000), None);
}

#[test]
fn a_session_newer_than_the_known_log_is_acked_but_not_agreed_to_expire() {
    let mut v = Voter::ready();
    let newer = SessionId(20);
    let out = v.hear(10, Message::Renew { session: newer, seq: 1, ttl: TTL, life: NONCE });
    assert!(matches!(&out[..], [Notice::Send { message: Message::Ack { promised: true, .. }, .. }]), "{out:?}");
    let out = v.hear(9000, Message::Ask { session: newer, ttl: TTL });
    assert_eq!(out, []);
    v.learn(20, Fact::Registered { session: newer, node: HOST, nonce: Nonce(12), ttl: TTL });
    let out = v.poll(9001);
    let sends = out.iter().filter(|notice| matches!(notice, Notice::Send { .. })).count();
    assert_eq!(sends, 1, "the log told of it, and the parked question is answered: {out:?}");
}

#[test]
fn only_its_own_host_renews_a_session() {
    let mut v = Voter::ready();
    let renew = Message::Renew { session: S, seq: 1, ttl: TTL, life: NONCE };
    assert_eq!(v.it.receive(at(10), LEADER, &renew, &v.log), []);
}

#[test]
fn silence_is_told_every_quarter_of_the_ttl_and_ends_with_a_renewal() {
    let mut v = Voter::ready();
    v.renew(3000).unwrap();
    assert_eq!(v.it.next_wake(), Some(at(3250)));
    assert_eq!(v.poll(3249), []);
    assert_eq!(v.poll(3251), [Notice::Silent { session: S, since: Duration::from_millis(251) }]);
    assert_eq!((v.poll(3300), v.it.next_wake()), (vec![], Some(at(3501))));
    assert_eq!(v.poll(3501), [Notice::Silent { session: S, since: Duration::from_millis(501) }]);
    v.query(3510).unwrap();
    let out = v.hear(3600, Message::Renew { session: S, seq: 3600, ttl: TTL, life: NONCE });
    assert_eq!(out[0], Notice::Heard { session: S });
}

#[test]
fn a_session_never_heard_is_silent_a_quarter_of_its_ttl_after_it_was_first_known() {
    let mut v = Voter::ready();
    assert_eq!(v.poll(250), [Notice::Silent { session: S, since: Duration::from_millis(250) }]);
}

#[test]
fn a_fenced_session_that_goes_on_renewing_for_longer_than_its_ttl_makes_it_want_a_new_incarnation() {
    let mut v = Voter::ready();
    v.ask(2000).unwrap();
    let mut first = None;
    for ms in (2100..16_000).step_by(100) {
        assert_eq!(if ms % 300 == 0 { v.query(ms) } else { v.renew(ms) }, Err(Refusal::Fenced));
        if v.it.wants_voter_up(at(ms), Duration::from_millis(50)) {
            match first {
                None => first = Some(ms),
                Some(first) => assert!(ms >= first + 10_050, "at most one per 10 s: {first}, {ms}"),
            }
        }
    }
    assert_eq!(first, Some(3200), "heard since 2100, for longer than ttl and jitter");
}

#[test]
fn a_fenced_session_that_falls_silent_is_left_fenced() {
    let mut v = Voter::ready();
    v.ask(2000).unwrap();
    for ms in [2100, 2700, 3300, 3900] {
        v.renew(ms).unwrap_err();
        assert!(!v.it.wants_voter_up(at(ms), Duration::ZERO), "pauses of more than ttl/2 start over");
    }
}

#[test]
fn what_it_remembers_is_bounded() {
    let mut v = Voter::ready();
    for id in 100..100 + 2 * LINES_MAX as u64 {
        v.hear(10, Message::Renew { session: SessionId(id), seq: 1, ttl: Millis(u64::MAX), life: NONCE });
    }
    assert_eq!(v.it.lines.len(), LINES_MAX);
    let session = SessionId(99_999);
    let out = v.hear(20, Message::Renew { session, seq: 1, ttl: TTL, life: NONCE });
    let why = Refusal::NotReady;
    assert_eq!(out, [Notice::Send { to: HOST, message: Message::Refuse { session, seq: 1, why } }]);
    let later = 10 + TTL_MAX.0;
    let out = v.hear(later, Message::Renew { session, seq: 2, ttl: TTL, life: NONCE });
    assert!(matches!(&out[..], [Notice::Send { message: Message::Ack { promised: true, .. }, .. }]), "{out:?}");
    assert_eq!(v.it.lines.len(), 2, "unknown sessions make room once every promise to them has run out");
}
