//! The key of the datagrams is replaced without anybody sealing with what another may not accept.

use super::*;
use crate::engine::event::TEXT_MAX_BYTES;
use crate::engine::keys::KeyStep;

fn add(id: u32) -> Command {
    Command::AddKey { id, key: DatagramKey([9; 32]) }
}

fn have(log: &mut Log, at: usize) -> Reply {
    let (node, changed) = (log.nodes[at], log.state.rotation.changed);
    log.say(Command::HaveKeys { node, nonce: Nonce(at as u64), at: changed })
}

fn ids(log: &Log) -> Vec<u32> {
    log.state.datagram_keys().unwrap().keys().copied().collect()
}

/// A cluster of three with a new key on its way.
fn coming() -> Log {
    let mut log = Log::three();
    assert_eq!(log.say(Command::RotateKey), Reply::Done);
    assert_eq!(log.say(add(2)), Reply::Done);
    log
}

#[test]
fn a_key_is_replaced_in_three_steps_each_once_every_host_goes_by_the_one_before() {
    let mut log = Log::three();
    assert_eq!(log.state.key_step(), None);
    assert!(log.refused(add(2)).to_string().contains("nothing is due"), "nobody wants one");
    let before = log.next();
    log.say(Command::RotateKey);
    assert!(log.refused(add(3)).to_string().contains("key 2 is to be added"), "ids have no gaps");
    assert_eq!(log.say(add(2)), Reply::Done);
    assert_eq!((ids(&log), log.state.sealing_key()), (vec![1, 2], Some(1)), "accepted by all, used by none");
    assert!(log.refused(add(3)).to_string().contains("key 2 is to be used"), "one at a time");
    let another = Command::AddKey { id: 2, key: DatagramKey([8; 32]) };
    assert!(log.refused(another).to_string().contains("key 2 is to be used"), "an earlier leader was first");
    assert_eq!(log.state.datagram_keys().unwrap()[&2], DatagramKey([9; 32]));

    for (step, sealing, left) in
        [(Command::UseKey { id: 2 }, Some(2), vec![1, 2]), (Command::DropKeys { keep: 2 }, Some(2), vec![2])]
    {
        assert_eq!(have(&mut log, 0), Reply::Done);
        assert_eq!(have(&mut log, 0), Reply::Already);
        have(&mut log, 1);
        let why = log.refused(step.clone()).to_string();
        assert!(why.contains("the keepers of n3 do not go by"), "a majority is there, but n3 is up: {why}");
        have(&mut log, 2);
        assert_eq!(log.say(step), Reply::Done);
        assert_eq!((ids(&log), log.state.sealing_key()), (left, sealing));
    }
    assert_eq!(log.state.key_step(), None);
    assert_eq!(log.whats(before), ["key", "key", "key"]);
}

#[test]
fn a_keeper_counts_only_in_the_life_and_with_the_keys_that_it_spoke_of() {
    let mut log = coming();
    let (node, changed) = (log.nodes[2], log.state.rotation.changed);
    [0, 1].into_iter().for_each(|at| assert!(matches!(have(&mut log, at), Reply::Done)));
    let stale = Command::HaveKeys { node, nonce: Nonce(2), at: LogIndex(changed.0 - 1) };
    assert!(log.refused(stale).to_string().contains("not of entry"));
    let stranger = Command::HaveKeys { node: NodeId(999), nonce: Nonce(2), at: changed };
    assert!(matches!(log.refused(stranger), Rejected::NoSuchNode { .. }));
    log.say(Command::HaveKeys { node, nonce: Nonce(77), at: changed });
    assert_eq!(log.state.keys_wait_for(), [node].into(), "another life than that of its session");
    have(&mut log, 2);
    assert_eq!(log.say(Command::UseKey { id: 2 }), Reply::Done);
    assert_eq!(log.state.keys_wait_for().len(), 3, "what was said of the keys before says nothing of these");
}

#[test]
fn who_is_down_is_not_waited_for_unless_no_majority_of_a_lease_set_is_left_without_it() {
    let mut log = coming();
    let all: BTreeSet<NodeId> = log.nodes.iter().copied().collect();
    assert_eq!(log.state.keys_wait_for(), all);
    have(&mut log, 0);
    let (expire_two, expire_three) = (log.expire(1, &[0, 1, 2], vec![]), log.expire(2, &[0, 1, 2], vec![]));
    assert_eq!(log.say(expire_two), Reply::Done);
    assert_eq!(log.say(expire_three), Reply::Done);
    let down: BTreeSet<NodeId> = log.nodes[1..].iter().copied().collect();
    assert_eq!(log.state.keys_wait_for(), down, "one of three is no majority, so either is needed");
    assert!(log.refused(Command::UseKey { id: 2 }).to_string().contains("n2, n3"));
    have(&mut log, 1);
    assert_eq!(log.say(Command::UseKey { id: 2 }), Reply::Done);
}

