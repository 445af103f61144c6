//! Consensus as a whole, each scenario twice: in virtual time with a seeded network, and in real time on threads.

mod raft_bed;

use std::cell::Cell;
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::async_runtime::Instant;
use openraft_rt_sim::SimRuntime;
use pkgctl::engine::kv::VALUE_MAX_BYTES;
use pkgctl::engine::lease::{Knowledge, Learn};
use pkgctl::engine::{FOUNDER, LogIndex, NodeId, Profile, Reply};
use pkgctl::raft::{DiskTime, MembersError, ProposeError, ReadError, Role, Unfit};
use raft_bed::{Bed, PATIENCE};

type RealRuntime = openraft::TokioRuntime;

const N1: NodeId = FOUNDER;
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);

/// Long enough for a restarted process to be missed, on any runtime.
const RESTART_TAKES: Duration = Duration::from_millis(400);

macro_rules! in_both_times {
    ($($scenario:ident),* $(,)?) => {
        mod simulated {
            $(#[test] fn $scenario() {
                use super::AsyncRuntime;
                for seed in 0..3 {
                    // From a fast disk to one so slow that a power cut always finds something unwritten.
                    let disk_time = super::DiskTime::Simulated(super::Duration::from_micros(400 + 8_000 * seed));
                    super::SimRuntime::with_seed(seed).block_on(async {
                        let bed = super::Bed::new(seed, super::Duration::from_millis(4), disk_time);
                        super::$scenario::<super::SimRuntime>(bed).await;
                    });
                }
            })*
        }
        mod real {
            $(#[test] fn $scenario() {
                use super::AsyncRuntime;
                super::RealRuntime::new(2).block_on(async {
                    let bed = super::Bed::new(7, super::Duration::from_millis(1), super::DiskTime::Threads);
                    super::$scenario::<super::RealRuntime>(bed).await;
                });
            })*
        }
    };
}

in_both_times!(
    one_node_keeps_what_it_acknowledged_across_restarts,
    one_grows_to_three_and_any_node_takes_commands,
    losing_the_leader_loses_nothing,
    a_node_far_behind_gets_a_snapshot,
    a_snapshot_of_many_parts_arrives_while_writes_go_on,
    leadership_is_handed_over,
    a_transfer_to_a_deaf_node_does_not_block_writes_for_ever,
    a_failed_sync_retires_the_node_and_the_others_go_on,
    power_lost_everywhere_at_once_loses_nothing,
    a_minority_refuses_and_says_so,
    a_leader_that_cannot_hear_is_replaced,
    a_restarted_voter_keeps_quiet_for_a_while,
    the_feed_follows_the_log_across_restarts_and_snapshots,
);

async fn one_node_keeps_what_it_acknowledged_across_restarts<Rt: AsyncRuntime>(bed: Bed<Rt>) {
    let node = bed.found().await;
    bed.write(&node, 30).await;
    let before = node.state();
    let again = node.found(raft_bed::address_of(N1), bed.command(1), PATIENCE).await.unwrap();
    assert_eq!(again.reply, Reply::Done, "founding again only proposes");
    bed.stop(N1).await;
    Rt::sleep(RESTART_TAKES).await;
    let node = bed.start(N1).await;
    assert!(node.read(|state| state.applied) >= before.applied, "what was applied is applied again at once");
    bed.all_agree().await;
    bed.write(&node, 5).await;
    bed.crash(N1).await;
    Rt::sleep(RESTART_TAKES).await;
    bed.start(N1).await;
    bed.all_agree().await;
    assert_eq!(bed.acknowledged().len(), 35);
}

