//! What is left of a state with which a node goes on alone.

use super::*;
use crate::engine::apply::tests::{Log, alone, p1};
use crate::engine::command::Command;
use crate::engine::kv::{Change, Key, Txn};
use crate::engine::{Token, check, view};

fn put(log: &mut Log) {
    let key = Key::new("a/b").unwrap();
    let then = vec![Change::Put { key, value: "1".to_owned().into() }];
    let (when, otherwise) = (vec![], vec![]);
    log.say(Command::Kv(Txn { when, then, otherwise, guard: None, request: None }));
}

#[test]
fn definitions_keys_and_tokens_stay_and_whatever_entitles_anybody_goes() {
    let mut log = Log::three();
    log.run();
    let token = log.assign(1);
    put(&mut log);
    log.say(Command::RotateKey);
    log.say(Command::AddKey { id: 2, key: DatagramKey([2; 32]) });
    let old = log.state.clone();
    let new = go_alone(&old, log.nodes[0], alone()).unwrap();
    assert_eq!(check::consistent(&new), Ok(()));
    assert_eq!(check::tokens_rise(&old, &new), Ok(()));

    assert_eq!(new.kv, old.kv);
    let (was, is) = (&old.packages[&p1()], &new.packages[&p1()]);
    assert_eq!((&was.definition, was.desired, &was.eligibility), (&is.definition, is.desired, &is.eligibility));
    assert_eq!((is.last_token, &is.owner, &is.report), (token, &None, &None));

    assert_eq!(new.nodes.keys().collect::<Vec<_>>(), [&log.nodes[0]]);
    assert_eq!(new.raft_voters, [log.nodes[0]].into());
    assert!(new.lease_sets.is_empty() && new.sessions.is_empty() && new.voter_lives.is_empty());
    assert!(new.join_tokens.is_empty() && new.operators.is_empty() && new.awaiting.is_empty());

    let (was, is) = (old.cluster.unwrap(), new.cluster.clone().unwrap());
    assert_ne!(was.id, is.id);
    assert_eq!((was.name, was.profile), (is.name, is.profile));
    assert_eq!(is.ca_certificate, "another authority");
    let shared = is.datagram_keys.iter().any(|(id, key)| was.datagram_keys.get(id) == Some(key));
    assert!(
        !shared && is.datagram_keys.len() == 1 && is.datagram_keys.keys().all(|id| !was.datagram_keys.contains_key(id))
    );

    assert_eq!((new.sealing_key(), new.key_step()), (Some(3), None), "its only key is not one on its way");

    assert_eq!(new.applied.0, old.applied.0 + INDEX_GAP);
    let told = new.events.back().unwrap();
    assert_eq!((told.what.as_str(), told.by.as_str()), ("standalone", "root@n1"));
    assert_eq!(new.events.len(), old.events.len() + 1);
}

#[test]
fn a_package_is_awaiting_with_what_to_do_and_who_owned_it_is_kept_in_words() {
    let mut log = Log::three();
    log.run();
    log.assign(1);
    let mut new = go_alone(&log.state, log.nodes[0], alone()).unwrap();
    let seen = view::package_view(&new, &p1()).unwrap();
    assert_eq!(seen.state, view::StateWord::Awaiting);
    for word in ["n2, n3", "pkgctl fence confirm NODE", "pkgctl fence confirm --unlisted"] {
        assert!(seen.reason.contains(word), "{}", seen.reason);
    }
    let fallback = new.fallback.as_mut().unwrap();
    let word = Word { at: WallMillis(80), how: "said".into() };
    fallback.formers.values_mut().for_each(|former| former.off = Some(word.clone()));
    fallback.unlisted = Some(word);
    let seen = view::package_view(&new, &p1()).unwrap();
    assert_eq!(seen.state, view::StateWord::FailingOver);
    assert!(seen.reason.starts_with("n2 owned it under token"), "{}", seen.reason);
}

#[test]
fn only_a_voter_among_several_goes_on_alone() {
    let log = Log::three();
    let me = log.nodes[0];
    assert_eq!(go_alone(&State::default(), me, alone()), Err(NotAlone::NoCluster));
    let with = |voters: &[NodeId]| State { raft_voters: voters.iter().copied().collect(), ..log.state.clone() };
    assert_eq!(go_alone(&with(&log.nodes[1..]), me, alone()), Err(NotAlone::NoVoter));
    assert_eq!(go_alone(&with(&log.nodes[..1]), me, alone()), Err(NotAlone::OnlyVoter));
    assert!(go_alone(&with(&log.nodes), me, alone()).is_ok());
}

#[test]
fn who_was_not_known_to_be_off_before_a_second_time_is_not_after_it() {
    let log = Log::three();
    let once = go_alone(&log.state, log.nodes[0], alone()).unwrap();
    let (joined, first) = (NodeId(once.applied.0 + 5), once.nodes.values().next().unwrap().clone());
    let mut two = State { applied: LogIndex(joined.0 + 1), raft_voters: [log.nodes[0], joined].into(), ..once.clone() };
    two.nodes.insert(joined, first);
    let twice = go_alone(&two, joined, Alone { cluster: ClusterId(3), ..alone() }).unwrap();
    let fallback = twice.fallback.unwrap();
    let all: Vec<NodeId> = fallback.unconfirmed().map(|(id, _)| id).collect();
    assert_eq!(all, log.nodes, "the one that had gone alone, and the two before");
    assert_eq!(fallback.from, alone().cluster);
    assert!(twice.packages[&p1()].last_token < Token(twice.applied.0));
}

#[test]
fn former_members_with_a_device_are_ordered_off_where_the_operator_wants_it() {
    let mut log = Log::three();
    let device = super::super::fence::FenceDevice {
        agent: "/usr/sbin/fence_x".into(),
        options: BTreeMap::new(),
        action: FenceAction::Reboot,
        timeout: super::super::fence::TIMEOUT_DEFAULT,
        delay: crate::package::Millis(0),
    };
    log.state.fence_devices.insert(log.nodes[2], device);
    let new = go_alone(&log.state, log.nodes[0], Alone { fence: true, ..alone() }).unwrap();
    assert_eq!(new.fencing.keys().collect::<Vec<_>>(), [&log.nodes[2]]);
    assert_eq!(new.fence_action(log.nodes[2]), Some(FenceAction::Off), "never only restarted");
    assert_eq!(check::consistent(&new), Ok(()));
}

#[test]
fn a_cluster_id_of_the_family_folds_alike_and_is_another() {
    for (old, chance) in [(7, 0), (0x0102_0304_0506_0708, u64::MAX), (5, 5), (0xff00, 0x00ff)] {
        let (old, new) = (ClusterId(old), ClusterId(old).of_the_family(ClusterId(chance)));
        assert_ne!(old, new);
        assert_eq!(old.folded(), new.folded());
    }
}