#[test]
fn a_removal_wants_a_key_even_while_another_is_on_its_way() {
    let mut log = coming();
    let gone = log.nodes[2];
    have(&mut log, 2);
    log.state.sessions.retain(|_, session| session.node != gone);
    log.state.down.insert(gone, WallMillis(0));
    log.say(Command::RemoveNode { node: node_name(2) });
    log.state.raft_voters.remove(&gone);
    log.state.lease_sets.values_mut().for_each(|set| set.retain(|member| *member != gone));
    assert_eq!(log.say(Command::ForgetNode { node: gone }), Reply::Done);
    assert!(!log.state.rotation.confirmed.contains_key(&gone));
    for id in [2, 3] {
        if id == 3 {
            let why = "n3 was removed, and knows the one before".to_owned();
            assert_eq!(log.state.key_step(), Some(KeyStep::Add { id, why }), "it may have learned of key 2");
            log.say(add(id));
        }
        for step in [Command::UseKey { id }, Command::DropKeys { keep: id }] {
            [0, 1].into_iter().for_each(|at| assert!(matches!(have(&mut log, at), Reply::Done)));
            assert_eq!(log.say(step), Reply::Done);
        }
    }
    assert_eq!((ids(&log), log.state.key_step()), (vec![3], None));
}

#[test]
fn ids_end_without_an_overflow_and_reasons_are_cut() {
    let mut log = Log::three();
    log.state.cluster.as_mut().unwrap().datagram_keys = [(u32::MAX, DatagramKey([1; 32]))].into();
    log.say(Command::RotateKey);
    assert_eq!(log.state.key_step(), None);
    log.refused(add(0));
    assert!(log.state.rotation.wanted.as_ref().unwrap().len() <= TEXT_MAX_BYTES);
}

#[test]
fn who_joins_or_restarts_while_a_key_is_replaced_is_waited_for_once_it_has_a_session() {
    let mut log = coming();
    [0, 1, 2].into_iter().for_each(|at| assert_eq!(have(&mut log, at), Reply::Done));
    log.say(Command::IssueToken { digest: digest(2), expires: WallMillis(1_000_000) });
    let joins = Command::AddNode { node: new_node(3), token: digest(2), request: Nonce(103) };
    let Reply::Node(fourth) = log.say(joins) else { panic!("it joins") };
    log.nodes.push(fourth);
    assert_eq!(log.state.keys_wait_for(), BTreeSet::new(), "it hosts nothing yet, and learns the keys from the log");
    log.register(3, None);
    assert!(log.refused(Command::UseKey { id: 2 }).to_string().contains("the keepers of n4 do not go by"));
    have(&mut log, 3);
    assert_eq!(log.say(Command::UseKey { id: 2 }), Reply::Done);

    // Each has the key that is used; then the keeper of n2 begins a new life, about which nobody knows anything yet.
    (0..4).for_each(|at| assert_eq!(have(&mut log, at), Reply::Done));
    let (node, nonce, supersedes) = (log.nodes[1], Nonce(50), Some(log.sessions[1]));
    assert!(matches!(log.say(Command::VoterUp { voter: node, nonce }), Reply::Incarnation(_)));
    log.say(Command::Register { node, nonce, ttl: Millis(1500), supersedes });
    assert!(log.refused(Command::DropKeys { keep: 2 }).to_string().contains("the keepers of n2 do not go by"));
    let at = log.state.rotation.changed;
    assert_eq!(log.say(Command::HaveKeys { node, nonce, at }), Reply::Done);
    assert_eq!(log.say(Command::DropKeys { keep: 2 }), Reply::Done);
}

#[test]
fn a_state_from_before_keys_were_replaced_goes_on_with_the_key_it_has() {
    let log = Log::three();
    let mut written = serde_json::to_value(&log.state).unwrap();
    assert!(written.as_object_mut().unwrap().remove("rotation").is_some());
    let read: crate::engine::State = serde_json::from_value(written).unwrap();
    assert_eq!(read, log.state);
    assert_eq!((read.sealing_key(), read.key_step()), (Some(1), None));
}