async fn one_grows_to_three_and_any_node_takes_commands<Rt: AsyncRuntime>(bed: Bed<Rt>) {
    let first = bed.found().await;
    bed.write(&first, 10).await;
    let second = bed.join(N2).await;
    bed.write(&second, 10).await;
    let third = bed.join(N3).await;
    bed.write(&third, 10).await;
    let seen = third.linearize(PATIENCE).await.unwrap();
    assert!(seen >= bed.acknowledged().last().unwrap().0, "a follower's read sees what was acknowledged");
    bed.holds_all_acknowledged(&third.state());
    let status = bed.leader().await.status();
    assert_eq!(status.voters, [N1, N2, N3].into());
    assert_eq!((status.learners.len(), status.changing), (0, false));
    assert_eq!(third.read(|state| state.raft_voters.clone()), [N1, N2, N3].into());
    bed.all_agree().await;
    assert_eq!(bed.up().iter().map(|node| node.fit()).collect::<Vec<_>>(), [Ok(()), Ok(()), Ok(())]);
}

async fn losing_the_leader_loses_nothing<Rt: AsyncRuntime>(bed: Bed<Rt>) {
    bed.cluster(3).await;
    for _ in 0..3 {
        let leader = bed.leader().await;
        bed.write(&leader, 10).await;
        let lost = leader.node();
        bed.crash(lost).await;
        let other = bed.up()[0].clone();
        bed.write(&other, 10).await;
        assert_ne!(bed.leader().await.node(), lost);
        Rt::sleep(RESTART_TAKES).await;
        bed.start(lost).await;
        bed.all_agree().await;
    }
    assert_eq!(bed.acknowledged().len(), 60);
}

async fn a_node_far_behind_gets_a_snapshot<Rt: AsyncRuntime>(bed: Bed<Rt>) {
    bed.cluster(2).await;
    let leader = bed.leader().await;
    // More than the log keeps beside a snapshot.
    for _ in 0..12 {
        let writes = (0..100).map(|_| bed.submit(&leader, 1, PATIENCE));
        for outcome in futures::future::join_all(writes).await {
            outcome.unwrap();
        }
    }
    bed.compact(&leader).await;
    bed.write(&leader, 5).await;
    bed.join(N3).await;
    assert!(bed.snapshot_parts_sent() > 0, "the log alone brought it up to date");
    bed.all_agree().await;
    bed.crash(N3).await;
    Rt::sleep(RESTART_TAKES).await;
    bed.start(N3).await;
    bed.all_agree().await;
}

async fn a_snapshot_of_many_parts_arrives_while_writes_go_on<Rt: AsyncRuntime>(mut bed: Bed<Rt>) {
    bed.snapshot_period = 100;
    bed.cluster(2).await;
    let leader = bed.leader().await;
    let put = |n: usize| Bed::<Rt>::put(&format!("large/{n:03}"), vec![7; VALUE_MAX_BYTES]);
    for n in 0..110 {
        leader.submit(put(n), PATIENCE).await.unwrap();
    }
    bed.compact(&leader).await;
    let joined = Cell::new(false);
    let writes = async {
        let mut written = 0;
        while !joined.get() {
            leader.submit(put(written % 110), PATIENCE).await.unwrap();
            written += 1;
        }
        written
    };
    let join = async {
        bed.join(N3).await;
        joined.set(true);
    };
    let (written, ()) = futures::join!(writes, join);
    assert!(written > 0, "nothing was written meanwhile");
    assert!(bed.snapshot_parts_sent() >= 14, "{} parts", bed.snapshot_parts_sent());
    bed.all_agree().await;
    bed.crash(N3).await;
    Rt::sleep(RESTART_TAKES).await;
    bed.start(N3).await;
    bed.all_agree().await;
}

async fn leadership_is_handed_over<Rt: AsyncRuntime>(bed: Bed<Rt>) {
    bed.cluster(3).await;
    let leader = bed.leader().await;
    bed.write(&leader, 5).await;
    let to = if leader.node() == N3 { N2 } else { N3 };
    leader.transfer_leader(to).await.unwrap();
    bed.eventually("the target leads", || bed.node(to).status().is_leader()).await;
    bed.write(&leader, 5).await;
    bed.leader().await.step_down().await.unwrap();
    assert!(matches!(
        leader.transfer_leader(NodeId(8)).await,
        Err(MembersError::NotLeader { .. } | MembersError::NotVoter { .. })
    ));
    bed.write(&leader, 5).await;
    bed.all_agree().await;
}

async fn a_transfer_to_a_deaf_node_does_not_block_writes_for_ever<Rt: AsyncRuntime>(bed: Bed<Rt>) {
    bed.cluster(3).await;
    let leader = bed.leader().await;
    bed.write(&leader, 5).await;
    let deaf = if leader.node() == N3 { N2 } else { N3 };
    bed.isolate(deaf);
    let handed = leader.transfer_leader(deaf).await;
    assert!(matches!(handed, Ok(()) | Err(MembersError::NotTaken { .. })), "{handed:?}");
    bed.write(&leader, 5).await;
    bed.heal();
    bed.all_agree().await;
}

async fn a_failed_sync_retires_the_node_and_the_others_go_on<Rt: AsyncRuntime>(bed: Bed<Rt>) {
    bed.cluster(3).await;
    let leader = bed.leader().await;
    bed.write(&leader, 10).await;
    bed.disk(leader.node()).fail_syncs(libc::EIO);
    let failed = bed.submit(&leader, 1, PATIENCE).await;
    assert!(matches!(failed, Err(ProposeError::Fatal { .. } | ProposeError::Unknown { .. })), "{failed:?}");
    let failure = leader.failed().await;
    assert!(failure.disk && failure.why.contains("stops its packages in order"), "{failure:?}");
    assert!(matches!(leader.fit(), Err(Unfit::Failed { .. })));
    assert_eq!(leader.status().role, Role::Down);
    assert!(leader.status().fatal.is_some());
    assert!(matches!(leader.linearize(PATIENCE).await, Err(ReadError::Fatal { .. })));

    bed.disk(leader.node()).fail_syncs(0);
    let retired = bed.submit(&leader, 1, PATIENCE).await;
    assert!(retired.is_err(), "a failed store stays failed");
    bed.stop(leader.node()).await;
    let other = bed.up()[0].clone();
    bed.write(&other, 10).await;
    bed.all_agree().await;
}

async fn power_lost_everywhere_at_once_loses_nothing<Rt: AsyncRuntime>(bed: Bed<Rt>) {
    bed.cluster(3).await;
    for round in 0..3 {
        let nodes = bed.up();
        let writes = (0..20).map(|n| bed.submit(&nodes[n % 3], 1, Duration::from_secs(5)));
        let crash = async {
            // In the middle of it.
            bed.eventually("some writes are acknowledged", || bed.acknowledged().len() > round * 20 + 5).await;
            // All at once: the first poll of each cuts its power.
            futures::future::join_all([N1, N2, N3].map(|id| bed.crash(id))).await;
        };
        futures::join!(futures::future::join_all(writes), crash);
        Rt::sleep(RESTART_TAKES).await;
        for id in [N1, N2, N3] {
            bed.start(id).await;
        }
        bed.all_agree().await;
        // Keep the count going for the next round.
        while bed.acknowledged().len() < (round + 1) * 20 {
            bed.write(&bed.node(N1), 1).await;
        }
    }
}

async fn a_minority_refuses_and_says_so<Rt: AsyncRuntime>(bed: Bed<Rt>) {
    bed.cluster(3).await;
    let leader = bed.leader().await;
    bed.write(&leader, 5).await;
    bed.isolate(leader.node());
    let others: Vec<_> = bed.up().into_iter().filter(|node| node.node() != leader.node()).collect();
    // Sent to a leader that is cut off: the outcome is not known, and that is said as soon as another one leads.
    let sent = bed.submit(&others[0], 1, PATIENCE).await;
    assert!(matches!(sent, Ok(_) | Err(ProposeError::Unknown { .. })), "{sent:?}");
    let replaced = |leads: Option<(NodeId, _)>| leads.is_some_and(|(id, _)| id != leader.node());
    bed.eventually("another one leads", || replaced(others[0].status().leader)).await;
    bed.write(&others[0], 5).await;
    // It may still believe that it leads; it cannot commit, and cannot claim to know the latest.
    let refused = bed.submit(&leader, 1, Duration::from_millis(800)).await;
    assert!(matches!(refused, Err(ProposeError::NoLeader { .. } | ProposeError::Unknown { .. })), "{refused:?}");
    let late = leader.linearize(Duration::from_millis(800)).await;
    assert!(matches!(late, Err(ReadError::Late { .. })), "{late:?}");
    assert_eq!(leader.fit(), Ok(()), "a node that is cut off is not broken");
    bed.heal();
    bed.all_agree().await;
    bed.write(&leader, 5).await;
}

async fn a_leader_that_cannot_hear_is_replaced<Rt: AsyncRuntime>(bed: Bed<Rt>) {
    bed.cluster(3).await;
    let leader = bed.leader().await;
    for other in [N1, N2, N3].into_iter().filter(|other| *other != leader.node()) {
        bed.cut_way(other, leader.node());
    }
    let other = bed.up().into_iter().find(|node| node.node() != leader.node()).unwrap();
    let replaced = |leads: Option<(NodeId, _)>| leads.is_some_and(|(id, _)| id != leader.node());
    bed.eventually("another one leads", || replaced(other.status().leader)).await;
    bed.write(&other, 5).await;
    bed.heal();
    bed.all_agree().await;
}

async fn a_restarted_voter_keeps_quiet_for_a_while<Rt: AsyncRuntime>(bed: Bed<Rt>) {
    bed.cluster(3).await;
    bed.leader().await.linearize(PATIENCE).await.unwrap();
    for id in [N1, N2, N3] {
        bed.stop(id).await;
    }
    Rt::sleep(RESTART_TAKES).await;
    let starting = Rt::Instant::now();
    let node = bed.start(N1).await;
    // Asked with a hopeless candidacy, a voter that is not quiet answers (and refuses); a quiet one does not.
    let ask = || async {
        #[derive(serde::Serialize)]
        struct Ask {
            vote: pkgctl::raft::record::Vote,
            last: Option<pkgctl::raft::record::LogMark>,
            transfer: bool,
        }
        let vote = pkgctl::raft::record::Vote { term: 0, node: N3, committed: false };
        let body = pkgctl::engine::codec::encode(&Ask { vote, last: None, transfer: false });
        let answer = node.serve(N3, pkgctl::raft::PeerCall::Vote, body).await;
        String::from_utf8_lossy(&answer).contains("does not vote yet")
    };
    let quiet = ask().await;
    // In real time the machine may have stood still until the pause was over.
    let stood_still = starting.elapsed() >= Profile::Default.election().1;
    assert!(quiet || stood_still, "it answered at once after its restart");
    bed.start(N2).await;
    bed.eventually("it is a voter again", || node.status().role != Role::Learner).await;
    bed.leader().await;
    assert!(!ask().await);
    bed.start(N3).await;
    bed.all_agree().await;
}

async fn the_feed_follows_the_log_across_restarts_and_snapshots<Rt: AsyncRuntime>(bed: Bed<Rt>) {
    let node = bed.found().await;
    let mut changes = node.changes();
    let mut known = Knowledge::default();
    bed.write(&node, 20).await;
    let upto = node.read(|state| state.applied);
    while known.index < upto {
        let step = changes.next().await.unwrap();
        if let Learn::Step { index, .. } = &step {
            assert_eq!(*index, LogIndex(known.index.0 + 1), "a step was left out");
        }
        assert!(known.learn(step));
    }
    assert_eq!(known, Knowledge::of(&node.state()));
    bed.stop(N1).await;
    while let Some(step) = changes.next().await {
        known.learn(step);
    }
    let node = bed.start(N1).await;
    let mut changes = node.changes();
    assert!(matches!(changes.next().await, Some(Learn::Whole(whole)) if whole.index >= known.index));
}
